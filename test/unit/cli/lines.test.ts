/** The commands `train --lines`, `sample --lines` and `score --lines`: one text per line. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reportError } from '../../../lib/cli/command';
import { main } from '../../../lib/cli/main';
import { runCommand as run } from '../../fixtures/command';
import { jsonLines, sinks } from '../../fixtures/sink';

let folder: string;
const at = (name: string) => join(folder, name);
const names = Array.from({ length: 300 }, (_, i) => `${'bdk'[i % 3]}${'aeiou'[i % 5]}${'lm'[i % 2]}a`);

const cpu = ['--device', 'cpu', '--threads', '1'];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lines-'));
  writeFileSync(at('names.txt'), `${names.join('\n')}\n\n`);
  const sizes = ['--hidden', '16', '--layers', '1', '--batch-size', '4', '--epochs', '8', '--sample-length', '0'];
  const { code, err } = await run('train', at('names.txt'), '--lines', ...sizes, '--out', at('run'), ...cpu);
  expect(err).toContain('1 empty line left out');
  expect(code).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

const sample = (...argv: string[]) => run('sample', at('run'), '--seed', '1', '--temperature', '1', ...argv, ...cpu);
const score = (...argv: string[]) => run('score', at('run'), ...argv, ...cpu);

test('sample --lines writes whole lines, and --novel none that the corpus holds', async () => {
  const { code, out } = await sample('--lines', '20');
  expect(code).toBe(0);
  const lines = out.slice(0, -1).split('\n');
  expect(lines).toHaveLength(20);
  expect(lines).not.toContain('');
  expect(lines.some((line) => names.includes(line))).toBe(true);
  const novel = (await sample('--lines', '15', '--novel')).out.trimEnd().split('\n');
  expect(novel).toHaveLength(15);
  expect(novel.filter((line) => names.includes(line))).toEqual([]);
  expect((await sample('--lines', '15', '--not-in', at('names.txt'))).out.trimEnd().split('\n')).toEqual(novel);
  const json = jsonLines((await sample('--lines', '3', '--prompt', 'ba', '--json')).out);
  expect(json.map(({ line, prompt, seed }) => [line, prompt, seed])).toEqual([1, 2, 3].map((n) => [n, 'ba', 1]));
  expect(json.every(({ text }) => text.startsWith('ba'))).toBe(true);
});

test('what does not go together is refused, with the exit code of a wrong option', async () => {
  const both = 'it goes without --';
  for (const [argv, message] of [
    [['--novel'], '--novel and --not-in go with --lines'],
    [['--lines', '2', '--count', '2'], `${both}count`],
    [['--lines', '2', '--stop', 'x'], `${both}stop`],
    [['--lines', '2', '--keep-stop'], `${both}keep-stop`],
    [['--lines', '2', '--separator', ''], `${both}separator`],
    [['--lines', '2', '--corpus', at('names.txt')], `${both}corpus`],
    [['--lines', '0'], '--lines must be a whole number from 1'],
  ] as const) {
    const { code, err } = await sample(...argv);
    expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  }
  expect(await score(at('names.txt'), '--sort', 'odd')).toMatchObject({
    code: 2,
    err: expect.stringContaining('--sort goes with --lines'),
  });
});

test('without the known lines beside the checkpoint, the corpus is asked for', async () => {
  const best = readFileSync(join(at('run'), 'best'), 'utf8').trim();
  writeFileSync(at('given-away.safetensors'), readFileSync(join(at('run'), best)));
  const argv = ['sample', at('given-away.safetensors'), '--lines', '2', '--novel', ...cpu];
  expect(await run(...argv)).toMatchObject({ code: 3, err: expect.stringContaining('--not-in FILE') });
});

test('score --lines: the bits of a line, its first character and its end counted, sorted if asked', async () => {
  writeFileSync(at('some.txt'), 'bala\nzzz\nkuka\n\nbmmmla\n');
  const text = at('some.txt');
  const plain = jsonLines((await score(text, '--lines', '--json', '--unknown', 'skip')).out);
  expect(plain.map(({ content }) => content)).toEqual(['bala', 'zzz', 'kuka', '', 'bmmmla']);
  expect(plain.map(({ characters }) => characters)).toEqual([5, 1, 5, 1, 7]);
  for (const { bits, bitsPerCharacter, characters } of plain)
    expect(bits).toBeCloseTo(bitsPerCharacter * characters, 9);
  const sorted = async (how: string) =>
    jsonLines((await score(text, '--lines', '--json', '--unknown', 'skip', '--sort', how)).out);
  // The model knows no character of zzz, so it is the oddest and least likely line, whatever its line break costs.
  const by = (key: 'bits' | 'bitsPerCharacter', sign: number) =>
    [...plain].sort((a, b) => sign * (a.skipped - b.skipped) || sign * (a[key] - b[key])).map(({ content }) => content);
  expect((await sorted('likely')).map(({ content }) => content)).toEqual(by('bits', 1));
  expect((await sorted('odd')).map(({ content }) => content)).toEqual(by('bitsPerCharacter', -1));
  const printed = (await score(text, '--lines', '--unknown', 'skip', '--sort', 'likely')).out.trimEnd().split('\n');
  expect(printed.map((line) => line.slice(19))).toEqual(by('bits', 1));
  const [first] = await sorted('likely');
  expect(printed[0]).toBe(
    `${first.bitsPerCharacter.toFixed(4).padStart(8)} ${first.bits.toFixed(2).padStart(8)}  ${first.content}`,
  );
});

test('score --lines: what a model has not seen is odd, also where nothing of a line is left to weigh', async () => {
  await run('train', at('names.txt'), '--hidden', '8', '--layers', '1', '--epochs', '1', '--out', at('stream'), ...cpu);
  writeFileSync(at('log.txt'), 'bala\nb\nЯЯЯЯ\nkukaЯ\nbbbbbb\nkuka\n');
  const args = [at('log.txt'), '--lines', '--json', '--unknown', 'skip', '--sort'];
  const order = async (how: string) =>
    jsonLines((await run('score', at('stream'), ...args, how, ...cpu)).out).map(({ content }) => content);
  const odd = await order('odd');
  expect([...odd.slice(0, 2)].sort()).toEqual(['kukaЯ', 'ЯЯЯЯ']);
  expect(odd.at(-1)).toBe('b'); // This model reads a continuous text, where the first character is not scored.
  const likely = await order('likely');
  expect([...likely.slice(3, 5)].sort()).toEqual(['kukaЯ', 'ЯЯЯЯ']);
  expect(likely.at(-1)).toBe('b');
});

test('score --lines of a model with a symbol for what is rare leaves nothing out', async () => {
  writeFileSync(at('rare.txt'), `${names.join('\n')}\nЖ\n`);
  const sizes = ['--hidden', '8', '--layers', '1', '--batch-size', '4', '--epochs', '1'];
  await run('train', at('rare.txt'), '--lines', '--min-count', '2', ...sizes, '--out', at('rare'), ...cpu);
  writeFileSync(at('other.txt'), 'baЯa\n');
  const { out, err } = await run('score', at('rare'), at('other.txt'), '--lines', '--json', ...cpu);
  expect(jsonLines(out)).toMatchObject([{ characters: 5, skipped: 0, content: 'baЯa' }]);
  expect(err).not.toContain('left out');
});

test('score --lines of several texts says which one a line is from', async () => {
  writeFileSync(at('one.txt'), 'bala\n');
  writeFileSync(at('two.txt'), 'kuka\nbala\n');
  const { out } = await run('score', at('run'), at('one.txt'), at('two.txt'), '--lines', ...cpu);
  const lines = out.trimEnd().split('\n');
  expect(lines.map((line) => line.slice(19))).toEqual([
    `${at('one.txt')}: bala`,
    `${at('two.txt')}: kuka`,
    `${at('two.txt')}: bala`,
  ]);
  expect(lines[0]?.slice(0, 19)).toBe(lines[2]?.slice(0, 19));
});

test.each([
  ['sample', () => ['--length', '1000000']],
  ['score', () => [at('long.txt'), '--per-character']],
])('%s ends early when nobody reads its output any more', async (command, rest) => {
  writeFileSync(at('long.txt'), 'bala\n'.repeat(40_000));
  const { stdout, stderr } = sinks();
  const lost = new Promise<void>((resolve) => {
    const look = () => {
      if (stdout.text === '') return void setImmediate(look);
      stdout.emit('error', Object.assign(new Error('closed'), { code: 'EPIPE' }));
      resolve();
    };
    look();
  });
  const argv = [command, at('run'), ...rest(), ...cpu];
  const code = await main(argv, { stdout, stderr }).catch((error) => reportError(error, stderr));
  await lost;
  expect([code, stderr.text]).toEqual([0, expect.not.stringContaining('closed')]);
  expect(stdout.text.length).toBeLessThan(1_000_000);
});

test('info says what kind of model it is', async () => {
  expect((await run('info', at('run'))).out).toContain(', single lines');
});
