/** What the self-check compares, and how. */
import { type CheckSubject, caseOf, difference, smallCases } from '../../../lib/device/comparison';

describe('the difference of two results', () => {
  it.each([
    [[3, 4], [3, 4], 0],
    [[3, 4], [3, 9], 1],
    [[3, 4], [3.03, 4.04], 0.01],
    [[0, 0], [0, 0], 0],
    [[], [], 0],
  ])('of %j and %j is %d', (expected, actual, gap) => {
    expect(difference(Float64Array.from(expected), Float64Array.from(actual))).toBeCloseTo(gap, 10);
  });

  it('is none where a value is no number, or missing', () => {
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(difference(Float32Array.of(1, 2), Float32Array.of(1, wrong))).toBeNull();
    }
    expect(difference(Float32Array.of(1, 2), Float32Array.of(1))).toBeNull();
  });

  it('forgives rounding where nothing is expected, and no more', () => {
    expect(difference(Float32Array.of(0, 0), Float32Array.of(1e-12, 0))).toBeLessThan(1e-4);
    expect(difference(Float32Array.of(0, 0), Float32Array.of(1e-3, 0))).toBeGreaterThan(1e3);
  });
});

describe('the models that are compared', () => {
  it('are of every kind, with bf16 where the GPU has it', () => {
    const cases = smallCases('9.0');
    for (const input of ['scalar', 'onehot', 'embedding']) {
      const own = cases.filter((each) => each.precision === 'fp32' && each.spec.input === input);
      expect(new Set(own.map((each) => each.spec.layers))).toEqual(new Set(input === 'embedding' ? [1, 2, 3] : [1, 2]));
      expect(own.some((each) => each.spec.dropout > 0)).toBe(true);
      expect(own.some((each) => each.spec.dropout === 0)).toBe(true);
    }
    for (const layers of [1, 2, 3]) {
      expect(cases.some((each) => each.spec.layers === layers && each.spec.dropout > 0)).toBe(true);
    }
    for (const each of cases) {
      expect(each.passes).toHaveLength(4);
      expect(new Set(each.passes.map((pass) => `${pass.target} ${pass.carryState}`)).size).toBe(4);
    }
    expect(new Set(cases.map((each) => each.precision))).toEqual(new Set(['fp32', 'tf32', 'fp16', 'bf16']));
    expect(smallCases('7.5').some((each) => each.precision === 'bf16')).toBe(false);
    expect(smallCases('12.0').some((each) => each.precision === 'bf16')).toBe(true);
  });

  const subject = (hidden: number, batch: number, steps: number, layers = 2): CheckSubject => ({
    shape: { vocabulary: 60, layers, hidden, input: 'onehot', embedding: 0, dropout: 0.2 },
    batch,
    steps,
    target: 'every',
    precision: 'bf16',
  });

  it('hold the one that is about to run, whole where it is small', () => {
    const own = caseOf(subject(32, 8, 20), 2);
    expect(own).toMatchObject({
      batch: 8,
      steps: 20,
      precision: 'bf16',
      passes: [{ target: 'every', carryState: true }],
    });
    expect(own?.spec).toMatchObject({ layers: 2, hidden: 32, vocabulary: 60, dropout: 0.2 });
    expect(caseOf({ ...subject(32, 1, 1), target: 'last', precision: undefined }, 1)).toMatchObject({
      batch: 1,
      steps: 1,
      precision: 'tf32',
      passes: [{ target: 'last', carryState: false }],
    });
  });

  it('are cut down to what a CPU computes in a second or two: sequences first, then the batch', () => {
    for (const hidden of [1, 16, 256, 1024, 2048]) {
      for (const batch of [1, 64, 2048, 65_536]) {
        for (const steps of [1, 3, 4, 100, 65_536]) {
          for (const threads of [1, 2, 64]) {
            const own = caseOf(subject(hidden, batch, steps), threads);
            if (!own) throw new Error('left out');
            expect(own.steps).toBeLessThanOrEqual(steps);
            expect(own.batch).toBeLessThanOrEqual(batch);
            expect(Math.min(own.steps, own.batch)).toBeGreaterThanOrEqual(1);
            if (own.batch < batch) expect(own.steps).toBeLessThanOrEqual(4);
            const parameters = 4 * hidden * (60 + 3 * hidden) + 60 * hidden;
            expect(18 * parameters * own.batch * own.steps).toBeLessThanOrEqual(
              Math.max(1.01e10 * Math.min(threads, 16), 18 * parameters * 8),
            );
          }
        }
      }
    }
  });

  it('do not hold one whose copies would take gigabytes', () => {
    expect(caseOf(subject(16_384, 1, 1), 2)).toBeUndefined();
  });
});
