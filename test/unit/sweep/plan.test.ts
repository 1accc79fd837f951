/** The trials that a sweep's file describes, and what is refused in it. */
import fc from 'fast-check';
import { DataError } from '../../../lib/errors';
import { planSweep } from '../../../lib/sweep/plan';

const plan = (content: unknown) => planSweep('a.json', content);

test('a grid is every combination, with every seed', () => {
  const { trials, corpus } = plan({
    corpus: 'book.txt',
    options: { epochs: 3 },
    grid: { hidden: [8, 16], dropout: [0, 0.5] },
    seeds: [1, 2],
  });
  expect(corpus).toEqual(['book.txt']);
  expect(trials.map(({ name }) => name)).toEqual([
    '1-hidden=8-dropout=0-seed=1',
    '2-hidden=8-dropout=0-seed=2',
    '3-hidden=8-dropout=0.5-seed=1',
    '4-hidden=8-dropout=0.5-seed=2',
    '5-hidden=16-dropout=0-seed=1',
    '6-hidden=16-dropout=0-seed=2',
    '7-hidden=16-dropout=0.5-seed=1',
    '8-hidden=16-dropout=0.5-seed=2',
  ]);
  expect(trials[2]?.options).toEqual({ epochs: 3, hidden: 8, dropout: 0.5, seed: 1 });
  expect(trials[2]?.epochs).toBe(3);
});

test('random draws stay within their ranges, and are the same for the same seed', () => {
  const over = {
    hidden: { integer: [4, 6] },
    learningRate: { log: [0.0001, 0.1] },
    dropout: { uniform: [0.1, 0.4] },
    layers: [1, 3],
  };
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const { trials } = plan({ random: { trials: 40, seed, over } });
      expect(trials).toEqual(plan({ random: { trials: 40, seed, over } }).trials);
      for (const { varied } of trials) {
        const { hidden, learningRate, dropout, layers } = varied as Record<string, number>;
        expect([4, 5, 6]).toContain(hidden);
        expect([1, 3]).toContain(layers);
        expect(learningRate).toBeGreaterThanOrEqual(0.0001);
        expect(learningRate).toBeLessThanOrEqual(0.1);
        expect(dropout).toBeGreaterThanOrEqual(0.1);
        expect(dropout).toBeLessThanOrEqual(0.4);
      }
      expect(new Set(trials.map(({ varied }) => varied.hidden)).size).toBe(3);
      expect(new Set(trials.map(({ varied }) => varied.learningRate)).size).toBeGreaterThan(30);
    }),
    { numRuns: 20 },
  );
});

test('names are directories of one level, whatever the values', () => {
  const { trials } = plan({ grid: { checkpointName: ['a..b-{epoch}', '{loss}-x'] } });
  for (const { name } of trials) expect(name).toMatch(/^[\w.=+-]{1,120}$/);
});

test.each([
  ['nothing to try', {}, /nothing to try/],
  ['no object', [], /a\.json: /],
  ['a misspelt part', { gird: {} }, /gird/],
  ['a misspelt option', { grid: { hiden: [1] } }, /grid\.hiden is no option; did you mean hidden\?/],
  ['an option of the sweep', { grid: { out: ['a'] } }, /each trial has its directory/],
  ['a value out of range', { grid: { hidden: [8, -1] } }, /hidden in a\.json, trial 2-hidden=-1 must be/],
  ['an option twice', { options: { hidden: 8 }, grid: { hidden: [1] } }, /hidden is in options and in grid/],
  ['a value twice', { grid: { hidden: [8, 8] } }, /a value twice/],
  ['seeds twice', { options: { seed: 1 }, seeds: [1] }, /give one of them/],
  ['grid and random', { grid: { hidden: [1] }, random: { trials: 1, over: { hidden: [1] } } }, /not both/],
  ['an empty grid value', { grid: { hidden: [] } }, /grid\.hidden/],
  ['a range upside down', { random: { trials: 1, over: { dropout: { uniform: [0.5, 0.1] } } } }, /must be below/],
  ['a logarithm of 0', { random: { trials: 1, over: { learningRate: { log: [0, 1] } } } }, /above 0/],
  [
    'a range of fractions as integers',
    { random: { trials: 1, over: { hidden: { integer: [0.5, 3] } } } },
    /whole numbers/,
  ],
  [
    'too many',
    {
      grid: {
        hidden: Array.from({ length: 101 }, (_, i) => i + 1),
        layers: [1, 2],
        seed: Array.from({ length: 100 }, (_, i) => i),
      },
    },
    /more than 10000/,
  ],
])('%s is refused', (_, content, message) => {
  expect(() => plan(content)).toThrow(DataError);
  expect(() => plan(content)).toThrow(message);
});
