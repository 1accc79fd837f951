/** Every optimiser on every device against its rule in float64, with the gradients of a float64 LSTM. */
import { layoutOf, run, type Spec, zeroState } from '../oracle/lstm';
import { OracleOptimizer, type RuleName, ruleNames, type StepNumbers } from '../oracle/optimizers';
import { createModel, devices, generator, randomIds, relativeError, trainCall } from './harness';

/** Rates at which ten steps move the weights about equally far with each rule. */
const rates: Record<RuleName, number> = { adam: 1e-2, adamw: 1e-2, sgd: 0.5, rmsprop: 1e-3 };

const spec: Spec = { vocabulary: 9, layers: 2, hidden: 12, input: 'embedding', embedding: 5 };
const { parts, size } = layoutOf(spec);
const isBias = (k: number) =>
  parts.some((part) => /bias/.test(part.name) && k >= part.offset && k < part.offset + part.size);
const random = generator(5);
const start = Float32Array.from({ length: size }, () => random() * 0.3);

describe.each(devices)('$name', (device) => {
  describe.each(ruleNames)('%s', (rule) => {
    test.each([
      { clip: 0, decay: 0, below: undefined },
      { clip: 0.05, decay: 0, below: undefined },
      { clip: 0, decay: 0.02, below: undefined },
      { clip: 0.05, decay: 0.02, below: 'lstm.weight_ih_l1' },
    ])(
      'ten steps, clip $clip, weights decaying by $decay, carried state, a smaller last batch, frozen below $below',
      async ({ clip, decay, below }) => {
        const frozen = parts.find(({ name }) => name === below)?.offset ?? 0;
        const [learningRate, weightDecay] = [rates[rule], decay / rates[rule]];
        const numbers: StepNumbers = {
          learningRate,
          beta1: 0.9,
          beta2: 0.99,
          epsilon: 1e-4,
          clip,
          momentum: 0.8,
          weightDecay,
          frozen,
        };
        const model = await createModel(spec, device);
        try {
          model.write('parameters', start);
          const parameters = Float64Array.from(start);
          const optimizer = new OracleOptimizer(rule, size, (k) => !isBias(k));
          let state = zeroState(spec, 6);
          for (let step = 0; step < 10; step++) {
            const batch = step === 9 ? 3 : 6;
            const ids = randomIds(5 * batch, 9, step + 1);
            // Another batch size cannot continue from the previous state: it starts from zero.
            if (batch !== 6) state = zeroState(spec, batch);
            const expected = run(spec, parameters, ids, 4, batch, 'every', state);
            state = expected.state;
            optimizer.step(parameters, expected.gradient, numbers);
            const { learningRate: _, ...given } = numbers;
            const call = { carryState: true, optimizer: rule, ...given, learningRates: Float64Array.of(learningRate) };
            const { losses } = await model.trainSteps(trainCall(ids, 4, batch, call));
            expect(Math.abs(losses[0]! / expected.loss - 1)).toBeLessThan(1e-5);
          }
          expect(model.stepCount).toBe(10);
          // The steps moved the weights, so that the comparisons below mean something.
          expect(relativeError(start, parameters)).toBeGreaterThan(0.02);
          // A quotient of two tiny numbers is mostly rounding error: the bound is wider than that of the gradients.
          expect(relativeError(model.read('parameters'), parameters)).toBeLessThan(1e-4);
          expect(model.read('parameters', 0, frozen)).toEqual(start.subarray(0, frozen));
          expect(relativeError(model.read('firstMoments'), optimizer.first)).toBeLessThan(1e-3);
          expect(relativeError(model.read('secondMoments'), optimizer.second)).toBeLessThan(1e-3);
        } finally {
          model.dispose();
        }
      },
    );
  });

  // The frozen parameters end at the borders of vectors, between them, and where no thread's share begins.
  test('any number of frozen parameters, the same bits by any number of threads', async () => {
    const all = { clip: 0.05, weightDecay: 0.1, optimizer: 'adamw', count: 3 } as const;
    const ids = randomIds(3 * 5 * 6, 9, 1);
    for (const frozen of [0, 1, 15, 16, 17, 45, size - 9, size - 1, size]) {
      const results: Float32Array[] = [];
      for (const threads of [1, 2, 3]) {
        const model = await createModel(spec, device, { threads });
        try {
          model.write('parameters', start);
          await model.trainSteps(trainCall(ids, 4, 6, { ...all, frozen }));
          results.push(model.read('parameters'));
        } finally {
          model.dispose();
        }
      }
      const [first] = results as [Float32Array];
      expect(first.subarray(0, frozen)).toEqual(start.subarray(0, frozen));
      for (let k = frozen; k < size; k++) if (first[k] === start[k]) throw new Error(`${k} of ${frozen} did not move`);
      for (const other of results) expect(other).toEqual(first);
    }
  });

  test('a model whose frozen parameters change from call to call', async () => {
    const model = await createModel(spec, device);
    try {
      model.write('parameters', start);
      let before: Float32Array = start;
      for (const frozen of [size - 9, 0, 45]) {
        await model.trainSteps(trainCall(randomIds(5 * 6, 9, frozen), 4, 6, { frozen }));
        const now = model.read('parameters');
        expect(now.subarray(0, frozen)).toEqual(before.subarray(0, frozen));
        expect(now.subarray(frozen)).not.toEqual(before.subarray(frozen));
        if (frozen === 0) expect(now.subarray(0, 45)).not.toEqual(before.subarray(0, 45));
        before = now;
      }
    } finally {
      model.dispose();
    }
  });
});
