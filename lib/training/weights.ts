/**
 * The content of an epoch for a text whose parts have weights. A part of weight 2.5 contributes all of its training text twice and half
 * of it once more: the next half in the next epoch, and so on, so that over many epochs every character is seen equally often.
 */
import type { CorpusPart } from '../corpus/corpus';
import type { LineIndex } from '../corpus/lines';
import type { IdRange } from '../corpus/pieced-ids';
import { DataError } from '../errors';
import { grouped } from '../numbers';
import { option } from '../wording';
import { KeyedPermutation } from './keyed-random';

/** One part's training ranges, the number of whole passes over them in an epoch, and the length of the last, partial pass. */
interface WeightedPart {
  readonly ranges: readonly IdRange[];
  /** Characters in the ranges. */
  readonly length: number;
  readonly passes: number;
  readonly rest: number;
}

/** The text of each epoch; all epochs have the same number of characters. */
export class WeightedText {
  readonly length: number;
  readonly #parts: readonly WeightedPart[];

  /**
   * @param parts Consecutive parts that cover the text.
   * @param training The training ranges of the text, in order.
   * @throws DataError if all of a part is held out.
   */
  constructor(parts: readonly CorpusPart[], training: readonly IdRange[]) {
    let start = 0;
    this.#parts = parts.map(({ length: size, weight }) => {
      const ranges = common(training, { start, length: size });
      start += size;
      const length = ranges.reduce((sum, range) => sum + range.length, 0);
      if (length === 0) throw nothingOf(weight, size);
      return { ranges, length, ...passesOf(length, weight) };
    });
    this.length = this.#parts.reduce((sum, { length, passes, rest }) => sum + length * passes + rest, 0);
  }

  /** The ranges of an epoch's text, in order. */
  rangesOf(epoch: number): IdRange[] {
    return this.#parts.flatMap(({ ranges, length, passes, rest }) => [
      ...Array.from({ length: passes }, () => ranges).flat(),
      ...turn(ranges, length, rest, epoch),
    ]);
  }
}

/** Splits `weight` times `count` items into whole passes and the remaining items; at least one item in all. */
function passesOf(count: number, weight: number): { passes: number; rest: number } {
  const all = Math.max(1, Math.round(count * weight));
  return { passes: Math.floor(all / count), rest: all % count };
}

/** Where the turn of `rest` out of `count` items starts in an epoch. */
const turnOf = (count: number, rest: number, epoch: number) => (epoch * rest) % count;

/** The ranges of an epoch's partial pass: `rest` characters from where the previous epoch's ended. */
function turn(ranges: readonly IdRange[], length: number, rest: number, epoch: number): IdRange[] {
  const from = turnOf(length, rest, epoch);
  const over = Math.max(0, from + rest - length);
  return [...slice(ranges, from, rest - over), ...slice(ranges, 0, over)];
}

/** Characters `from` to `from + count - 1` of the concatenated ranges. */
function slice(ranges: readonly IdRange[], from: number, count: number): IdRange[] {
  const found: IdRange[] = [];
  let begin = 0;
  for (const { start, length } of ranges) {
    const [low, high] = [Math.max(from, begin), Math.min(from + count, begin + length)];
    if (low < high) found.push({ start: start + low - begin, length: high - low });
    begin += length;
  }
  return found;
}

/** The intersection of `ranges` with `within`. */
function common(ranges: readonly IdRange[], within: IdRange): IdRange[] {
  return ranges.flatMap(({ start, length }) => {
    const low = Math.max(start, within.start);
    const high = Math.min(start + length, within.start + within.length);
    return low < high ? [{ start: low, length: high - low }] : [];
  });
}

/** The lines of each epoch for a text of single lines. */
export class WeightedLines {
  /** Characters in an epoch, including the ends of lines; whole lines only approximate it. */
  readonly characters: number;
  readonly #parts: readonly { lines: Uint32Array; passes: number; rest: number }[];
  readonly #seed: number;

  /**
   * @param training The training lines, ascending.
   * @throws DataError if all of a part is held out.
   */
  constructor(parts: readonly CorpusPart[], lines: LineIndex, training: Uint32Array, seed: number) {
    this.#seed = seed;
    let [start, from, characters] = [0, 0, 0];
    this.#parts = parts.map(({ length, weight }) => {
      const begin = from;
      let own = 0;
      for (start += length; from < training.length && lines.startOf(training[from] as number) < start; from++)
        own += lines.lengthOf(training[from] as number) + 1;
      if (from === begin) throw nothingOf(weight, length);
      characters += Math.round(own * weight);
      return { lines: training.subarray(begin, from), ...passesOf(from - begin, weight) };
    });
    this.characters = characters;
  }

  /** The lines of an epoch, with repetitions, in no particular order. */
  linesOf(epoch: number): Uint32Array {
    const all = new Uint32Array(
      this.#parts.reduce((sum, { lines, passes, rest }) => sum + lines.length * passes + rest, 0),
    );
    let at = 0;
    for (const [part, { lines, passes, rest }] of this.#parts.entries()) {
      for (let pass = 0; pass < passes; pass++, at += lines.length) all.set(lines, at);
      // Lists are often sorted, so the lines of a turn come from all over the part.
      const order = new KeyedPermutation(lines.length, 'turns of lines', this.#seed, part);
      const from = turnOf(lines.length, rest, epoch);
      for (let i = 0; i < rest; i++) all[at++] = lines[order.at((from + i) % lines.length)] as number;
    }
    return all;
  }
}

/** The error for a part with nothing left to train on. */
function nothingOf(weight: number, characters: number): DataError {
  return new DataError(
    `Of the ${grouped(characters)} characters of weight ${weight}, all are held out to validate on, so that an epoch has none ` +
      `of them; choose a lower ${option('validation')}, 0 for none.`,
  );
}
