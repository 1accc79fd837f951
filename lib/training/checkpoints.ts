/** What a trainer saves and restores: the device's arrays and the state around them. */
import { setTimeout } from 'node:timers/promises';
import type { Checkpoint, CheckpointMetadata, ResumeState } from '../checkpoint/checkpoint';
import { CheckpointError } from '../errors';
import type { NativeModel } from '../native';
import type { TrainingOptions } from './options';

/** A checkpoint as `last` keeps it: weights, moments, recurrent state (where it is carried and an epoch is in progress). */
export async function snapshot(
  native: NativeModel,
  metadata: CheckpointMetadata,
  training: ResumeState,
  withState: boolean,
): Promise<Checkpoint> {
  return whenIdle(() => ({
    metadata: { ...metadata, training },
    parameters: native.read('parameters'),
    firstMoments: native.read('firstMoments'),
    secondMoments: native.read('secondMoments'),
    ...(withState ? { trainingState: native.read('trainingState') } : {}),
  }));
}

/** A checkpoint to sample from: weights alone. */
export async function weights(native: NativeModel, metadata: CheckpointMetadata): Promise<Checkpoint> {
  return whenIdle(() => ({ metadata, parameters: native.read('parameters') }));
}

/**
 * Puts a checkpoint back on the device.
 *
 * @throws CheckpointError if it lacks what training needs to go on.
 */
export function restore(native: NativeModel, checkpoint: Checkpoint, path: string, o: TrainingOptions): void {
  const { parameters, firstMoments, secondMoments, trainingState, metadata } = checkpoint;
  const training = metadata.training;
  const midEpoch = o.target === 'every' && (training?.batchInEpoch ?? 0) > 0;
  if (!training || !firstMoments || !secondMoments || (midEpoch && !trainingState)) {
    throw new CheckpointError(
      `${path} cannot be resumed: it holds no training state (a best checkpoint has none; resume the run's directory).`,
    );
  }
  native.write('parameters', parameters);
  native.write('firstMoments', firstMoments);
  native.write('secondMoments', secondMoments);
  native.stepCount = training.stepCount;
  if (midEpoch && trainingState) native.write('trainingState', trainingState);
}

/** Runs a synchronous call as soon as no other call (a user's `generate`, say) holds the model. */
export async function whenIdle<T>(call: () => T): Promise<T> {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_BUSY') throw error;
      await setTimeout(1);
    }
  }
}
