/** Sampling against the rules in float64 (test/oracle/sampling.ts): every id of every draw. */
import { join } from 'node:path';
import {
  type NativeModel,
  type NativeSampleCall,
  type NativeSamplingOptions,
  packageRoot,
} from '../../lib/device/native';
import { itWhere, long, run } from '../fixtures/child';
import { sampleCall } from '../fixtures/sample-call';
import { gatherStates, scatterStates } from '../fixtures/states';
import { processorTime } from '../fixtures/turns';
import { drawCoin, oracleRule, samplingRules as rules } from '../oracle/sampling';
import { createModel, type Device, devices, generator } from './harness';

/** A model whose logits are its output bias, whatever its input. */
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
        const draw = oracleRule(logits, options);
        const expected = Array.from(ids, (_, i) =>
          draw(drawCoin(coins.seed, i % 3, coins.position + Math.floor(i / 3))),
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
        text.push(oracleRule(logits, options, recent)(drawCoin(4, 0, draw)));
      }
      expect([...ids]).toEqual(text.slice(5));
    }
    model.dispose();
  });

  test('draws each stream by its own options, whatever streams share the call', async () => {
    const spec = { vocabulary: 23, layers: 2, hidden: 20, input: 'onehot' as const, embedding: 0 };
    const model = await createModel(spec, device);
    await model.initialize();
    const all = Array.from({ length: 37 }, (_, s): NativeSamplingOptions => {
      const rule = Object.values(rules)[s % Object.keys(rules).length];
      const penalty = s % 3 === 0 ? { repetitionPenalty: 1.5, history: Int32Array.of(s % 23, 4) } : {};
      return { ...rule, ...penalty, seed: 100 + s, stream: s % 4, position: 1000 * s };
    });
    const ids = Int32Array.from(all, (_, s) => (s * 3) % 23);
    const alone: number[][] = [];
    for (const [s, sampling] of all.entries()) {
      const fresh = await createModel(spec, device, { seed: 1 }); // One at a time: a GPU has no room for all.
      fresh.write('parameters', model.read('parameters'));
      alone.push([...(await fresh.sample(sampleCall([ids[s] as number], 30, sampling))).ids]);
      fresh.dispose();
    }
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

  test('adds biases after the penalty, and draws what is allowed alone', async () => {
    for (const vocabulary of [2, 33, 300]) {
      const logits = logitsOf(vocabulary, 0);
      const model = await constant(logits, device);
      const biasedIds = Int32Array.of(1, 0, 1);
      const biases = Float32Array.of(2.5, -1.25, 0.75);
      const allowed = Int32Array.from([vocabulary - 1, 1, vocabulary >> 1, 1]);
      for (const rule of Object.values(rules)) {
        for (const extra of [{ biasedIds, biases }, { allowed }, { biasedIds, biases, allowed }]) {
          const options = { ...rule, ...extra, seed: 8 };
          const { ids } = await model.sample(sampleCall([0], 25, options));
          const changed = logits.slice();
          if ('biases' in extra) {
            for (const [i, id] of biasedIds.entries()) {
              changed[id] = Math.fround((changed[id] as number) + (biases[i] as number));
            }
          }
          const kept = 'allowed' in extra ? [...new Set(allowed)].sort((a, b) => a - b) : [...changed.keys()];
          const row = kept.map((id) => changed[id] as number);
          const drawRow = oracleRule(row, rule);
          const expected = Array.from({ length: 25 }, (_, draw) => kept[drawRow(drawCoin(8, 0, draw))]);
          expect([...ids]).toEqual(expected);
        }
      }
      model.dispose();
    }
  });

  test('never draws what is not allowed, from logits that are no numbers either', async () => {
    for (const logits of [
      [Number.NaN, Number.NaN, 1],
      [Number.NEGATIVE_INFINITY, Number.NaN, Number.POSITIVE_INFINITY],
      [-3e38, 0, 3e38],
    ]) {
      const model = await constant(logits, device);
      for (const rule of Object.values(rules)) {
        const biased = { biasedIds: Int32Array.of(2), biases: Float32Array.of(Number.POSITIVE_INFINITY) };
        const { ids } = await model.sample(sampleCall([0], 20, { ...rule, ...biased, allowed: Int32Array.of(1, 0) }));
        expect(ids.every((id) => id < 2)).toBe(true);
      }
      model.dispose();
    }
  });

  test.each([2, 47, 300])(
    'gives the log-probabilities of what it draws and its rivals, of %i symbols',
    async (vocabulary) => {
      const spec = { vocabulary, layers: 1, hidden: 24, input: 'onehot' as const, embedding: 0 };
      const model = await createModel(spec, device);
      await model.initialize();
      const rivals = Math.min(5, vocabulary);
      const sampling = { temperature: 0.6, topK: 3, seed: 5, biasedIds: Int32Array.of(1), biases: Float32Array.of(1) };
      const plain = await model.sample(sampleCall([0, 1, 1], 12, sampling, { streams: 3 }));
      const drawn = await model.sample(sampleCall([0, 1, 1], 12, sampling, { streams: 3, rivals }));
      expect(drawn.ids).toEqual(plain.ids);
      const alone = await model.sample(sampleCall([0, 1, 1], 12, sampling, { streams: 3, logProbabilities: true }));
      expect(alone.logProbabilities).toEqual(drawn.logProbabilities);
      expect(alone.rivals).toHaveLength(0);
      const fed = Int32Array.of(0, 1, 1, ...drawn.ids.slice(0, -3));
      const logits = await model.logits({ ids: fed, streams: 3 });
      for (let i = 0; i < drawn.ids.length; i++) {
        const row = Array.from(logits.subarray(i * vocabulary, (i + 1) * vocabulary));
        const largest = Math.max(...row);
        const total = row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
        const logOf = (id: number) => (row[id] as number) - largest - Math.log(total);
        expect(drawn.logProbabilities?.[i]).toBeCloseTo(logOf(drawn.ids[i] as number), 5);
        const best = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number) || a - b).slice(0, rivals);
        expect([...(drawn.rivals?.subarray(i * rivals, (i + 1) * rivals) ?? [])]).toEqual(best);
        for (const [rank, id] of best.entries()) {
          expect(drawn.rivalLogProbabilities?.[i * rivals + rank]).toBeCloseTo(logOf(id), 5);
        }
      }
      model.dispose();
    },
  );

  test('lets streams join and leave between calls, each with the text that it has alone', async () => {
    const [layers, hidden] = [2, 20];
    const model = await createModel({ vocabulary: 23, layers, hidden, input: 'onehot', embedding: 0 }, device);
    await model.initialize();
    const options = (s: number) => ({ temperature: 0.7 + 0.1 * s, seed: s, stream: 5 });
    const alone = [];
    for (let s = 0; s < 5; s++) alone.push([...(await model.sample(sampleCall([s], 24, options(s)))).ids]);
    const texts: number[][] = Array.from({ length: 5 }, () => []);
    const states = new Array<Float32Array | undefined>(5);
    for (const members of [[0, 3], [3, 1, 0, 4], [1], [4, 1, 2, 0], [2, 3], [2], [2, 4], [3, 1]]) {
      const drawn = await model.sample(
        sampleCall(
          members.map((s) => texts[s]?.at(-1) ?? s),
          6,
          members.map((s) => ({ ...options(s), position: texts[s]?.length ?? 0 })),
          {
            streams: members.length,
            state: gatherStates(
              members.map((s) => states[s]),
              layers,
              hidden,
            ),
          },
        ),
      );
      const after = scatterStates(drawn.state, members.length, hidden);
      for (const [column, s] of members.entries()) {
        for (let t = 0; t < 6; t++) texts[s]?.push(drawn.ids[t * members.length + column] as number);
        states[s] = after[column];
      }
    }
    for (const [s, text] of texts.entries()) {
      expect(text.length).toBeGreaterThanOrEqual(12);
      expect(text.slice(0, 24)).toEqual(alone[s]?.slice(0, text.length));
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

// In processor time, which other processes do not lengthen, and relative to the addon's own sort.
test('a draw of 6,000 symbols takes a fraction of what to sort them takes', async () => {
  const vocabulary = 6000;
  const model = await constant(logitsOf(vocabulary, 0), devices[0] as Device);
  const count = 40;
  const time = async (options: NativeSamplingOptions, call: Partial<NativeSampleCall> = {}) => {
    const times: number[] = [];
    for (let round = 0; round < 5; round++)
      times.push(await processorTime(() => model.sample(sampleCall([0], count, { ...options, seed: round }, call))));
    return Math.min(...times);
  };
  const greedy = await time({ greedy: true });
  // Asks for the order of all symbols.
  const sorted = await time({ greedy: true }, { rivals: vocabulary });
  const slow: string[] = [];
  for (const [name, options] of Object.entries({ greedy: { greedy: true }, ...rules })) {
    const drawn = await time(options);
    if (!(drawn < sorted / 3)) slow.push(`${name}: ${drawn}`);
  }
  expect({ greedy, sorted, slow }).toEqual({ greedy, sorted, slow: [] });
  model.dispose();
});

// In processor time, which other processes do not lengthen.
itWhere(long, 'LONG=1 measures it')('a draw of 6,000 symbols costs less than the model', async () => {
  const { code, stdout } = await run(process.execPath, [join(packageRoot, 'bench', 'draw.js')]);
  const alone = Number(/^greedy +([\d.]+) us/m.exec(stdout)?.[1]);
  const draws = [...stdout.matchAll(/^(\S.*?) +[\d.]+ us a character, of which the draw (-?[\d.]+)$/gm)];
  expect({ code, rules: draws.length }).toEqual({ code: 0, rules: 5 });
  const dear = draws.filter(([, , draw]) => !(Number(draw) < alone)).map(([, rule, draw]) => `${rule}: ${draw}`);
  expect({ alone, dear }).toEqual({ alone, dear: [] });
});
