/**
 * Every training option: its type, range, unit, flag, and whether a resumed run may change it. One table serves the flags, the
 * environment (CUDNN_LSTM_<OPTION>), configuration files and the library.
 */

import { algorithms } from '../device/native';
import { grouped } from '../numbers';
import { flagOf } from '../wording';
import * as z from '../zod-parts';
import { formatDuration, parseDuration } from './duration';
import type { TrainingOptions } from './option-types';

export type { TrainingOptions } from './option-types';

/** One option. */
export interface OptionDefinition<S extends z.ZodType = z.ZodType> {
  readonly schema: S;
  /** What a value must be, as worded in errors: "a whole number from 1 to 16,384". */
  readonly expects: string;
  /** Stands for the value in the help; none for a switch. */
  readonly placeholder?: string;
  readonly help: string;
  /** For a switch that is on by default: the help of its negative form, --no-NAME, which is listed instead. */
  readonly helpOfNo?: string;
  /** Parses a value given as text, in a flag or the environment; undefined if it is invalid. */
  readonly fromText: (text: string) => unknown;
  /**
   * fixed: belongs to the model or to the order of the data, so a resumed run keeps the checkpoint's value; changeable: kept
   * unless given again; fresh: belongs to one invocation and is not taken from the checkpoint.
   */
  readonly resume: 'fixed' | 'changeable' | 'fresh';
}

type Resume = OptionDefinition['resume'];

function whole(low: number, high: number, placeholder: string, help: string, resume: Resume) {
  return {
    schema: z.number().int().min(low).max(high),
    expects: `a whole number from ${grouped(low)} to ${high === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : grouped(high)}`,
    placeholder,
    help,
    fromText: number,
    resume,
  };
}

function from(low: number, high: number, placeholder: string, help: string, resume: Resume) {
  const schema = z.number().min(low).max(high);
  return { schema, expects: `a number from ${low} to ${high}`, placeholder, help, fromText: number, resume };
}

function above(low: number, high: number, placeholder: string, help: string, resume: Resume) {
  const schema = z.number().gt(low).max(high);
  return { schema, expects: `a number above ${low} and at most ${high}`, placeholder, help, fromText: number, resume };
}

function fromBelow(low: number, high: number, placeholder: string, help: string, resume: Resume) {
  const schema = z.number().min(low).lt(high);
  return { schema, expects: `a number from ${low} to below ${high}`, placeholder, help, fromText: number, resume };
}

function choice<const C extends readonly [string, ...string[]]>(choices: C, help: string, resume: Resume) {
  const expects = choices.length === 1 ? choices[0] : `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
  // Names too long for the placeholder column are listed in the help text instead.
  const joined = choices.join('|');
  const said =
    joined.length <= 30 ? { placeholder: joined, help } : { placeholder: 'name', help: `${help}: ${expects}` };
  return { schema: z.enum(choices), expects, ...said, fromText: text, resume };
}

function toggle(help: string, resume: Resume) {
  return { schema: z.boolean(), expects: 'true or false', help, fromText: boolean, resume };
}

function toggleOff(help: string, helpOfNo: string, resume: Resume) {
  return { ...toggle(help, resume), helpOfNo };
}

function duration(help: string, resume: Resume) {
  return {
    schema: z.preprocess(
      (value) => (typeof value === 'string' ? parseDuration(value) : value),
      z.number().min(0).max(1e9),
    ),
    expects: 'a time like 90s, 15m or 1h30m (a bare number: seconds)',
    placeholder: 'TIME',
    help,
    fromText: parseDuration,
    resume,
  };
}

function interval(help: string, resume: Resume) {
  return {
    schema: z.union([z.number().int().min(1).max(1_000_000), z.custom<`${number}steps`>(isSteps)]),
    expects: 'a whole number of epochs from 1 to 1,000,000, or of steps like 500steps',
    placeholder: 'N|Nsteps',
    help,
    fromText: (text: string) => (isSteps(text) ? text : number(text)),
    resume,
  };
}

function isSteps(value: unknown): boolean {
  return typeof value === 'string' && /^[1-9]\d{0,8}steps$/.test(value);
}

/** The interval of `validationEvery` in optimiser steps, or undefined if it counts epochs. */
export function stepsOf(interval: number | `${number}steps`): number | undefined {
  return typeof interval === 'number' ? undefined : Number.parseInt(interval, 10);
}

function string(pattern: RegExp, expects: string, placeholder: string, help: string, resume: Resume) {
  return { schema: z.string().regex(pattern), expects, placeholder, help, fromText: text, resume };
}

/** The table, in the order of the help and of `--print-config`. */
export const optionDefinitions = {
  preset: choice(
    ['fast', 'best', 'proj-basic'],
    'the recipe for all options that are not given; best: planned for the text, the machine and --max-time',
    'fixed',
  ),
  epochs: whole(1, 1_000_000, 'N', 'passes over the training text', 'changeable'),
  batchSize: whole(1, 65_536, 'N', 'sequences per step', 'fixed'),
  seqLength: whole(
    1,
    65_536,
    'N',
    'characters per sequence: where back-propagation is truncated, or the window',
    'fixed',
  ),
  layers: whole(1, 64, 'N', 'LSTM layers', 'fixed'),
  hidden: whole(1, 16_384, 'N', 'units per layer', 'fixed'),
  dropout: fromBelow(0, 1, 'P', 'share of units dropped after each layer', 'fixed'),
  target: choice(
    ['every', 'last'],
    'loss at every position, with the state carried over, or after each of the shuffled windows, from zero state',
    'fixed',
  ),
  input: choice(['scalar', 'onehot', 'embedding'], 'how a character is encoded', 'fixed'),
  embeddingSize: whole(1, 16_384, 'N', 'features per character with --input embedding', 'fixed'),
  optimizer: choice(['adam', 'adamw', 'sgd', 'rmsprop'], 'the rule that updates the weights', 'fixed'),
  learningRate: above(0, 10, 'RATE', "the optimiser's step size, at its peak", 'changeable'),
  schedule: choice(
    ['constant', 'cosine', 'step', 'wsd'],
    'how the learning rate changes after the warm-up; wsd: constant, then a linear decay',
    'changeable',
  ),
  warmup: whole(0, 1_000_000_000, 'STEPS', 'steps in which the learning rate rises from zero', 'changeable'),
  finalLearningRate: from(0, 10, 'RATE', 'the rate at which --schedule cosine or wsd ends', 'changeable'),
  decayEvery: whole(1, 1_000_000, 'EPOCHS', 'how often --schedule step lowers the learning rate', 'changeable'),
  decayFactor: above(0, 1, 'F', 'what --schedule step multiplies the learning rate by', 'changeable'),
  decayShare: above(
    0,
    1,
    'F',
    'with --schedule wsd: the share of all steps, at the end, in which the rate decays',
    'changeable',
  ),
  scheduleTime: duration(
    'the schedule follows the clock, over this time, and training ends with it; 0: by steps, repeatable bit for bit',
    'changeable',
  ),
  beta1: fromBelow(0, 1, 'B', "Adam's decay of the first moment", 'changeable'),
  beta2: fromBelow(0, 1, 'B', "Adam's and RMSprop's decay of the second moment (rmsprop: 0.99)", 'changeable'),
  epsilon: above(0, 1, 'E', "Adam's epsilon, outside the root", 'changeable'),
  momentum: fromBelow(
    0,
    1,
    'M',
    'of --optimizer sgd and rmsprop: the share of the previous step that is kept (sgd: 0.9)',
    'changeable',
  ),
  weightDecay: from(
    0,
    100,
    'D',
    'decoupled: each step shrinks the weights, not the biases, by this times the learning rate; 0: none (with --optimizer adamw: 0.01)',
    'changeable',
  ),
  clip: from(0, 1e9, 'NORM', "limit on the gradient's global norm; 0: none", 'changeable'),
  validation: fromBelow(0, 0.9, 'FRACTION', 'share of the text, at its end, held out for validation; 0: none', 'fixed'),
  validationPlaces: whole(
    1,
    1000,
    'N',
    'take the validation text from this many places of the text instead of its end (default: 10 for several files, 1 for one)',
    'fixed',
  ),
  validationEvery: interval(
    'how often the validation text is scored: in epochs, or in steps like 500steps',
    'changeable',
  ),
  patience: whole(0, 1_000_000, 'N', 'stop after this many scores without a new best; 0: never', 'changeable'),
  freeze: whole(
    0,
    64,
    'N',
    'with --from: how many of the lowest layers stay unchanged, with the encoding of the input',
    'fixed',
  ),
  keepShare: from(0.001, 0.999, 'SHARE', "with --keep: that text's share of the sequences in a step", 'fixed'),
  seed: whole(
    0,
    Number.MAX_SAFE_INTEGER,
    'N',
    'decides the initial weights, dropout, the order of the data and the samples',
    'fixed',
  ),
  precision: choice(
    ['fp32', 'tf32', 'bf16', 'fp16'],
    'arithmetic on a GPU; a CPU trains in bf16 if you ask for it, and computes in fp32 otherwise',
    'changeable',
  ),
  algorithm: choice(
    algorithms,
    "cuDNN's algorithm for training on a GPU; auto: the fastest whose results are those of standard",
    'changeable',
  ),
  device: string(
    /^(auto|cpu|cuda(:\d{1,4})?)$/,
    'auto, cpu, cuda or cuda:N',
    'NAME',
    'auto, cpu, cuda or cuda:N',
    'fresh',
  ),
  threads: whole(1, 1024, 'N', 'CPU threads; the results do not depend on it', 'fresh'),
  check: toggle('compare a GPU with the CPU before its first use', 'fresh'),
  lines: toggle(
    'one text per line, such as names or log lines: each is learned by itself, with its beginning and end; on the CPU',
    'fixed',
  ),
  bytes: toggle('read the files byte by byte, whatever they are: 256 symbols, no encoding', 'fixed'),
  minCount: whole(
    1,
    1_000_000_000,
    'N',
    'fold characters that occur less often than this into one unknown symbol; 1: none',
    'fixed',
  ),
  lowercase: toggle('lower-case the text', 'fixed'),
  normalize: choice(
    ['none', 'nfc', 'nfkc'],
    'the Unicode normal form of the text and of prompts, so that é is one symbol however it is written',
    'fixed',
  ),
  encoding: string(
    /^[\w:.-]{1,40}$/,
    'the name of a text encoding',
    'NAME',
    'encoding of the corpus files',
    'changeable',
  ),
  gutenberg: choice(['auto', 'keep'], "strip Project Gutenberg's header and footer, or keep them", 'changeable'),
  maxTime: duration('stop after this long, with a checkpoint', 'fresh'),
  saveEvery: duration('save this often during an epoch, too; 0: only at the end of epochs', 'changeable'),
  sampleLength: whole(0, 1_000_000, 'N', 'length of the sample after each epoch, in characters; 0: none', 'changeable'),
  sampleTemperature: from(0, 100, 'T', 'temperature of that sample; 0: always the likeliest character', 'changeable'),
  checkpointName: string(
    // Excludes the names of last checkpoints, and any other fields or braces.
    /^(?!\.)(?!checkpoint-\d{8,}$)(?!.*\.safetensors$)(?:[\w.-]|\{(?:epoch|loss|epochs)\}){1,100}$/,
    'a file name of letters, digits, . _ - and the fields {epoch} {loss} {epochs}, without .safetensors, and not checkpoint-00000001',
    'PATTERN',
    'file name of the best checkpoint; fields {epoch} {loss} {epochs}',
    'changeable',
  ),
  lock: toggleOff(
    "let one trainer at a time into the run's directory",
    "for a file system that cannot lock the run's directory: that only one trainer uses it is then up to you",
    'fresh',
  ),
  out: string(/^[^\0]+$/, 'a directory', 'DIR', "the run's directory (default: runs/<corpus>-<date>)", 'fresh'),
} as const satisfies Record<string, OptionDefinition>;

type Definitions = typeof optionDefinitions;

/**
 * The name of an option: `batchSize` is the flag `--batch-size` and the variable CUDNN_LSTM_BATCH_SIZE.
 *
 * @category Training
 */
export type OptionName = keyof TrainingOptions;
export const optionNames = Object.keys(optionDefinitions) as OptionName[];

/** Options that may have no value: decided by the machine, or unlimited. */
const withoutDefault = ['threads', 'maxTime', 'out', 'validationPlaces'] as const;
type WithoutDefault = (typeof withoutDefault)[number];

/** The types of the table's schemas. */
type FromTable = {
  -readonly [K in Exclude<OptionName, WithoutDefault>]: z.output<Definitions[K]['schema']>;
} & { -readonly [K in WithoutDefault]?: z.output<Definitions[K]['schema']> | undefined };
type Flat<T> = { [K in keyof T]: T[K] };
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** The documented options must be those of the table, with the same types, or this does not compile. */
true satisfies Same<Flat<FromTable>, Flat<TrainingOptions>>;

/**
 * Options that make up a recipe: every preset sets all of them.
 *
 * @category Training
 */
export type RecipeOption =
  | 'epochs'
  | 'batchSize'
  | 'seqLength'
  | 'layers'
  | 'hidden'
  | 'dropout'
  | 'target'
  | 'input'
  | 'learningRate'
  | 'schedule'
  | 'warmup'
  | 'clip'
  | 'validation'
  | 'patience';

/** Values of options that neither the user nor the preset sets. */
export const defaults: Omit<TrainingOptions, WithoutDefault | RecipeOption> = {
  preset: 'fast',
  embeddingSize: 64,
  finalLearningRate: 0,
  decayEvery: 10,
  decayFactor: 0.5,
  decayShare: 0.5,
  scheduleTime: 0,
  optimizer: 'adam',
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-7,
  momentum: 0,
  weightDecay: 0,
  validationEvery: 1,
  freeze: 0,
  keepShare: 0.2,
  seed: 1,
  precision: 'tf32',
  algorithm: 'standard',
  device: 'auto',
  check: true,
  lines: false,
  bytes: false,
  minCount: 1,
  lowercase: false,
  normalize: 'none',
  encoding: 'utf-8',
  gutenberg: 'auto',
  saveEvery: 60,
  sampleLength: 200,
  sampleTemperature: 0.8,
  checkpointName: 'weights-improvement-{epoch}-{loss}',
  lock: true,
};

/** The environment variable of an option: CUDNN_LSTM_BATCH_SIZE for `batchSize`. */
export function variableOf(name: OptionName): string {
  return `CUDNN_LSTM_${flagOf(name).slice(2).replaceAll('-', '_').toUpperCase()}`;
}

/** A value as `--print-config` and errors show it. */
export function showValue(name: OptionName, value: unknown): string {
  if (value === undefined) return name === 'threads' || name === 'validationPlaces' ? 'automatic' : 'none';
  const timed = name === 'maxTime' || name === 'saveEvery' || name === 'scheduleTime';
  return timed && typeof value === 'number' ? formatDuration(value) : String(value);
}

function number(text: string): number | undefined {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  return Number.isFinite(value) ? value : undefined;
}

function boolean(text: string): boolean | undefined {
  if (/^(true|1|yes|on)$/i.test(text)) return true;
  return /^(false|0|no|off)$/i.test(text) ? false : undefined;
}

function text(value: string): string {
  return value;
}
