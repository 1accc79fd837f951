/** Training in bfloat16 on the CPU: close to the float64 oracle, in floats outside training, the same bits on any number of threads. */
import { loadNative, type NativeModel } from '../../lib/device/native';
import { eachWhole } from '../fixtures/child';
import { layoutOf, run, type Spec } from '../oracle/lstm';
import { generator, randomIds, relativeError, trainCall } from './harness';

/** A weight or an activation is off by at most 2^-9 of its value, and a sum of many by less. */
const bounds = { loss: 5e-4, gradient: 2e-2 };

function createModel(
  spec: Spec,
  precision: 'fp32' | 'bf16',
  given: { threads?: number; dropout?: number } = {},
): Promise<NativeModel> {
  const { threads = 2, dropout = 0 } = given;
  return loadNative().createModel({ ...spec, dropout, seed: 1 }, { device: 'cpu', threads, team: 'fixed', precision });
}

const specs: [string, Spec, number, number, 'every' | 'last'][] = [];
for (const input of ['scalar', 'onehot', 'embedding'] as const) {
  const embedding = input === 'embedding' ? 7 : 0;
  // Odd sizes: the last pair along a product's depth is padded.
  for (const [vocabulary, layers, hidden, steps, batch] of [
    [5, 1, 1, 3, 5],
    [5, 2, 7, 3, 5],
    [11, 3, 33, 5, 17],
    [70, 2, 64, 20, 16],
    [300, 1, 17, 2, 17],
  ] as const) {
    for (const target of ['every', 'last'] as const) {
      const spec: Spec = { vocabulary, layers, hidden, input, embedding };
      specs.push([
        `${input}, ${target}, ${layers} x ${hidden}, B ${batch}, T ${steps}, V ${vocabulary}`,
        spec,
        steps,
        batch,
        target,
      ]);
    }
  }
}
specs.push(['2 x 256', { vocabulary: 47, layers: 2, hidden: 256, input: 'scalar', embedding: 0 }, 4, 16, 'every']);

test.each(specs)('loss and gradients are near float64: %s', async (_, spec, steps, batch, target) => {
  const { parts, size } = layoutOf(spec);
  const random = generator(11);
  const parameters = Float32Array.from({ length: size }, () => random() / Math.sqrt(spec.hidden));
  const ids = randomIds((steps + 1) * batch, spec.vocabulary);
  const expected = run(spec, parameters, ids, steps, batch, target);
  const model = await createModel(spec, 'bf16');
  try {
    model.write('parameters', parameters);
    const result = await model.trainSteps(trainCall(ids, steps, batch, { target }));
    expect(Math.abs(result.losses[0]! / expected.loss - 1)).toBeLessThan(bounds.loss);
    const gradient = model.read('gradients');
    for (const { name, offset, size: count } of parts) {
      const error = relativeError(gradient, expected.gradient, offset, offset + count);
      if (!(error < bounds.gradient)) throw new Error(`${name}: relative error ${error}`);
    }
    // The error of floats would be a thousandth of that: this was rounded.
    expect(relativeError(gradient, expected.gradient)).toBeGreaterThan(1e-5);
  } finally {
    model.dispose();
  }
});

test('scoring and sampling are in floats', async () => {
  const spec: Spec = { vocabulary: 23, layers: 2, hidden: 40, input: 'embedding', embedding: 5 };
  const ids = randomIds(7 * 20, spec.vocabulary);
  const trained = await createModel(spec, 'bf16');
  await trained.initialize();
  await trained.trainSteps(trainCall(ids, 6, 20, { carryState: true }));
  const floats = await createModel(spec, 'fp32');
  floats.write('parameters', trained.read('parameters'));
  const scored = { ids, steps: 6, batch: 20, target: 'every' as const, carryState: false, dropout: false };
  for (let again = 0; again < 2; again++) {
    expect(await trained.evaluate(scored)).toEqual(await floats.evaluate(scored));
    await trained.trainSteps(trainCall(ids, 6, 20, { carryState: true }));
    floats.write('parameters', trained.read('parameters'));
  }
  trained.dispose();
  floats.dispose();
});

const sizes: [number, number][] = [
  [24, 3],
  [104, 21],
  [160, 70],
];
eachWhole(
  test,
  sizes,
  (i) => i < 2,
)('is the same bits on 1, 2, 3 and 5 threads: %d units, batch %d', async (hidden, batch) => {
  const spec: Spec = { vocabulary: 19, layers: 2, hidden, input: 'embedding', embedding: 9 };
  const steps = 9;
  const ids = randomIds(3 * (steps + 1) * batch, spec.vocabulary);
  const results: Float32Array[] = [];
  for (const threads of [1, 2, 3, 5]) {
    const model = await createModel(spec, 'bf16', { threads, dropout: 0.3 });
    await model.initialize();
    await model.trainSteps(trainCall(ids, steps, batch, { count: 3, carryState: true }));
    results.push(model.read('parameters'));
    model.dispose();
  }
  for (const other of results.slice(1)) expect(other).toEqual(results[0]);
});

test('a step whose numbers are none is not applied', async () => {
  const spec: Spec = { vocabulary: 5, layers: 1, hidden: 20, input: 'onehot', embedding: 0 };
  const model = await createModel(spec, 'bf16');
  const { size } = layoutOf(spec);
  // Rounding must keep every NaN a NaN: only the lower half of this one's bits tells it from infinity.
  const parameters = new Float32Array(size).fill(0.1);
  new Uint32Array(parameters.buffer)[size - spec.vocabulary - 1] = 0x7f800001;
  model.write('parameters', parameters);
  const result = await model.trainSteps(trainCall(randomIds(4 * 3, 5), 3, 3));
  expect(result.completed).toBe(0);
  expect(result.losses[0]).toBeNaN();
  expect(model.read('parameters').slice(0, 50)).toEqual(parameters.slice(0, 50));
  model.dispose();
});
