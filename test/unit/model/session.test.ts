/** Sessions: feeding, drawing and rewinding give the same as one unbroken text would. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import type { ModelShape } from '../../../lib/checkpoint/checkpoint';
import { byteNormalization, byteVocabulary } from '../../../lib/corpus/bytes';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { CheckpointError, CudnnLstmError } from '../../../lib/errors';
import { type CreateOptions, LanguageModel, nativeOf } from '../../../lib/model';
import { partsOf } from '../../fixtures/checkpoints';
import { sharpen } from '../../fixtures/sharpen';

const symbols = ['\n', ' ', 'a', 'b', 'c', 'd', '\u{1F407}'];
const models: LanguageModel[] = [];
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sessions-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  for (const model of models.splice(0)) model.dispose();
});
const at = (name: string) => join(folder, name);

async function create(seed = 5, changed: Partial<ModelShape> = {}, options: CreateOptions = {}) {
  const shape = {
    vocabulary: 7,
    layers: 2,
    hidden: 12,
    input: 'onehot',
    embedding: 0,
    dropout: 0,
    ...changed,
  } as const;
  const given = { device: 'cpu', threads: 1, seed, ...options } as const;
  const model = await LanguageModel.create(shape, new Vocabulary(symbols), given);
  models.push(model);
  sharpen(model, 4);
  return model;
}

/** Every kind of model that keeps its state in its own way. */
const kinds: Record<string, () => Promise<LanguageModel>> = {
  'a model that carries its state': () => create(),
  'a model of windows': () => create(5, {}, { target: 'last', seqLength: 6 }),
  'a model of single lines': () => create(5, { resetId: 0 }),
  'a mixture': async () => {
    const mixture = LanguageModel.mix([
      { model: await create() },
      { model: await create(6, { layers: 1, hidden: 5 }) },
    ]);
    models.push(mixture);
    return mixture;
  },
};

describe.each(Object.entries(kinds))('of %s', (_name, make) => {
  it('draws in pieces, after a text in pieces, what one call draws', async () => {
    const model = await make();
    for (const [fed, options] of [
      [['abba c', 'ab', ''], { temperature: 1 }],
      [[], { greedy: true }],
      [['ab'], { repetitionPenalty: 1.3, penaltyWindow: 9, topP: 0.9 }],
      [[], { repetitionPenalty: 1.2, temperature: 1 }],
    ] as const) {
      const whole = await model.generateText({ prompt: fed.join(''), length: 60, seed: 3, ...options });
      using session = model.session();
      for (const text of fed) await session.feed(text);
      let drawn = '';
      for (const length of [1, 20, 0, 39]) drawn += await session.draw({ length, seed: 3, ...options });
      expect(drawn).toBe(whole);
      expect(session.text).toBe(fed.join('') + whole);
      expect(session.length).toBe([...session.text].length);
    }
  });

  it('peeks at what the model says of the next character', async () => {
    const model = await make();
    using session = model.session();
    await session.feed('abba ca');
    const all = await session.peek(symbols.length);
    expect(all.map(({ character }) => character).sort()).toEqual([...symbols].sort());
    expect(all.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 5);
    expect(all.map(({ probability }) => probability)).toEqual(
      all.map(({ probability }) => probability).sort((a, b) => b - a),
    );
    expect(await session.peek(2)).toEqual(all.slice(0, 2));
    expect(await session.peek()).toEqual(all.slice(0, 5));
    // A greedy draw takes the likeliest one, but unlike a peek it moves on.
    expect(await session.draw({ length: 1, greedy: true })).toBe(all[0]!.character);
    if (model.defaultWindow > 0) return;
    using other = model.session();
    await other.feed('abba c');
    const a = (await other.peek(7)).find(({ character }) => character === 'a')!;
    const { rivals } = await model.inspect('abba ca', { rivals: 7 });
    const inspected = rivals[6]!.find(({ character }) => character === 'a')!;
    expect(a.probability).toBeCloseTo(inspected.probability, 5);
  });

  it('goes back to a mark and two ways from a fork, as if nothing had been', async () => {
    const model = await make();
    using session = model.session();
    await session.feed('add ');
    const mark = session.mark();
    const first = await session.draw({ length: 30, seed: 8, temperature: 1 });
    using fork = session.fork();
    const after = await session.draw({ length: 20, seed: 9, temperature: 1 });
    expect(await fork.draw({ length: 20, seed: 9, temperature: 1 })).toBe(after);
    expect(fork.text).toBe(session.text);
    session.rewind(mark);
    expect([session.text, session.length, mark.length]).toEqual(['add ', 4, 4]);
    expect(await session.draw({ length: 30, seed: 8, temperature: 1 })).toBe(first);
    await session.feed('\u{1F407}');
    expect(session.text).toBe(`add ${first}\u{1F407}`);
    expect(fork.text).toBe(`add ${first}${after}`);
    fork.rewind(mark);
    expect(fork.text).toBe('add ');
  });

  it('proposes texts and stays where it is; each is what it would be alone', async () => {
    const model = await make();
    using session = model.session();
    await session.feed('bad ');
    const proposals = await session.propose(3, { length: 12, seed: 2, temperature: 1 });
    expect(session.text).toBe('bad ');
    expect(proposals.map(({ finished }) => finished)).toEqual(['length', 'length', 'length']);
    expect(await session.propose(3, { length: 12, seed: 2, temperature: 1 })).toEqual(proposals);
    expect(await session.draw({ length: 12, seed: 2, temperature: 1 })).toBe(proposals[0]!.text);
    expect(new Set(proposals.map(({ text }) => text)).size).toBeGreaterThan(1);
  });

  it('ends before a stop string, and stands there', async () => {
    const model = await make();
    using session = model.session();
    await session.feed('cab');
    const [proposal] = await session.propose(1, { stop: 'd', length: 300, seed: 4, temperature: 1.5 });
    const text = await session.draw({ stop: 'd', length: 300, seed: 4, temperature: 1.5 });
    expect(proposal).toEqual({ text, finished: 'stop' });
    expect(session.text).toBe(`cab${text}`);
    using other = model.session();
    await other.feed(`cab${text}`);
    const [mine, theirs] = [await session.peek(7), await other.peek(7)];
    for (const [i, { character, probability }] of mine.entries()) {
      expect(character).toBe(theirs[i]!.character);
      expect(probability).toBeCloseTo(theirs[i]!.probability, 6);
    }
  });

  it('comes back from a file as it was saved', async () => {
    const model = await make();
    for (const prepare of [
      async () => '',
      async (session: Awaited<ReturnType<typeof model.loadSession>>) => session.draw({ length: 9, seed: 1 }),
      async (session: Awaited<ReturnType<typeof model.loadSession>>) => {
        await session.feed('abba ');
        return `abba ${await session.draw({ length: 30, seed: 1 })}`;
      },
    ]) {
      using session = model.session();
      const text = await prepare(session);
      await session.save(at('s.safetensors'));
      using loaded = await model.loadSession(at('s.safetensors'));
      expect(loaded.text).toBe(text);
      const more = { length: 40, seed: 2, temperature: 1, repetitionPenalty: 1.1 };
      expect(await loaded.draw(more)).toBe(await session.draw(more));
    }
  });
});

it('remembers the end of a long text, in bounded memory, and its length', async () => {
  const model = await create(1, { hidden: 2, layers: 1 });
  using session = model.session();
  const piece = 'abc'.repeat(10_000);
  for (let i = 0; i < 3; i++) await session.feed(piece);
  expect(session.length).toBe(90_000);
  expect(session.text).toBe(piece.repeat(3).slice(-65_536));
  await session.save(at('long.safetensors'));
  using loaded = await model.loadSession(at('long.safetensors'));
  expect([loaded.length, loaded.text]).toEqual([90_000, session.text]);
  expect(await loaded.draw({ length: 20, seed: 1 })).toBe(await session.draw({ length: 20, seed: 1 }));
});

it('refuses what is wrong, and stands where it stood', async () => {
  const [model, other] = [await create(), await create(7)];
  using session = model.session();
  await session.feed('ab');
  await expect(session.feed('axb')).rejects.toMatchObject({
    code: 'ERR_DATA',
    message: expect.stringContaining("'x'"),
  });
  await session.feed('xd', { unknown: 'skip' });
  expect(session.text).toBe('abd');
  await expect(session.draw({ prompt: 'a' } as never)).rejects.toThrow('leave prompt, unknown and window out');
  await expect(session.draw({ only: 'x' })).rejects.toMatchObject({ code: 'ERR_DATA' });
  await expect(session.peek(0)).rejects.toMatchObject({ code: 'ERR_USAGE' });
  await expect(session.propose(0)).rejects.toMatchObject({ code: 'ERR_USAGE' });
  expect(session.text).toBe('abd');
  // While a call is running, nobody knows where the session will stand, so these refuse to guess.
  const pending = session.feed('a');
  for (const ask of [() => session.mark(), () => session.fork(), () => session.rewind(other.session().mark())])
    expect(ask).toThrow(/wait for its other calls/);
  await pending;
  expect(() => session.rewind(other.session().mark())).toThrow('another model');
  expect(() => session.rewind({} as never)).toThrow('what mark() gives');
  const aborted = new AbortController();
  aborted.abort(new Error('enough'));
  await expect(session.draw({ signal: aborted.signal })).rejects.toThrow('enough');
  expect(session.text).toBe('abda');
  session.dispose();
  session.dispose();
  expect(session.disposed).toBe(true);
  await expect(session.peek()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  expect(() => session.text).toThrow(CudnnLstmError);
  using bytes = await LanguageModel.create({ ...model.shape, vocabulary: 256 }, byteVocabulary(), {
    device: 'cpu',
    threads: 1,
    normalization: byteNormalization,
  });
  expect(() => bytes.session()).toThrow(/bytes/);
});

describe('a file', () => {
  it('of another model, or of the same trained further, is refused', async () => {
    const model = await create();
    using session = model.session();
    await session.feed('abba');
    await session.save(at('of.safetensors'));
    const other = await create(6);
    await expect(other.loadSession(at('of.safetensors'))).rejects.toThrow(/of another model/);
    const native = nativeOf(model);
    native.write('parameters', Float32Array.of(0.5), 3);
    await expect(model.loadSession(at('of.safetensors'))).rejects.toBeInstanceOf(CheckpointError);
    await expect(model.loadSession(at('nowhere'))).rejects.toMatchObject({ code: 'ERR_CHECKPOINT' });
    await model.save(at('model.safetensors'));
    await expect(model.loadSession(at('model.safetensors'))).rejects.toThrow(/not of a session/);
    await expect(LanguageModel.load(at('of.safetensors'))).rejects.toMatchObject({ code: 'ERR_CHECKPOINT' });
  });

  it('that is altered in any way is read, or refused by one line, and never gives numbers that are none', async () => {
    const model = await create();
    using session = model.session();
    await session.feed('abba');
    await session.draw({ length: 5, seed: 1 });
    await session.save(at('whole.safetensors'));
    const whole = readFileSync(at('whole.safetensors'));
    const { header, data } = partsOf(at('whole.safetensors'));
    const tryFile = async (bytes: Uint8Array): Promise<void> => {
      writeFileSync(at('altered.safetensors'), bytes);
      try {
        using loaded = await model.loadSession(at('altered.safetensors'));
        for (const { probability } of await loaded.peek(7)) expect(probability).toBeLessThanOrEqual(1.001);
        expect(await loaded.draw({ length: 2 })).toMatch(/^[\s\S]{2,4}$/);
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
        expect((error as Error).message).not.toMatch(/[\n\r]/);
      }
    };
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), fc.nat(3), async (place, value, kind) => {
        const copy = Buffer.from(whole);
        copy[place] = value;
        await tryFile(kind === 0 ? copy.subarray(0, place) : copy);
      }),
      { numRuns: 300 },
    );
    // Also metadata edited by hand, in a file without a checksum.
    const metadata = header.__metadata__ as Record<string, string>;
    const { dataSha256: _, ...rest } = metadata;
    for (const [key, values] of Object.entries({
      text: ['', 'x', 'abba', 'a'.repeat(70_000)],
      characters: ['', '0', '-1', '1e9', '999999999999999', '9'.repeat(40), 'NaN'],
      drawn: ['10', '999999999999999', '', 'x'],
      led: ['1', '2', '', '999'],
      model: ['', '0'.repeat(64)],
      format: ['', 'cudnn-lstm'],
      formatVersion: ['2', ''],
    })) {
      for (const value of values) {
        const json = Buffer.from(JSON.stringify({ ...header, __metadata__: { ...rest, [key]: value } }));
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(BigInt(json.length));
        await tryFile(Buffer.concat([length, json, data]));
      }
    }
  });
});
