/** Limits that only large inputs reach: an input just within a limit is accepted; one just beyond is refused, with a remedy. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reportError } from '../../lib/cli/command';
import { main } from '../../lib/cli/main';
import { readPrompt } from '../../lib/cli/prompt-file';
import { byteNormalization, byteVocabulary } from '../../lib/corpus/bytes';
import { MemoryIds } from '../../lib/corpus/ids';
import { KnownLines } from '../../lib/corpus/known-lines';
import { TextIndex } from '../../lib/corpus/text-index';
import { Vocabulary } from '../../lib/corpus/vocabulary';
import { DataError, UsageError } from '../../lib/errors';
import { LanguageModel, nativeOf } from '../../lib/model';
import { findCopies, mostChecked } from '../../lib/sampling/copies';
import { readLines } from '../../lib/scoring/text';
import { train } from '../../lib/training/train';
import { sinks } from '../fixtures/sink';

jest.mock('../../lib/checkpoint/known-lines', () => ({
  ...jest.requireActual<object>('../../lib/checkpoint/known-lines'),
  mostKnownLines: 3,
}));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'bounds-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, content: string | Uint8Array) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

const cpu = { device: 'cpu', threads: 1 } as const;
const shape = { layers: 1, hidden: 8, input: 'onehot', embedding: 0, dropout: 0 } as const;
const letters = ['\n', 'a', 'b', 'c'];

function makeModel(): Promise<LanguageModel> {
  return LanguageModel.create({ ...shape, vocabulary: letters.length }, new Vocabulary(letters), cpu);
}

/** A model that draws only this character. */
async function makeDrawerOf(symbol: string): Promise<LanguageModel> {
  const model = await makeModel();
  const native = nativeOf(model);
  const parameters = new Float32Array(native.read('parameters').length);
  // The output biases come last.
  parameters[parameters.length - letters.length + letters.indexOf(symbol)] = 100;
  native.write('parameters', parameters);
  return model;
}

describe('a line of a list', () => {
  const longest = 2 ** 24;
  const read = async (content: string) => {
    const lengths: number[] = [];
    const metadata = { normalization: { lowercase: false } };
    const path = file('lines.txt', content);
    for await (const line of readLines({ metadata }, path, {}, () => {})) lengths.push(line.length);
    return lengths;
  };

  it.each([
    ['with its line break', `${'x'.repeat(longest)}\nb\n`],
    ['at the end', `b\n${'x'.repeat(longest)}`],
  ])('%s has at most 2^24 characters', async (_, content) => {
    expect((await read(content)).sort((a, b) => a - b)).toEqual([1, longest]);
  });

  it.each([
    ['with its line break', `b\n${'x'.repeat(longest + 1)}\n`],
    ['at the end', `${'x'.repeat(longest + 1)}`],
  ])('%s has no more', async (_, content) => {
    await expect(read(content)).rejects.toThrow(DataError);
    await expect(read(content)).rejects.toThrow(
      /lines\.txt has a line of more than 16,777,216 characters, so it is no list of lines$/,
    );
  });
});

describe('lines that are known', () => {
  it('are as many as are said at most, different or not', async () => {
    expect((await KnownLines.of(['a', 'b', 'a'], undefined, 3)).size).toBe(2);
    await expect(KnownLines.of(['a', 'b', 'a', 'b'], undefined, 3)).rejects.toThrow(DataError);
    await expect(KnownLines.of(['a', 'b', 'a', 'b'], undefined, 3)).rejects.toThrow(
      /^more than 3 lines to compare with, the most there may be: give fewer of them$/,
    );
    await expect(KnownLines.of([], undefined, 2 ** 25 + 1)).rejects.toThrow(UsageError);
    expect((await KnownLines.of([], undefined, 0)).size).toBe(0);
  });

  it.each([
    [3, true],
    [4, false],
  ])('of a corpus of %i are kept: %s', async (count, kept) => {
    const text = ['abc', 'bca', 'cab', 'bac'].slice(0, count).join('\n');
    const out = join(folder, `run-${count}`);
    const training = await train({
      corpus: { text },
      lines: true,
      validation: 0,
      hidden: 8,
      layers: 1,
      batchSize: 1,
      seqLength: 3,
      epochs: 1,
      out,
      ...cpu,
    });
    const { notes } = training.corpus;
    await training.dispose();
    expect(existsSync(join(out, 'known-lines.bin'))).toBe(kept);
    const note = 'more than 3 lines: none are kept for `loadKnownLines` to find';
    expect(notes.includes(note)).toBe(!kept);
  });
});

test('texts that are compared with a corpus have at most a million characters together', async () => {
  const corpus = new MemoryIds(Uint8Array.of(0, 1, 2));
  const half = new Uint8Array(mostChecked / 2);
  for (const texts of [[new Uint8Array(mostChecked + 1)], [half, half, Uint8Array.of(1)]]) {
    await expect(findCopies(texts, corpus)).rejects.toThrow(UsageError);
    await expect(findCopies(texts, corpus)).rejects.toThrow(
      'texts have 1000001 characters, and 1000000 at most are compared with a corpus.',
    );
  }
  const checkpoint = join(folder, 'model.safetensors');
  using model = await makeModel();
  await model.save(checkpoint);
  const asked = ['sample', checkpoint, '--device', 'cpu', '--corpus-check', file('corpus.txt', 'abc\n')];
  for (const lengths of [
    ['--length', '1000001'],
    ['--length', '500001', '--count', '2'],
  ]) {
    const { stdout, stderr } = sinks();
    const error = await main([...asked, ...lengths], { stdout, stderr }).catch((thrown: unknown) => thrown);
    expect(reportError(error, stderr)).toBe(2);
    expect([stdout.text, stderr.text]).toEqual([
      '',
      '--corpus-check looks at 1,000,000 characters at most: lower --length or --count.\n',
    ]);
  }
});

test('a text of more than 2^30 characters is not indexed, nor read', async () => {
  const read = jest.fn();
  await expect(TextIndex.of({ length: 2 ** 30 + 1, bytesPerId: 1, read })).rejects.toThrow(
    'a text above 2^30 characters cannot be indexed; give a part of it',
  );
  expect(read).not.toHaveBeenCalled();
});

describe('a prompt', () => {
  const longest = 2 ** 24;

  it('in a file has at most 16 MiB', async () => {
    const { signal } = new AbortController();
    const within = file('prompt.txt', new Uint8Array(longest).fill(0x61));
    expect((await readPrompt(within, signal)).length).toBe(longest);
    const beyond = file('prompt.txt', new Uint8Array(longest + 1).fill(0x61));
    await expect(readPrompt(beyond, signal)).rejects.toThrow(DataError);
    await expect(readPrompt(beyond, signal)).rejects.toThrow(
      /^the prompt in .*prompt\.txt is longer than 16 MiB; give the end of it$/,
    );
  });

  it('of bytes has at most 2^28', async () => {
    const options = { ...cpu, normalization: byteNormalization };
    using model = await LanguageModel.create({ ...shape, vocabulary: 256 }, byteVocabulary(), options);
    // It is refused by its length alone, so that its memory is never touched.
    expect(() => model.generate({ prompt: new Uint8Array(2 ** 28 + 1) })).toThrow(
      'prompt must be at most 268,435,456 bytes.',
    );
  });
});

describe('lines that are drawn in vain', () => {
  const most = 1000 + 100;
  /** At most so many lines are drawn at a time. */
  const batch = 64;

  async function first(model: LanguageModel, options: object): Promise<string> {
    for await (const line of model.generateLines(1, { seed: 1, length: 50, ...options })) return line;
    throw new Error('no line');
  }

  it('are given up after 1,000 and 100 for each that is asked for', async () => {
    using model = await makeModel();
    const known = { has: () => true };
    await expect(first(model, { known })).rejects.toThrow(DataError);
    const message = await first(model, { known }).catch((error: Error) => error.message);
    const counts = [...message.matchAll(/([\d,]+) (?:that are known|longer|empty)/g)];
    const all = counts.reduce((sum, [, count]) => sum + Number((count as string).replace(',', '')), 0);
    expect(all).toBeGreaterThan(most);
    expect(all).toBeLessThanOrEqual(most + batch);
  });

  it('are not given up before', async () => {
    using model = await makeModel();
    const refused: string[] = [];
    const known = { has: (line: string) => refused.push(line) < 600 };
    expect(await first(model, { known, length: 500 })).toBe(refused.at(-1));
  });

  it.each([
    ['\n', /^the model writes hardly a line that is wanted: 0 of 1, and [\d,]+ empty$/],
    ['a', /: 0 of 1, and [\d,]+ longer than 50 characters; give a larger `length`$/],
  ])('as %j alone is drawn', async (symbol, message) => {
    using model = await makeDrawerOf(symbol);
    await expect(first(model, {})).rejects.toThrow(DataError);
    await expect(first(model, {})).rejects.toThrow(message);
  });
});
