/** Records which lines a text has, without the text: 128 bits of each line's SHA-256, which no two lines share. */
import { createHash, hash } from 'node:crypto';
import { instanceOf, looking, signalOf, textOf, wholeOf } from '../arguments';
import { Breather } from '../breather';
import { DataError, UsageError } from '../errors';
import { grouped } from '../numbers';

/** 32-bit words per key. */
const words = 4;
const keyBytes = 4 * words;
/** The most buckets, as a power of two: more would not fit in a cache. */
const mostBits = 22;
/** The most lines accepted, distinct or not: their keys take 512 MiB, and twice as much while they are sorted. */
const mostLines = 2 ** 25;
/** Words of keys copied or hashed at a time: a millisecond of work. */
const pieceWords = 2 ** 17;

const magic = Buffer.from('cudnn-lstm known lines 1\n'.padEnd(32, '\0'));
/** The magic, the SHA-256 of the corpus and that of the keys. */
const headerBytes = magic.length + 64;

/** Size in bytes of a file of this many lines. */
export const knownLinesBytes = (lines: number) => headerBytes + lines * keyBytes;

/**
 * A set of lines that takes 16 bytes per line and can tell whether any line is in it. It holds no text, so it can be given away with a
 * model.
 *
 * @category Texts
 */
export class KnownLines {
  /** Ascending, [size][words]. */
  readonly #keys: Uint32Array;
  /** Where each bucket's keys begin, indexed by a key's first bits; one extra entry for the end of the last. */
  readonly #starts: Uint32Array;
  readonly #shift: number;

  private constructor(keys: Uint32Array, { starts, shift }: Buckets) {
    this.#keys = keys;
    this.#starts = starts;
    this.#shift = shift;
  }

  /**
   * The set of these lines.
   *
   * @param most The most lines accepted, at most 2^25.
   * @throws DataError if there are more.
   */
  static async of(
    lines: Iterable<string> | AsyncIterable<string>,
    signal?: AbortSignal,
    most: number = mostLines,
  ): Promise<KnownLines> {
    if (signal !== undefined) signalOf('signal', signal);
    wholeOf('most', most, 0, mostLines);
    const pause = pauser(signal);
    const pieces: Uint32Array[] = [];
    let count = 0;
    for await (const line of eachOf(lines)) {
      if (count === most) {
        throw new DataError(
          `more than ${grouped(most)} lines to compare with, the most there may be: give fewer of them`,
        );
      }
      const at = (count++ * words) % pieceWords;
      if (at === 0) pieces.push(new Uint32Array(pieceWords));
      writeKey(line, pieces.at(-1) as Uint32Array, at);
      if (pause.due()) await pause.rest();
    }
    const keys = await ascending(pieces, count, pause);
    return new KnownLines(keys, await bucketsOf([keys], keys.length / words, pause));
  }

  /**
   * Reads what {@link KnownLines.toBytes} returned.
   *
   * @returns If it is not that, or belongs to another corpus: what is wrong, worded to follow the file's name.
   */
  static async fromBytes(given: Uint8Array, corpusSha256: string): Promise<KnownLines | string> {
    const { buffer, byteOffset, byteLength } = instanceOf('bytes', given, Uint8Array, 'a Uint8Array');
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    textOf('corpusSha256', corpusSha256);
    const rest = bytes.length - headerBytes;
    if (rest < 0 || rest % keyBytes !== 0 || !bytes.subarray(0, magic.length).equals(magic)) {
      return 'is no list of known lines, or cut short';
    }
    if (bytes.toString('hex', magic.length, magic.length + 32) !== corpusSha256) return 'is of another corpus';
    const sum = Buffer.from(bytes.subarray(magic.length + 32, headerBytes));
    const pause = pauser();
    // A copy is aligned, and nobody changes it between turns of the event loop.
    const keys = new Uint32Array(rest / 4);
    const digest = createHash('sha256');
    for (let at = 0; at < keys.length; at += pieceWords) {
      const piece = Buffer.from(keys.buffer, 4 * at, 4 * Math.min(pieceWords, keys.length - at));
      bytes.copy(piece, 0, headerBytes + 4 * at);
      digest.update(piece);
      piece.swap32();
      if (pause.due()) await pause.rest();
    }
    if (!digest.digest().equals(sum)) return 'is damaged';
    for (let at = words; at < keys.length; at += words) {
      if (compare(keys, at - words, keys, at) >= 0) return 'is damaged';
      if (pause.due()) await pause.rest();
    }
    return new KnownLines(keys, await bucketsOf([keys], keys.length / words, pause));
  }

  /** Number of distinct lines. */
  get size(): number {
    return this.#keys.length / words;
  }

  /** Whether a line is in the set. */
  has(line: string): boolean {
    const key = new Uint32Array(words);
    writeKey(textOf('line', line), key, 0);
    const bucket = bucketOf(key[0] as number, this.#shift);
    // Keys from a file need not be evenly distributed: all may lie in one bucket.
    let [from, to] = [this.#starts[bucket] as number, this.#starts[bucket + 1] as number];
    while (from < to) {
      const middle = (from + to) >>> 1;
      const order = compare(this.#keys, middle * words, key, 0);
      if (order === 0) return true;
      if (order < 0) from = middle + 1;
      else to = middle;
    }
    return false;
  }

  /** @param corpusSha256 SHA-256, in hexadecimal, of the text that the lines are from. */
  async toBytes(corpusSha256: string): Promise<Buffer> {
    if (!/^[\da-f]{64}$/.test(textOf('corpusSha256', corpusSha256))) {
      throw new UsageError('corpusSha256 must be a SHA-256 in hexadecimal.');
    }
    const pause = pauser();
    const bytes = Buffer.alloc(knownLinesBytes(this.size));
    const digest = createHash('sha256');
    for (let at = 0; at < this.#keys.length; at += pieceWords) {
      const piece = Buffer.from(this.#keys.slice(at, at + pieceWords).buffer).swap32();
      digest.update(piece);
      piece.copy(bytes, headerBytes + 4 * at);
      if (pause.due()) await pause.rest();
    }
    magic.copy(bytes);
    bytes.write(corpusSha256, magic.length, 'hex');
    digest.digest().copy(bytes, magic.length + 32);
    return bytes;
  }
}

/** A loop's pauses, each of which checks the signal. */
function pauser(signal?: AbortSignal): Pick<Breather, 'due' | 'rest'> {
  const breather = new Breather();
  const rest = async () => {
    await breather.rest();
    signal?.throwIfAborted();
  };
  return { due: () => breather.due(), rest };
}

/** @throws UsageError if they cannot be iterated over, or are not strings. */
async function* eachOf(lines: Iterable<unknown> | AsyncIterable<unknown>): AsyncGenerator<string> {
  const isAsync = looking('lines', () => typeof (lines as AsyncIterable<unknown>)[Symbol.asyncIterator] === 'function');
  if (isAsync) {
    for await (const line of lines) yield textOf('each of lines', line);
    return;
  }
  const iterator = looking('lines', () => {
    if (typeof lines === 'string') throw new UsageError('lines must be a list of strings, not a string.');
    return (lines as Iterable<unknown>)[Symbol.iterator]();
  });
  for (;;) {
    const { done, value } = looking('lines', () => {
      const { done, value } = iterator.next();
      return { done, value };
    });
    if (done) return;
    yield textOf('each of lines', value);
  }
}

function writeKey(line: string, to: Uint32Array, at: number): void {
  const digest = hash('sha256', line, 'buffer');
  for (let i = 0; i < words; i++) to[at + i] = digest.readUInt32BE(4 * i);
}

/** Bits for about one key per bucket. */
function bitsFor(count: number): number {
  return Math.min(mostBits, Math.max(1, Math.ceil(Math.log2(count + 1))));
}

/** A key's bucket: its first bits. */
function bucketOf(word: number, shift: number): number {
  return word >>> shift;
}

/** Below, at or above 0, as a sort's comparison function. */
function compare(a: Uint32Array, i: number, b: Uint32Array, j: number): number {
  for (let word = 0; word < words; word++) {
    const difference = (a[i + word] as number) - (b[j + word] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Where each bucket's keys begin, indexed by a key's first bits; one extra entry for the end of the last. */
interface Buckets {
  starts: Uint32Array;
  shift: number;
}

/** @param pieces The keys, `count` in all. Every piece but the last is {@link pieceWords} long, unless there is only one. */
async function bucketsOf(
  pieces: readonly Uint32Array[],
  count: number,
  pause: Pick<Breather, 'due' | 'rest'>,
): Promise<Buckets> {
  const shift = 32 - bitsFor(count);
  const starts = new Uint32Array(2 ** (32 - shift) + 1);
  let left = count * words;
  for (const piece of pieces) {
    const length = Math.min(left, piece.length);
    left -= length;
    for (let at = 0; at < length; at += words) {
      const next = bucketOf(piece[at] as number, shift) + 1;
      starts[next] = (starts[next] as number) + 1;
      if (pause.due()) await pause.rest();
    }
  }
  for (let b = 1; b < starts.length; b++) starts[b] = (starts[b] as number) + (starts[b - 1] as number);
  return { starts, shift };
}

/** The keys in ascending order, without duplicates. Hashes are evenly distributed, so each bucket holds few of them. */
async function ascending(
  pieces: Uint32Array[],
  count: number,
  pause: Pick<Breather, 'due' | 'rest'>,
): Promise<Uint32Array> {
  const { starts, shift } = await bucketsOf(pieces, count, pause);
  const next = starts.slice();
  const sorted = new Uint32Array(count * words);
  for (let k = 0; k < count; k++) {
    const keys = pieces[Math.floor((k * words) / pieceWords)] as Uint32Array;
    const at = (k * words) % pieceWords;
    const bucket = bucketOf(keys[at] as number, shift);
    // Insert it into its bucket, after the smaller ones.
    let place = (next[bucket] as number) * words;
    next[bucket] = (next[bucket] as number) + 1;
    const first = (starts[bucket] as number) * words;
    for (; place > first && compare(sorted, place - words, keys, at) > 0; place -= words) {
      sorted.copyWithin(place, place - words, place);
    }
    for (let word = 0; word < words; word++) sorted[place + word] = keys[at + word] as number;
    if (pause.due()) await pause.rest();
  }
  pieces.length = 0;
  let kept = 0;
  for (let at = 0; at < sorted.length; at += words) {
    if (kept > 0 && compare(sorted, at, sorted, kept - words) === 0) continue;
    if (kept < at) sorted.copyWithin(kept, at, at + words);
    kept += words;
    if (pause.due()) await pause.rest();
  }
  if (kept === sorted.length) return sorted;
  const all = new Uint32Array(kept);
  for (let at = 0; at < kept; at += pieceWords) {
    all.set(sorted.subarray(at, Math.min(kept, at + pieceWords)), at);
    if (pause.due()) await pause.rest();
  }
  return all;
}
