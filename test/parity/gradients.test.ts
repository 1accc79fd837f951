import { layoutOf, run, type Spec, type State, zeroState } from '../oracle/lstm';
import { createModel, devices, generator, randomIds, relativeError, trainCall } from './harness';

interface Case {
  spec: Spec;
  steps: number;
  batch: number;
  target: 'every' | 'last';
  carry: boolean;
}

const cases: [string, Case][] = [];
const add = (spec: Spec, steps: number, batch: number, target: 'every' | 'last', carry: boolean) => {
  const name = `${spec.input}, ${target}, carry ${carry}, ${spec.layers} layers of ${spec.hidden}, B ${batch}, T ${steps}, V ${spec.vocabulary}${spec.gateActivation ? `, ${spec.gateActivation}` : ''}`;
  cases.push([name, { spec, steps, batch, target, carry }]);
};
for (const input of ['scalar', 'onehot', 'embedding'] as const) {
  const embedding = input === 'embedding' ? 6 : 0;
  for (const target of ['every', 'last'] as const) {
    for (const carry of [false, true]) {
      for (const layers of [1, 2, 3]) add({ vocabulary: 5, layers, hidden: 7, input, embedding }, 3, 5, target, carry);
      add({ vocabulary: 11, layers: 2, hidden: 33, input, embedding }, 5, 17, target, carry);
    }
  }
  add({ vocabulary: 70, layers: 2, hidden: 64, input, embedding }, 20, 16, 'every', true);
}
for (const gateActivation of ['hard_sigmoid', 'hard_sigmoid_relu6'] as const) {
  for (const [batch, hidden] of [
    [1, 7],
    [2, 33],
    [17, 33],
  ] as const) {
    const spec: Spec = { vocabulary: 11, layers: 2, hidden, input: 'onehot', embedding: 0, gateActivation };
    for (const target of ['every', 'last'] as const) add(spec, 5, batch, target, true);
  }
}
add({ vocabulary: 47, layers: 2, hidden: 256, input: 'scalar', embedding: 0 }, 4, 16, 'every', false);

/** The state from [L, 2, B, H] as the addon returns it. */
function toState(spec: Spec, batch: number, flat: Float32Array): State {
  const state = zeroState(spec, batch);
  let at = 0;
  for (let l = 0; l < spec.layers; l++)
    for (const rows of [state.h[l]!, state.c[l]!])
      for (let b = 0; b < batch; b++) for (let u = 0; u < spec.hidden; u++) rows[b]![u] = flat[at++]!;
  return state;
}

describe.each(devices)('$name', (device) => {
  // cuDNN has sigmoid gates only.
  const possible = cases.filter(([, { spec }]) => device.device === 'cpu' || spec.gateActivation === undefined);
  test.each(possible)(
    'gradients, losses and state against float64: %s',
    async (_, { spec, steps, batch, target, carry }) => {
      const { parts, size } = layoutOf(spec);
      const random = generator(11);
      // Wide enough for the straight lines to saturate in places.
      const width = spec.gateActivation ? 5 : 1;
      const parameters = Float32Array.from({ length: size }, () => (width * random()) / Math.sqrt(spec.hidden));
      const ids = randomIds((steps + 1) * batch, spec.vocabulary);
      const stateSize = spec.layers * 2 * batch * spec.hidden;
      const before = Float32Array.from({ length: stateSize }, () => random() * 0.5);
      const model = await createModel(spec, device);
      try {
        expect(model.parameterCount).toBe(size);
        expect(model.parameters.map(({ name, offset, size: count }) => ({ name, offset, size: count }))).toEqual(parts);
        model.write('parameters', parameters);
        model.write('trainingState', before);
        const from = carry ? toState(spec, batch, before) : zeroState(spec, batch);
        const expected = run(spec, parameters, ids, steps, batch, target, from);

        const evaluated = await model.evaluate({ ids, steps, batch, target, carryState: false, dropout: false });
        const fresh = carry ? run(spec, parameters, ids, steps, batch, target) : expected;
        expect(relativeError(evaluated, fresh.losses.flat())).toBeLessThan(1e-6);

        const result = await model.trainSteps(trainCall(ids, steps, batch, { target, carryState: carry }));
        expect(result.completed).toBe(1);
        expect(Math.abs(result.losses[0]! / expected.loss - 1)).toBeLessThan(1e-6);
        const gradient = model.read('gradients');
        for (const { name, offset, size: count } of parts) {
          const error = relativeError(gradient, expected.gradient, offset, offset + count);
          if (error > device.tolerance) throw new Error(`${name}: relative error ${error}`);
        }
        const norm = Math.sqrt(expected.gradient.reduce((sum, value) => sum + value * value, 0));
        expect(Math.abs(result.norms[0]! / norm - 1)).toBeLessThan(1e-5);
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
    },
  );
});
