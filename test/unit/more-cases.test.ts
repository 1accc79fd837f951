/** scripts/more-cases.sh: what test/fixtures/more-cases.js makes of a property. */
import fc from 'fast-check';

it.each([
  ['without a number: of 100', {}, 300],
  ['with one', { numRuns: 7 }, 21],
  ['that starts a program once', { numRuns: 1 }, 1],
  ['with a seed', { numRuns: 7, seed: 5 }, 7],
])('a property %s', (_, parameters: { numRuns?: number; seed?: number }, expected) => {
  const before = process.env.MORE_CASES;
  process.env.MORE_CASES = '3';
  let cases = 0;
  jest.isolateModules(() => {
    const more = (require('../fixtures/more-cases') as { default: typeof fc }).default;
    more.assert(
      more.property(fc.nat(), () => void cases++),
      parameters,
    );
  });
  if (before === undefined) delete process.env.MORE_CASES;
  else process.env.MORE_CASES = before;
  expect(cases).toBe(expected);
});
