import fc from 'fast-check';
import { grouped } from '../../lib/numbers';

it('groups the digits of whole numbers of every size as toLocaleString does', () => {
  const powers = [0, 3, 6, 15, 20, 21, 22, 308].map((power) => 10 ** power);
  const boundaries = [0, 999, ...powers.flatMap((power) => [power - 1, power, -power]), 2 ** 53, Number.MAX_VALUE];
  for (const value of boundaries) expect(grouped(value)).toBe((value + 0).toLocaleString('en'));
  const whole = fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.double({ noNaN: true, noDefaultInfinity: true }));
  fc.assert(
    fc.property(whole, (given) => {
      const value = Math.trunc(given) + 0; // No -0.
      return grouped(value) === value.toLocaleString('en');
    }),
  );
});
