/** Finds exactly what follows any run of characters in a text, by a suffix array. Shapes: N ids, K symbols. */
import { Breather } from '../breather';
import { DataError } from '../errors';
import { orOutOfMemory } from '../memory';
import { grouped } from '../numbers';
import type { IdArray, IdSource } from './ids';

/** A place in the array is an int32. */
const mostIds = 2 ** 30;
const pieceIds = 1 << 18;
/** Loop steps after which the sorting can pause; a power of two. */
const stepsATurn = 1 << 13;

/**
 * A text's positions, in the order of their suffixes. It takes four bytes per character on top of the text's one or two, and about 17 in
 * total while it is built.
 *
 * @category Texts
 */
export class TextIndex {
  readonly #ids: IdArray;
  readonly #order: Int32Array;

  private constructor(ids: IdArray, order: Int32Array) {
    this.#ids = ids;
    this.#order = order;
  }

  /**
   * @throws DataError if the text is longer than 2^30 characters; OutOfMemoryError if there is no memory for its index.
   */
  static async of(ids: Pick<IdSource, 'length' | 'bytesPerId' | 'read'>, signal?: AbortSignal): Promise<TextIndex> {
    if (ids.length > mostIds) throw new DataError('a text above 2^30 characters cannot be indexed; give a part of it');
    try {
      return await TextIndex.#of(ids, signal);
    } catch (error) {
      const purpose = `for an index of ${grouped(ids.length)} characters`;
      throw orOutOfMemory(error, purpose, '; give a part of the text');
    }
  }

  static async #of(
    ids: Pick<IdSource, 'length' | 'bytesPerId' | 'read'>,
    signal: AbortSignal | undefined,
  ): Promise<TextIndex> {
    const all = ids.bytesPerId === 1 ? new Uint8Array(ids.length) : new Uint16Array(ids.length);
    const breather = new Breather();
    let largest = 0;
    for (let from = 0; from < ids.length; from += pieceIds) {
      const piece = ids.read(from, Math.min(pieceIds, ids.length - from));
      all.set(piece, from);
      for (const id of piece) if (id > largest) largest = id;
      signal?.throwIfAborted();
      if (breather.due()) await breather.rest();
    }
    const sorting = suffixArray(all, largest + 1);
    for (;;) {
      const { done, value } = sorting.next();
      if (done) return new TextIndex(all, value);
      if (!breather.due()) continue;
      await breather.rest();
      signal?.throwIfAborted();
    }
  }

  /** Length in characters. */
  get length(): number {
    return this.#ids.length;
  }

  /** Size in bytes. */
  get bytes(): number {
    return this.#ids.byteLength + this.#order.byteLength;
  }

  /** Whether the text contains `run`. */
  has(run: ArrayLike<number>): boolean {
    const [low, high] = this.#range(run);
    return low < high;
  }

  /** The symbols that follow `run` in the text, in ascending order. */
  after(run: ArrayLike<number>): number[] {
    const found: number[] = [];
    let [low, high] = this.#range(run);
    const depth = run.length;
    const symbolAt = (place: number) => this.#ids[(this.#order[place] as number) + depth];
    while (low < high) {
      const symbol = symbolAt(low);
      if (symbol === undefined) {
        low++; // The text ends with the run.
        continue;
      }
      found.push(symbol);
      low = firstPlace(low, high, (place) => (symbolAt(place) as number) > symbol);
    }
    return found;
  }

  /** The places of the suffixes that begin with `run`, as a half-open range. */
  #range(run: ArrayLike<number>): [low: number, high: number] {
    let [low, high] = [0, this.#order.length];
    for (let depth = 0; depth < run.length && low < high; depth++) {
      const wanted = run[depth] as number;
      const symbolAt = (place: number) => this.#ids[(this.#order[place] as number) + depth] ?? -1;
      const end = high;
      low = firstPlace(low, end, (place) => symbolAt(place) >= wanted);
      high = firstPlace(low, end, (place) => symbolAt(place) > wanted);
    }
    return [low, high];
  }
}

/** The first place in low..high-1 for which `holds` is true, else high. It must be true for all places after that one. */
function firstPlace(low: number, high: number, holds: (place: number) => boolean): number {
  let [from, to] = [low, high];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (holds(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}

const turns = (step: number) => step % stepsATurn === 0;

/**
 * Positions of `text` in the order of their suffixes, by induced sorting (SA-IS; Nong, Zhang & Chan 2009): the leftmost positions of
 * ascents (LMS) are sorted first, recursively, and two passes derive the order of all others. Takes linear time. Yields where it can pause.
 */
export function* suffixArray(text: ArrayLike<number>, symbols: number): Generator<void, Int32Array, void> {
  const n = text.length;
  const order = new Int32Array(n);
  if (n < 2) return order;
  // Whether the suffix is smaller than the one after it. The end of the text is smaller than any symbol.
  const ascends = new Uint8Array(n);
  // Where each symbol's suffixes begin in the order; one extra entry for the end of the last.
  const begins = new Int32Array(symbols + 1);
  let count = 0;
  for (let i = n - 1; i >= 0; i--) {
    const here = text[i] as number;
    begins[here + 1] = (begins[here + 1] as number) + 1;
    const next = i + 1 < n ? (text[i + 1] as number) : -1;
    ascends[i] = here < next || (here === next && ascends[i + 1] === 1) ? 1 : 0;
    if (i + 1 < n && ascends[i] === 0 && ascends[i + 1] === 1) count++;
    if (turns(i)) yield;
  }
  for (let symbol = 0; symbol < symbols; symbol++) {
    begins[symbol + 1] = (begins[symbol + 1] as number) + (begins[symbol] as number);
    if (turns(symbol)) yield;
  }
  const leftmost = (i: number) => i > 0 && ascends[i] === 1 && ascends[i - 1] === 0;

  const seeds = new Int32Array(count);
  for (let i = 1, k = 0; i < n; i++) {
    if (leftmost(i)) seeds[k++] = i;
    if (turns(i)) yield;
  }
  yield* induce(text, ascends, begins, seeds, order);
  if (count < 2) return order;
  // Each run between two of them is named by its rank; where two share a name, the suffixes of the sequence of names decide.
  const sorted = new Int32Array(count);
  for (let i = 0, k = 0; i < n; i++) {
    if (leftmost(order[i] as number)) sorted[k++] = order[i] as number;
    if (turns(i)) yield;
  }
  const endOf = new Int32Array(n);
  for (let k = 0; k < count; k++) {
    endOf[seeds[k] as number] = seeds[k + 1] ?? n;
    if (turns(k)) yield;
  }
  const rankAt = new Int32Array(n);
  let names = 0;
  for (let k = 0; k < count; k++) {
    const i = sorted[k] as number;
    if (k > 0 && !sameRun(text, sorted[k - 1] as number, i, endOf)) names++;
    rankAt[i] = names;
    if (turns(k)) yield;
  }
  if (names + 1 < count) {
    const reduced = new Int32Array(count);
    for (let k = 0; k < count; k++) {
      reduced[k] = rankAt[seeds[k] as number] as number;
      if (turns(k)) yield;
    }
    const inner = yield* suffixArray(reduced, names + 1);
    for (let k = 0; k < count; k++) {
      sorted[k] = seeds[inner[k] as number] as number;
      if (turns(k)) yield;
    }
  }
  yield* induce(text, ascends, begins, sorted, order);
  return order;
}

/** Derives the order of all positions from that of the leftmost ones of ascents. */
function* induce(
  text: ArrayLike<number>,
  ascends: Uint8Array,
  begins: Int32Array,
  seeds: Int32Array,
  order: Int32Array,
): Generator<void, void, void> {
  const n = text.length;
  // Touching this much memory for the first time takes longer than the rest of a step.
  for (let k = 0; k < n; k += stepsATurn) {
    order.fill(-1, k, k + stepsATurn);
    yield;
  }
  const tails = yield* copyOf(begins, 1, begins.length);
  for (let k = seeds.length - 1; k >= 0; k--) {
    const i = seeds[k] as number;
    const symbol = text[i] as number;
    const place = (tails[symbol] as number) - 1;
    tails[symbol] = place;
    order[place] = i;
    if (turns(k)) yield;
  }
  const heads = yield* copyOf(begins, 0, begins.length - 1);
  const putHead = (i: number) => {
    const symbol = text[i] as number;
    const place = heads[symbol] as number;
    heads[symbol] = place + 1;
    order[place] = i;
  };
  putHead(n - 1);
  for (let k = 0; k < n; k++) {
    const i = order[k] as number;
    if (i > 0 && ascends[i - 1] === 0) putHead(i - 1);
    if (turns(k)) yield;
  }
  const ends = yield* copyOf(begins, 1, begins.length);
  for (let k = n - 1; k >= 0; k--) {
    const i = order[k] as number;
    if (i > 0 && ascends[i - 1] === 1) {
      const symbol = text[i - 1] as number;
      const place = (ends[symbol] as number) - 1;
      ends[symbol] = place;
      order[place] = i - 1;
    }
    if (turns(k)) yield;
  }
}

function* copyOf(from: Int32Array, begin: number, end: number): Generator<void, Int32Array, void> {
  const copy = new Int32Array(end - begin);
  for (let at = begin; at < end; at += stepsATurn) {
    copy.set(from.subarray(at, Math.min(end, at + stepsATurn)), at - begin);
    yield;
  }
  return copy;
}

/** Whether the runs at a and b, each up to and including the start of the next, are the same. */
function sameRun(text: ArrayLike<number>, a: number, b: number, endOf: Int32Array): boolean {
  const [endA, endB] = [endOf[a] as number, endOf[b] as number];
  // Only the last one reaches the end of the text.
  if (endA - a !== endB - b || endA === text.length || endB === text.length) return false;
  for (let k = 0; k <= endA - a; k++) if (text[a + k] !== text[b + k]) return false;
  return true;
}
