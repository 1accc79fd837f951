/** Drawing against the rules in float64 (test/oracle/sampling.ts): every id of every draw. */
import type { NativeModel, NativeSamplingOptions } from '../../lib/device/native';
import { sampleCall } from '../fixtures/sample-call';
import { drawCoin, oracleDraw, samplingRules as rules } from '../oracle/sampling';
import { createModel, type Device, devices, generator } from './harness';

/** A model whose logits are its output bias, whatever it is fed. */
async function constant(logits: ArrayLike<number>, device: Device): Promise<NativeModel> {
  const vocabulary = logits.length;
  const model = await createModel({ vocabulary, layers: 1, hidden: 1, input: 'scalar', embedding: 0 }, device);
  const parameters = new Float32Array(model.parameterCount);
  parameters.set(Array.from(logits), parameters.length - vocabulary);
  model.write('parameters', parameters);
  return model;
}

/** Shapes of logits: noise of several widths, ties, one certain symbol, all equal, impossible symbols. */
function logitsOf(vocabulary: number, shape: number): Float32Array {
  const random = generator(vocabulary * 7 + shape);
  return Float32Array.from({ length: vocabulary }, (_, id) => {
    const noise = random();
    switch (shape) {
      case 0:
        return 3 * noise;
      case 1:
        return 30 * noise;
      case 2:
        return (id * 5) % 3;
      case 3:
        return id === vocabulary >> 1 ? 500 : noise;
      case 4:
        return 0.75;
      default:
        return id % 3 === 1 ? -3e38 : noise - 2 * (id % 7);
    }
  });
}

const sizes = [1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 128, 255, 256, 257, 600, 6000];

describe.each(devices)('$name', (device) => {
  test.each(sizes)('draws what the rules say, of %i symbols', async (vocabulary) => {
    const large = vocabulary > 500;
    const count = large ? 2 : 40;
    for (const shape of large ? [0, 2, 5] : [0, 1, 2, 3, 4, 5]) {
      const logits = logitsOf(vocabulary, shape);
      const model = await constant(logits, device);
      for (const [name, options] of Object.entries(rules)) {
        const coins = { seed: 2 ** 40 + shape, position: 2 ** 33 + 5 };
        const { ids } = await model.sample(sampleCall([0, 0, 0], count, { ...options, ...coins }, { streams: 3 }));
        const expected = Array.from(ids, (_, i) =>
          oracleDraw(logits, options, drawCoin(coins.seed, i % 3, coins.position + Math.floor(i / 3))),
        );
        expect({ name, shape, ids: [...ids] }).toEqual({ name, shape, ids: expected });
      }
      model.dispose();
    }
  });

  test('draws an id of the vocabulary from logits that are no numbers', async () => {
    const { NaN: nan, POSITIVE_INFINITY: up, NEGATIVE_INFINITY: down } = Number;
    for (const logits of [
      [nan, nan, nan],
      [up, up, 0],
      [down, down, down],
      [nan, down, 1],
      [up, nan, down],
    ]) {
      const model = await constant(logits, device);
      for (const options of Object.values(rules)) {
        const { ids } = await model.sample(sampleCall([0], 20, options));
        expect(ids.every((id) => id >= 0 && id < 3)).toBe(true);
      }
      model.dispose();
    }
  });

  test('weakens what the last symbols were, those of the history included', async () => {
    const logits = logitsOf(20, 0);
    const model = await constant(logits, device);
    for (const penaltyWindow of [0, 1, 2, 5, 1000]) {
      const options = { repetitionPenalty: 3, penaltyWindow, seed: 4, history: Int32Array.of(7, 7, 3) };
      const { ids } = await model.sample(sampleCall([1, 2], 60, options));
      const text = [7, 7, 3, 1, 2];
      for (let draw = 0; draw < 60; draw++) {
        const recent = text.slice(Math.max(0, text.length - penaltyWindow));
        text.push(oracleDraw(logits, options, drawCoin(4, 0, draw), recent));
      }
      expect([...ids]).toEqual(text.slice(5));
    }
    model.dispose();
  });

  test('draws each stream by its own options, whatever streams share the call', async () => {
    const spec = { vocabulary: 23, layers: 2, hidden: 20, input: 'onehot' as const, embedding: 0 };
    const model = await createModel(spec, device);
    model.initialize();
    const all = Array.from({ length: 37 }, (_, s): NativeSamplingOptions => {
      const rule = Object.values(rules)[s % Object.keys(rules).length];
      const penalty = s % 3 === 0 ? { repetitionPenalty: 1.5, history: Int32Array.of(s % 23, 4) } : {};
      return { ...rule, ...penalty, seed: 100 + s, stream: s % 4, position: 1000 * s };
    });
    const ids = Int32Array.from(all, (_, s) => (s * 3) % 23);
    const alone = await Promise.all(
      all.map(async (sampling, s) => {
        const fresh = await createModel(spec, device, { seed: 1 });
        fresh.write('parameters', model.read('parameters'));
        const drawn = await fresh.sample(sampleCall([ids[s] as number], 30, sampling));
        fresh.dispose();
        return [...drawn.ids];
      }),
    );
    for (const members of [[5], [8, 2], [0, 1, 2], Array.from({ length: 37 }, (_, s) => 36 - s), [3, 30, 9, 12]]) {
      const drawn = await model.sample(
        sampleCall(
          members.map((s) => ids[s] as number),
          30,
          members.map((s) => all[s] as NativeSamplingOptions),
          { streams: members.length },
        ),
      );
      for (const [column, s] of members.entries()) {
        expect(Array.from({ length: 30 }, (_, t) => drawn.ids[t * members.length + column])).toEqual(alone[s]);
      }
    }
    model.dispose();
  });

  test('refuses options for another number of streams', async () => {
    const model = await constant([0, 1], device);
    for (const sampling of [[], [{}, {}], [{}, {}, {}, {}]]) {
      const call = sampleCall([0, 0, 0], 1, sampling, { streams: 3 });
      await expect((async () => model.sample(call))()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    }
    model.dispose();
  });
});
