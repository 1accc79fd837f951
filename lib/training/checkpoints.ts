/** Saves and restores a trainer: the device's arrays and the state around them. */
import type { Checkpoint, CheckpointMetadata } from '../checkpoint/checkpoint';
import type { RunDirectory } from '../checkpoint/run-directory';
import type { NativeModel } from '../device/native';
import { readSlot, writeSlot } from '../device/pieces';
import type { QueuedModel } from '../device/queue';
import { CheckpointError } from '../errors';
import type { Ranks } from '../ranks/ranks';
import { trainCall } from '../wording';
import type { CheckpointEvent } from './events';
import { type MomentSlot, optimizers } from './optimizers';
import type { TrainingOptions } from './options';
import { compareParameters } from './same';
import { joinStates, shareOf, stateOf } from './shares';
import { type RunIdentity, type TrainingState, toResumeState } from './state';

/** Where a trainer writes. */
export type CheckpointDirectory = Pick<RunDirectory, 'path' | 'notes' | 'saveLast' | 'saveBest' | 'appendMetrics'>;

/** Saves to a run's directory and tracks what has been saved. Without a directory it saves nothing. */
export class CheckpointKeeper {
  #saved: { at: number; epoch: number; batch: number };

  /**
   * @param carried Whether the recurrent state is carried, and so belongs in a mid-epoch checkpoint.
   * @param slots The optimiser's arrays, which a resumed run needs.
   * @param every Seconds between mid-epoch checkpoints; 0: none.
   * @param state The run's current state.
   * @param saved Whether that is the state of a checkpoint being resumed; a new run has nothing saved.
   * @param ranks All of them call saveLast; only rank 0 has a `run`.
   */
  constructor(
    readonly native: QueuedModel,
    readonly run: CheckpointDirectory | undefined,
    readonly carried: boolean,
    readonly slots: readonly MomentSlot[],
    readonly every: number,
    state: TrainingState,
    saved: boolean,
    readonly ranks?: Ranks | undefined,
  ) {
    this.#saved = { ...savedAt(state), ...(saved ? {} : { epoch: -1 }) };
  }

  /** Whether a checkpoint that the run can be resumed from has been saved. */
  get resumable(): boolean {
    return this.#saved.epoch >= 0;
  }

  unsaved({ epoch, batchInEpoch }: TrainingState): boolean {
    return this.#saved.epoch !== epoch || this.#saved.batch !== batchInEpoch;
  }

  /** Whether a mid-epoch save is due. */
  due(state: TrainingState): boolean {
    return this.every > 0 && this.unsaved(state) && performance.now() - this.#saved.at >= this.every * 1000;
  }

  /** Saves everything that a resumed run needs; returns the events to report. */
  async saveLast(
    metadata: CheckpointMetadata,
    state: TrainingState,
    identity: Omit<RunIdentity, 'stepCount'>,
  ): Promise<CheckpointEvent[]> {
    const { run, ranks } = this;
    const events: CheckpointEvent[] = [];
    const withState = this.carried && state.batchInEpoch > 0;
    if (ranks) await this.native.whenIdle((native) => compareParameters(ranks, native));
    const trainingState = withState && (run || ranks) ? await this.#trainingState(metadata, identity) : undefined;
    if (run) {
      const checkpoint = await this.native.whenIdle(async (native) => ({
        metadata: { ...metadata, training: toResumeState(state, { ...identity, stepCount: native.stepCount }) },
        parameters: await readSlot(native, 'parameters'),
        ...(await this.#readSlots(native)),
        ...(trainingState ? { trainingState } : {}),
      }));
      const path = await run.saveLast(checkpoint, this.native.parameters);
      events.push({ type: 'checkpoint', kind: 'last', path, totalSteps: metadata.step });
    }
    this.#saved = savedAt(state);
    return events;
  }

  /** [L, 2, B, H], of all ranks. */
  async #trainingState({ model }: CheckpointMetadata, { batch }: Pick<RunIdentity, 'batch'>): Promise<Float32Array> {
    const mine = await this.native.whenIdle((native) => native.read('trainingState'));
    if (!this.ranks) return mine;
    const parts = await this.ranks.gather('state', new Uint8Array(mine.buffer));
    return joinStates(
      parts.map((part) => new Float32Array(new Uint8Array(part).buffer)),
      batch,
      model.hidden,
    );
  }

  async #readSlots(native: NativeModel): Promise<Partial<Checkpoint>> {
    const read: Partial<Checkpoint> = {};
    for (const slot of this.slots) read[slot] = await readSlot(native, slot);
    return read;
  }

  /** Saves the weights, for sampling. */
  async saveBest(file: string, metadata: CheckpointMetadata): Promise<CheckpointEvent[]> {
    const { native, run } = this;
    if (!run) return [];
    const parameters = await native.whenIdle((idle) => readSlot(idle, 'parameters'));
    const path = await run.saveBest({ metadata, parameters }, native.parameters, file);
    return [{ type: 'checkpoint', kind: 'best', path, totalSteps: metadata.step }];
  }
}

function savedAt({ epoch, batchInEpoch }: TrainingState) {
  return { at: performance.now(), epoch, batch: batchInEpoch };
}

/**
 * Returns a function that restores a checkpoint to the device; with `ranks`, only this rank's share of the training state.
 *
 * @throws CheckpointError if the checkpoint lacks what training needs to resume.
 */
export function restorer(
  native: NativeModel,
  checkpoint: Checkpoint,
  path: string,
  options: TrainingOptions,
  ranks?: Ranks,
): () => Promise<void> {
  const { parameters, trainingState, metadata } = checkpoint;
  const { slots } = optimizers[options.optimizer];
  const training = metadata.training;
  const midEpoch = options.target === 'every' && (training?.batchInEpoch ?? 0) > 0;
  if (!training || slots.some((slot) => !checkpoint[slot]) || (midEpoch && !trainingState)) {
    throw new CheckpointError(
      `${path} cannot be resumed: it holds no training state; begin a new run with its weights: ${trainCall({ corpus: ['TEXT'], from: path })}`,
    );
  }
  return async () => {
    await writeSlot(native, 'parameters', parameters);
    for (const slot of slots) await writeSlot(native, slot, checkpoint[slot] as Float32Array);
    native.stepCount = training.stepCount;
    if (!midEpoch || !trainingState) return;
    const { batch } = training;
    const mine = ranks ? stateOf(trainingState, batch, options.hidden, shareOf(batch, ranks)) : trainingState;
    native.write('trainingState', mine);
  };
}
