/** Inspecting a text character by character agrees with its score and with the states that sampling returns. */
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel, nativeOf } from '../../../lib/model';

const symbols = [...'abcdefghijklmnopqrstuvwxyz \n🦊'];
const shape = { layers: 2, hidden: 9, input: 'onehot', embedding: 0, dropout: 0, vocabulary: symbols.length } as const;
let model: LanguageModel;
beforeAll(async () => {
  model = await LanguageModel.create(shape, new Vocabulary(symbols), { device: 'cpu', seed: 4 });
  const parameters = nativeOf(model).read('parameters');
  nativeOf(model).write(
    'parameters',
    parameters.map((value, i) => 3 * value + Math.cos(i) / 4),
  );
});
afterAll(() => model.dispose());

const text = (length: number) => Array.from({ length }, (_, i) => symbols[(i * i + 3 * i) % symbols.length]).join('');

test.each([2, 3, 255, 256, 257, 513])('bits of %i characters are those of the score', async (length) => {
  const found = await model.inspect(text(length));
  const score = await model.score(text(length));
  expect(found.characters.join('')).toBe(text(length));
  expect(found.bits).toHaveLength(length);
  expect(found.bits[0]).toBeNull();
  expect(found.rivals[0]).toEqual([]);
  expect(found.bitsPerCharacter).toBeCloseTo(score.bitsPerCharacter, 6);
});

test('rivals are the likeliest in descending order, and all of them share a probability of 1', async () => {
  const { characters, bits, rivals } = await model.inspect(text(300), { rivals: symbols.length });
  for (let i = 1; i < 300; i++) {
    const probabilities = rivals[i]?.map(({ probability }) => probability) as number[];
    expect(probabilities).toEqual([...probabilities].sort((a, b) => b - a));
    expect(probabilities.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 5);
    const own = rivals[i]?.find(({ character }) => character === characters[i])?.probability as number;
    expect(-Math.log2(own)).toBeCloseTo(bits[i] as number, 5);
  }
  const few = await model.inspect(text(300), { rivals: 3 });
  expect(few.rivals.map((each) => each.map(({ character }) => character))).toEqual(
    rivals.map((each) => each.slice(0, 3).map(({ character }) => character)),
  );
});

test('cells are what the state holds after each character, whatever the pieces', async () => {
  const { cells, bits } = await model.inspect(text(260), { cells: true });
  expect(bits).toEqual((await model.inspect(text(260))).bits);
  for (const at of [0, 1, 254, 255, 256, 259]) {
    const ids = model.vocabulary.encode([...text(260)].slice(0, at + 1).join(''));
    const { state } = await nativeOf(model).sample({ ids, streams: 1, count: 1, sampling: {} });
    for (let layer = 0; layer < 2; layer++) {
      for (let unit = 0; unit < 9; unit++) {
        const value = cells?.[layer]?.[unit]?.[at];
        expect(value).toBeCloseTo(Math.tanh(state[(2 * layer + 1) * 9 + unit] as number), 6);
      }
    }
  }
});

test('a text of one character, or of none, has nothing to be surprised at', async () => {
  expect(await model.inspect('a')).toEqual({ characters: ['a'], bits: [null], rivals: [[]], bitsPerCharacter: null });
  expect(await model.inspect('')).toEqual({ characters: [], bits: [], rivals: [], bitsPerCharacter: null });
});

test('refuses what it cannot do, and hears an abort', async () => {
  await expect(model.inspect('A')).rejects.toThrow(/does not know/);
  expect((await model.inspect('aAb', { unknown: 'skip' })).characters).toEqual(['a', 'b']);
  for (const rivals of [-1, 1.5, symbols.length + 1]) {
    await expect(model.inspect('ab', { rivals })).rejects.toThrow(/rivals must be/);
  }
  const controller = new AbortController();
  const reason = new Error('enough');
  const onProgress = () => controller.abort(reason);
  await expect(model.inspect(text(1000), { signal: controller.signal, onProgress })).rejects.toBe(reason);
});
