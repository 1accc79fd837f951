import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ModelShape } from '../../../lib/checkpoint/checkpoint';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { type CreateOptions, LanguageModel, nativeOf } from '../../../lib/model';
import { sampleCall } from '../../fixtures/sample-call';
import { sharpen } from '../../fixtures/sharpen';

const vocabulary = new Vocabulary(['\n', ' ', 'a', 'b', 'c', 'd', '\u{1F407}']);
const shape: ModelShape = { vocabulary: 7, layers: 2, hidden: 24, input: 'onehot', embedding: 0, dropout: 0.3 };
const text = 'abba cab\nbad dab \u{1F407}\nadd a cad '.repeat(60);

const models: LanguageModel[] = [];
async function create(options: CreateOptions = {}, changed: Partial<ModelShape> = {}): Promise<LanguageModel> {
  const model = await LanguageModel.create({ ...shape, ...changed }, vocabulary, {
    device: 'cpu',
    threads: 1,
    seed: 5,
    ...options,
  });
  models.push(model);
  // Fresh weights give nearly uniform logits; larger ones make every draw and every score depend on the state.
  sharpen(model, 3);
  return model;
}
afterEach(() => {
  for (const model of models.splice(0)) model.dispose();
});

async function collect(pieces: AsyncIterable<string>): Promise<string> {
  let all = '';
  for await (const piece of pieces) all += piece;
  return all;
}

/** Mean nats per character, from the logits of one unbroken run. */
async function lossFromLogits(model: LanguageModel, of: string): Promise<number> {
  const ids = vocabulary.encode(of);
  const logits = await nativeOf(model).logits({ ids: ids.subarray(0, -1), streams: 1 });
  let nats = 0;
  for (let i = 0; i + 1 < ids.length; i++) {
    const row = Array.from(logits.subarray(i * 7, (i + 1) * 7));
    const largest = Math.max(...row);
    const sum = row.reduce((total, logit) => total + Math.exp(logit - largest), 0);
    nats += largest + Math.log(sum) - (row[ids[i + 1] as number] as number);
  }
  return nats / (ids.length - 1);
}

describe('generate', () => {
  it('draws the same text from the same seed, and another one from another', async () => {
    const model = await create();
    const [one, two, other] = await Promise.all(
      [1, 1, 2].map((seed) => collect(model.generate({ prompt: 'abba', length: 200, seed, temperature: 1 }))),
    );
    expect(one).toBe(two);
    expect(one).not.toBe(other);
    expect([...(one as string)]).toHaveLength(200);
  });

  it('draws in chunks what one native call draws, with the state carried and with a window', async () => {
    const model = await create();
    for (const window of [0, 5]) {
      const options = { prompt: 'abba cab', length: 150, seed: 3, temperature: 1, window, repetitionPenalty: 1.3 };
      const sampling = { repetitionPenalty: 1.3, seed: 3 };
      const { ids } = await nativeOf(model).sample(
        sampleCall(vocabulary.encode(options.prompt), 150, sampling, { window }),
      );
      expect(await collect(model.generate(options))).toBe(vocabulary.decode(ids));
    }
  });

  it('feeds a prompt of many pieces as one', async () => {
    const model = await create();
    const tail = await collect(model.generate({ prompt: text, length: 40, greedy: true }));
    const ids = vocabulary.encode(text);
    const logits = await nativeOf(model).logits({ ids, streams: 1 });
    const last = Array.from(logits.subarray(-7));
    expect(vocabulary.idOf([...tail][0] as string)).toBe(last.indexOf(Math.max(...last)));
  });

  it('slides the window that a model for windows was trained on, unless told otherwise', async () => {
    const model = await create({ target: 'last', seqLength: 6 });
    expect(model.defaultWindow).toBe(6);
    const options = { prompt: 'abba cab dab', length: 100, seed: 1, temperature: 1 };
    expect(await collect(model.generate(options))).toBe(await collect(model.generate({ ...options, window: 6 })));
    expect(await collect(model.generate(options))).not.toBe(await collect(model.generate({ ...options, window: 0 })));
  });

  it('normalises prompts and stop strings as the corpus was', async () => {
    const model = await create({ normalization: { lowercase: true } });
    const options = { length: 100, seed: 1, temperature: 1 };
    const plain = await collect(model.generate({ ...options, prompt: 'abba\ncab' }));
    expect(await collect(model.generate({ ...options, prompt: 'ABBA\r\nCAB' }))).toBe(plain);
    const stop = [...plain].slice(50, 54).join('');
    const stopped = await collect(model.generate({ ...options, prompt: 'abba\ncab', stop: stop.toUpperCase() }));
    expect(stopped).toBe(plain.slice(0, plain.indexOf(stop)));
  });

  it('names unknown characters of a prompt, or skips them', async () => {
    const model = await create();
    expect(() => model.generate({ prompt: 'abzba' })).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
    expect(() => model.generate({ prompt: 'abzba' })).toThrow(/z.*U\+007A/s);
    const options = { length: 50, seed: 1 };
    expect(await collect(model.generate({ ...options, prompt: 'azb', unknown: 'skip' }))).toBe(
      await collect(model.generate({ ...options, prompt: 'ab' })),
    );
    expect(await collect(model.generate({ ...options, prompt: 'zzz', unknown: 'skip' }))).toBe(
      await collect(model.generate(options)),
    );
  });

  it('checks its options before it begins', async () => {
    const model = await create();
    expect(() => model.generate({ topP: 2 })).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
    expect(() => model.generateMany(0)).toThrow('count must be');
  });

  it('gives text k whatever the number of texts', async () => {
    const model = await create();
    const texts = ['', '', ''];
    for await (const { stream, text } of model.generateMany(3, { length: 80, seed: 9 })) texts[stream] += text;
    expect(texts[0]).toBe(await collect(model.generate({ length: 80, seed: 9 })));
    expect(new Set(texts).size).toBe(3);
  });
});

describe('score', () => {
  it('is the mean cross-entropy of one unbroken run', async () => {
    const model = await create();
    const score = await model.score(text);
    expect(score.characters).toBe([...text].length - 1);
    expect(Math.abs(score.loss - (await lossFromLogits(model, text)))).toBeLessThan(1e-5);
    expect(score.bitsPerCharacter).toBeCloseTo(score.loss / Math.LN2, 12);
  });

  it('scores lines as texts of their own', async () => {
    const model = await create();
    const scores = await model.scoreLines(['abba cab', '', 'a', 'bad dab \u{1F407}']);
    expect(scores[1]).toBeUndefined();
    expect(scores[2]).toBeUndefined();
    for (const [i, line] of [
      [0, 'abba cab'],
      [3, 'bad dab \u{1F407}'],
    ] as const) {
      expect(Math.abs((scores[i]?.loss as number) - (await lossFromLogits(model, line)))).toBeLessThan(1e-5);
    }
  });

  it('refuses texts that are too short, and impossible options', async () => {
    const model = await create();
    await expect(model.score('a')).rejects.toMatchObject({ code: 'ERR_DATA' });
    await expect(model.score('abc', { streams: 2 })).rejects.toThrow('4 are needed for 2 streams');
    await expect(model.score('abc', { streams: 0 })).rejects.toMatchObject({ code: 'ERR_USAGE' });
    await expect(model.scoreWindows('abc', { window: 3 })).rejects.toMatchObject({ code: 'ERR_DATA' });
    await expect(model.scoreWindows(text, { stride: 0 })).rejects.toMatchObject({ code: 'ERR_USAGE' });
    await expect(model.score('abz')).rejects.toThrow('U+007A');
  });

  it('gives the window protocol with dropout on and off', async () => {
    const model = await create();
    const short = text.slice(0, 120);
    const score = await model.scoreWindows(short, { window: 20 });
    const symbols = [...short];
    expect(score.windows).toBe(symbols.length - 20);
    let nats = 0;
    for (let start = 0; start < score.windows; start++) {
      const ids = vocabulary.encode(symbols.slice(start, start + 21).join(''));
      const logits = Array.from((await nativeOf(model).logits({ ids: ids.subarray(0, 20), streams: 1 })).subarray(-7));
      const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
      nats += Math.log(sum) - (logits[ids[20] as number] as number);
    }
    expect(Math.abs(score.dropoutOff.loss - nats / score.windows)).toBeLessThan(1e-5);
    expect(Math.abs(score.dropoutOn.loss - score.dropoutOff.loss)).toBeGreaterThan(1e-3);

    const without = await (await create({}, { dropout: 0 })).scoreWindows(short, { window: 20 });
    expect(without.dropoutOn).toEqual(without.dropoutOff);
  });
});

describe('a model', () => {
  it('lets calls overlap without mixing their states', async () => {
    const model = await create();
    const alone = [await model.score(text), await collect(model.generate({ length: 100, seed: 1 }))];
    const together = await Promise.all([
      model.score(text),
      collect(model.generate({ length: 100, seed: 1 })),
      model.score(text),
      model.scoreLines(['abba', 'cab']),
    ]);
    expect(together.slice(0, 2)).toEqual(alone);
    expect(together[2]).toEqual(alone[0]);
  });

  it('saves and loads', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'model-'));
    try {
      const model = await create({ normalization: { lowercase: true }, target: 'last', seqLength: 8 });
      const path = join(folder, 'model.safetensors');
      await model.save(path);
      const again = await LanguageModel.load(path, { device: 'cpu', threads: 1 });
      models.push(again);
      expect(again.shape).toEqual(model.shape);
      expect(again.metadata).toEqual(model.metadata);
      expect(await again.score(text)).toEqual(await model.score(text));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('is disposed of more than once, and in the middle of a call', async () => {
    const model = await create();
    // Long enough that the event loop turns before the last of their native calls.
    const waiting = [model.score(text.repeat(2000)), collect(model.generate({ length: 1_000_000 }))];
    await new Promise(setImmediate);
    model.dispose();
    model.dispose();
    model[Symbol.dispose]();
    for (const { status } of await Promise.allSettled(waiting)) expect(status).toBe('rejected');
    await expect(model.score(text)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    expect(model.disposed).toBe(true);
  });

  it('gives up a generation and a scoring when told to', async () => {
    const model = await create();
    const reason = new Error('enough');
    const controller = new AbortController();
    const generating = collect(model.generate({ length: 1e6, signal: controller.signal }));
    // Long enough that no machine has scored it when the signal comes.
    const scoring = model.score(text.repeat(4000), { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 30);
    await expect(generating).rejects.toBe(reason);
    await expect(scoring).rejects.toBe(reason);
    expect((await model.score(text)).characters).toBeGreaterThan(0);
  });

  it('refuses a shape that does not fit the vocabulary, and a bad seed', async () => {
    await expect(
      LanguageModel.create({ ...shape, vocabulary: 6 }, vocabulary, { device: 'cpu' }),
    ).rejects.toMatchObject({
      code: 'ERR_USAGE',
    });
    await expect(create({ seed: -1 })).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });
});

describe('a model of texts in a normal form', () => {
  it('takes prompts, stop strings, lines and texts in either form, after it was saved and loaded too', async () => {
    const symbols = new Vocabulary(['\n', ' ', 'a', 'c', 'f', 'é']);
    const folder = mkdtempSync(join(tmpdir(), 'model-form-'));
    const options = { device: 'cpu', threads: 1, seed: 3 } as const;
    try {
      const made = await LanguageModel.create({ ...shape, vocabulary: symbols.size }, symbols, {
        ...options,
        normalization: { lowercase: false, form: 'nfc' },
      });
      models.push(made);
      await made.save(join(folder, 'a.safetensors'));
      const loaded = await LanguageModel.load(join(folder, 'a.safetensors'), options);
      models.push(loaded);
      for (const model of [made, loaded]) {
        const [one, two] = ['café a', 'cafe\u0301 a'];
        expect(await model.score(two)).toEqual(await model.score(one));
        expect(await model.scoreLines([two])).toEqual(await model.scoreLines([one]));
        const draw = (prompt: string) => collect(model.generate({ prompt, stop: ['e\u0301f'], length: 40, seed: 1 }));
        expect(await draw(two)).toBe(await draw(one));
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

it("what a checkpoint will say is not the caller's to change, and the addon's model is not reachable", async () => {
  const given = { a: [1], b: Uint16Array.of(7) };
  using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, configuration: given });
  given.a.push(2); // The model has not frozen the caller's object either.
  expect(model.metadata.configuration).toEqual({ a: [1], b: { 0: 7 } });
  for (const [list, what] of [
    [[1], 'a list'],
    [Uint8Array.of(1), 'a typed array'],
  ] as const)
    await expect(
      LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, configuration: list as never }),
    ).rejects.toThrow(`configuration must be an object, not ${what}.`);
  const { metadata } = model as unknown as {
    metadata: { epoch: number; vocabulary: string[]; model: { hidden: number } };
  };
  expect(() => metadata.vocabulary.push('x')).toThrow(TypeError);
  for (const [owner, key] of [
    [model, 'metadata'],
    [metadata, 'epoch'],
    [metadata.model, 'hidden'],
    [model.metadata.configuration.a, 0],
  ])
    expect(() => Object.assign(owner as object, { [key as string]: 2 })).toThrow(TypeError);
  expect(Object.values(model).filter((value) => typeof (value as { read?: unknown }).read === 'function')).toEqual([]);
  expect(Object.keys(model)).not.toContain('native');
  expect(model.description).toMatch(/^CPU/);
  expect(model.memory.hostBytes).toBeGreaterThan(4 * model.parameterCount);
});
