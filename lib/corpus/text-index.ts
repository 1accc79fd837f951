/** What follows any run of characters in a text, exactly: a suffix array. Shapes: N ids, K symbols. */
import { Breather } from '../breather';
import { DataError } from '../errors';
import type { IdArray, IdSource } from './ids';

/** A place in the array is an int32. */
const mostIds = 2 ** 30;
const pieceIds = 1 << 20;

/**
 * A text's positions in the order of what stands there. It takes four bytes a character beside the text's one or two, and about twice
 * that while it is made.
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
   * @throws DataError if the text is longer than 2^30 characters.
   */
  static async of(ids: Pick<IdSource, 'length' | 'bytesPerId' | 'read'>, signal?: AbortSignal): Promise<TextIndex> {
    if (ids.length > mostIds) throw new DataError('a text above 2^30 characters cannot be indexed; give a part of it');
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
    return new TextIndex(all, suffixArray(all, largest + 1));
  }

  /** Characters. */
  get length(): number {
    return this.#ids.length;
  }

  /** Bytes that it takes. */
  get bytes(): number {
    return this.#ids.byteLength + this.#order.byteLength;
  }

  /** Whether the text holds `run`. */
  has(run: ArrayLike<number>): boolean {
    const [low, high] = this.#range(run);
    return low < high;
  }

  /** The symbols that come after `run` in the text, in ascending order. */
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

  /** The places of the positions that begin with `run`: from the first to before the second. */
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

/** The first place in low..high-1 of which `holds` is true, if it is for all after it too; else high. */
function firstPlace(low: number, high: number, holds: (place: number) => boolean): number {
  let [from, to] = [low, high];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (holds(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}

/**
 * Positions of `text` in the order of their suffixes, by induced sorting (Nong, Zhang & Chan 2009): the leftmost positions of
 * ascents are sorted first, by the same means, and all others follow from them in two passes. Linear in time.
 */
export function suffixArray(text: ArrayLike<number>, symbols: number): Int32Array {
  const n = text.length;
  const order = new Int32Array(n);
  if (n < 2) return order;
  const at = (i: number) => text[i] as number;
  // Whether the suffix is smaller than the one after it. The end of the text is smaller than any symbol.
  const ascends = new Uint8Array(n);
  for (let i = n - 2; i >= 0; i--) {
    ascends[i] = at(i) < at(i + 1) || (at(i) === at(i + 1) && ascends[i + 1] === 1) ? 1 : 0;
  }
  const leftmost = (i: number) => i > 0 && ascends[i] === 1 && ascends[i - 1] === 0;
  const begins = new Int32Array(symbols + 1);
  for (let i = 0; i < n; i++) begins[at(i) + 1] = (begins[at(i) + 1] as number) + 1;
  for (let symbol = 0; symbol < symbols; symbol++)
    begins[symbol + 1] = (begins[symbol + 1] as number) + (begins[symbol] as number);

  const induce = (seeds: Int32Array) => {
    order.fill(-1);
    const tails = begins.slice(1);
    for (let k = seeds.length - 1; k >= 0; k--) {
      const i = seeds[k] as number;
      tails[at(i)] = (tails[at(i)] as number) - 1;
      order[tails[at(i)] as number] = i;
    }
    const heads = begins.slice(0, symbols);
    const putHead = (i: number) => {
      order[heads[at(i)] as number] = i;
      heads[at(i)] = (heads[at(i)] as number) + 1;
    };
    putHead(n - 1);
    for (let k = 0; k < n; k++) {
      const i = order[k] as number;
      if (i > 0 && ascends[i - 1] === 0) putHead(i - 1);
    }
    const ends = begins.slice(1);
    for (let k = n - 1; k >= 0; k--) {
      const i = order[k] as number;
      if (i <= 0 || ascends[i - 1] === 0) continue;
      ends[at(i - 1)] = (ends[at(i - 1)] as number) - 1;
      order[ends[at(i - 1)] as number] = i - 1;
    }
  };

  const found: number[] = [];
  for (let i = 1; i < n; i++) if (leftmost(i)) found.push(i);
  const seeds = Int32Array.from(found);
  induce(seeds);
  if (seeds.length < 2) return order;
  // Each run between two of them gets its rank as a name; where two have the same, the names' own suffixes decide.
  const rankAt = new Int32Array(n).fill(-1);
  const sorted = order.filter(leftmost);
  const endOf = new Int32Array(n);
  seeds.forEach((i, k) => {
    endOf[i] = seeds[k + 1] ?? n;
  });
  let names = 0;
  sorted.forEach((i, k) => {
    if (k > 0 && !sameRun(text, sorted[k - 1] as number, i, endOf)) names++;
    rankAt[i] = names;
  });
  if (names + 1 === seeds.length) {
    induce(sorted);
    return order;
  }
  const reduced = seeds.map((i) => rankAt[i] as number);
  const inner = suffixArray(reduced, names + 1);
  induce(inner.map((k) => seeds[k] as number));
  return order;
}

/** Whether the runs from a and b, each to the beginning of the next one inclusive, are the same. */
function sameRun(text: ArrayLike<number>, a: number, b: number, endOf: Int32Array): boolean {
  const [endA, endB] = [endOf[a] as number, endOf[b] as number];
  // The last one reaches to the end of the text, which no other does.
  if (endA - a !== endB - b || endA === text.length || endB === text.length) return false;
  for (let k = 0; k <= endA - a; k++) if (text[a + k] !== text[b + k]) return false;
  return true;
}
