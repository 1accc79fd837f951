/** `sample --interactive`, over a pipe and on a terminal: what is typed, what is offered, and the text that comes out. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reportError } from '../../../lib/cli/command';
import { main } from '../../../lib/cli/main';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { compiled, node, run, whenSaid } from '../../fixtures/child';
import { sharpen } from '../../fixtures/sharpen';
import { sinks } from '../../fixtures/sink';
import { itOnTerminal, runOnTerminal } from '../../fixtures/terminal';

let folder: string;
let model: LanguageModel;
const at = (name: string) => join(folder, name);
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'interactive-'));
  const vocabulary = new Vocabulary([...'\n /3abcdeg']);
  const shape = { layers: 1, hidden: 12, input: 'onehot', embedding: 0, dropout: 0, vocabulary: 10 } as const;
  model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, seed: 2 });
  sharpen(model, 4);
  await model.save(at('model.safetensors'));
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
});

const basic = ['--interactive', '--device', 'cpu', '--threads', '1', '--seed', '7', '--length', '8'];
const talk = (lines: readonly string[], ...options: string[]) =>
  node('cli/main.js', ['sample', 'model.safetensors', ...basic, ...options], {
    cwd: folder,
    input: lines.map((line) => `${line}\n`).join(''),
  });

/** The continuations that are offered after these pieces, in this round. */
async function offered(pieces: readonly string[], round: number, count = 3): Promise<string[]> {
  using session = model.session();
  for (const piece of pieces) await session.feed(piece);
  return (await session.propose(count, { length: 8, seed: 7 + round })).map(({ text }) => text);
}

test('takes what is picked and what is typed, and prints the text alone to stdout', async () => {
  const first = await offered(['abba '], 0);
  const second = await offered(['abba ', first[1] as string], 1);
  const { code, stdout, stderr } = await talk(
    ['2', 'bad', '/break', '/text 3', '/text /', '', '/quit'],
    '--prompt',
    'abba ',
  );
  expect(stdout).toBe(`abba ${first[1]}bad\n3/\n`);
  expect(code).toBe(0);
  for (const [i, text] of [...first, ...second].entries())
    expect(stderr).toContain(`  ${(i % 3) + 1}  ${text.replaceAll('\n', '⏎')}\n`);
});

test('takes steps back, and says what is wrong with a line without losing any', async () => {
  const lines = ['/undo', 'ab', '/undo', 'cab', 'x', '99', '0', '/nothing', '/save', '/undo', 'de', '/help', '/show'];
  const { code, stdout, stderr } = await talk(lines);
  expect([code, stdout]).toEqual([0, 'de\n']);
  for (const message of [
    'There is no step to take back.',
    "characters the model does not know: 'x'",
    '99 is not offered: give a number from 1 to 3, or /text 99.',
    '0 is not offered',
    'There is no /nothing',
    'Name the file: /save FILE.',
    '/undo     takes the last step back',
  ])
    expect(stderr).toContain(message);
});

test('goes on from a session that was saved, and keeps what was written when its input or its reader ends', async () => {
  const begun = await talk(['cab', '/save story.safetensors', 'bad']);
  expect(begun.stdout).toBe('cabbad\n');
  expect(begun.stderr).toMatch(/to go on from here: .* --interactive --session story\.safetensors\n/);
  const saved = readFileSync(at('story.safetensors'));
  const again = await talk(['1', '/save'], '--session', 'story.safetensors', '--count', '1');
  expect(again.stderr).toContain('Continuing story.safetensors.');
  expect(again.stdout).toBe(`cab${(await offered(['cab'], 0, 1))[0]}\n`);
  expect(readFileSync(at('story.safetensors'))).not.toEqual(saved);
  // If the file does not exist, a new session starts.
  expect((await talk(['a', '/save'], '--session', 'new.safetensors')).code).toBe(0);
  using made = await model.loadSession(at('new.safetensors'));
  expect(made.text).toBe('a');
  writeFileSync(at('no-session.safetensors'), 'no');
  const wrong = await talk([], '--session', 'no-session.safetensors');
  expect([wrong.code, wrong.stdout]).toEqual([3, '']);
});

test('a signal ends it with its exit code, and the text is printed', async () => {
  const ended = await run(process.execPath, [compiled('cli/main.js'), 'sample', 'model.safetensors', ...basic], {
    cwd: folder,
    onStart: (child) => {
      const asked = (seen: string) => seen.includes('> ');
      whenSaid(child.stderr, asked, () => child.kill('SIGTERM'));
    },
    input: 'cab\n',
    inputStaysOpen: true,
  });
  expect([ended.code, ended.stdout.startsWith('cab') || ended.stdout === '\n']).toEqual([143, true]);
});

test('what does not go together is refused before the model is loaded', async () => {
  for (const [argv, message] of [
    [['--lines', '2'], '--interactive goes without --lines'],
    [['--best-of', '2'], 'goes without --best-of'],
    [['--json'], 'goes without --json'],
    [['--echo'], 'goes without --echo'],
    [['--window', '0'], 'goes without --window'],
    [['--prompt-file', '-'], 'give --prompt-file a file'],
  ] as const) {
    const { stdout, stderr } = sinks();
    const code = await main(['sample', at('nowhere'), '--interactive', ...argv], { stdout, stderr }).catch(
      (e: unknown) => reportError(e, stderr),
    );
    expect([argv, code, stdout.text]).toEqual([argv, 2, '']);
    expect(stderr.text).toContain(message);
  }
});

itOnTerminal('talks on a terminal, line by line', async () => {
  const words = [process.execPath, compiled('cli/main.js'), 'sample', 'model.safetensors', ...basic];
  const { code, stdout } = await runOnTerminal(words, {
    redirect: '> told.txt',
    cwd: folder,
    input: 'cab\n1\n/quit\n',
  });
  expect(code).toBe(0);
  expect(stdout).toContain('> ');
  expect(readFileSync(at('told.txt'), 'utf8')).toBe(`cab${(await offered(['cab'], 1))[0]}\n`);
});
