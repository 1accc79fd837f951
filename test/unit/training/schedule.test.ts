import { presetOptions } from '../../../lib/training/presets';
import { learningRateAt, learningRates } from '../../../lib/training/schedule';

const defaults = presetOptions('fast');

describe('learningRateAt', () => {
  it('warms up linearly and then stays', () => {
    const options = { ...defaults, schedule: 'constant', learningRate: 0.1, warmup: 10 } as const;
    expect(learningRateAt(options, 0, 100, 10)).toBeCloseTo(0.01, 12);
    expect(learningRateAt(options, 4, 100, 10)).toBeCloseTo(0.05, 12);
    expect(learningRateAt(options, 9, 100, 10)).toBeCloseTo(0.1, 12);
    expect(learningRateAt(options, 99, 100, 10)).toBe(0.1);
  });

  it('goes down half a cosine after the warm-up', () => {
    const options = {
      ...defaults,
      schedule: 'cosine',
      learningRate: 0.1,
      finalLearningRate: 0.02,
      warmup: 20,
    } as const;
    expect(learningRateAt(options, 20, 120, 10)).toBeCloseTo(0.1, 12);
    expect(learningRateAt(options, 70, 120, 10)).toBeCloseTo(0.06, 12);
    expect(learningRateAt(options, 120, 120, 10)).toBeCloseTo(0.02, 12);
    expect(learningRateAt(options, 500, 120, 10)).toBeCloseTo(0.02, 12);
  });

  it('goes down in steps of epochs', () => {
    const options = {
      ...defaults,
      schedule: 'step',
      learningRate: 0.8,
      decayEvery: 2,
      decayFactor: 0.5,
      warmup: 0,
    } as const;
    expect([0, 19, 20, 39, 40].map((step) => learningRateAt(options, step, 100, 10))).toEqual([
      0.8, 0.8, 0.4, 0.4, 0.2,
    ]);
  });

  it('stays until the last share of the steps and then goes down in a straight line', () => {
    const options = {
      ...defaults,
      schedule: 'wsd',
      learningRate: 0.1,
      finalLearningRate: 0.02,
      decayShare: 0.4,
    } as const;
    const wsd = { ...options, warmup: 10 };
    expect(learningRateAt(wsd, 4, 100, 10)).toBeCloseTo(0.05, 12);
    expect([10, 59, 60].map((step) => learningRateAt(wsd, step, 100, 10))).toEqual([0.1, 0.1, 0.1]);
    expect(learningRateAt(wsd, 80, 100, 10)).toBeCloseTo(0.06, 12);
    expect(learningRateAt(wsd, 100, 100, 10)).toBeCloseTo(0.02, 12);
    expect(learningRateAt(wsd, 500, 100, 10)).toBeCloseTo(0.02, 12);
  });

  it.each(['cosine', 'wsd', 'step'] as const)('passes by time where it is told to: %s', (schedule) => {
    const options = { ...defaults, schedule, learningRate: 0.1, finalLearningRate: 0.001, warmup: 0, decayEvery: 1 };
    const timed = { ...options, scheduleTime: 60 };
    for (let second = 0; second <= 60; second += 5) {
      // Progress is the elapsed share of the time, or that of the steps if it is larger.
      const place = (second / 60) * 100;
      expect(learningRateAt(timed, 0, 100, 10, second)).toBeCloseTo(learningRateAt(options, place, 100, 10), 12);
      expect(learningRateAt(timed, place + 7, 100, 10, second)).toBe(learningRateAt(options, place + 7, 100, 10));
      expect(learningRateAt(options, 3, 100, 10, second)).toBe(learningRateAt(options, 3, 100, 10));
    }
    expect(learningRateAt(timed, 0, 100, 10, 1e9)).toBeCloseTo(learningRateAt(options, 100, 100, 10), 12);
    const rates = learningRates(timed, 0, 4, 1e9, 1e8, 30, 10);
    expect([...rates]).toEqual([30, 40, 50, 60].map((second) => learningRateAt(timed, 0, 1e9, 1e8, second)));
  });

  it('warms up by steps though it passes by time', () => {
    const options = { ...defaults, schedule: 'wsd', learningRate: 0.1, warmup: 10, scheduleTime: 60 } as const;
    expect(learningRateAt(options, 4, 100, 10, 1)).toBeCloseTo(0.05, 12);
  });

  it('is finite when everything is warm-up', () => {
    const rates = learningRates({ ...defaults, warmup: 1000 }, 0, 10, 10, 5);
    expect([...rates].every((rate) => rate > 0 && rate < defaults.learningRate)).toBe(true);
  });
});
