/** The learning rate of each optimiser step. */
import type { TrainingOptions } from './options';

export type ScheduleOptions = Pick<
  TrainingOptions,
  | 'schedule'
  | 'learningRate'
  | 'finalLearningRate'
  | 'warmup'
  | 'decayEvery'
  | 'decayFactor'
  | 'decayShare'
  | 'scheduleTime'
>;

/**
 * The learning rate of step `step` (from 0) out of `totalSteps`, `stepsPerEpoch` of them per epoch.
 *
 * Over the first `warmup` steps, the rate rises linearly to its full value (Goyal et al. 2017). After that: constant; cosine, half a
 * period down to `finalLearningRate` at `totalSteps` (Loshchilov and Hutter 2017); step, times `decayFactor` after every `decayEvery`
 * epochs; or wsd (warm-up, stable, decay), constant until the last `decayShare` of all steps and then linearly down to
 * `finalLearningRate` (Hu et al. 2024; Hägele et al. 2024).
 *
 * With `scheduleTime`, progress through the schedule is the elapsed share of that time, or of the steps if that is more: the schedule
 * ends when the time does.
 */
export function learningRateAt(
  options: ScheduleOptions,
  step: number,
  totalSteps: number,
  stepsPerEpoch: number,
  elapsedSeconds = 0,
): number {
  const place = Math.max(step, totalSteps * shareOfTime(options, elapsedSeconds));
  const rate = scheduledRate(options, place, totalSteps, stepsPerEpoch);
  return step < options.warmup ? (rate * (step + 1)) / options.warmup : rate;
}

function scheduledRate(options: ScheduleOptions, step: number, totalSteps: number, stepsPerEpoch: number): number {
  switch (options.schedule) {
    case 'constant':
      return options.learningRate;
    case 'cosine': {
      const progress = Math.min(1, Math.max(0, step - options.warmup) / Math.max(1, totalSteps - options.warmup));
      return (
        options.finalLearningRate +
        (options.learningRate - options.finalLearningRate) * 0.5 * (1 + Math.cos(Math.PI * progress))
      );
    }
    case 'wsd': {
      const progress = Math.min(1, Math.max(0, 1 - (totalSteps - step) / (options.decayShare * totalSteps)));
      return options.learningRate + (options.finalLearningRate - options.learningRate) * progress;
    }
    case 'step':
      return (
        options.learningRate * options.decayFactor ** Math.floor(Math.floor(step / stepsPerEpoch) / options.decayEvery)
      );
  }
}

function shareOfTime({ scheduleTime }: ScheduleOptions, elapsedSeconds: number): number {
  return scheduleTime === 0 ? 0 : Math.min(1, elapsedSeconds / scheduleTime);
}

/** {@link learningRateAt} for `count` steps starting at `step`, `secondsPerStep` apart. */
export function learningRates(
  options: ScheduleOptions,
  step: number,
  count: number,
  totalSteps: number,
  stepsPerEpoch: number,
  elapsedSeconds = 0,
  secondsPerStep = 0,
): Float64Array {
  return Float64Array.from({ length: count }, (_, i) =>
    learningRateAt(options, step + i, totalSteps, stepsPerEpoch, elapsedSeconds + i * secondsPerStep),
  );
}
