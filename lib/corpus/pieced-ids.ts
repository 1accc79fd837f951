/** Parts of a corpus as one sequence of ids. */
import { show } from '../arguments';
import { UsageError } from '../errors';
import type { IdArray, IdSource } from './ids';

/** Ids `start` to `start + length - 1`. */
export interface IdRange {
  readonly start: number;
  readonly length: number;
}

/** The ids of several ranges of a source, concatenated. Closing it closes nothing. */
export class PiecedIds implements IdSource {
  readonly length: number;
  readonly bytesPerId: 1 | 2;
  readonly #ids: IdSource;
  readonly #ranges: readonly IdRange[];
  /** Where each range begins in the sequence, and where the last one ends. */
  readonly #begins: readonly number[];

  constructor(ids: IdSource, ranges: readonly IdRange[]) {
    this.#ids = ids;
    this.bytesPerId = ids.bytesPerId;
    this.#ranges = ranges.filter(({ length }) => length > 0);
    const begins = [0];
    for (const { length } of this.#ranges) begins.push((begins.at(-1) as number) + length);
    this.#begins = begins;
    this.length = begins.at(-1) as number;
  }

  read(start: number, count: number): IdArray {
    if (
      !(Number.isInteger(start) && Number.isInteger(count) && start >= 0 && count >= 0 && start + count <= this.length)
    ) {
      throw new UsageError(`there are no ${show(count)} ids from ${show(start)} in a text of ${this.length}`);
    }
    let at = this.#rangeOf(start);
    const first = this.#part(at, start, count);
    if (first.length === count) return first;
    const all = this.bytesPerId === 1 ? new Uint8Array(count) : new Uint16Array(count);
    all.set(first);
    for (let done = first.length; done < count; ) {
      const part = this.#part(++at, start + done, count - done);
      all.set(part, done);
      done += part.length;
    }
    return all;
  }

  close(): void {}

  /** Up to `count` ids from `start` that lie in a range. */
  #part(range: number, start: number, count: number): IdArray {
    const { start: begin = 0, length = 0 } = this.#ranges[range] ?? {};
    const offset = start - (this.#begins[range] ?? 0);
    return this.#ids.read(begin + offset, Math.min(count, length - offset));
  }

  /** The range that holds an id: the last one that begins at or before it. */
  #rangeOf(index: number): number {
    let [low, high] = [0, this.#ranges.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#begins[middle] as number) <= index) low = middle;
      else high = middle - 1;
    }
    return Math.max(0, low);
  }
}
