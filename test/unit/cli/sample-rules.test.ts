/** Options that restrict what `sample` writes, as a user types them: what comes out, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { runCommand } from '../../fixtures/command';
import { sharpen } from '../../fixtures/sharpen';
import { jsonLines } from '../../fixtures/sink';

let folder: string;
const at = (name: string) => join(folder, name);
const corpus = 'abba cab. Bad dab!\nA cab? ab.\n'.repeat(30);
const cpu = ['--device', 'cpu', '--threads', '1'];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sample-rules-'));
  const vocabulary = new Vocabulary([...'\n !.?ABabcd']);
  const shape = { layers: 1, hidden: 12, input: 'onehot', embedding: 0, dropout: 0 } as const;
  using model = await LanguageModel.create({ ...shape, vocabulary: vocabulary.size }, vocabulary, {
    ...{ device: 'cpu', threads: 1, seed: 5 },
  });
  sharpen(model, 2);
  await model.save(at('model.safetensors'));
  writeFileSync(at('corpus.txt'), corpus);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs `sample`. Its lines about the model, device and seed are left out of `err`. */
async function sample(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const ran = await runCommand('sample', at('model.safetensors'), '--seed', '3', ...argv, ...cpu);
  return { ...ran, err: ran.err.replace(/^(model|device|seed): .*\n/gm, '') };
}

/** The texts of a run that must succeed. */
async function texts(...argv: string[]): Promise<string[]> {
  const { code, out, err } = await sample(...argv, '--json');
  expect([argv, code, err]).toEqual([argv, 0, '']);
  return jsonLines(out).map(({ text }) => text);
}

test('--pattern writes what the expression matches as a whole, within --length', async () => {
  for (const pattern of ['[AB][a-d]{2,5}[.!?]', '(ab|ba){3}', '[^\\n.]{4,}', 'A?']) {
    const drawn = await texts('--pattern', pattern, '--count', '5', '--length', '12');
    expect(drawn).toHaveLength(5);
    for (const text of drawn) {
      expect(text).toMatch(new RegExp(`^(?:${pattern})$`, 'u'));
      expect(text.length).toBeLessThanOrEqual(12);
    }
  }
  const plain = await sample('--pattern', '(ab|ba){3}');
  expect(plain.out).toMatch(/^(ab|ba){3}\n$/);
});

test('--only writes nothing but these characters, and goes together with --pattern to a whole match', async () => {
  const [drawn] = await texts('--only', 'ab. ', '--length', '200', '--temperature', '2');
  expect([...new Set(drawn)].sort()).toEqual([' ', '.', 'a', 'b']);
  // Parts of the pattern need characters that --only forbids: a match must not begin with what it could not finish.
  for (const text of await texts(
    '--only',
    'abA.',
    '--pattern',
    '([a-d]+[.!] ?|B|A[^a]b){2,}',
    '--count',
    '8',
    '--length',
    '9',
  ))
    expect(text).toMatch(/^([ab]+\.|A[A.b]b){2,}$/);
});

test('--until-lines and --until-sentences end a text where they say, and at --length at the latest', async () => {
  const [free = ''] = await texts('--length', '400', '--temperature', '1.5');
  const lines = free.split('\n');
  const sentences = free.split(/(?<=[.!?])(?=\s)/);
  expect(Math.min(lines.length, sentences.length)).toBeGreaterThan(3);
  const ended = async (...argv: string[]) => (await texts('--length', '400', '--temperature', '1.5', ...argv))[0];
  expect(await ended('--until-lines', '1')).toBe(lines[0]);
  expect(await ended('--until-lines', '3')).toBe(lines.slice(0, 3).join('\n'));
  expect(await ended('--until-sentences', '1')).toBe(sentences[0]);
  expect(await ended('--until-sentences', '3')).toBe(sentences.slice(0, 3).join(''));
  expect(await ended('--until-lines', '1000')).toBe(free);
  const both = [lines.slice(0, 2).join('\n'), sentences.slice(0, 2).join('')].sort((a, b) => a.length - b.length);
  expect(await ended('--until-lines', '2', '--until-sentences', '2')).toBe(both[0]);
});

test('--best-of prints the likeliest of what --count would, and says its bits', async () => {
  const options = ['--length', '40', '--temperature', '1.3', '--prompt', 'A cab'];
  const all = await texts(...options, '--count', '6');
  const { code, out, err } = await sample(...options, '--best-of', '6');
  expect(code).toBe(0);
  using model = await LanguageModel.load(at('model.safetensors'), { device: 'cpu', threads: 1 });
  const bits: number[] = [];
  for (const text of all) bits.push((await model.score(`A cab${text}`)).bitsPerCharacter);
  const least = Math.min(...bits);
  expect(out).toBe(`${all[bits.indexOf(least)]}\n`);
  expect(err).toContain(`best of 6: ${least.toFixed(3)} bits/char\n`);
});

test('--max-copy copies no longer run of the corpus, and --corpus-check says what was copied', async () => {
  const options = ['--length', '300', '--corpus-check', at('corpus.txt')];
  const copied = (text: string, length: number) =>
    Array.from({ length: text.length - length + 1 }, (_, i) => text.slice(i, i + length)).filter((run) =>
      corpus.includes(run),
    );
  const longest = (text: string) => {
    let length = 0;
    while (copied(text, length + 1).length > 0) length++;
    return length;
  };
  const free = await sample(...options);
  expect(free.err).toContain(`longest copy: ${longest(free.out.slice(0, -1))} characters, "`);
  expect(free.err).toMatch(/^copied: \d+\.\d % of the runs of 30 characters stand in the corpus$/m);
  const held = await sample(...options, '--max-copy', '2');
  expect(held.err).toContain('longest copy: 2 characters, "');
  expect(longest(held.out.slice(0, -1))).toBe(2);
  expect(longest(free.out.slice(0, -1))).toBeGreaterThan(2);
});

test.each([
  [['--pattern', '(a'], 2, 'The pattern /(a/ is no regular expression: Unterminated group.'],
  [['--pattern', 'a\\b'], 2, 'has \\b, which looks at its neighbours and is not supported: leave it out.'],
  [['--pattern', '[x-z]'], 3, "no text of the model's characters matches the pattern /[x-z]/"],
  [
    ['--pattern', '[a-d]', '--only', 'AB'],
    3,
    "no text of the characters matches the pattern /[a-d]/; they are 'A' (U+0041), 'B' (U+0042)",
  ],
  [
    ['--pattern', 'a{9}', '--length', '8'],
    2,
    '--length must be no less than 9: what matches the pattern has at least 9 characters.',
  ],
  [['--only', 'xyz'], 3, 'the model knows none'],
  [['--until-lines', '0'], 2, '--until-lines must be a whole number from 1 to 1,000,000, not 0.'],
  [['--until-sentences', '1.5'], 2, '--until-sentences'],
  [['--best-of', '0'], 2, '--best-of must be a whole number from 1 to 4,096, not 0.'],
  [['--best-of', '2', '--length', '5000000'], 2, '--length must be at most 4,194,304'],
  [['--max-copy', '4'], 2, 'give --corpus-check FILE, too'],
  [['--max-copy', '0', '--corpus-check', 'corpus.txt'], 2, '--max-copy must be a whole number from 1, not 0.'],
])('refuses %j', async (argv, code, message) => {
  const refused = await sample(...argv);
  expect(refused).toEqual({ code, out: '', err: expect.stringContaining(message) });
  expect(refused.err).toMatch(/^[^\n]+\n$/);
});
