/** Models of single lines, from training to generating and scoring. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { loadKnownLines } from '../../../lib/checkpoint/known-lines';
import { MemoryIds } from '../../../lib/corpus/ids';
import { LineIndex } from '../../../lib/corpus/lines';
import { LanguageModel, nativeOf } from '../../../lib/model';
import { divideLines } from '../../../lib/training/lines';
import { train } from '../../../lib/training/train';

/** Made-up names of two or three syllables. */
const names = Array.from({ length: 400 }, (_, i) => {
  const syllables = ['ba', 'de', 'ki', 'lo', 'mu', 'ra', 'ti'];
  const pick = (k: number) => syllables[(i * k + (i >> 3)) % 7] as string;
  return pick(1) + pick(3) + (i % 3 === 0 ? pick(5) : '');
});
const text = names.join('\n');
const small = { lines: true, hidden: 12, layers: 1, batchSize: 4, seqLength: 10, sampleLength: 20, seed: 3 } as const;
const cpu = { device: 'cpu', threads: 1 } as const;

let folder: string;
let model: LanguageModel;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lines-'));
  const training = await train({ corpus: { text }, ...small, ...cpu, epochs: 3, out: join(folder, 'run') });
  for await (const _ of training);
  await training.dispose();
  model = await LanguageModel.load(join(folder, 'run'), cpu);
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
});

test('the validation loss is that of the held-out lines, each scored by itself', async () => {
  const ids = Uint8Array.from(model.vocabulary.encode(text));
  const { resetId } = model.shape;
  expect(model.vocabulary.symbols[resetId as number]).toBe('\n');
  const divided = await divideLines(await LineIndex.find(new MemoryIds(ids), resetId as number), 0.1);
  const held = [...divided.validation].map((line) => names[line] as string);
  const scores = await model.scoreLines(held);
  let [nats, characters] = [0, 0];
  for (const [i, score] of scores.entries()) {
    expect(score?.characters).toBe((held[i] as string).length + 1);
    nats += score!.loss * score!.characters;
    characters += score!.characters;
  }
  expect(nats / characters).toBeCloseTo(model.metadata.validationLoss as number, 5);
});

test('a line is worth the product of its characters and its end, and the first letters add up to one', async () => {
  const bits = async (line: string) => {
    const [score] = await model.scoreLines([line]);
    return score!.bitsPerCharacter * score!.characters;
  };
  // Computed here from the logits, symbol by symbol.
  const line = 'bade';
  const ids = model.vocabulary.encode(`\n${line}\n`);
  const logits = await nativeOf(model).logits({ ids: ids.slice(0, -1), streams: 1 });
  const V = model.vocabulary.size;
  let expected = 0;
  for (let t = 0; t + 1 < ids.length; t++) {
    const row = logits.subarray(t * V, (t + 1) * V);
    const total = row.reduce((sum, value) => sum + Math.exp(value), 0);
    expected -= Math.log2(Math.exp(row[ids[t + 1] as number] as number) / total);
  }
  expect(await bits(line)).toBeCloseTo(expected, 4);
  // Earlier lines make no difference: a text of two lines scores the sum of both.
  const whole = await model.score(`muti\n${line}\n`);
  expect(whole.characters).toBe(10);
  expect(whole.bitsPerCharacter * whole.characters).toBeCloseTo((await bits('muti')) + expected, 4);
  let sum = 0;
  for (const symbol of model.vocabulary.symbols) sum += 2 ** -(await model.score(`\n${symbol}`)).bitsPerCharacter;
  expect(sum).toBeCloseTo(1, 5);
  const inspected = await model.inspect(line);
  expect(inspected.characters.join('')).toBe(line);
  expect(inspected.bits[0]).not.toBeNull();
  expect(inspected.rivals[0]).toHaveLength(5);
  const withoutEnd = inspected.bits.reduce<number>((total, each) => total + (each as number), 0);
  const score = await model.score(line);
  expect(withoutEnd).toBeCloseTo(score.bitsPerCharacter * score.characters, 4);
});

test('lines begin as those of the list do, also where the list is sorted', async () => {
  const first: [string, number][] = [
    ['b', 160],
    ['d', 80],
    ['k', 40],
    ['l', 20],
  ];
  const list = first
    .flatMap(([letter, count]) => Array.from({ length: count }, (_, i) => `${letter}${names[i]}`))
    .sort();
  const whole = first.reduce((sum, [, count]) => sum + count, 0);
  /** KL divergence, in bits, of the model's distribution of first letters from the list's. */
  const divergence = async (lines: boolean) => {
    const training = await train({
      ...{ corpus: { text: `${list.join('\n')}\n` }, ...small, ...cpu, lines, hidden: 16 },
      ...{ validation: 0, epochs: 8, learningRate: 0.02, sampleLength: 0, out: false as const },
    });
    for await (const _ of training);
    using session = training.model.session();
    const rivals = await session.peek(training.model.vocabulary.size);
    await training.dispose();
    const bits = first.map(([letter, count]) => {
      const { probability = 0 } = rivals.find(({ character }) => character === letter) ?? {};
      return (count / whole) * Math.log2(count / whole / probability);
    });
    return bits.reduce((a, b) => a + b, 0);
  };
  const ofLines = await divergence(true);
  expect(ofLines).toBeLessThan(0.1);
  // Trained on the list as one text, the model learns its order, and how it begins a new text says little about the lines.
  expect(await divergence(false)).toBeGreaterThan(2 * ofLines);
});

test('a prompt is the beginning of a line, and what follows a line break knows nothing of before', async () => {
  const options = { length: 30, seed: 5 };
  expect(await model.generateText({ ...options, prompt: 'ba' })).toBe(
    await model.generateText({ ...options, prompt: '\nba' }),
  );
  expect(await model.generateText({ ...options, prompt: 'ba' })).toBe(
    await model.generateText({ ...options, prompt: 'muti\nba' }),
  );
  expect(await model.generateText(options)).toBe(await model.generateText({ ...options, prompt: '\n' }));
});

test('a resumed run ends with the weights of one that was never interrupted', async () => {
  const file = join(folder, 'names.txt');
  writeFileSync(file, text);
  const options = { corpus: [file], ...small, ...cpu, dropout: 0.2 };
  const whole = join(folder, 'whole');
  const parts = join(folder, 'parts');
  const finish = async (request: Parameters<typeof train>[0], stopAfter = Infinity) => {
    const training = await train(request);
    let steps = 0;
    for await (const event of training) if (event.type === 'step' && ++steps >= stopAfter) break;
    const { newest } = training.run as unknown as { newest(): Promise<string> };
    const path = await newest.call(training.run);
    await training.dispose();
    return await loadCheckpoint(path);
  };
  const unbroken = await finish({ ...options, epochs: 3, out: whole });
  const interrupted = await finish({ ...options, epochs: 3, out: parts }, 2);
  // Interrupted mid-epoch, in the middle of lines.
  expect(interrupted.metadata.training?.batchInEpoch).toBeGreaterThan(0);
  const resumed = await finish({ ...cpu, resume: parts });
  expect(resumed.parameters).toEqual(unbroken.parameters);
  expect(resumed.metadata.validationLoss).toBe(unbroken.metadata.validationLoss);
  await expect(train({ ...cpu, resume: parts, lines: false })).rejects.toThrow(
    'option lines: a resumed run stays as it was begun, with true, so false is impossible',
  );
});

test('what does not go together is said', async () => {
  const request = { corpus: { text }, ...cpu, out: false, lines: true } as const;
  await expect(train({ ...request, target: 'last' })).rejects.toThrow(
    "option lines: single lines are trained on with `target: 'every'`, and option target says last: leave one of them out.",
  );
  await expect(train({ ...request, corpus: { text: '\n\n' } })).rejects.toThrow('only one symbol');
  await expect(train({ ...request, corpus: { text: 'ab' }, validation: 0 })).rejects.toThrow('The lines are too few');
  // A text without a line break is one line.
  const one = await train({
    ...request,
    corpus: { text: 'abcabd' },
    validation: 0,
    batchSize: 1,
    seqLength: 2,
    hidden: 3,
  });
  expect(one.model.vocabulary.symbols).toEqual(['\n', 'a', 'b', 'c', 'd']);
  await one.dispose();
  const noted = await train({ ...request, corpus: { text: `${text}\n\n\nba` }, hidden: 3 });
  expect(noted.corpus.notes).toEqual(['2 empty lines left out']);
  await noted.dispose();
});

async function linesOf(count: number, options: Parameters<LanguageModel['generateLines']>[1] = {}): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of model.generateLines(count, { seed: 1, temperature: 1, ...options })) lines.push(line);
  return lines;
}

test('whole lines, the same however many are asked for, none of them known', async () => {
  const lines = await linesOf(150);
  expect(lines).toHaveLength(150);
  expect(lines.every((line) => line !== '' && !line.includes('\n'))).toBe(true);
  expect(await linesOf(3)).toEqual(lines.slice(0, 3));
  expect(await linesOf(3, { repetitionPenalty: 1.1 })).toEqual(
    (await linesOf(70, { repetitionPenalty: 1.1 })).slice(0, 3),
  );
  const known = new Set([...lines.slice(0, 10), ...names]);
  const novel = await linesOf(20, { known });
  expect(novel).toEqual(lines.filter((line) => !known.has(line)).slice(0, novel.length));
  expect(novel).toHaveLength(20);
  const begun = await linesOf(30, { prompt: 'ba' });
  expect(begun.every((line) => line.startsWith('ba'))).toBe(true);
  // Only short ones.
  expect((await linesOf(20, { length: 4 })).every((line) => line.length <= 3)).toBe(true);
  expect(await linesOf(0)).toEqual([]);
});

test('the known lines of the run are kept beside its checkpoints', async () => {
  const known = await loadKnownLines(join(folder, 'run'), model.metadata);
  expect(known.size).toBe(new Set(names).size);
  expect(names.every((name) => known.has(name))).toBe(true);
  const novel = await linesOf(10, { known });
  expect(novel.filter((line) => names.includes(line))).toEqual([]);
});

test('what cannot be written is said', async () => {
  await expect(linesOf(5, { known: { has: () => true } })).rejects.toThrow(
    /^the model writes hardly a line that is wanted: 0 of 5, and [\d,]+ that are known.*; give a higher `temperature`/,
  );
  await expect(linesOf(5, { length: 1 })).rejects.toThrow(
    /longer than 1 character, [\d,]+ empty; give a larger `length`$/,
  );
  expect(() => model.generateLines(1, { prompt: 'a\nb' })).toThrow('prompt must be the beginning of one line');
  expect(() => model.generateLines(1, { prompt: 'X' })).toThrow("'X' (U+0058)");
  expect(() => model.generateLines(1, { known: {} as never })).toThrow('has of known must be a function');
  expect((await linesOf(2, { prompt: 'Xba', unknown: 'skip' })).every((line) => line.startsWith('ba'))).toBe(true);
  const controller = new AbortController();
  controller.abort(new Error('enough'));
  await expect(linesOf(2, { signal: controller.signal })).rejects.toThrow('enough');
});
