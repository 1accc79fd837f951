import { layoutOf, run, type Spec, zeroState } from './lstm';

/** The oracle is checked only against itself: its gradient against central differences of its own loss, in float64. */
const cases: [string, Spec, 'every' | 'last'][] = [];
for (const input of ['scalar', 'onehot', 'embedding'] as const)
  for (const target of ['every', 'last'] as const)
    for (const layers of [1, 2])
      cases.push([
        `${input}, ${target}, ${layers} layers`,
        { vocabulary: 4, layers, hidden: 3, input, embedding: input === 'embedding' ? 2 : 0 },
        target,
      ]);

test.each(cases)('finite differences: %s', (_, spec, target) => {
  const { size } = layoutOf(spec);
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 31 - 1;
  };
  const parameters = Float64Array.from({ length: size }, random);
  const ids = Array.from({ length: 4 * 2 }, () => Math.floor((random() + 1) * 2));
  const from = zeroState(spec, 2);
  for (const rows of [...from.h, ...from.c]) for (const row of rows) for (let u = 0; u < 3; u++) row[u] = random();
  const { gradient } = run(spec, parameters, ids, 3, 2, target, from);
  const distance = 1e-5;
  for (let k = 0; k < size; k++) {
    const moved = (by: number) => {
      const p = parameters.slice();
      p[k]! += by;
      return run(spec, p, ids, 3, 2, target, from).loss;
    };
    expect((moved(distance) - moved(-distance)) / (2 * distance)).toBeCloseTo(gradient[k]!, 8);
  }
});
