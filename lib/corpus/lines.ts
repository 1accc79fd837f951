/** An index of the lines of a corpus, for models that treat each line separately. */
import { Breather } from '../breather';
import type { IdArray, IdSource } from './ids';

/** Ids searched at a time. */
const pieceIds = 1 << 16;
/** Lines stored per array during the search. */
const pieceLines = 1 << 16;

/**
 * The non-empty lines of a corpus, at 12 bytes each.
 *
 * @category Texts
 */
export class LineIndex {
  /** Id of the symbol that ends a line and, by preceding it, begins one. */
  readonly breakId: number;
  /** Number of empty lines left out. */
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

  /** Searches all ids; what follows the last line break is also a line. */
  static async find(ids: IdSource, breakId: number): Promise<LineIndex> {
    const breather = new Breather();
    // Several arrays of pieceLines, since a single growing one would be copied in one go.
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

  /** Index of the id at which a line begins. */
  startOf(line: number): number {
    return this.#starts[line] as number;
  }

  /** Number of ids in a line, without its line break. */
  lengthOf(line: number): number {
    return this.#lengths[line] as number;
  }

  /** Ids of a line, without its line break, from `from` on; valid until the next read. */
  read(line: number, from = 0, count: number = this.lengthOf(line) - from): IdArray {
    return this.#ids.read(this.startOf(line) + from, count);
  }
}
