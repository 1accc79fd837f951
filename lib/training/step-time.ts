/** Measures how long a step takes on the real corpus. */
import type { QueuedModel } from '../device/queue';
import type { Ranks } from '../ranks/ranks';
import type { BatchSource } from './batches';
import { updateNumbers } from './optimizers';
import type { TrainingOptions } from './options';
import { sequencesOf } from './shares';

/** How long to measure, in milliseconds, and the most steps to measure. */
const measureMilliseconds = 500;
const measureSteps = 50;

/**
 * The median time of single steps at learning rate 0, in milliseconds. With `ranks`, of steps that they share, on the slowest rank; all
 * measure the same number of steps.
 *
 * @throws The signal's reason when it is aborted.
 */
export async function measureStep(
  native: QueuedModel,
  options: TrainingOptions,
  batches: BatchSource,
  ranks?: Ranks,
  signal?: AbortSignal,
): Promise<number> {
  let most = measureSteps;
  const times: number[] = [];
  const began = performance.now();
  const enough = (step: number) =>
    step > most || (step >= 3 && !ranks && performance.now() - began >= measureMilliseconds);
  for (let step = 0; !enough(step); step++) {
    if (!ranks) signal?.throwIfAborted();
    const { time, whole } = await timeStep(native, options, batches, step, ranks);
    if (whole) times.push(time);
    if (ranks && step === 1) {
      const slowest = Math.max(...(await ranks.gatherNumbers('step time', [time])).flat());
      most = Math.max(3, Math.min(measureSteps, Math.floor(measureMilliseconds / slowest)));
    }
  }
  const sorted = times.slice(1).sort((a, b) => a - b); // The first includes one-time work of the device.
  const median = sorted[sorted.length >> 1] ?? times[0] ?? Number.NaN;
  return ranks ? Math.max(...(await ranks.gatherNumbers('step time', [median])).flat()) : median;
}

/**
 * Characters per second of steps at learning rate 0, over the given milliseconds or slightly more. This predicts training speed even on
 * a machine with other work, where the times of single steps vary.
 *
 * @throws The signal's reason when it is aborted.
 */
export async function measureSpeed(
  native: QueuedModel,
  options: TrainingOptions,
  batches: BatchSource,
  milliseconds: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  await timeStep(native, options, batches, 0);
  const began = performance.now();
  let [steps, took] = [0, 0];
  do {
    signal?.throwIfAborted();
    took += (await timeStep(native, options, batches, ++steps)).time;
  } while (performance.now() - began < milliseconds);
  return ((1000 * steps) / took) * (batches.charactersPerEpoch / batches.stepsPerEpoch);
}

/** The time of one step in milliseconds, and whether its batch was full-size. */
async function timeStep(
  native: QueuedModel,
  options: TrainingOptions,
  batches: BatchSource,
  step: number,
  ranks?: Ranks,
): Promise<{ time: number; whole: boolean }> {
  const { ids, count, batch } = await batches.cut(0, step % batches.stepsPerEpoch, 1);
  const from = performance.now();
  await native.trainSteps({
    count,
    ...sequencesOf(ids, batch, ranks),
    steps: options.seqLength,
    target: batches.target,
    carryState: batches.carryState,
    learningRates: Float64Array.of(0),
    ...updateNumbers(options, () => native.parameters),
  });
  return { time: performance.now() - from, whole: batch === options.batchSize || batches.stepsPerEpoch === 1 };
}
