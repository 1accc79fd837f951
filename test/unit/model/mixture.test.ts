/** Mixtures of models, checked against probabilities computed here from each model by itself. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ModelShape } from '../../../lib/checkpoint/checkpoint';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { type CreateOptions, LanguageModel, type MixturePart, nativeOf } from '../../../lib/model';
import { runCommand } from '../../fixtures/command';
import { sharpen } from '../../fixtures/sharpen';
import { jsonLines } from '../../fixtures/sink';

const symbols = ['\n', ' ', 'a', 'b', 'c', 'd', '\u{1F407}'];
const text = 'abba cab\nbad dab add a cad '.repeat(20);
const models: LanguageModel[] = [];

async function create(
  seed: number,
  changed: Partial<ModelShape> = {},
  known = symbols,
  options: CreateOptions = {},
): Promise<LanguageModel> {
  const shape = { layers: 1, hidden: 9, input: 'onehot', embedding: 0, dropout: 0, ...changed } as const;
  const model = await LanguageModel.create(
    { ...shape, vocabulary: known.length },
    new Vocabulary(known, options.normalization?.unknown),
    {
      device: 'cpu',
      threads: 1,
      seed,
      ...options,
    },
  );
  models.push(model);
  sharpen(model, 4);
  return model;
}

function mix(...parts: (MixturePart | LanguageModel)[]): LanguageModel {
  const mixture = LanguageModel.mix(parts.map((part) => (part instanceof LanguageModel ? { model: part } : part)));
  models.push(mixture);
  return mixture;
}
afterEach(() => {
  for (const model of models.splice(0)) model.dispose();
});

/** Natural logarithms of a model's probabilities of `among`, normalised over these, after each character of a text, from zero state. */
async function logProbabilities(model: LanguageModel, of: string, among: readonly string[]): Promise<number[][]> {
  const ids = model.vocabulary.encode(of);
  const logits = await nativeOf(model).logits({ ids, streams: 1 });
  return Array.from(ids, (_, i) => {
    const row = among.map((symbol) => logits[i * model.vocabulary.size + (model.vocabulary.idOf(symbol) as number)]!);
    return row.map((logit) => logit - totalOf(row));
  });
}

/** Logarithm of the sum of the exponentials. */
function totalOf(logits: Iterable<number>): number {
  const all = [...logits];
  const largest = Math.max(...all);
  return largest + Math.log(all.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
}

/** The log-probabilities that the mixture should give, computed from those of each model. */
async function expected(parts: { model: LanguageModel; share: number }[], of: string, among: readonly string[]) {
  const each = await Promise.all(parts.map(({ model }) => logProbabilities(model, of, among)));
  return each[0]!.map((row, i) =>
    row.map((_, v) => Math.log(parts.reduce((sum, { share }, m) => sum + share * Math.exp(each[m]![i]![v]!), 0))),
  );
}

it('is the weighted mean of the probabilities, which sum to 1', async () => {
  const [a, b] = [await create(1), await create(2, { layers: 2, hidden: 5, input: 'embedding', embedding: 3 })];
  const mixture = mix(a, { model: b, weight: 3 });
  const wanted = await expected(
    [
      { model: a, share: 0.25 },
      { model: b, share: 0.75 },
    ],
    text,
    symbols,
  );
  const found = await nativeOf(mixture).logits({ ids: mixture.vocabulary.encode(text), streams: 1 });
  expect(found).toHaveLength(text.length * symbols.length);
  for (const [i, row] of wanted.entries()) {
    let sum = 0;
    for (const [v, value] of row.entries()) {
      const actual =
        found[i * symbols.length + v]! - totalOf(found.subarray(i * symbols.length).slice(0, symbols.length));
      sum += Math.exp(actual);
      expect(Math.abs(actual - value)).toBeLessThan(1e-5);
    }
    expect(sum).toBeCloseTo(1, 6);
  }
  // Its score is the mean over the same probabilities.
  const ids = mixture.vocabulary.encode(text);
  const nats = wanted.slice(0, -1).reduce((sum, row, i) => sum - row[ids[i + 1]!]!, 0);
  expect((await mixture.score(text)).loss).toBeCloseTo(nats / (ids.length - 1), 5);
  const { rivalLogProbabilities, rivals } = await nativeOf(mixture).sample({
    ...{ ids: ids.slice(0, 9), streams: 1, count: 1, sampling: {}, logProbabilities: true, rivals: symbols.length },
  });
  const told = Array.from(rivalLogProbabilities!, (value, rank) => [rivals![rank], value] as const);
  expect(told.reduce((sum, [, value]) => sum + Math.exp(value), 0)).toBeCloseTo(1, 6);
  for (const [id, value] of told) expect(value).toBeCloseTo(wanted[8]![id!]!, 4);
  expect(told.map(([, value]) => value)).toEqual(told.map(([, value]) => value).sort((x, y) => y - x));
  const inspection = await mixture.inspect(text, { rivals: symbols.length });
  expect(inspection.bits[5]).toBeCloseTo(-wanted[4]![ids[5]!]! / Math.LN2, 4);
  expect(inspection.rivals[5]!.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 6);
});

it('of a model with itself it is that model: the same text, score and lines', async () => {
  const model = await create(3, { layers: 2 });
  const mixture = mix({ model, weight: 0.3 }, { model, weight: 2 });
  for (const options of [
    { temperature: 1 },
    { greedy: true },
    { topP: 0.8, repetitionPenalty: 1.4, penaltyWindow: 5 },
    { window: 7, minP: 0.05 },
    { window: 4, repetitionPenalty: 1.2, penaltyWindow: 9 },
    { only: 'abc ', stop: 'bb' },
  ]) {
    const request = { prompt: 'abba c', length: 80, seed: 11, ...options };
    expect(await mixture.generateText(request)).toBe(await model.generateText(request));
  }
  expect(await mixture.generateBest(3, { seed: 4, length: 30 })).toMatchObject({
    text: (await model.generateBest(3, { seed: 4, length: 30 })).text,
  });
  expect((await mixture.score(text)).loss).toBeCloseTo((await model.score(text)).loss, 5);
  expect((await mixture.score(text, { streams: 3 })).loss).toBeCloseTo(
    (await model.score(text, { streams: 3 })).loss,
    5,
  );
  const scores = await mixture.scoreLines(['abba', 'b', 'cab bad']);
  const own = await model.scoreLines(['abba', 'b', 'cab bad']);
  for (const [i, score] of scores.entries()) expect(score?.loss ?? -1).toBeCloseTo(own[i]?.loss ?? -1, 5);
});

it('draws each of several texts as it would alone, in whatever pieces', async () => {
  const mixture = mix(await create(1), await create(2, { hidden: 4 }));
  const texts = Array.from({ length: 3 }, () => '');
  for await (const { stream, text: piece } of mixture.generateMany(3, { seed: 5, length: 150 })) texts[stream] += piece;
  expect(new Set(texts).size).toBe(3);
  expect(await mixture.generateText({ seed: 5, length: 150 })).toBe(texts[0]);
  expect([...texts[2]!]).toHaveLength(150);
});

it('knows the characters that all models know, and takes their probabilities over those', async () => {
  const [a, b] = [await create(1), await create(2, {}, ['x', 'd', 'b', ' ', 'a', '\n'])];
  const mixture = mix(a, b);
  const common = ['\n', ' ', 'a', 'b', 'd'];
  expect(mixture.vocabulary.symbols).toEqual(common);
  const of = 'bad dab\nadd';
  const wanted = await expected(
    [
      { model: a, share: 0.5 },
      { model: b, share: 0.5 },
    ],
    of,
    common,
  );
  const found = await nativeOf(mixture).logits({ ids: mixture.vocabulary.encode(of), streams: 1 });
  for (const [i, row] of wanted.entries()) {
    const logits = found.slice(i * 5, (i + 1) * 5);
    for (const [v, value] of row.entries()) expect(logits[v]! - totalOf(logits)).toBeCloseTo(value, 4);
  }
  expect(await mixture.generateText({ length: 300, temperature: 2, seed: 1 })).toMatch(/^[\n abd]{300}$/);
  await expect(mixture.score('cab')).rejects.toThrow("'c'");
  expect((await mixture.score('cabc', { unknown: 'skip' })).characters).toBe(1);
});

it('begins lines anew where all models do, and folds unknown characters where all do', async () => {
  const lines = ['\n', 'a', 'b', 'c'];
  const [a, b] = [await create(1, { resetId: 0 }, lines), await create(2, { resetId: 3 }, ['c', 'b', 'a', '\n'])];
  const mixture = mix(a, b);
  expect(mixture.shape.resetId).toBe(0);
  const all = await mixture.scoreLines(['abc', 'ca']);
  const whole = await nativeOf(mixture).logits({ ids: mixture.vocabulary.encode('abc\nca'), streams: 1 });
  const alone = await nativeOf(mixture).logits({ ids: mixture.vocabulary.encode('\nca'), streams: 1 });
  expect(whole.slice(3 * 4)).toEqual(alone);
  expect(all.map((score) => score?.characters)).toEqual([4, 3]);

  const folded = { normalization: { lowercase: false, unknown: '\uFFFD' } };
  const rare = [...lines, '\uFFFD'];
  const [c, d, e] = [await create(1, {}, rare, folded), await create(2, {}, rare, folded), await create(3, {}, rare)];
  expect(mix(c, d).vocabulary.unknownId).toBe(4);
  expect((await mix(c, d).score('abx')).characters).toBe(2);
  // In a model that has it as an ordinary character it means something else, so the mixture leaves it out.
  expect(mix(c, e).vocabulary.symbols).toEqual(lines);
});

it('refuses what cannot read one text together, and what takes weights', async () => {
  const plain = await create(1);
  const other = (options: CreateOptions, shape: Partial<ModelShape> = {}) => create(2, shape, symbols, options);
  const refused = async (model: Promise<LanguageModel>, message: RegExp) => {
    const second = await model;
    expect(() => LanguageModel.mix([{ model: plain }, { model: second }])).toThrow(message);
  };
  await refused(other({ normalization: { lowercase: true } }), /read texts differently.*lowercase/);
  await refused(other({ normalization: { lowercase: false, form: 'nfc' } }), /normal form/);
  await refused(other({}, { resetId: 0 }), /single lines/);
  await refused(other({ target: 'last', seqLength: 12 }), /different windows \(0 and 12/);
  await refused(create(1, {}, ['x', 'y']), /no character in common/);
  for (const weight of [0, -1, Number.NaN, 1e7, '1'])
    expect(() => LanguageModel.mix([{ model: plain, weight: weight as number }])).toThrow(/weight/);
  expect(() => LanguageModel.mix([])).toThrow(/at least one/);
  expect(() => LanguageModel.mix([{ model: {} as LanguageModel }])).toThrow(/must be a LanguageModel/);
  const mixture = mix(plain, plain);
  await expect(mixture.save('x')).rejects.toThrow(/no weights of its own/);
  await expect(mixture.scoreWindows(text, { window: 5 })).rejects.toThrow(/dropout off/);
  mixture.dispose();
  await expect(mixture.generateText({ length: 1 })).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  expect(await plain.generateText({ length: 1, seed: 1 })).toHaveLength(1);
});

it('gives a call up when its signal is aborted, and fails when a model is disposed of', async () => {
  const [a, b] = [await create(1), await create(2, { hidden: 60 })];
  const mixture = mix(a, b);
  const controller = new AbortController();
  const scoring = mixture.score('ab'.repeat(50_000), {
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  });
  await expect(scoring).rejects.toThrow('enough');
  b.dispose();
  await expect(mixture.generateText({ length: 5 })).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
});

describe('commands', () => {
  let folder: string;
  const at = (name: string) => join(folder, name);
  const cpu = ['--device', 'cpu', '--threads', '1'];
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'mixture-'));
    for (const [name, seed] of Object.entries({ 'a.safetensors': 1, 'b.safetensors': 2 }))
      await (await create(seed)).save(at(name));
    writeFileSync(at('text.txt'), text);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const run = (...argv: string[]) => runCommand(...argv, ...cpu);

  it('sample and score take several checkpoints, with weights', async () => {
    const [a, b] = [await LanguageModel.load(at('a.safetensors')), await LanguageModel.load(at('b.safetensors'))];
    models.push(a, b);
    const mixture = mix({ model: a, weight: 1 }, { model: b, weight: 0.25 });
    const drawn = await run(
      'sample',
      at('a.safetensors'),
      `${at('b.safetensors')}:0.25`,
      '--seed',
      '3',
      '--length',
      '60',
    );
    expect(drawn.err).toContain(`mixture: 0.800 ${at('a.safetensors')}, 0.200 ${at('b.safetensors')}`);
    expect(drawn.out).toBe(`${await mixture.generateText({ seed: 3, length: 60 })}\n`);
    const files = [at('a.safetensors'), `${at('b.safetensors')}:0.25`];
    const scored = await run('score', ...files, at('text.txt'), '--json');
    expect(jsonLines(scored.out)[0]!.loss).toBeCloseTo((await mixture.score(text)).loss, 9);
    const single = await run('score', at('b.safetensors'), at('text.txt'), '--json');
    expect(jsonLines(single.out)[0]!.loss).toBeCloseTo((await b.score(text)).loss, 9);
  });

  it('refuses checkpoints without a text, a weight of nothing, and a protocol for one model', async () => {
    const files = [at('a.safetensors'), at('b.safetensors')];
    const cases: [string[], string][] = [
      [['score', ...files], 'name the text to score'],
      [['sample', files[0]!, `${files[1]}:0`], 'must be above 0'],
      [['score', ...files, at('text.txt'), '--protocol', 'window'], 'name one checkpoint'],
      [['sample', ...files, '--lines', '2', '--novel'], '--not-in FILE'],
    ];
    for (const [argv, message] of cases) {
      const { code, err, out } = await run(...argv);
      expect([argv, code, out]).toEqual([argv, 2, '']);
      expect(err).toContain(message);
    }
  });
});
