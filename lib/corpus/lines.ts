/** Where the lines of a corpus lie, for models that know each line by itself. */
import { Breather } from '../breather';
import type { IdArray, IdSource } from './ids';

/** Ids that are looked through at once. */
const pieceIds = 1 << 16;
/** Lines that are kept together while they are found. */
const pieceLines = 1 << 16;

/**
 * The lines of a corpus that are not empty: 12 bytes each.
 *
 * @category Texts
 */
export class LineIndex {
  /** Of the symbol that ends a line and, as what comes before it, begins one. */
  readonly breakId: number;
  /** Empty lines that were left out. */
  readonly emptyLines: number;
  readonly #starts: Float64Array;
  readonly #lengths: Uint32Array;
  readonly #ids: IdSource;

  private constructor(ids: IdSource, breakId: number, starts: Float64Array, lengths: Uint32Array, emptyLines: number) {
    this.#ids = ids;
    this.breakId = breakId;
    this.#starts = starts;
    this.#lengths = lengths;
    this.emptyLines = emptyLines;
  }

  /** Looks through all ids; what follows the last line break is a line too. */
  static async find(ids: IdSource, breakId: number): Promise<LineIndex> {
    const breather = new Breather();
    // In pieces of so many lines, since one array that grows would be copied at once.
    const starts: Float64Array[] = [];
    const lengths: Uint32Array[] = [];
    let [count, empty, begin] = [0, 0, 0];
    const add = (end: number) => {
      if (end === begin) {
        empty++;
      } else {
        const at = count++ % pieceLines;
        if (at === 0) {
          starts.push(new Float64Array(pieceLines));
          lengths.push(new Uint32Array(pieceLines));
        }
        (starts.at(-1) as Float64Array)[at] = begin;
        (lengths.at(-1) as Uint32Array)[at] = end - begin;
      }
      begin = end + 1;
    };
    for (let from = 0; from < ids.length; from += pieceIds) {
      const piece = ids.read(from, Math.min(pieceIds, ids.length - from));
      for (let at = piece.indexOf(breakId); at >= 0; at = piece.indexOf(breakId, at + 1)) add(from + at);
      if (breather.due()) await breather.rest();
    }
    if (begin < ids.length) add(ids.length);
    const allStarts = new Float64Array(count);
    const allLengths = new Uint32Array(count);
    for (let i = 0; i < starts.length; i++) {
      const at = i * pieceLines;
      allStarts.set((starts[i] as Float64Array).subarray(0, count - at), at);
      allLengths.set((lengths[i] as Uint32Array).subarray(0, count - at), at);
      if (breather.due()) await breather.rest();
    }
    return new LineIndex(ids, breakId, allStarts, allLengths, empty);
  }

  get count(): number {
    return this.#starts.length;
  }

  /** Where a line begins among the ids. */
  startOf(line: number): number {
    return this.#starts[line] as number;
  }

  /** Ids of a line, its end not among them. */
  lengthOf(line: number): number {
    return this.#lengths[line] as number;
  }

  /** Ids of a line, without its end, from `from` on; good until the next read. */
  read(line: number, from = 0, count: number = this.lengthOf(line) - from): IdArray {
    return this.#ids.read(this.startOf(line) + from, count);
  }
}
