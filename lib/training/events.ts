/** What a trainer tells while it trains. With `--json` each is one line on stdout; metrics.jsonl holds all but most of the steps. */
import type { GpuUsage } from '../device/native';

/**
 * Before the first step.
 *
 * @category Training
 */
export interface StartEvent {
  type: 'start';
  /** When, ISO 8601. */
  time: string;
  version: string;
  /** Trainable numbers. */
  parameters: number;
  /** What computes, and why that was chosen. */
  device: string;
  deviceReason: string;
  corpus: { sources: readonly string[]; characters: number; symbols: number; sha256: string; notes: readonly string[] };
  /** Of a model of bytes: what is called a character in all figures is a byte. */
  unit?: 'byte';
  trainingCharacters: number;
  validationCharacters: number;
  /** From how many places of the text these are, if not from its end. */
  validationPlaces?: number;
  /** The text that they are, where it is no part of the corpus. */
  validation?: { sources: readonly string[]; characters: number; notes: readonly string[] };
  epochs: number;
  stepsPerEpoch: number;
  /** Lines for the user, such as a damaged checkpoint that was passed over. */
  notes: readonly string[];
  /** The run's directory, if it has one. */
  out?: string;
  /** Of a fine-tuning: the model that it began with, what the text has that it did not know, and how many parameters do not change. */
  from?: { checkpoint: string; newSymbols: readonly string[]; frozenParameters: number };
  /** Of a fine-tuning that keeps another text: how much of it, and of how many sequences of a step. */
  kept?: {
    sources: readonly string[];
    characters: number;
    sequences: number;
    validationCharacters: number;
    notes: readonly string[];
  };
  /** Where a resumed run stands. */
  resumed?: { epoch: number; step: number; checkpoint: string };
}

/**
 * What the model that a fine-tuning begins with knows of the texts, before the first step.
 *
 * @category Training
 */
export interface BaselineEvent {
  type: 'baseline';
  /** Nats a character of the new text's validation tail. */
  validationLoss: number;
  validationBitsPerCharacter: number;
  /** And of the tail of the text that is kept. */
  keptLoss?: number;
  keptBitsPerCharacter?: number;
}

/**
 * After each call to the device, which is one step or several.
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
  /** Mean nats a character over the steps of this call, dropout on. */
  loss: number;
  /** Mean over this epoch so far. */
  epochLoss: number;
  /** Global norm of the last step's gradient, before clipping. */
  gradientNorm: number;
  learningRate: number;
  /** Smoothed, without validation and sampling. */
  charactersPerSecond: number;
  etaSeconds: number;
}

/**
 * After each epoch.
 *
 * @category Training
 */
export interface EpochEvent {
  type: 'epoch';
  /** The epoch that has ended, from 1. */
  epoch: number;
  epochs: number;
  totalSteps: number;
  /** The epoch's mean, nats a character, dropout on. */
  loss: number;
  bitsPerCharacter: number;
  /** Nats a character of the text's tail, dropout off; absent where there is none or this epoch was not scored. */
  validationLoss?: number;
  validationBitsPerCharacter?: number;
  /** Nats a character of the tail of the text that is kept. */
  keptLoss?: number;
  /** Mean and largest global norm of the gradient, before clipping. */
  gradientNorm: number;
  largestGradientNorm: number;
  /** The rate of the epoch's last step. */
  learningRate: number;
  charactersPerSecond: number;
  /** Time that the epoch's steps took, without validation and sampling. */
  seconds: number;
  /** Time since the run began, earlier invocations included. */
  elapsedSeconds: number;
  etaSeconds: number;
  /** Whether this is the best epoch so far. */
  best: boolean;
  /** On a GPU whose driver tells: mean percentages and the largest memory over this epoch. */
  gpu?: GpuUsage;
}

/**
 * The validation text was scored in mid-epoch.
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
  /** Mean nats a character over this epoch so far, dropout on. */
  loss: number;
  /** Nats a character of the validation text, dropout off. */
  validationLoss: number;
  validationBitsPerCharacter: number;
  /** Time since the run began, earlier invocations included. */
  elapsedSeconds: number;
  /** Whether this is the best score so far. */
  best: boolean;
}

/**
 * A checkpoint was written, and is safely on the disk.
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
 * A text that the model wrote.
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
 * Why a training ended. `schedule-time`: the schedule was one by time, which is over; `max-time` ends an invocation, whatever the schedule.
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
  /** Epochs completed, and asked for. */
  epoch: number;
  epochs: number;
  totalSteps: number;
  /** Optimiser steps of this invocation; 0: there was nothing left to do. */
  newSteps: number;
  elapsedSeconds: number;
  /** Mean nats a character, dropout on, of the epoch in progress, else of the last one; absent where nothing was trained. */
  loss?: number;
  /** Of the validation text when it was last scored in this invocation. */
  validationLoss?: number;
  /** What computed: device, precision and algorithm, as they turned out. */
  device: string;
  /** Mean seconds of the steps of an epoch, over the epochs completed in this invocation; absent if there was none. */
  secondsPerEpoch?: number;
  /** As an epoch's, over this invocation. */
  gpu?: GpuUsage;
  /** `epoch` counts from 1; `step` counts optimiser steps of the run. */
  best?: { epoch: number; step?: number; loss: number; bitsPerCharacter: number; path?: string };
  /** Of a fine-tuning: bits a character of the new text before it and by the best checkpoint, and of the text that is kept. */
  fineTuning?: {
    before: number;
    after?: number | undefined;
    keptBefore?: number | undefined;
    keptAfter?: number | undefined;
  };
  out?: string;
}

/**
 * What a training tells while it is iterated over, told apart by `type`.
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

/** The event of a line of metrics.jsonl, or of what `--json` prints; undefined for what a killed trainer left of one. */
export function eventOf(line: string): TrainingEvent | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return typeof event === 'object' && event !== null ? (event as TrainingEvent) : undefined;
  } catch {
    return undefined;
  }
}
