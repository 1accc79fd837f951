/** What a checkpoint holds, and how it is stored in a safetensors file (docs/checkpoint-format.md). */

import {
  type Checks,
  dataOf,
  floatsOf,
  listOf,
  looking,
  optionsOf,
  pathOf,
  recordOf,
  signalOf,
  textOf,
  wholeOf,
} from '../arguments';
import { Breather } from '../breather';
import type { CorpusPart } from '../corpus/corpus';
import { corpusName } from '../corpus/names';
import type { Normalization } from '../corpus/normalization';
import { largestVocabulary, Vocabulary } from '../corpus/vocabulary';
import { largestWeight } from '../corpus/weighted';
import {
  type ChosenAlgorithm,
  chosenAlgorithms,
  gateActivations,
  type NativeParameter,
  type Target,
  type WeightForm,
} from '../device/native';
import { takeAllQuietly } from '../endings';
import { CheckpointError, UsageError } from '../errors';
import * as z from '../zod-parts';
import { contradictionIn } from './contradictions';
import { canonicalLayout, layoutSize, type ModelShape } from './layout';
import { allocateFloats, type OutTensor, SafetensorsFile, writeSafetensors } from './safetensors';
import { parseStrictJsonInTurns } from './strict-json';
import { unusable } from './unusable';
import { isNarrowed, rowToBytes, toBf16 } from './weight-form';

export type { ModelShape } from './layout';

/**
 * Where training stands; stored in a run's last checkpoints.
 *
 * @category Checkpoints and runs
 */
export interface ResumeState {
  /** Optimiser steps done: Adam's t, and the key of the next step's dropout. */
  readonly stepCount: number;
  /** The epoch in progress, counted from 0. */
  readonly epoch: number;
  /** The next batch of that epoch. */
  readonly batchInEpoch: number;
  /** Batch size B of the carried state. */
  readonly batch: number;
  readonly seed: number;
  readonly corpusSha256: string;
  readonly corpusLength: number;
  /** If the corpus's texts have weights: its parts, and how often an epoch has each. */
  readonly corpusParts?: readonly CorpusPart[] | undefined;
  /** SHA-256 of the `keep` text, if there is one. */
  readonly keptSha256?: string | undefined;
  /** SHA-256 of the validation text, if it is not part of the corpus. */
  readonly validationSha256?: string | undefined;
  /** Number of steps that the schedule spans. */
  readonly scheduleSteps: number;
  /** What `--algorithm auto` chose on the run's GPU. */
  readonly chosenAlgorithm?: ChosenAlgorithm | undefined;
  readonly best?: Readonly<{ epoch: number; step?: number | undefined; loss: number; file: string }> | undefined;
  readonly elapsedSeconds: number;
  readonly extra: Readonly<Record<string, unknown>>;
}

/**
 * What a model was trained on, for people to read: no program uses it to find the text.
 *
 * @category Checkpoints and runs
 */
export interface CorpusRecord {
  /** Name of the text's file or files, without their folders, so that a shared model does not tell where its author keeps them. */
  readonly name: string;
  /** SHA-256 of the normalised text as UTF-8. */
  readonly sha256?: string | undefined;
}

/**
 * What a checkpoint says about its model.
 *
 * @category Checkpoints and runs
 */
export interface CheckpointMetadata {
  readonly format: 'cudnn-lstm';
  readonly formatVersion: 1;
  /** Symbols in id order. */
  readonly vocabulary: readonly string[];
  readonly normalization: Readonly<Normalization>;
  readonly model: Readonly<Omit<ModelShape, 'vocabulary'>>;
  readonly corpus?: CorpusRecord | undefined;
  /** The effective options of the run. A `corpus` in them is not saved. */
  readonly configuration: Readonly<Record<string, unknown>>;
  /** What it was trained for: 'last' (windows) is sampled by sliding a window, 'every' by carrying the state. */
  readonly target: Target;
  readonly seqLength: number;
  /** If present, the matrices are stored in 16 or 8 bits per weight and cannot be trained further; if absent, in floats. */
  readonly weights?: Exclude<WeightForm, 'fp32'> | undefined;
  /** Epochs completed. */
  readonly epoch: number;
  /** Optimiser steps completed. */
  readonly step: number;
  /** Mean nats per character over the last epoch, with dropout on. */
  readonly loss?: number | undefined;
  readonly validationLoss?: number | undefined;
  /** Version of the package that wrote it. */
  readonly version: string;
  readonly training?: ResumeState | undefined;
  /** Keys that this version does not know, with their text as in the file: not interpreted, but kept when it is saved. */
  readonly others?: Readonly<Record<string, string>> | undefined;
}

/**
 * What a checkpoint holds.
 *
 * @category Checkpoints and runs
 */
export interface Checkpoint {
  metadata: CheckpointMetadata;
  /** Canonical flat layout. */
  parameters: Float32Array;
  firstMoments?: Float32Array;
  secondMoments?: Float32Array;
  /** [L, 2, B, H]. */
  trainingState?: Float32Array;
}

/** The arrays that a checkpoint may hold. */
export type CheckpointSlot = 'parameters' | 'firstMoments' | 'secondMoments' | 'trainingState';

const trainingTensors: Readonly<Record<string, CheckpointSlot>> = {
  'training.first_moments': 'firstMoments',
  'training.second_moments': 'secondMoments',
  'training.state': 'trainingState',
};

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const extent = (largest: number) => z.number().int().min(1).max(largest);

// Loose where a newer version's key changes nothing for this one; strict where it would: for the model, and for how text is read.
const resumeSchema = z.looseObject({
  stepCount: count,
  epoch: count,
  batchInEpoch: count,
  batch: extent(1 << 24),
  seed: count,
  corpusSha256: z.string().max(128),
  corpusLength: count,
  corpusParts: z.array(z.strictObject({ length: count, weight: z.number().gt(0).max(largestWeight) })).optional(),
  keptSha256: z.string().max(128).optional(),
  validationSha256: z.string().max(128).optional(),
  scheduleSteps: count,
  chosenAlgorithm: z.enum(chosenAlgorithms).optional(),
  best: z
    .strictObject({
      epoch: count,
      step: count.optional(),
      loss: z.number(),
      // A name in the run's directory, never a path out of it.
      file: z.string().regex(/^(?!\.)[^/\\\0]{1,255}$/, 'it is no file name'),
    })
    .optional(),
  elapsedSeconds: z.number().min(0),
  extra: z.record(z.string(), z.unknown()),
});

const metadataSchema = z.strictObject({
  format: z.literal('cudnn-lstm'),
  formatVersion: z.literal(1),
  formatMinorVersion: count.optional(),
  vocabulary: z.array(z.string().max(2)).min(1).max(largestVocabulary),
  normalization: z.strictObject({
    lowercase: z.boolean(),
    form: z.enum(['nfc', 'nfkc']).optional(),
    lineBreaks: z.literal('keep').optional(),
    byteOrderMark: z.literal('keep').optional(),
    symbols: z.literal('bytes').optional(),
    unknown: z.string().max(2).optional(),
  }),
  model: z.strictObject({
    layers: extent(64),
    hidden: extent(65_536),
    input: z.enum(['scalar', 'onehot', 'embedding']),
    embedding: z.number().int().min(0).max(65_536),
    dropout: z.number().min(0).lt(1),
    gateActivation: z.enum(gateActivations).optional(),
    resetId: z.number().int().min(0).max(65_535).optional(),
  }),
  corpus: z.looseObject({ name: z.string().max(1000), sha256: z.string().max(128).optional() }).optional(),
  configuration: z.record(z.string(), z.unknown()),
  target: z.enum(['every', 'last']),
  seqLength: extent(1 << 24),
  weights: z.enum(['bf16', 'int8']).optional(),
  epoch: count,
  step: count,
  loss: z.number().optional(),
  validationLoss: z.number().optional(),
  version: z.string().max(64),
  training: resumeSchema.optional(),
});

const knownKeys = new Set(Object.keys(metadataSchema.shape));

/** Metadata values are strings. Those of these keys are stored verbatim, all others as JSON. */
const plainStrings = new Set(['format', 'version', 'target', 'weights']);

/**
 * Says what this version adds to format 1, which readers need not know. 1: `corpus`; before, `configuration` had a list of absolute
 * paths under that name.
 */
const formatMinorVersion = 1;

/** Replaces the paths that a configuration may have by a name. */
function withoutPaths(metadata: CheckpointMetadata): CheckpointMetadata {
  const { corpus: sources, ...configuration } = metadata.configuration;
  if (sources === undefined) return metadata;
  const named = Array.isArray(sources) && sources.every((source) => typeof source === 'string');
  const sha256 = metadata.training?.corpusSha256;
  const corpus = metadata.corpus ?? (named ? { name: corpusName(sources), ...(sha256 ? { sha256 } : {}) } : undefined);
  return { ...metadata, configuration, ...(corpus ? { corpus } : {}) };
}

function encodeMetadata(metadata: CheckpointMetadata): Record<string, string> {
  const { others, ...known } = withoutPaths(metadata);
  const encoded: Record<string, string> = { ...others, formatMinorVersion: JSON.stringify(formatMinorVersion) };
  for (const [key, value] of Object.entries(known)) {
    if (value === undefined) continue;
    encoded[key] = plainStrings.has(key) ? (value as string) : JSON.stringify(value);
  }
  return encoded;
}

/** What a file says about its model. */
async function decodeMetadata({ path, metadata: encoded, names }: SafetensorsFile): Promise<CheckpointMetadata> {
  const refuse = (problem: string, cause?: unknown): never => {
    throw unusable(path, problem, cause);
  };
  if (encoded.format !== 'cudnn-lstm')
    refuse('it is a safetensors file, but not one of this package (no format cudnn-lstm)');
  const raw: Record<string, unknown> = {};
  const others: [string, string][] = [];
  for (const [key, value] of Object.entries(encoded)) {
    if (!knownKeys.has(key)) {
      others.push([key, value]);
      continue;
    }
    try {
      raw[key] = plainStrings.has(key) ? value : await parseStrictJsonInTurns(value);
    } catch (error) {
      refuse(`its metadata '${key}' is not JSON (${(error as Error).message})`, error);
    }
  }
  if (raw.formatVersion !== 1)
    refuse(`it has format version ${JSON.stringify(raw.formatVersion)}; this package reads 1: update it`);
  const parsed = metadataSchema.safeParse(raw);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    refuse(`its metadata '${issue?.path.join('.')}' is wrong: ${issue?.message}`, parsed.error);
  }
  const { formatMinorVersion: _, ...known } = parsed.data as CheckpointMetadata & { formatMinorVersion?: number };
  const metadata = withoutPaths(known);
  try {
    vocabularyOf(metadata);
  } catch (error) {
    refuse((error as Error).message, error);
  }
  const contradiction = contradictionIn(
    metadata,
    Object.keys(trainingTensors).filter((name) => names.includes(name)),
  );
  if (contradiction !== undefined) refuse(contradiction);
  return others.length > 0 ? { ...metadata, others: Object.fromEntries(others) } : metadata;
}

/** The vocabulary of a model. @throws DataError if it is invalid. */
export function vocabularyOf({
  vocabulary,
  normalization,
}: Pick<CheckpointMetadata, 'vocabulary' | 'normalization'>): Vocabulary {
  return new Vocabulary(vocabulary, normalization.unknown);
}

function shapeOf(metadata: CheckpointMetadata): ModelShape {
  return { ...metadata.model, vocabulary: metadata.vocabulary.length };
}

/** A layer's only bias vector is PyTorch's bias_ih; its bias_hh is zero here. */
const recurrentBias = (name: string) => name.replace('bias_ih', 'bias_hh');

/** Name of the tensor that holds the step size of each row of an int8 matrix. It sorts before all others, so that it is read first. */
const scaleName = (name: string) => `_scale.${name}`;

/** Converts a matrix to fewer bits, row by row, with turns of the event loop in between. */
async function* narrowTensors(
  { name, shape }: NativeParameter,
  values: Float32Array,
  form: Exclude<WeightForm, 'fp32'>,
  breather: Breather,
): AsyncGenerator<OutTensor> {
  const [rows = 0, depth = 0] = shape;
  const scales = new Float32Array(rows);
  const data = form === 'bf16' ? new Uint16Array(values.length) : new Int8Array(values.length);
  for (let row = 0; row < rows; row++) {
    const [from, to] = [row * depth, (row + 1) * depth];
    if (data instanceof Int8Array) scales[row] = rowToBytes(values.subarray(from, to), data.subarray(from, to));
    else for (let i = from; i < to; i++) data[i] = toBf16(values[i] as number);
    if (breather.due()) await breather.rest();
  }
  if (form === 'int8') yield { name: scaleName(name), shape: [rows], data: scales };
  yield { name, shape, data };
}

async function* toTensors(checkpoint: Checkpoint, layout: readonly NativeParameter[]): AsyncGenerator<OutTensor> {
  const breather = new Breather();
  const { weights } = checkpoint.metadata;
  for (const parameter of layout) {
    const { name, shape, offset, size } = parameter;
    const values = checkpoint.parameters.subarray(offset, offset + size);
    if (weights && isNarrowed(parameter)) yield* narrowTensors(parameter, values, weights, breather);
    else yield { name, shape, data: values };
    if (name.includes('bias_ih')) yield { name: recurrentBias(name), shape, data: new Float32Array(size) };
  }
  const { firstMoments, secondMoments, trainingState, metadata } = checkpoint;
  if (firstMoments) yield { name: 'training.first_moments', shape: [firstMoments.length], data: firstMoments };
  if (secondMoments) yield { name: 'training.second_moments', shape: [secondMoments.length], data: secondMoments };
  if (trainingState) {
    const { layers, hidden } = metadata.model;
    const batch = trainingState.length / (layers * 2 * hidden);
    yield { name: 'training.state', shape: [layers, 2, batch, hidden], data: trainingState };
  }
}

/**
 * Writes a checkpoint atomically: `path` holds either what it held before or all of the new one.
 *
 * @param options `signal` aborts the writing, which then throws its reason.
 * @throws DiskError without space or permission; TrainingError if a value is not finite.
 * @category Checkpoints and runs
 */
export async function saveCheckpoint(
  path: string,
  checkpoint: Checkpoint,
  layout: readonly NativeParameter[],
  options: { signal?: AbortSignal | undefined } = {},
): Promise<void> {
  pathOf('path', path);
  const { signal } = optionsOf<{ signal?: AbortSignal | undefined }>('options', options, { signal: signalOf });
  const checked = checkCheckpoint(checkpoint, layout);
  await writeSafetensors(
    path,
    toTensors(checked, canonicalLayout(shapeOf(checked.metadata))),
    encodeMetadata(checked.metadata),
    signal,
  );
}

/**
 * Checks a checkpoint to be saved, and returns it as plain values that can be read back.
 *
 * @throws UsageError if it is not a valid checkpoint, or the layout is not that of its model.
 */
export function checkCheckpoint(checkpoint: Checkpoint, layout: readonly NativeParameter[]): Checkpoint {
  const { metadata: described, ...arrays } = optionsOf<Checkpoint>('checkpoint', checkpoint, {
    metadata: (_, value) => value as CheckpointMetadata,
    parameters: floatsOf,
    firstMoments: floatsOf,
    secondMoments: floatsOf,
    trainingState: floatsOf,
  });
  const tensors = Object.entries(trainingTensors).flatMap(([name, slot]) => (arrays[slot] === undefined ? [] : [name]));
  const metadata = checkMetadata(described, tensors);
  const expected = canonicalLayout(shapeOf(metadata));
  const given = listOf('layout', layout, (what, value) => optionsOf<NativeParameter>(what, value, parameterChecks));
  if (
    given.length !== expected.length ||
    given.some(({ name, size }, i) => name !== expected[i]?.name || size !== expected[i]?.size)
  )
    throw new UsageError("layout is not that of the checkpoint's model.");
  const size = layoutSize(expected);
  for (const name of ['parameters', 'firstMoments', 'secondMoments'] as const) {
    const found = arrays[name]?.length ?? (name === 'parameters' ? 0 : size);
    if (found !== size) throw new UsageError(`${name} has ${found} numbers where the model has ${size}.`);
  }
  const { layers, hidden } = metadata.model;
  const state = arrays.trainingState?.length ?? 0;
  if (state !== 0 && state !== layers * 2 * hidden * (metadata.training?.batch ?? 0))
    throw new UsageError(`trainingState has ${state} numbers, which is not the state of the batch that is trained on.`);
  return { metadata, ...arrays };
}

const parameterChecks: Checks<NativeParameter> = {
  name: textOf,
  shape: (what, value) => listOf(what, value, (item, extent) => wholeOf(item, extent, 0), 8),
  offset: (what, value) => wholeOf(what, value, 0),
  size: (what, value) => wholeOf(what, value, 0),
};

/** @throws UsageError if training cannot be resumed from this state. */
export function checkResumeState(training: ResumeState): ResumeState {
  const parsed = looking('training', () => resumeSchema.safeParse(training));
  if (parsed.success) return parsed.data as ResumeState;
  const issue = parsed.error.issues[0];
  throw new UsageError(`training '${issue?.path.join('.')}' is wrong: ${issue?.message}`, { cause: parsed.error });
}

/** Metadata as a reader would take it along with these training `tensors`. @throws UsageError for what a reader would refuse. */
function checkMetadata(metadata: CheckpointMetadata, tensors: readonly string[]): CheckpointMetadata {
  return looking('metadata', () => {
    const { others, ...known } = recordOf('metadata', metadata);
    // Undefined values are left out: they are not written.
    const parsed = metadataSchema.safeParse(
      Object.fromEntries(Object.entries(known).filter(([, value]) => value !== undefined)),
    );
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new UsageError(`metadata '${issue?.path.join('.')}' is wrong: ${issue?.message}`, { cause: parsed.error });
    }
    vocabularyOf(parsed.data as CheckpointMetadata);
    const contradiction = contradictionIn(parsed.data as CheckpointMetadata, tensors);
    if (contradiction !== undefined) throw new UsageError(`metadata contradicts itself: ${contradiction}.`);
    // Of `configuration`, which can hold anything, keep what JSON can hold.
    const { configuration, ...rest } = parsed.data as CheckpointMetadata;
    const plain = dataOf('configuration', configuration);
    const kept = others === undefined ? undefined : recordOf('others', others);
    for (const [key, value] of Object.entries(kept ?? {})) textOf(`others.${key}`, value);
    return { ...rest, configuration: plain, ...(kept ? { others: kept as Record<string, string> } : {}) };
  });
}

/** @throws CheckpointError if the weights are stored in fewer bits than a training step changes. */
export function checkTrainable(path: string, { weights }: CheckpointMetadata): void {
  if (weights === undefined) return;
  throw new CheckpointError(
    `${path} holds ${weights} weights, which cannot be trained further: take the checkpoint that it was exported from.`,
  );
}

/**
 * Reads what a checkpoint says about its model, without its weights.
 *
 * @throws CheckpointError if the file is missing, truncated, altered or foreign.
 * @category Checkpoints and runs
 */
export async function readCheckpointMetadata(path: string): Promise<CheckpointMetadata> {
  pathOf('path', path);
  const file = await SafetensorsFile.open(path);
  try {
    return await decodeMetadata(file);
  } finally {
    await file.close();
  }
}

function checkShape(file: SafetensorsFile, name: string, expected: readonly number[]): void {
  const found = file.shapeOf(name);
  if (found === undefined) throw unusable(file.path, `tensor '${name}' is missing`);
  if (found.length !== expected.length || found.some((extent, i) => extent !== expected[i])) {
    throw unusable(file.path, `tensor '${name}' is [${found}] where the model needs [${expected}]`);
  }
}

/**
 * Reads a checkpoint. All shapes are checked against the model that the metadata describes before any memory is allocated.
 *
 * @throws CheckpointError if the file is missing, truncated, damaged, altered or foreign, or a weight is not finite.
 * @category Checkpoints and runs
 */
export async function loadCheckpoint(path: string): Promise<Checkpoint> {
  pathOf('path', path);
  const file = await CheckpointFile.open(path);
  try {
    const checkpoint: Checkpoint = { metadata: file.metadata, parameters: allocateFloats(file.parameterCount, path) };
    await file.read((slot, values, offset) => {
      const whole = checkpoint[slot] ?? allocateFloats(file.sizeOf(slot), path);
      checkpoint[slot] = whole;
      whole.set(values, offset);
    });
    return checkpoint;
  } finally {
    await file.close();
  }
}

/** An open checkpoint, whose numbers are read piece by piece; the caller provides the memory for them. */
export class CheckpointFile {
  readonly #file: SafetensorsFile;
  readonly #layout: readonly NativeParameter[];
  readonly metadata: CheckpointMetadata;

  private constructor(file: SafetensorsFile, metadata: CheckpointMetadata, layout: readonly NativeParameter[]) {
    this.#file = file;
    this.#layout = layout;
    this.metadata = metadata;
  }

  /**
   * Opens a checkpoint and checks all shapes against the model that the metadata describes.
   *
   * @throws CheckpointError if the file is missing, truncated, altered or foreign.
   */
  static async open(path: string): Promise<CheckpointFile> {
    const file = await SafetensorsFile.open(path);
    try {
      const metadata = await decodeMetadata(file);
      const layout = canonicalLayout(shapeOf(metadata));
      const known = new Set(Object.keys(trainingTensors));
      for (const parameter of layout) {
        const { name, shape } = parameter;
        checkShape(file, name, shape);
        known.add(name);
        const bytes = metadata.weights === 'int8' && isNarrowed(parameter);
        if ((file.typeOf(name) === 'I8') !== bytes)
          throw unusable(path, `tensor '${name}' is ${bytes ? 'not ' : ''}of the type I8`);
        if (bytes) {
          checkShape(file, scaleName(name), shape.slice(0, 1));
          known.add(scaleName(name));
        }
        if (!name.includes('bias_ih')) continue;
        known.add(recurrentBias(name));
        if (file.shapeOf(recurrentBias(name))) checkShape(file, recurrentBias(name), shape);
      }
      const size = layoutSize(layout);
      const { layers, hidden } = metadata.model;
      for (const name of ['training.first_moments', 'training.second_moments']) {
        if (file.shapeOf(name)) checkShape(file, name, [size]);
      }
      if (file.shapeOf('training.state'))
        checkShape(file, 'training.state', [layers, 2, metadata.training?.batch ?? 0, hidden]);
      const otherBytes = file.names.find(
        (name) => file.typeOf(name) === 'I8' && !layout.some((each) => each.name === name),
      );
      if (otherBytes !== undefined) throw unusable(path, `tensor '${otherBytes}' is of the type I8`);
      const unexpected = file.names.find((name) => !known.has(name));
      if (unexpected !== undefined)
        throw unusable(path, `it holds a tensor '${unexpected}' that this format does not know`);
      return new CheckpointFile(file, metadata, layout);
    } catch (error) {
      await takeAllQuietly([() => file.close()]);
      throw error;
    }
  }

  get parameterCount(): number {
    return layoutSize(this.#layout);
  }

  /** Number of floats in an array. */
  sizeOf(slot: CheckpointSlot): number {
    if (slot !== 'trainingState') return this.parameterCount;
    const { layers, hidden } = this.metadata.model;
    return layers * 2 * (this.metadata.training?.batch ?? 0) * hidden;
  }

  /**
   * Reads the numbers: all of each array, in pieces.
   *
   * @param write Receives the values at `offset` of an array, in the canonical layout; they are valid only during the call.
   * @param parametersOnly Skip what only training needs.
   * @throws CheckpointError if a number is not finite or, after all have been given, if they are not those that were written.
   */
  async read(
    write: (slot: CheckpointSlot, values: Float32Array, offset: number) => void,
    { parametersOnly = false } = {},
  ): Promise<void> {
    const file = this.#file;
    const parameters = new Map(this.#layout.map((parameter) => [parameter.name, parameter]));
    const secondOf = new Map(this.#layout.map(({ name }) => [recurrentBias(name), name] as const));
    // bias_hh comes before bias_ih, to which it is added.
    const second = new Map<string, Float32Array>();
    // The scales of int8 matrices come before them too.
    const scales = new Map<string, Float32Array>();
    const scaled = new Map(this.#layout.map(({ name }) => [scaleName(name), name] as const));
    await file.readAll((name) => {
      const slot = trainingTensors[name];
      if (slot) return parametersOnly ? undefined : (values, index) => write(slot, values, index);
      const first = secondOf.get(name);
      if (first !== undefined && first !== name) {
        const bias = new Float32Array(parameters.get(first)?.size ?? 0);
        second.set(first, bias);
        return (values, index) => bias.set(values, index);
      }
      const of = scaled.get(name);
      if (of !== undefined) {
        const scale = new Float32Array(parameters.get(of)?.shape[0] ?? 0);
        scales.set(of, scale);
        return (values, index) => scale.set(values, index);
      }
      const { offset = 0, shape: [, depth = 1] = [] } = parameters.get(name) ?? {};
      if (file.typeOf(name) === 'I8') {
        return (values, index) =>
          write(
            'parameters',
            this.#scaled(name, values, index, depth, scales.get(name) as Float32Array),
            offset + index,
          );
      }
      return (values, index) => write('parameters', this.#sum(name, values, index, second.get(name)), offset + index);
    });
  }

  #scaled(name: string, steps: Float32Array, index: number, depth: number, scales: Float32Array): Float32Array {
    return steps.map((step, i) => {
      const row = Math.floor((index + i) / depth);
      const value = Math.fround(step * (scales[row] as number));
      if (Number.isFinite(value)) return value;
      throw unusable(
        this.#file.path,
        `tensor '${name}' has the scale ${scales[row]} in row ${row}, which is too large`,
      );
    });
  }

  #sum(name: string, values: Float32Array, index: number, second: Float32Array | undefined): Float32Array {
    if (!second) return values;
    return values.map((value, i) => {
      const sum = value + (second[index + i] as number);
      if (Math.abs(sum) <= largestFloat) return sum;
      throw unusable(
        this.#file.path,
        `tensor '${recurrentBias(name)}' adds up to ${Math.fround(sum)} at index ${index + i}`,
      );
    });
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** Reads a whole checkpoint. @throws CheckpointError as loadCheckpoint does. */
export async function verifyCheckpoint(path: string): Promise<void> {
  const file = await CheckpointFile.open(path);
  try {
    await file.read(() => {});
  } finally {
    await file.close();
  }
}

const largestFloat = (2 - 2 ** -23) * 2 ** 127;
