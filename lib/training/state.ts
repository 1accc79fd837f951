/** The state of a training run, except for the arrays on the device. It is saved to the last checkpoint and restored from it. */
import type { ResumeState } from '../checkpoint/checkpoint';
import { CheckpointError } from '../errors';

/** The best checkpoint so far; `epoch` counts from 1, and may have been in progress. */
export interface BestCheckpoint {
  epoch: number;
  /** Optimiser steps done when it was saved; absent in checkpoints of versions that did not record it. */
  step?: number | undefined;
  /** The criterion: validation loss, or training loss if there is no validation text. */
  loss: number;
  /** File name in the run's directory. */
  file: string;
}

/** Sums over the completed steps of the epoch in progress, in step order, so that they do not depend on where a run was interrupted. */
export interface EpochSums {
  nats: number;
  targets: number;
  /** Gradient norms before clipping. */
  norms: number;
  largestNorm: number;
  /** Time spent in steps. */
  seconds: number;
}

export interface TrainingState {
  /** The epoch in progress, from 0; equal to the number of epochs when all are done. */
  epoch: number;
  /** The next batch; equal to the steps per epoch when only the end of the epoch (validation, checkpoints) is left to do. */
  batchInEpoch: number;
  sums: EpochSums;
  best?: BestCheckpoint;
  /** Scores without a new best, for early stopping. */
  scoresSinceBest: number;
  /** Optimiser steps done when the validation text was last scored mid-epoch; 0: never. */
  scoredAt: number;
  elapsedSeconds: number;
  /** When fine-tuning: the losses before the first step. */
  baseline?: Losses;
  /** The best checkpoint's loss on the kept text. */
  bestKept?: number;
}

/** Nats per character on the validation texts. */
export interface Losses {
  validation: number;
  /** On the kept text. */
  kept?: number | undefined;
}

export function newSums(): EpochSums {
  return { nats: 0, targets: 0, norms: 0, largestNorm: 0, seconds: 0 };
}

export function newState(): TrainingState {
  return { epoch: 0, batchInEpoch: 0, sums: newSums(), scoresSinceBest: 0, scoredAt: 0, elapsedSeconds: 0 };
}

/** Other facts about the run that the checkpoint records. */
export type RunIdentity = Pick<
  ResumeState,
  | 'stepCount'
  | 'batch'
  | 'seed'
  | 'corpusSha256'
  | 'corpusLength'
  | 'corpusParts'
  | 'keptSha256'
  | 'validationSha256'
  | 'scheduleSteps'
  | 'chosenAlgorithm'
>;

export function toResumeState(state: TrainingState, identity: RunIdentity): ResumeState {
  const { epoch, batchInEpoch, best, elapsedSeconds, sums, scoresSinceBest, scoredAt, baseline, bestKept } = state;
  return {
    ...identity,
    epoch,
    batchInEpoch,
    ...(best ? { best } : {}),
    elapsedSeconds,
    extra: {
      ...sums,
      scoresSinceBest,
      scoredAt,
      ...(baseline ? { baseline: baseline.validation } : {}),
      ...(baseline?.kept === undefined ? {} : { baselineKept: baseline.kept }),
      ...(bestKept === undefined ? {} : { bestKept }),
    },
  };
}

/**
 * Restores the state from a checkpoint.
 *
 * @throws CheckpointError if a number is missing or does not fit `stepsPerEpoch`.
 */
export function fromResumeState(resume: ResumeState, stepsPerEpoch: number, path: string): TrainingState {
  const number = (key: string): number => {
    const value = resume.extra[key];
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw new CheckpointError(`${path} cannot be resumed: its training state lacks the number '${key}'.`);
  };
  const optional = (key: string) => (resume.extra[key] === undefined ? undefined : number(key));
  const [baseline, bestKept] = [optional('baseline'), optional('bestKept')];
  if (resume.batchInEpoch > stepsPerEpoch) {
    throw new CheckpointError(
      `${path} cannot be resumed: it stands at batch ${resume.batchInEpoch} of an epoch that has ${stepsPerEpoch}.`,
    );
  }
  return {
    epoch: resume.epoch,
    batchInEpoch: resume.batchInEpoch,
    sums: {
      nats: number('nats'),
      targets: number('targets'),
      norms: number('norms'),
      largestNorm: number('largestNorm'),
      seconds: number('seconds'),
    },
    ...(resume.best ? { best: resume.best } : {}),
    scoresSinceBest: number('scoresSinceBest'),
    scoredAt: optional('scoredAt') ?? 0,
    ...(baseline === undefined ? {} : { baseline: { validation: baseline, kept: optional('baselineKept') } }),
    ...(bestKept === undefined ? {} : { bestKept }),
    elapsedSeconds: resume.elapsedSeconds,
  };
}
