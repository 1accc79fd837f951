import fc from 'fast-check';
import { KeyedPermutation, keyedInteger } from '../../../lib/training/keyed-random';
import { share } from '../../fixtures/child';

describe('KeyedPermutation', () => {
  it('is a permutation at every size', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 0, max: 2 ** 31 }), (size, key) => {
        const permutation = new KeyedPermutation(size, 'test', key);
        const seen = new Set(Array.from({ length: size }, (_, i) => permutation.at(i)));
        expect(seen.size).toBe(size);
        expect(Math.max(...seen)).toBe(size - 1);
      }),
      { numRuns: share(200) },
    );
  });

  it('stays inside a range beyond 32 bits, without collisions', () => {
    const size = 2 ** 40 + 12_345;
    const permutation = new KeyedPermutation(size, 'large');
    const places = Array.from({ length: 1000 }, (_, i) => permutation.at(size - 1 - i));
    expect(new Set(places).size).toBe(1000);
    expect(places.every((place) => Number.isInteger(place) && place >= 0 && place < size)).toBe(true);
    expect(places.some((place) => place > 2 ** 39)).toBe(true);
  });

  it('depends on the key', () => {
    const first = new KeyedPermutation(1000, 'windows', 1, 0);
    const second = new KeyedPermutation(1000, 'windows', 1, 1);
    const same = Array.from({ length: 1000 }, (_, i) => i).filter((i) => first.at(i) === second.at(i));
    expect(same.length).toBeLessThan(20); // One is expected by chance.
  });

  it('spreads neighbours: the mean distance is that of independent draws', () => {
    const size = 144_324;
    const permutation = new KeyedPermutation(size, 'windows', 7, 3);
    let sum = 0;
    for (let i = 0; i < 20_000; i++) sum += Math.abs(permutation.at(i) - permutation.at(i + 1));
    expect(sum / 20_000 / size).toBeCloseTo(1 / 3, 1.5);
  });
});

describe('keyedInteger', () => {
  it('is in range and fixed by its key', () => {
    for (let epoch = 0; epoch < 100; epoch++) {
      const value = keyedInteger(17, 'streams', 5, epoch);
      expect(value).toBe(keyedInteger(17, 'streams', 5, epoch));
      expect(value).toBeGreaterThanOrEqual(0);
      expect(value).toBeLessThan(17);
    }
  });
});
