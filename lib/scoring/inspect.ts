/**
 * A text as a model sees it, character by character: how surprised it was, what it would rather have read, and what its cells did.
 *
 * Shapes: N ids of the text, V vocabulary, R rivals, L layers, H hidden.
 */
import { Breather } from '../breather';
import { type QueuedModel, stoppedError } from '../device/queue';
import { orOutOfMemory } from '../memory';
import { grouped } from '../numbers';
import type { ReadableIds } from './score';

/**
 * What to inspect besides the surprise.
 *
 * @category Scoring
 */
export interface InspectionOptions {
  /**
   * Number of likeliest characters to name at each place, 0 to the vocabulary's size.
   *
   * @default 5
   */
  rivals?: number | undefined;
  /**
   * Also return the cells' values, which takes one call to the device per character.
   *
   * @default false
   */
  cells?: boolean | undefined;
  /** Ends the call, which throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Called after every call to the device with the number of characters done and the total. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/**
 * A character that the model thought likely.
 *
 * @category Scoring
 */
export interface Rival {
  character: string;
  /** 0..1 */
  probability: number;
}

/** Index i holds what was predicted for id i from all ids before it. */
export interface InspectedIds {
  /** [N], the negative natural logarithm of each id's probability; NaN for the first, which has nothing before it. */
  nats: Float64Array;
  /** [N, R], the likeliest ids, in descending order; -1 for the first. */
  rivals: Int32Array;
  /** [N, R], natural logarithms of their probabilities. */
  rivalLogProbabilities: Float32Array;
  /** [N, L, H], if asked for: tanh of each cell's value after the id was read, -1..1. */
  cells?: Float32Array;
}

type Inspected = Pick<QueuedModel, 'logits' | 'sample'>;

/** Ids and logits per call: how long an abort waits, and how much memory a call takes. */
const idsPerCall = 256;
const logitsPerCall = 1 << 20;

/** Consecutive ids of a text; N of {@link InspectedIds} is their number. */
export interface InspectedPiece extends InspectedIds {
  /** Index of the first of them in the text. */
  from: number;
  ids: Int32Array;
}

interface Shape {
  vocabulary: number;
  layers: number;
  hidden: number;
}

/** Runs `ids` from zero state, dropout off. */
export async function inspectIds(
  native: Inspected,
  shape: Shape,
  ids: Int32Array,
  options: InspectionOptions = {},
): Promise<InspectedIds> {
  const total = ids.length;
  const rivals = rivalsOf(shape, options);
  const each = shape.layers * shape.hidden;
  let result: InspectedIds;
  try {
    result = emptyResult(total, rivals);
    if (options.cells) result.cells = new Float32Array(total * each);
  } catch (error) {
    const purpose = `for what is said of ${grouped(total)} characters`;
    throw orOutOfMemory(error, purpose, '; give a part of the text');
  }
  const text = { length: total, read: (start: number, count: number) => ids.subarray(start, start + count) };
  for await (const piece of inspectPieces(native, shape, text, options)) {
    result.nats.set(piece.nats, piece.from);
    result.rivals.set(piece.rivals, piece.from * rivals);
    result.rivalLogProbabilities.set(piece.rivalLogProbabilities, piece.from * rivals);
    if (piece.cells) result.cells?.set(piece.cells, piece.from * each);
  }
  return result;
}

/** The same one piece at a time, so that neither the text nor the result need be in memory. */
export async function* inspectPieces(
  native: Inspected,
  shape: Shape,
  ids: ReadableIds,
  options: InspectionOptions = {},
): AsyncGenerator<InspectedPiece, void, undefined> {
  const { vocabulary, layers, hidden } = shape;
  const rivals = rivalsOf(shape, options);
  const total = ids.length;
  const breather = new Breather();
  const perCall = Math.max(1, Math.min(idsPerCall, Math.floor(logitsPerCall / vocabulary)));
  let state: Float32Array | undefined;
  /** What the previous piece's last id predicted for the first id of this one. */
  let said: Float32Array | undefined;
  for (let from = 0; from < total; from += perCall) {
    const piece = Int32Array.from(ids.read(from, Math.min(perCall, total - from)));
    options.signal?.throwIfAborted();
    const logits = await native.logits({ ids: piece, streams: 1, ...(state ? { state } : {}) }, options.signal);
    if (logits.length < piece.length * vocabulary) throw stoppedError('inspection');
    const result: InspectedPiece = { ...emptyResult(piece.length, rivals), from, ids: piece };
    const row = (step: number) => logits.subarray(step * vocabulary, (step + 1) * vocabulary);
    for (let at = 0; at < piece.length; at++) {
      const before: Float32Array | undefined = at === 0 ? said : row(at - 1);
      if (before) describe(before, piece[at] as number, at, rivals, result);
      if (breather.due()) await breather.rest();
    }
    said = row(piece.length - 1).slice();
    // The state after the piece, or after each id of it.
    const cells = options.cells ? new Float32Array(piece.length * layers * hidden) : undefined;
    const each = cells ? 1 : piece.length;
    for (let step = 0; step < piece.length && (cells || from + perCall < total); step += each) {
      options.signal?.throwIfAborted();
      const fed = await native.sample(
        {
          ids: piece.slice(step, step + each),
          streams: 1,
          count: 1,
          sampling: { greedy: true },
          ...(state ? { state } : {}),
        },
        options.signal,
      );
      if (fed.ids.length < 1) throw stoppedError('inspection');
      state = fed.state;
      if (cells) copyCells(fed.state, cells, step * layers * hidden, layers, hidden);
    }
    if (cells) result.cells = cells;
    options.onProgress?.(Math.min(from + perCall, total), total);
    yield result;
  }
}

function rivalsOf({ vocabulary }: Shape, options: InspectionOptions): number {
  return Math.min(options.rivals ?? 5, vocabulary);
}

function emptyResult(length: number, rivals: number): InspectedIds {
  return {
    nats: new Float64Array(length).fill(Number.NaN),
    rivals: new Int32Array(length * rivals).fill(-1),
    rivalLogProbabilities: new Float32Array(length * rivals).fill(Number.NaN),
  };
}

/** Writes what logits [V] predicted for `id` into `result`. */
function describe(logits: Float32Array, id: number, at: number, rivals: number, result: InspectedIds): void {
  let largest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > largest) largest = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  const logSum = largest + Math.log(sum);
  result.nats[at] = logSum - (logits[id] as number);
  if (rivals === 0) return;
  for (const [rank, rival] of likeliest(logits, rivals).entries()) {
    result.rivals[at * rivals + rank] = rival;
    result.rivalLogProbabilities[at * rivals + rank] = (logits[rival] as number) - logSum;
  }
}

/** Ids of the `count` largest, in descending order; among equals the lower id first. */
export function likeliest(logits: Float32Array, count: number): number[] {
  if (count > 32)
    return [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b).slice(0, count);
  const best: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    const value = logits[id] as number;
    if (best.length === count && value <= (logits[best[count - 1] as number] as number)) continue;
    let place = best.length;
    while (place > 0 && value > (logits[best[place - 1] as number] as number)) place--;
    best.splice(place, 0, id);
    if (best.length > count) best.pop();
  }
  return best;
}

/** The cell state of a state [L, 2, 1, H]: the second half of each layer. */
function copyCells(state: Float32Array, to: Float32Array, at: number, layers: number, hidden: number): void {
  for (let layer = 0; layer < layers; layer++) {
    for (let unit = 0; unit < hidden; unit++) {
      to[at + layer * hidden + unit] = Math.tanh(state[(2 * layer + 1) * hidden + unit] as number);
    }
  }
}
