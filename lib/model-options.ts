/** Checks the arguments of a model's methods; see lib/arguments.ts. */
import {
  type Checks,
  callbackOf,
  choiceOf,
  dataOf,
  fieldsOf,
  flagOf,
  floatsOf,
  looking,
  optionsOf,
  signalOf,
  textOf,
  wholeOf,
} from './arguments';
import type { CorpusRecord } from './checkpoint/checkpoint';
import { checkNormalization, type Normalization } from './corpus/normalization';
import { deviceChecks } from './device/choose';
import { algorithms, chosenAlgorithms, weightForms } from './device/native';
import { UsageError } from './errors';
import type { CreateOptions, InspectOptions, ModelOptions, ScoreOptions } from './model';
import type { ReadableIds } from './scoring/score';
import type { WindowProtocolOptions } from './scoring/window-protocol';

const largest = 1 << 24;
const unknown = (what: string, value: unknown) => choiceOf(what, value, ['error', 'skip']);
const progress = callbackOf<(done: number, total: number) => void>;

const sharedChecks: Checks<Omit<ModelOptions, 'weights'>> = {
  ...deviceChecks,
  precision: (what, value) => choiceOf(what, value, ['fp32', 'tf32', 'bf16', 'fp16']),
  algorithm: (what, value) => choiceOf(what, value, algorithms),
  seed: (what, value) => wholeOf(what, value, 0),
};

const modelChecks: Checks<ModelOptions> = {
  ...sharedChecks,
  weights: (what, value) => choiceOf(what, value, weightForms),
};

const createChecks: Checks<CreateOptions> = {
  ...sharedChecks,
  normalization: (_, value) => checkNormalization(value as Normalization),
  target: (what, value) => choiceOf(what, value, ['every', 'last']),
  seqLength: (what, value) => wholeOf(what, value, 1, largest),
  batchSize: (what, value) => wholeOf(what, value, 1, largest),
  corpus: (what, value) => {
    const record = optionsOf<CorpusRecord>(what, value, { name: textOf, sha256: textOf });
    return { ...record, name: textOf(`${what}.name`, record.name) };
  },
  chosenAlgorithm: (what, value) => choiceOf(what, value, chosenAlgorithms),
  nccl: flagOf,
  configuration: dataOf,
  parameters: floatsOf,
};

export function readModelOptions(options: ModelOptions): ModelOptions {
  return optionsOf('options', options, modelChecks, 'LanguageModel.load');
}

export function readCreateOptions(options: CreateOptions): CreateOptions {
  return optionsOf('options', options, createChecks, 'LanguageModel.create');
}

export function readScoreOptions(options: ScoreOptions): ScoreOptions {
  return optionsOf<ScoreOptions>(
    'options',
    options,
    {
      streams: (what, value) => wholeOf(what, value, 1, 4096),
      unknown,
      signal: signalOf,
      onProgress: progress,
    },
    'score',
  );
}

type WindowOptions = WindowProtocolOptions & Pick<ScoreOptions, 'unknown'>;

export function readWindowOptions(options: WindowOptions): WindowOptions {
  return optionsOf<WindowOptions>(
    'options',
    options,
    {
      window: (what, value) => wholeOf(what, value, 1, largest),
      stride: (what, value) => wholeOf(what, value, 1),
      batch: (what, value) => wholeOf(what, value, 1, largest),
      unknown,
      signal: signalOf,
      onProgress: progress,
    },
    'scoreWindows',
  );
}

/** @param symbols How many the model has: the most rivals there can be. */
export function readInspectOptions(options: InspectOptions, symbols: number): InspectOptions {
  return optionsOf<InspectOptions>(
    'options',
    options,
    {
      rivals: (what, value) => wholeOf(what, value, 0, symbols),
      cells: flagOf,
      unknown,
      signal: signalOf,
      onProgress: progress,
    },
    'inspect',
  );
}

/** A caller's ids, with each answer checked to be as long as was asked for. */
export function readableIds(what: string, value: unknown): ReadableIds {
  const given = fieldsOf<ReadableIds>(what, value, ['length', 'read']);
  const length = wholeOf(`length of ${what}`, given.length, 0);
  const read = callbackOf<ReadableIds['read']>(`read of ${what}`, given.read);
  return {
    length,
    read(start, count) {
      const ids = read.call(value, start, count);
      const found = looking(what, () => ids.length);
      if (found === count) return ids;
      throw new UsageError(`read of ${what} gave ${String(found)} ids where ${count} were asked for.`);
    },
  };
}
