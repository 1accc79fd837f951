/**
 * A character model found in a file of another program: its weights converted to this package's layout, and what the file says about how
 * text is read.
 *
 * Shapes: V vocabulary, H hidden, E embedding size, in = features into a layer.
 */
import type { GateActivation, InputCoding, Target } from '../device/native';
import { Refusal } from './bounds';

/** One layer, gates i, f, g, o stacked. */
export interface ForeignLayer {
  /** [4H, in] */
  inputWeights: Float32Array;
  /** [4H, H] */
  recurrentWeights: Float32Array;
  /** [4H]; if the other program has two, their sum. */
  bias: Float32Array;
}

/** What a reader of lib/import makes of a file. */
export interface ForeignModel {
  /** What the file is, in words: `a PyTorch state dict`. */
  kind: string;
  vocabulary: number;
  hidden: number;
  input: InputCoding;
  /** E, 0 unless `input` is 'embedding'. */
  embedding: number;
  /** [V, E], with an embedding. */
  embeddingWeights?: Float32Array | undefined;
  layers: ForeignLayer[];
  /** [V, H] and [V] */
  outputWeights: Float32Array;
  outputBias: Float32Array;
  /** The gates' possible activation functions: one if the file says it, several if scoring must decide. */
  gateActivations: readonly GateActivation[];
  dropout: number;
  /** If the file says so. */
  target?: Target | undefined;
  seqLength?: number | undefined;
  /** Vocabularies in the file, likeliest first; entry i is the symbol of id i, which need not be one character. */
  vocabularies: { where: string; symbols: string[] }[];
  /** Lines for the user. */
  notes: string[];
}

/** Rows x columns to columns x rows. */
export function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c] as number;
  }
  return out;
}

/** a + b, element by element. */
export function sum(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + (b[i] as number));
}

/**
 * Reorders the equal blocks of rows that `data` consists of, as many as `order` is long: block k of the result is block `order[k]`.
 */
export function reorderBlocks(data: Float32Array, order: readonly number[]): Float32Array {
  const size = data.length / order.length;
  const out = new Float32Array(data.length);
  for (const [to, from] of order.entries()) out.set(data.subarray(from * size, (from + 1) * size), to * size);
  return out;
}

/** The refusal of something that cannot be represented, named by `what`. */
export function unsupported(what: string): Refusal {
  return new Refusal(
    `it has ${what}, which this package's models (LSTM layers of one size, one after another, and one linear layer on top) cannot ` +
      'represent; cudnn-lstm train learns a model anew from the same text',
  );
}
