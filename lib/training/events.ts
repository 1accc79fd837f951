/** Events that a trainer reports. With `--json` each is one line on stdout; metrics.jsonl holds all of them except most steps and
 * the last checkpoints. */
import type { GpuUsage } from '../device/native';

/**
 * Comes before the first step.
 *
 * @category Training
 */
export interface StartEvent {
  type: 'start';
  /** ISO 8601. */
  time: string;
  version: string;
  /** Number of trainable parameters. */
  parameters: number;
  /** The device used, and why it was chosen. */
  device: string;
  deviceReason: string;
  corpus: { sources: readonly string[]; characters: number; symbols: number; sha256: string; notes: readonly string[] };
  /** For a byte-level model: a character in all figures is a byte. */
  unit?: 'byte';
  trainingCharacters: number;
  validationCharacters: number;
  /** How many places in the text these come from, if not from its end. */
  validationPlaces?: number;
  /** The validation text, if it is not part of the corpus. */
  validation?: { sources: readonly string[]; characters: number; notes: readonly string[] };
  epochs: number;
  stepsPerEpoch: number;
  /** Messages for the user, such as about a damaged checkpoint that was skipped. */
  notes: readonly string[];
  /** The run's directory, if it has one. */
  out?: string;
  /** When fine-tuning: the base model, the symbols of the text that it did not know, and how many parameters are frozen. */
  from?: { checkpoint: string; newSymbols: readonly string[]; frozenParameters: number };
  /** When fine-tuning with a text to keep: its length, and how many sequences of each step come from it. */
  kept?: {
    sources: readonly string[];
    characters: number;
    sequences: number;
    validationCharacters: number;
    notes: readonly string[];
  };
  /** Where a resumed run continues. */
  resumed?: { epoch: number; step: number; checkpoint: string };
}

/**
 * The base model's loss on the texts before the first step of fine-tuning.
 *
 * @category Training
 */
export interface BaselineEvent {
  type: 'baseline';
  /** Nats per character on the new text's validation tail. */
  validationLoss: number;
  validationBitsPerCharacter: number;
  /** The same on the tail of the kept text. */
  keptLoss?: number;
  keptBitsPerCharacter?: number;
}

/**
 * Comes after each call to the device, which is one step or several.
 *
 * @category Training
 */
export interface StepEvent {
  type: 'step';
  /** The epoch in progress, from 1. */
  epoch: number;
  epochs: number;
  /** Steps done in this epoch. */
  step: number;
  stepsPerEpoch: number;
  /** Optimiser steps done in all. */
  totalSteps: number;
  /** Mean nats per character over the steps of this call, dropout on. */
  loss: number;
  /** Mean over this epoch so far. */
  epochLoss: number;
  /** Global norm of the last step's gradient, before clipping. */
  gradientNorm: number;
  learningRate: number;
  /** Smoothed; excludes validation and sampling. */
  charactersPerSecond: number;
  etaSeconds: number;
}

/**
 * Comes after each epoch.
 *
 * @category Training
 */
export interface EpochEvent {
  type: 'epoch';
  /** The epoch that has ended, from 1. */
  epoch: number;
  epochs: number;
  totalSteps: number;
  /** The epoch's mean in nats per character, dropout on. */
  loss: number;
  bitsPerCharacter: number;
  /** Nats per character on the text's tail, dropout off; absent if there is none or this epoch was not scored. */
  validationLoss?: number;
  validationBitsPerCharacter?: number;
  /** Nats per character on the tail of the kept text. */
  keptLoss?: number;
  /** Mean and largest global norm of the gradient, before clipping. */
  gradientNorm: number;
  largestGradientNorm: number;
  /** The learning rate of the epoch's last step. */
  learningRate: number;
  charactersPerSecond: number;
  /** Time taken by the epoch's steps, without validation and sampling. */
  seconds: number;
  /** Time since the run began, earlier invocations included. */
  elapsedSeconds: number;
  etaSeconds: number;
  /** Whether this is the best epoch so far. */
  best: boolean;
  /** On a GPU whose driver reports it: mean percentages and peak memory over this epoch. */
  gpu?: GpuUsage;
}

/**
 * The validation text was scored mid-epoch.
 *
 * @category Training
 */
export interface ValidationEvent {
  type: 'validation';
  /** The epoch in progress, from 1. */
  epoch: number;
  epochs: number;
  /** Steps done in this epoch. */
  step: number;
  stepsPerEpoch: number;
  /** Optimiser steps done in all. */
  totalSteps: number;
  /** Mean nats per character over this epoch so far, dropout on. */
  loss: number;
  /** Nats per character on the validation text, dropout off. */
  validationLoss: number;
  validationBitsPerCharacter: number;
  /** Time since the run began, earlier invocations included. */
  elapsedSeconds: number;
  /** Whether this is the best score so far. */
  best: boolean;
}

/**
 * A checkpoint was written and is safely on disk.
 *
 * @category Training
 */
export interface CheckpointEvent {
  type: 'checkpoint';
  kind: 'best' | 'last';
  path: string;
  totalSteps: number;
}

/**
 * A text generated by the model.
 *
 * @category Training
 */
export interface SampleEvent {
  type: 'sample';
  /** Epochs trained. */
  epoch: number;
  prompt: string;
  text: string;
}

/**
 * Why training ended. `schedule-time`: the time of a schedule by the clock is up; `max-time` ends an invocation, whatever the schedule.
 *
 * @category Training
 */
export type EndReason = 'finished' | 'early-stopping' | 'schedule-time' | 'max-time' | 'aborted';

/**
 * The last event. After an abort the iterator then throws the signal's reason.
 *
 * @category Training
 */
export interface EndEvent {
  type: 'end';
  reason: EndReason;
  /** Epochs completed, and requested. */
  epoch: number;
  epochs: number;
  totalSteps: number;
  /** Optimiser steps in this invocation; 0: there was nothing left to do. */
  newSteps: number;
  elapsedSeconds: number;
  /** Mean nats per character, dropout on, of the epoch in progress, else of the last one; absent if nothing was trained. */
  loss?: number;
  /** The last validation loss in this invocation. */
  validationLoss?: number;
  /** The device, precision and algorithm actually used. */
  device: string;
  /** Mean time of an epoch's steps, over the epochs completed in this invocation; absent if there was none. */
  secondsPerEpoch?: number;
  /** As in {@link EpochEvent}, over this invocation. */
  gpu?: GpuUsage;
  /** The best checkpoint. `epoch` counts from 1; `step` counts optimiser steps of the run. */
  best?: { epoch: number; step?: number; loss: number; bitsPerCharacter: number; path?: string };
  /** When fine-tuning: bits per character before it and at the best checkpoint, on the new text and on the kept text. */
  fineTuning?: {
    before: number;
    after?: number | undefined;
    keptBefore?: number | undefined;
    keptAfter?: number | undefined;
  };
  out?: string;
}

/**
 * The events of a training run, distinguished by `type`.
 *
 * @category Training
 */
export type TrainingEvent =
  | StartEvent
  | BaselineEvent
  | StepEvent
  | EpochEvent
  | ValidationEvent
  | CheckpointEvent
  | SampleEvent
  | EndEvent;

/** Parses a line of metrics.jsonl or of `--json` output; undefined for an incomplete line left by a killed trainer. */
export function eventOf(line: string): TrainingEvent | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return typeof event === 'object' && event !== null ? (event as TrainingEvent) : undefined;
  } catch {
    return undefined;
  }
}
