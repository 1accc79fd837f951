/** Builds events from a trainer's state. */
import { join } from 'node:path';
import type { GpuUsage, NativeTrainResult } from '../device/native';
import { TrainingError } from '../errors';
import { packageVersion } from '../version';
import { option } from '../wording';
import type { BatchCut, BatchSource } from './batches';
import type { BaselineEvent, EndEvent, EndReason, EpochEvent, StartEvent, StepEvent, ValidationEvent } from './events';
import { keptSequences } from './mixed-batches';
import { updateNumbers } from './optimizers';
import type { TrainingOptions } from './options';
import type { Pacer } from './pacer';
import type { TrainerParts } from './parts';
import { learningRateAt } from './schedule';
import type { Losses, TrainingState } from './state';

export class Reporter {
  /** Seconds of each epoch in this invocation. */
  readonly #epochs: number[] = [];
  /** Optimiser steps done when this invocation began. */
  #begun = 0;
  #validationLoss: number | undefined;
  /** The last step's learning rate. */
  #learningRate: number | undefined;

  constructor(
    readonly parts: TrainerParts,
    readonly pacer: Pacer,
  ) {}

  start(state: TrainingState): StartEvent {
    this.#begun = this.#steps(state);
    const { model, corpus, options, run, resume, from, kept, validation, division } = this.parts;
    const { split } = division;
    const { frozen = 0 } = updateNumbers(options, () => model.native.parameters);
    return {
      type: 'start',
      time: new Date().toISOString(),
      version: packageVersion,
      parameters: model.native.parameterCount,
      device: model.native.description,
      deviceReason: model.deviceReason,
      corpus: {
        sources: corpus.sources,
        characters: corpus.length,
        symbols: model.vocabulary.size,
        sha256: corpus.sha256,
        notes: corpus.notes,
      },
      ...(options.bytes ? { unit: 'byte' as const } : {}),
      notes: run?.notes ?? [],
      trainingCharacters: split.training,
      validationCharacters: split.validation,
      ...(split.places === undefined ? {} : { validationPlaces: split.places }),
      ...(validation
        ? { validation: { sources: validation.sources, characters: validation.length, notes: validation.notes } }
        : {}),
      epochs: options.epochs,
      stepsPerEpoch: this.#batches.stepsPerEpoch,
      ...(run ? { out: run.path } : {}),
      ...(from ? { from: { ...from, frozenParameters: frozen } } : {}),
      ...(kept
        ? {
            kept: {
              sources: kept.sources,
              characters: kept.length,
              sequences: keptSequences(options.batchSize, options.keepShare),
              validationCharacters: division.kept?.split.validation ?? 0,
              notes: kept.notes,
            },
          }
        : {}),
      ...(resume ? { resumed: { epoch: state.epoch, step: this.#steps(state), checkpoint: resume.path } } : {}),
    };
  }

  baseline({ validation, kept }: Losses): BaselineEvent {
    return {
      type: 'baseline',
      validationLoss: validation,
      validationBitsPerCharacter: validation / Math.LN2,
      ...(kept === undefined ? {} : { keptLoss: kept, keptBitsPerCharacter: kept / Math.LN2 }),
    };
  }

  /** @param cut The steps of the call, at learning rates `rates`; at least one of them was completed. */
  step(state: TrainingState, cut: BatchCut, result: NativeTrainResult, rates: Float64Array): StepEvent {
    const { options } = this.parts;
    const last = result.completed - 1;
    this.#learningRate = rates[last] as number;
    const { epoch, batchInEpoch, sums } = state;
    return {
      type: 'step',
      epoch: epoch + 1,
      epochs: options.epochs,
      step: batchInEpoch,
      stepsPerEpoch: this.#batches.stepsPerEpoch,
      totalSteps: this.#steps(state),
      loss: result.losses.subarray(0, result.completed).reduce((sum, loss) => sum + loss, 0) / result.completed,
      epochLoss: sums.nats / sums.targets,
      gradientNorm: result.norms[last] as number,
      learningRate: this.#learningRate,
      charactersPerSecond: (cut.batch * options.seqLength * 1000) / (this.pacer.millisecondsPerStep ?? Number.NaN),
      etaSeconds: this.#eta(state),
    };
  }

  /** Call when all steps of the epoch are done, before its sums are reset. */
  epoch(
    state: TrainingState,
    loss: number,
    losses: Losses | undefined,
    best: boolean,
    gpu: GpuUsage | undefined,
  ): EpochEvent {
    const { options } = this.parts;
    const { sums, elapsedSeconds } = state;
    const steps = this.#steps(state);
    const validationLoss = losses?.validation;
    this.#epochs.push(sums.seconds);
    this.#validationLoss = validationLoss ?? this.#validationLoss;
    return {
      type: 'epoch',
      epoch: state.epoch + 1,
      epochs: options.epochs,
      totalSteps: steps,
      loss,
      bitsPerCharacter: loss / Math.LN2,
      ...(validationLoss === undefined
        ? {}
        : { validationLoss, validationBitsPerCharacter: validationLoss / Math.LN2 }),
      ...(losses?.kept === undefined ? {} : { keptLoss: losses.kept }),
      gradientNorm: sums.norms / this.#batches.stepsPerEpoch,
      largestGradientNorm: sums.largestNorm,
      learningRate:
        this.#learningRate ??
        learningRateAt(options, steps - 1, this.#total, this.#batches.stepsPerEpoch, elapsedSeconds),
      charactersPerSecond: this.#batches.charactersPerEpoch / sums.seconds,
      seconds: sums.seconds,
      elapsedSeconds,
      etaSeconds: this.#eta(state),
      best,
      ...(gpu ? { gpu } : {}),
    };
  }

  /** The event for a mid-epoch score. */
  validation(state: TrainingState, validationLoss: number, best: boolean): ValidationEvent {
    const { epoch, batchInEpoch, sums, elapsedSeconds } = state;
    this.#validationLoss = validationLoss;
    return {
      type: 'validation',
      epoch: epoch + 1,
      epochs: this.parts.options.epochs,
      step: batchInEpoch,
      stepsPerEpoch: this.#batches.stepsPerEpoch,
      totalSteps: this.#steps(state),
      loss: sums.nats / sums.targets,
      validationLoss,
      validationBitsPerCharacter: validationLoss / Math.LN2,
      elapsedSeconds,
      best,
    };
  }

  end(state: TrainingState, reason: EndReason, gpu: GpuUsage | undefined): EndEvent {
    const { run, model, options } = this.parts;
    const { best, epoch, elapsedSeconds, sums, baseline, bestKept } = state;
    const bits = (nats: number | undefined) => (nats === undefined ? undefined : nats / Math.LN2);
    const loss = state.batchInEpoch > 0 ? sums.nats / sums.targets : model.metadata.loss;
    return {
      type: 'end',
      reason,
      epoch,
      epochs: options.epochs,
      totalSteps: this.#steps(state),
      newSteps: this.#steps(state) - this.#begun,
      elapsedSeconds,
      ...(loss === undefined ? {} : { loss }),
      ...(this.#validationLoss === undefined ? {} : { validationLoss: this.#validationLoss }),
      device: model.native.description,
      ...(this.#epochs.length > 0
        ? { secondsPerEpoch: this.#epochs.reduce((sum, seconds) => sum + seconds, 0) / this.#epochs.length }
        : {}),
      ...(gpu ? { gpu } : {}),
      ...(best
        ? {
            best: {
              epoch: best.epoch,
              ...(best.step === undefined ? {} : { step: best.step }),
              loss: best.loss,
              bitsPerCharacter: best.loss / Math.LN2,
              ...(run ? { path: join(run.path, best.file) } : {}),
            },
          }
        : {}),
      ...(baseline
        ? {
            fineTuning: defined({
              before: baseline.validation / Math.LN2,
              after: bits(best?.loss),
              keptBefore: bits(baseline.kept),
              keptAfter: bits(bestKept),
            }),
          }
        : {}),
      ...(run ? { out: run.path } : {}),
    };
  }

  get #batches(): BatchSource {
    return this.parts.division.batches;
  }

  get #total(): number {
    return this.parts.options.epochs * this.#batches.stepsPerEpoch;
  }

  #steps(state: TrainingState): number {
    return state.epoch * this.#batches.stepsPerEpoch + state.batchInEpoch;
  }

  /** Estimated seconds for the remaining steps; the time for validation and samples is not known in advance. */
  #eta(state: TrainingState): number {
    const seconds = ((this.#total - this.#steps(state)) * (this.pacer.millisecondsPerStep ?? 0)) / 1000;
    const { scheduleTime } = this.parts.options;
    return scheduleTime === 0 ? seconds : Math.min(seconds, Math.max(0, scheduleTime - state.elapsedSeconds));
  }
}

/** Drops undefined fields. */
function defined<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}

/** The error for a diverged run. `directory`: where it has saved a checkpoint, if it has. */
export function divergence(
  place: string,
  loss: number,
  norm: number,
  what: string,
  { learningRate, clip }: TrainingOptions,
  directory: string | undefined,
): TrainingError {
  const remedy = clip === 0 ? `set ${option({ clip: 5 })} or lower` : 'lower';
  const kept = directory === undefined ? '' : `; the checkpoints in ${directory} are as they were`;
  return new TrainingError(
    `Training stopped at ${place}: ${what} (loss ${show(loss)}, gradient norm ${show(norm)}); ${remedy} ${option('learningRate')} ` +
      `(${learningRate})${kept}.`,
  );
}

function show(value: number): string {
  return Number.isFinite(value) ? value.toPrecision(4) : String(value);
}
