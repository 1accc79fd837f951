/**
 * Fine-tuning: training an existing model on another text, with a new optimiser and schedule. The model's vocabulary grows by the
 * symbols that only the new text has.
 *
 * Shapes: V vocabulary, H hidden, E embedding size.
 */
import {
  CheckpointFile,
  type CheckpointMetadata,
  checkTrainable,
  type ModelShape,
  vocabularyOf,
} from '../checkpoint/checkpoint';
import { canonicalLayout, layoutSize } from '../checkpoint/layout';
import { resolveCheckpoint } from '../checkpoint/run-directory';
import { allocateFloats } from '../checkpoint/safetensors';
import { nameCharacters, type Vocabulary } from '../corpus/vocabulary';
import type { NativeParameter } from '../device/native';
import { DataError, UsageError } from '../errors';
import { option } from '../wording';
import type { OptionName, TrainingOptions } from './options';

/** The model that a run starts from. */
export interface Base {
  readonly path: string;
  readonly metadata: CheckpointMetadata;
  readonly vocabulary: Vocabulary;
  /** The weights, in canonical layout. */
  readonly parameters: Float32Array;
}

/**
 * Reads a checkpoint's model; a run's directory means its best checkpoint, or the last if there is no best one.
 *
 * @throws CheckpointError if it is missing, truncated, altered or not one of this package's.
 */
export async function openBase(pathOrDirectory: string): Promise<Base> {
  const path = await resolveCheckpoint(pathOrDirectory);
  const file = await CheckpointFile.open(path);
  try {
    const { metadata } = file;
    checkTrainable(path, metadata);
    const parameters = allocateFloats(file.parameterCount, path);
    await file.read((_, values, offset) => parameters.set(values, offset), { parametersOnly: true });
    return { path, metadata, vocabulary: vocabularyOf(metadata), parameters };
  } finally {
    await file.close();
  }
}

/** Options fixed by the model: its weights fit no other value. */
const fixedByModel: readonly OptionName[] = [
  'layers',
  'hidden',
  'input',
  'embeddingSize',
  'lines',
  'bytes',
  'lowercase',
  'normalize',
];

/** The options that a model was trained with: those it fixes, and defaults for the others. */
export function optionsOfBase({ model, normalization, target, seqLength }: CheckpointMetadata): {
  values: Partial<TrainingOptions>;
  fixed: readonly OptionName[];
} {
  const { layers, hidden, input, embedding, dropout, resetId } = model;
  const embedded = input === 'embedding';
  return {
    values: {
      layers,
      hidden,
      input,
      ...(embedded ? { embeddingSize: embedding } : {}),
      dropout,
      target,
      seqLength,
      lines: resetId !== undefined,
      bytes: normalization.symbols === 'bytes',
      lowercase: normalization.lowercase,
      normalize: normalization.form ?? 'none',
    },
    fixed: embedded ? fixedByModel : fixedByModel.filter((name) => name !== 'embeddingSize'),
  };
}

/**
 * Extends a model's parameters to a vocabulary of `size` symbols, the model's own first. The old symbols keep their parameters, and so
 * their logits. A new symbol gets the mean of the old ones' input vectors, and the mean of their output rows and biases: its logit is
 * the mean of theirs, so it is never likelier than the average old symbol (Hewitt 2021).
 *
 * @throws DataError for scalar input, a symbol's number divided by the vocabulary size, which would change for every symbol.
 */
export function growParameters(shape: ModelShape, parameters: Float32Array, size: number): Float32Array {
  const old = shape.vocabulary;
  if (size === old) return parameters;
  if (shape.input === 'scalar') throw new DataError('a model with scalar input cannot learn new symbols');
  const from = canonicalLayout(shape);
  const to = canonicalLayout({ ...shape, vocabulary: size });
  const grown = new Float32Array(layoutSize(to));
  for (const [i, { name, offset, size: count }] of from.entries()) {
    const values = parameters.subarray(offset, offset + count);
    const place = grown.subarray(to[i]?.offset, (to[i]?.offset ?? 0) + (to[i]?.size ?? 0));
    if (name === 'lstm.weight_ih_l0' && shape.input === 'onehot') growRows(values, old, place, size);
    else if (place.length === count) place.set(values);
    else appendMeans(values, count / old, place);
  }
  return grown;
}

/** Copies each row of [rows, `old`] into [rows, `size`], padded with the row's mean. */
function growRows(values: Float32Array, old: number, place: Float32Array, size: number): void {
  for (let row = 0; row * old < values.length; row++) {
    const from = values.subarray(row * old, (row + 1) * old);
    let sum = 0;
    for (const value of from) sum += value;
    place.set(from, row * size);
    place.fill(sum / old, row * size + old, (row + 1) * size);
  }
}

/** Copies rows of `width` to `place` and fills the rest of it with their mean row. */
function appendMeans(values: Float32Array, width: number, place: Float32Array): void {
  place.set(values);
  const rows = values.length / width;
  for (let column = 0; column < width; column++) {
    let sum = 0;
    for (let row = 0; row < rows; row++) sum += values[row * width + column] as number;
    for (let at = values.length + column; at < place.length; at += width) place[at] = sum / rows;
  }
}

/** The error for a text with characters unknown to a model with scalar input. `from`: where the model was named. */
export function scalarCannotGrow(path: string, added: readonly string[], from: string): DataError {
  return new DataError(
    `The text has ${nameCharacters(added)}, which ${path} does not know; a model with scalar input cannot learn new symbols: ` +
      `take them out of the text, or begin a new model without ${from}.`,
  );
}

/** @throws UsageError if the model has fewer layers than are to be frozen. `place`: where that was requested. */
export function checkFrozen({ freeze, layers }: Pick<TrainingOptions, 'freeze' | 'layers'>, place: string): void {
  if (freeze <= layers) return;
  throw new UsageError(
    `${place}: the model has ${layers === 1 ? '1 layer' : `${layers} layers`}, so ${freeze} cannot be frozen; give at most ${layers}.`,
  );
}

/** How many of a model's parameters, from the first, belong to the input encoding and the lowest `layers` layers. */
export function frozenParameters(parameters: readonly NativeParameter[], layers: number): number {
  if (layers === 0) return 0;
  const found = parameters.filter(({ name }) => name.startsWith('lstm.bias_ih_l'));
  const last = found[layers - 1];
  if (last === undefined) throw new UsageError(`${option({ freeze: layers })}: the model has ${found.length} layers.`);
  return last.offset + last.size;
}
