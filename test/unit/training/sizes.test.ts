import fc from 'fast-check';
import { createBatches } from '../../../lib/training/batches';
import { divide, leastLength, type SizeOptions } from '../../../lib/training/sizes';
import { splitCorpus } from '../../../lib/training/validation';
import { arrayIds } from '../../fixtures/array-ids';
import { share } from '../../fixtures/child';
import { followedSizes } from '../../fixtures/followed-sizes';

/** The checks that a run makes before it begins. */
function check(length: number, sizes: SizeOptions): void {
  createBatches(() => arrayIds(new Array(length).fill(0)), splitCorpus(length, sizes).training, { ...sizes, seed: 1 });
}

function errorOf(length: number, sizes: SizeOptions): string | undefined {
  try {
    check(length, sizes);
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_DATA' });
    return (error as Error).message;
  }
  return undefined;
}

const sizes = fc.record({
  target: fc.constantFrom('every' as const, 'last' as const),
  batchSize: fc.integer({ min: 1, max: 70 }),
  seqLength: fc.integer({ min: 1, max: 120 }),
  validation: fc.constantFrom(0, 0.01, 0.1, 0.5, 0.89),
});

it('a text that is too short is refused once, with sizes that fit', () => {
  let refused = 0;
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 3000 }), sizes, (length, asked) => {
      const message = errorOf(length, asked);
      if (message === undefined) return;
      refused++;
      // The message names everything that the text is too short for, and nothing else.
      const kept = Math.floor(length * asked.validation);
      expect(/leaves none to validate on/.test(message)).toBe(asked.validation > 0 && kept === 0);
      expect(/ to train on/.test(message)).toBe(length - kept < leastLength(asked));
      const advised = followedSizes(message, asked);
      expect(advised).not.toEqual(asked);
      expect([message, errorOf(length, advised)]).toEqual([message, undefined]);
    }),
    { numRuns: share(20_000) },
  );
  expect(refused).toBeGreaterThan(share(2000));
});

it('a text of one character has no size that fits', () => {
  const message = errorOf(1, { target: 'every', batchSize: 16, seqLength: 20, validation: 0.1 });
  expect(message).toMatch(/^The corpus is too short: 1 character, .*; give a longer text\.$/);
});

it.each([
  [12, 'batchSize: 1, seqLength: 5'],
  [2, 'batchSize: 1, seqLength: 1, validation: 0'],
  [9, 'batchSize: 1, seqLength: 4, validation: 0'],
  [300, 'batchSize: 1'],
])('of %i characters, the most useful sizes are %s', (length, expected) => {
  const message = errorOf(length, { target: 'every', batchSize: 16, seqLength: 20, validation: 0.1 });
  expect(message).toContain(`give a longer text, or \`${expected}\`.`);
});

it('what is divided is all there is, and enough', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3000 }), sizes, (length, asked) => {
      const split = divide(length, asked);
      if (!split) return;
      expect(split.training + split.validation).toBe(length);
      expect(split.training).toBeGreaterThanOrEqual(leastLength(asked));
      expect(split.validation > 0).toBe(asked.validation > 0);
    }),
  );
});
