import { createHash } from 'node:crypto';
import type { NativeSamplingOptions } from '../../lib/device/native';
import { sampleCall } from '../fixtures/sample-call';
import type { Spec } from '../oracle/lstm';
import { createModel, devices, randomIds, relativeError, trainCall } from './harness';

const small: Spec = { vocabulary: 9, layers: 2, hidden: 24, input: 'onehot', embedding: 0 };
const hashOf = (values: Float32Array) => createHash('sha256').update(Buffer.from(values.buffer)).digest('hex');
const sampling = { temperature: 0.9, seed: 42 };

describe.each(devices)('$name', (device) => {
  test('starts as Keras does: Glorot limits, an orthogonal recurrent kernel, forget bias 1', async () => {
    const spec: Spec = { vocabulary: 47, layers: 2, hidden: 64, input: 'scalar', embedding: 0 };
    const model = await createModel(spec, device);
    await model.initialize();
    const values = model.read('parameters');
    const part = (name: string) => {
      const { offset, size } = model.parameters.find((p) => p.name === name)!;
      return values.subarray(offset, offset + size);
    };
    for (const [name, fanIn, fanOut] of [
      ['lstm.weight_ih_l0', 1, 256],
      ['lstm.weight_ih_l1', 64, 256],
      ['output.weight', 64, 47],
    ] as const) {
      const limit = Math.sqrt(6 / (fanIn + fanOut));
      const largest = part(name).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(largest).toBeLessThanOrEqual(limit);
      expect(largest).toBeGreaterThan(0.9 * limit);
    }
    const bias = part('lstm.bias_ih_l1');
    expect([...bias]).toEqual([...bias].map((_, r) => (r >= 64 && r < 128 ? 1 : 0)));
    const w = part('lstm.weight_hh_l1');
    for (const [j, k] of [
      [0, 0],
      [5, 5],
      [0, 1],
      [17, 60],
    ] as const) {
      let dot = 0;
      for (let r = 0; r < 256; r++) dot += w[r * 64 + j]! * w[r * 64 + k]!;
      expect(dot).toBeCloseTo(j === k ? 1 : 0, 5);
    }
    model.dispose();
  });

  test("the reference's model has 801,583 parameters", async () => {
    const model = await createModel({ vocabulary: 47, layers: 2, hidden: 256, input: 'scalar', embedding: 0 }, device);
    expect(model.parameterCount).toBe(801_583);
    model.dispose();
  });

  test('dropout: keyed by seed and step, and its gradient is that of its own loss', async () => {
    const model = await createModel(small, device, { dropout: 0.5 });
    await model.initialize();
    const ids = randomIds(7 * 20, 9);
    const masked = { ids, steps: 6, batch: 20, target: 'every' as const, carryState: false, dropout: true };
    const at = async (maskStep: number) => {
      const losses = await model.evaluate({ ...masked, maskStep });
      return losses.reduce((sum, value) => sum + value, 0) / losses.length;
    };
    model.stepCount = 7;
    const parameters = model.read('parameters');
    const expected = await at(7);
    expect(await at(8)).not.toBe(expected);
    expect(await at(7)).toBe(expected);
    const { losses } = await model.trainSteps(trainCall(ids, 6, 20));
    expect(losses[0]).toBeCloseTo(expected, 6);
    const gradient = model.read('gradients');
    const norm = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0));
    const moved = async (by: number) => {
      model.write(
        'parameters',
        parameters.map((value, k) => value + (by * gradient[k]!) / norm),
      );
      return at(7);
    };
    const slope = ((await moved(1e-2)) - (await moved(-1e-2))) / 2e-2;
    expect(Math.abs(slope / norm - 1)).toBeLessThan(1e-3);
    model.dispose();
  });

  test('dropout keeps the share it should', async () => {
    // With a positive output weight on one unit only, the logit is either the kept and scaled unit or zero.
    const spec: Spec = { vocabulary: 2, layers: 1, hidden: 1, input: 'scalar', embedding: 0 };
    const model = await createModel(spec, device, { dropout: 0.3 });
    const values = new Float32Array(model.parameterCount);
    values[8] = 30; // bias of i
    values[10] = 30; // bias of g
    values[11] = 30; // bias of o
    values[12] = 1; // output weight of symbol 0
    model.write('parameters', values);
    const steps = 50;
    const batch = 200;
    const losses = await model.evaluate({
      ids: new Int32Array((steps + 1) * batch),
      steps,
      batch,
      target: 'every',
      carryState: false,
      dropout: true,
      maskStep: 1,
    });
    const dropped = losses.filter((nats) => Math.abs(nats - Math.LN2) < 1e-6).length / losses.length;
    // Ten thousand draws: the standard deviation is 0.0046.
    expect(Math.abs(dropped - 0.3)).toBeLessThan(0.02);
    model.dispose();
  });

  test('any number of threads gives the same bits, and another number at each call', async () => {
    for (const [spec, steps, batch] of [
      [{ vocabulary: 47, layers: 2, hidden: 128, input: 'onehot', embedding: 0 }, 12, 16],
      [{ vocabulary: 47, layers: 2, hidden: 96, input: 'scalar', embedding: 0 }, 9, 70],
      [{ vocabulary: 13, layers: 3, hidden: 100, input: 'embedding', embedding: 10 }, 7, 33],
    ] as [Spec, number, number][]) {
      const hashes = new Set<string>();
      for (const threads of device.device === 'cpu' ? [1, 2, 3, 8, 'random', 'adapt'] : [1, 1]) {
        const team = typeof threads === 'number' ? { threads } : { threads: 5, team: threads as 'random' | 'adapt' };
        const model = await createModel(spec, device, { dropout: 0.2, ...team });
        await model.initialize();
        const count = 5;
        await model.trainSteps(
          trainCall(randomIds(count * (steps + 1) * batch, spec.vocabulary), steps, batch, {
            count,
            carryState: true,
            clip: 1,
          }),
        );
        hashes.add(hashOf(model.read('parameters')));
        model.dispose();
      }
      expect(hashes.size).toBe(1);
    }
  });

  test('one long window equals its pieces with the state carried', async () => {
    const model = await createModel(small, device);
    await model.initialize();
    const ids = randomIds(13 * 4, 9);
    const whole = await model.evaluate({
      ids,
      steps: 12,
      batch: 4,
      target: 'every',
      carryState: false,
      dropout: false,
    });
    const pieces: number[] = [];
    model.resetEvaluationState();
    for (const first of [0, 5, 9]) {
      const steps = first === 0 ? 5 : first === 5 ? 4 : 3;
      const part = ids.slice(first * 4, (first + steps + 1) * 4);
      pieces.push(
        ...(await model.evaluate({ ids: part, steps, batch: 4, target: 'every', carryState: true, dropout: false })),
      );
    }
    expect(relativeError(pieces, whole)).toBeLessThan(1e-6);
    model.dispose();
  });

  test('a step whose loss is not finite is not applied', async () => {
    const model = await createModel(small, device);
    await model.initialize();
    const values = model.read('parameters');
    values[3] = Number.NaN;
    model.write('parameters', values);
    const count = 2;
    const result = await model.trainSteps(trainCall(randomIds(count * 5 * 4, 9), 4, 4, { count }));
    expect(result.completed).toBe(0);
    expect(result.stopped).toBe(false);
    expect(model.stepCount).toBe(0);
    expect(hashOf(model.read('parameters'))).toBe(hashOf(values));
    model.dispose();
  });

  test('stop() leaves the model at its last completed step', async () => {
    const spec: Spec = { vocabulary: 47, layers: 2, hidden: 128, input: 'onehot', embedding: 0 };
    const model = await createModel(spec, device);
    await model.initialize();
    const count = 200;
    const ids = randomIds(count * 51 * 16, 47);
    const call = trainCall(ids, 50, 16, { count, carryState: true });
    const running = model.trainSteps(call);
    await new Promise((resolve) => setTimeout(resolve, 60));
    model.stop();
    const { completed, stopped } = await running;
    expect(stopped).toBe(true);
    expect(completed).toBeLessThan(count);
    expect(model.stepCount).toBe(completed);
    const other = await createModel(spec, device);
    await other.initialize();
    if (completed > 0) {
      await other.trainSteps({
        ...call,
        count: completed,
        ids: ids.slice(0, completed * 51 * 16),
        learningRates: new Float64Array(completed).fill(1e-2),
      });
    }
    expect(hashOf(model.read('parameters'))).toBe(hashOf(other.read('parameters')));
    model.dispose();
    other.dispose();
  });

  test('every slot is read back as it was written', async () => {
    const model = await createModel(small, device);
    for (const slot of ['parameters', 'firstMoments', 'secondMoments'] as const) {
      const values = Float32Array.from({ length: model.parameterCount }, (_, k) => Math.fround(k * 0.37 - 5));
      model.write(slot, values);
      expect(model.read(slot)).toEqual(values);
    }
    // In pieces whose boundaries fall within every parameter.
    const numbers = Float32Array.from({ length: model.parameterCount }, (_, k) => Math.fround(Math.cos(k)));
    for (const size of [1000, model.parameterCount - 1, model.parameterCount]) {
      model.write('parameters', new Float32Array(numbers.length));
      for (let from = 0; from < numbers.length; from += size) {
        model.write('parameters', numbers.subarray(from, from + size), from);
      }
      expect(model.read('parameters')).toEqual(numbers);
      for (let from = 0; from < numbers.length; from += size) {
        const count = Math.min(size, numbers.length - from);
        expect(model.read('parameters', from, count)).toEqual(numbers.slice(from, from + count));
      }
    }
    const end = numbers.length;
    expect(model.read('parameters', 5)).toEqual(numbers.slice(5));
    expect(model.read('parameters', end)).toEqual(new Float32Array(0));
    model.write('parameters', new Float32Array(0), end);
    for (const [offset, count] of [
      [end, 1],
      [0, end + 1],
      [end + 1, 0],
      [-1, 1],
      [0.5, 1],
      [NaN, 1],
      [2 ** 53, 1],
    ] as const) {
      expect(() => model.read('parameters', offset, count)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
      );
      expect(() => model.write('parameters', new Float32Array(count), offset)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
      );
    }
    expect(() => model.write('parameters', numbers.subarray(1))).toThrow(/parameters, not/);
    expect(() => model.write('streamState', new Float32Array(96), 1)).toThrow(/as a whole/);
    for (const slot of ['trainingState', 'streamState'] as const) {
      for (const batch of [1, 2, 17]) {
        const values = Float32Array.from({ length: 2 * 2 * batch * 24 }, (_, k) => Math.fround(Math.sin(k)));
        model.write(slot, values);
        expect(model.read(slot)).toEqual(values);
      }
    }
    model.dispose();
  });

  test('64 streams draw what each draws alone, and chunks what one call draws', async () => {
    const model = await createModel(small, device);
    await model.initialize();
    const together = await model.sample(sampleCall(new Int32Array(64).fill(2), 20, sampling, { streams: 64 }));
    const first = await model.sample(sampleCall([2], 20, sampling));
    // Stream 0 has the same coins alone as among others.
    expect([...first.ids]).toEqual(Array.from({ length: 20 }, (_, t) => together.ids[t * 64]!));
    const start = await model.sample(sampleCall([2], 7, sampling));
    const rest = await model.sample(
      sampleCall(start.ids.slice(6), 13, { ...sampling, position: 7 }, { state: start.state }),
    );
    expect([...start.ids, ...rest.ids]).toEqual([...first.ids]);
    model.dispose();
  });

  test('a sliding window is the logits of the window, run from zero state', async () => {
    const model = await createModel(small, device);
    await model.initialize();
    const prompt = [1, 5, 3, 2, 8, 0];
    const drawn = await model.sample(sampleCall(prompt, 5, { greedy: true }, { window: 4 }));
    const text = [...prompt];
    for (let k = 0; k < 5; k++) {
      const logits = await model.logits({ ids: Int32Array.from(text.slice(-4)), streams: 1 });
      const last = logits.slice(3 * 9);
      text.push(last.indexOf(Math.max(...last)));
    }
    expect([...drawn.ids]).toEqual(text.slice(prompt.length));
    model.dispose();
  });

  test('the rules of sampling, by counting', async () => {
    // With all weights zero, only the output bias decides, the same at every draw.
    const model = await createModel({ ...small, hidden: 1, layers: 1 }, device);
    const values = new Float32Array(model.parameterCount);
    const probabilities = [0.4, 0.25, 0.15, 0.1, 0.06, 0.02, 0.01, 0.005, 0.005];
    values.set(probabilities.map(Math.log), values.length - 9);
    model.write('parameters', values);
    const shares = async (options: NativeSamplingOptions) => {
      const { ids } = await model.sample(sampleCall([0], 20_000, { seed: 42, ...options }));
      const counts = new Array<number>(9).fill(0);
      for (const id of ids) counts[id]!++;
      return counts.map((n) => n / ids.length);
    };
    const near = (found: number[], weights: number[]) => {
      const total = weights.reduce((sum, w) => sum + w, 0);
      for (const [k, w] of weights.entries()) {
        if (w === 0) expect(found[k]).toBe(0);
        else expect(Math.abs(found[k]! - w / total)).toBeLessThan(0.015);
      }
    };
    near(await shares({}), probabilities);
    near(
      await shares({ temperature: 0.5 }),
      probabilities.map((p) => p * p),
    );
    near(await shares({ topK: 3 }), [0.4, 0.25, 0.15, 0, 0, 0, 0, 0, 0]);
    near(await shares({ topP: 0.75 }), [0.4, 0.25, 0.15, 0, 0, 0, 0, 0, 0]);
    near(await shares({ minP: 0.2 }), [0.4, 0.25, 0.15, 0.1, 0, 0, 0, 0, 0]);
    near(await shares({ greedy: true }), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
    model.dispose();
  });

  test('a second call, and a call after dispose, are refused by code', async () => {
    const model = await createModel(small, device);
    await model.initialize();
    const call = trainCall(randomIds(100 * 31 * 16, 9), 30, 16, { count: 100 });
    const running = model.trainSteps(call);
    expect(() => model.read('parameters')).toThrow(expect.objectContaining({ code: 'ERR_BUSY' }));
    model.dispose();
    expect((await running).stopped).toBe(true);
    expect(() => model.read('parameters')).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
    model.dispose();
  });
});
