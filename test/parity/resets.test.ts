/**
 * A model of single lines resets at every line break, wherever in a batch that is, as if each line had been run by itself. That is what
 * the float64 oracle does here; it knows nothing of resets.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { loadNative, type NativeModel, packageRoot } from '../../lib/device/native';
import { eachWhole, run as runChild } from '../fixtures/child';
import { layoutOf, run, type Spec, type State, zeroState } from '../oracle/lstm';
import { generator, randomIds, relativeError, trainCall } from './harness';

interface Case {
  spec: Spec;
  steps: number;
  batch: number;
  target: 'every' | 'last';
  threads: number;
}

/** The line break, frequent among so few symbols. */
const resetId = 2;

const cases: [string, Case][] = [];
for (const input of ['scalar', 'onehot', 'embedding'] as const) {
  const embedding = input === 'embedding' ? 6 : 0;
  // One or two sequences, part of a lane block, more than one; threads that share blocks, and threads that share units.
  for (const [batch, hidden, layers, threads] of [
    [1, 7, 2, 1],
    [2, 33, 1, 2],
    [5, 33, 2, 3],
    [17, 24, 3, 1],
    [33, 49, 2, 2],
  ] as const) {
    for (const target of ['every', 'last'] as const) {
      const spec: Spec = { vocabulary: 5, layers, hidden, input, embedding };
      const name = `${input}, ${target}, ${layers} layers of ${hidden}, B ${batch}, ${threads} threads`;
      cases.push([name, { spec, steps: 9, batch, target, threads }]);
    }
  }
}

async function modelOf(spec: Spec, threads: number, resets = true, dropout = 0): Promise<NativeModel> {
  const shape = { ...spec, dropout, seed: 1, ...(resets ? { resetId } : {}) };
  const model = await loadNative().createModel(shape, { device: 'cpu', threads, team: 'fixed' });
  await model.initialize();
  return model;
}

/** Stream b of time-major ids. */
const columnOf = (ids: Int32Array, b: number, batch: number) => ids.filter((_, i) => i % batch === b);

/** Where the lines of T inputs begin; the first line may have begun earlier. */
const startsOf = (column: Int32Array, steps: number) =>
  [...column.subarray(0, steps).keys()].filter((t) => t === 0 || column[t] === resetId);

/** Runs each line of each stream by itself: losses, the gradient of their mean, and the states after the last lines. */
function runLines(spec: Spec, parameters: Float32Array, ids: Int32Array, { steps, batch, target }: Case, from: State) {
  const gradient = new Float64Array(layoutOf(spec).size);
  const losses: number[][] = [];
  const state = zeroState(spec, batch);
  const total = batch * (target === 'every' ? steps : 1);
  for (let b = 0; b < batch; b++) {
    const column = columnOf(ids, b, batch);
    const starts = startsOf(column, steps);
    losses.push([]);
    for (const [i, start] of starts.entries()) {
      const end = starts[i + 1] ?? steps;
      if (target === 'last' && end < steps) continue;
      const before = zeroState(spec, 1);
      if (start === 0 && column[0] !== resetId) {
        before.h = from.h.map((rows) => [rows[b]!]);
        before.c = from.c.map((rows) => [rows[b]!]);
      }
      const line = run(spec, parameters, column.subarray(start, end + 1), end - start, 1, target, before);
      const share = (target === 'every' ? end - start : 1) / total;
      for (let k = 0; k < gradient.length; k++) gradient[k]! += line.gradient[k]! * share;
      losses[b]!.push(...line.losses.flat());
      for (let l = 0; l < spec.layers; l++) {
        state.h[l]![b] = line.state.h[l]![0]!;
        state.c[l]![b] = line.state.c[l]![0]!;
      }
    }
  }
  return { gradient, losses, state };
}

/** The state from [L, 2, B, H] as the addon returns it. */
function toState(spec: Spec, batch: number, flat: Float32Array): State {
  const state = zeroState(spec, batch);
  let at = 0;
  for (let l = 0; l < spec.layers; l++)
    for (const rows of [state.h[l]!, state.c[l]!])
      for (let b = 0; b < batch; b++) for (let u = 0; u < spec.hidden; u++) rows[b]![u] = flat[at++]!;
  return state;
}

const hashOf = (...values: Float32Array[]) => {
  const hash = createHash('sha256');
  for (const { buffer, byteOffset, byteLength } of values) hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest('hex');
};

eachWhole(
  test,
  cases,
  (i) => i % 3 === 0,
)('gradients, losses and state against each line by itself: %s', async (_, which) => {
  const { spec, steps, batch, target, threads } = which;
  const random = generator(11);
  const parameters = Float32Array.from({ length: layoutOf(spec).size }, () => (2 * random()) / Math.sqrt(spec.hidden));
  const ids = randomIds((steps + 1) * batch, spec.vocabulary, 5);
  // Lines that begin at the first step and at the last.
  ids[0] = resetId;
  ids[steps * batch - 1] = resetId;
  const before = Float32Array.from({ length: spec.layers * 2 * batch * spec.hidden }, () => random() * 0.5);
  const model = await modelOf(spec, threads);
  try {
    model.write('parameters', parameters);
    const fresh = runLines(spec, parameters, ids, which, zeroState(spec, batch));
    const evaluated = await model.evaluate({ ids, steps, batch, target, carryState: false, dropout: false });
    for (let b = 0; b < batch; b++) {
      expect(relativeError(columnOf(evaluated as never, b, batch), fresh.losses[b]!)).toBeLessThan(1e-6);
    }
    model.write('trainingState', before);
    const expected = runLines(spec, parameters, ids, which, toState(spec, batch, before));
    const result = await model.trainSteps(trainCall(ids, steps, batch, { target, carryState: true }));
    const all = expected.losses.flat();
    const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
    expect(Math.abs(result.losses[0]! / mean - 1)).toBeLessThan(1e-6);
    const gradient = model.read('gradients');
    for (const { name, offset, size } of layoutOf(spec).parts) {
      const error = relativeError(gradient, expected.gradient, offset, offset + size);
      if (error > 1e-5) throw new Error(`${name}: relative error ${error}`);
    }
    const after = toState(spec, batch, model.read('trainingState'));
    for (let l = 0; l < spec.layers; l++) {
      for (let b = 0; b < batch; b++) {
        expect(relativeError(after.h[l]![b]!, expected.state.h[l]![b]!)).toBeLessThan(1e-5);
        expect(relativeError(after.c[l]![b]!, expected.state.c[l]![b]!)).toBeLessThan(1e-5);
      }
    }
  } finally {
    model.dispose();
  }
});

// In separate processes, since a process has one instruction set.
test.each(loadNative().cpuInfo().supported)(
  '%s: the bits of a line are those that it has alone, in a batch, scored, sampled',
  async (isa) => {
    const program = join(packageRoot, 'test', 'parity', 'programs', 'resets.js');
    const ended = await runChild(process.execPath, [program], { env: { ...process.env, CUDNN_LSTM_CPU_ISA: isa } });
    expect(ended).toMatchObject({ code: 0, stdout: '5\n', stderr: '' });
  },
);

test('dropout: the gradient is that of its own loss', async () => {
  const spec: Spec = { vocabulary: 5, layers: 2, hidden: 24, input: 'onehot', embedding: 0 };
  const model = await modelOf(spec, 2, true, 0.5);
  const ids = randomIds(7 * 20, spec.vocabulary);
  const parameters = model.read('parameters');
  const masked = { ids, steps: 6, batch: 20, target: 'every' as const, carryState: false, dropout: true, maskStep: 7 };
  const at = async (values: Float32Array) => {
    model.write('parameters', values);
    return (await model.evaluate(masked)).reduce((sum, value) => sum + value, 0) / (6 * 20);
  };
  model.stepCount = 7;
  const { losses } = await model.trainSteps(trainCall(ids, 6, 20));
  const gradient = model.read('gradients');
  const norm = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0));
  const moved = (by: number) => at(parameters.map((value, k) => value + (by * gradient[k]!) / norm));
  expect(await at(parameters)).toBeCloseTo(losses[0]!, 6);
  const slope = ((await moved(1e-2)) - (await moved(-1e-2))) / 2e-2;
  expect(Math.abs(slope / norm - 1)).toBeLessThan(1e-3);
  model.dispose();
});

test('the bits of training do not depend on the threads', async () => {
  for (const [batch, hidden] of [
    [4, 70],
    [50, 33],
  ] as const) {
    const spec: Spec = { vocabulary: 5, layers: 2, hidden, input: 'embedding', embedding: 9 };
    const ids = randomIds(3 * 9 * batch, spec.vocabulary);
    const hashes = [];
    for (const threads of [1, 2, 3, 5]) {
      const model = await modelOf(spec, threads, true, 0.3);
      await model.trainSteps(trainCall(ids, 8, batch, { count: 3, carryState: true }));
      hashes.push(hashOf(model.read('parameters'), model.read('trainingState')));
      model.dispose();
    }
    expect(new Set(hashes).size).toBe(1);
  }
});

test('a GPU is refused, and no symbol is that the model lacks', async () => {
  const spec: Spec = { vocabulary: 5, layers: 1, hidden: 3, input: 'scalar', embedding: 0 };
  for (const wrong of [-1, 5, 1.5]) {
    await expect(
      (async () => loadNative().createModel({ ...spec, dropout: 0, seed: 1, resetId: wrong }, { device: 'cpu' }))(),
    ).rejects.toThrow('resetId must be an integer from 0 to 4');
  }
});
