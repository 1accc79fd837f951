import fc from 'fast-check';
import { compareNaturally, nameSome } from '../../../lib/corpus/names';
import { share } from '../../fixtures/child';

it('three names are shown, and how many more there are', () => {
  expect(nameSome([])).toBe('');
  expect(nameSome(['a', 'b', 'c'])).toBe('a, b, c');
  expect(nameSome(['a', 'b', 'c', 'd'])).toBe('a, b, c and 1 more');
  expect(nameSome(Array.from({ length: 3000 }, (_, i) => `doc${i}`))).toBe('doc0, doc1, doc2 and 2,997 more');
});

it('numbers are in order of their size, whatever stands around them', () => {
  const sorted = [
    '9.txt',
    'a',
    'a/ch1.txt',
    'a/ch2.txt',
    'a/ch10.txt',
    'a/ch10b2',
    'a/ch10b10',
    `b${'9'.repeat(30)}`,
    `b1${'0'.repeat(30)}`,
  ];
  expect([...sorted].reverse().sort(compareNaturally)).toEqual(sorted);
});

it('is an order: of two different names one is first, and it is transitive', () => {
  const name = fc.string({ unit: fc.constantFrom('a', 'B', '0', '1', '9', '/', '.'), maxLength: 6 });
  fc.assert(
    fc.property(name, name, name, (a, b, c) => {
      const order = (x: string, y: string) => Math.sign(compareNaturally(x, y));
      const turned = order(a, b) === -order(b, a);
      const same = (order(a, b) === 0) === (a === b);
      const transitive = !(order(a, b) < 0 && order(b, c) < 0) || order(a, c) === -1;
      return turned && same && transitive;
    }),
    { numRuns: share(20_000) },
  );
});
