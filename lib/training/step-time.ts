/** How long a step takes, measured on the real corpus. */
import type { QueuedModel } from '../device/queue';
import type { Ranks } from '../ranks/ranks';
import type { BatchSource } from './batches';
import { updateNumbers } from './optimizers';
import type { TrainingOptions } from './options';
import { sequencesOf } from './shares';

/** How long steps are measured, in milliseconds, and at most how many steps. */
const measureMilliseconds = 500;
const measureSteps = 50;

/**
 * Milliseconds: the median of single steps at learning rate 0. With `ranks`, of steps that all share, on the slowest; all measure as many.
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
  const sorted = times.slice(1).sort((a, b) => a - b); // The first includes what a device does once.
  const median = sorted[sorted.length >> 1] ?? times[0] ?? Number.NaN;
  return ranks ? Math.max(...(await ranks.gatherNumbers('step time', [median])).flat()) : median;
}

/**
 * Characters a second of steps at learning rate 0, over so many milliseconds or a little more: what training makes of a machine that has
 * other work as well, where single steps are now quick and now slow.
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

/** Milliseconds of one step; whether its batch was a whole one. */
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
