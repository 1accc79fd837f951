/** Which lines a text holds, without the text: 128 bits of each line's SHA-256, which no two lines share. */
import { createHash, hash } from 'node:crypto';
import { instanceOf, looking, signalOf, textOf } from '../arguments';
import { Breather } from '../breather';
import { UsageError } from '../errors';

/** 32-bit words of a key. */
const words = 4;
const keyBytes = 4 * words;
/** The most buckets, as a power of two: more would not fit a cache. */
const mostBits = 22;

const magic = Buffer.from('cudnn-lstm known lines 1\n'.padEnd(32, '\0'));
/** The magic, the SHA-256 of the corpus and that of the keys. */
const headerBytes = magic.length + 64;

/** Bytes of a file of so many lines. */
export const knownLinesBytes = (lines: number) => headerBytes + lines * keyBytes;

/**
 * A set of lines that takes 16 bytes a line, and says of any line whether it is among them. It holds no text: a model can be given away
 * with it.
 *
 * @category Texts
 */
export class KnownLines {
  /** Ascending, [size][words]. */
  readonly #keys: Uint32Array;
  /** Where the keys of each bucket begin, by the first bits of a key; one more for the end of the last. */
  readonly #starts: Uint32Array;
  readonly #shift: number;

  /** @param keys Ascending, none twice. */
  private constructor(keys: Uint32Array) {
    this.#keys = keys;
    const bits = bitsFor(keys.length / words);
    this.#shift = 32 - bits;
    this.#starts = new Uint32Array(2 ** bits + 1);
    for (let at = 0; at < keys.length; at += words) {
      const next = bucketOf(keys[at] as number, this.#shift) + 1;
      this.#starts[next] = (this.#starts[next] as number) + 1;
    }
    for (let b = 1; b < this.#starts.length; b++) {
      this.#starts[b] = (this.#starts[b] as number) + (this.#starts[b - 1] as number);
    }
  }

  /** The set of these lines. */
  static async of(lines: Iterable<string> | AsyncIterable<string>, signal?: AbortSignal): Promise<KnownLines> {
    let keys = new Uint32Array(1024 * words);
    let count = 0;
    const breather = new Breather();
    if (signal !== undefined) signalOf('signal', signal);
    for await (const line of eachOf(lines)) {
      if ((count + 1) * words > keys.length) {
        const larger = new Uint32Array(2 * keys.length);
        larger.set(keys);
        keys = larger;
      }
      writeKey(line, keys, words * count++);
      if (breather.due()) {
        await breather.rest();
        signal?.throwIfAborted();
      }
    }
    return new KnownLines(await ascending(keys.subarray(0, words * count), breather, signal));
  }

  /**
   * What {@link KnownLines.toBytes} gave.
   *
   * @returns What is wrong, as a text that follows the name of the file, if it is none, or of another corpus.
   */
  static fromBytes(given: Uint8Array, corpusSha256: string): KnownLines | string {
    const { buffer, byteOffset, byteLength } = instanceOf('bytes', given, Uint8Array, 'a Uint8Array');
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    textOf('corpusSha256', corpusSha256);
    const rest = bytes.length - headerBytes;
    if (rest < 0 || rest % keyBytes !== 0 || !bytes.subarray(0, magic.length).equals(magic)) {
      return 'is no list of known lines, or cut short';
    }
    if (bytes.toString('hex', magic.length, magic.length + 32) !== corpusSha256) return 'is of another corpus';
    const body = bytes.subarray(headerBytes);
    if (
      !createHash('sha256')
        .update(body)
        .digest()
        .equals(bytes.subarray(magic.length + 32, headerBytes))
    ) {
      return 'is damaged';
    }
    // A copy, which is aligned.
    const own = Uint8Array.from(body);
    Buffer.from(own.buffer).swap32();
    const keys = new Uint32Array(own.buffer);
    for (let at = words; at < keys.length; at += words) {
      if (compare(keys, at - words, keys, at) >= 0) return 'is damaged';
    }
    return new KnownLines(keys);
  }

  /** Different lines. */
  get size(): number {
    return this.#keys.length / words;
  }

  /** Whether a line is among them. */
  has(line: string): boolean {
    const key = new Uint32Array(words);
    writeKey(textOf('line', line), key, 0);
    const bucket = bucketOf(key[0] as number, this.#shift);
    // A file need not have keys that are spread evenly: all may lie in one bucket.
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

  /** @param corpusSha256 Of the text that they are from, in hexadecimal. */
  toBytes(corpusSha256: string): Buffer {
    if (!/^[\da-f]{64}$/.test(textOf('corpusSha256', corpusSha256))) {
      throw new UsageError('corpusSha256 must be a SHA-256 in hexadecimal.');
    }
    const body = Buffer.from(this.#keys.slice().buffer).swap32();
    const sums = [Buffer.from(corpusSha256, 'hex'), createHash('sha256').update(body).digest()];
    return Buffer.concat([magic, ...sums, body]);
  }
}

/** @throws UsageError if they cannot be iterated over, or are no strings. */
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

/** About one key a bucket. */
function bitsFor(count: number): number {
  return Math.min(mostBits, Math.max(1, Math.ceil(Math.log2(count + 1))));
}

/** The first bits of a key. */
function bucketOf(word: number, shift: number): number {
  return word >>> shift;
}

/** Below 0, 0 or above it, as of a sort. */
function compare(a: Uint32Array, i: number, b: Uint32Array, j: number): number {
  for (let word = 0; word < words; word++) {
    const difference = (a[i + word] as number) - (b[j + word] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The keys in ascending order, each once. Hashes are spread evenly, so that each bucket holds few of them. */
async function ascending(keys: Uint32Array, breather: Breather, signal: AbortSignal | undefined): Promise<Uint32Array> {
  const giveWay = async () => {
    await breather.rest();
    signal?.throwIfAborted();
  };
  const shift = 32 - bitsFor(keys.length / words);
  const next = new Uint32Array(2 ** (32 - shift) + 1);
  for (let at = 0; at < keys.length; at += words) {
    const bucket = bucketOf(keys[at] as number, shift) + 1;
    next[bucket] = (next[bucket] as number) + 1;
  }
  for (let b = 1; b < next.length; b++) next[b] = (next[b] as number) + (next[b - 1] as number);
  const starts = next.slice();
  const sorted = new Uint32Array(keys.length);
  for (let at = 0; at < keys.length; at += words) {
    const bucket = bucketOf(keys[at] as number, shift);
    // Into its bucket, behind those that are smaller.
    let place = (next[bucket] as number) * words;
    next[bucket] = (next[bucket] as number) + 1;
    const first = (starts[bucket] as number) * words;
    for (; place > first && compare(sorted, place - words, keys, at) > 0; place -= words) {
      sorted.copyWithin(place, place - words, place);
    }
    sorted.set(keys.subarray(at, at + words), place);
    if (breather.due()) await giveWay();
  }
  let kept = 0;
  for (let at = 0; at < sorted.length; at += words) {
    if (kept > 0 && compare(sorted, at, sorted, kept - words) === 0) continue;
    sorted.copyWithin(kept, at, at + words);
    kept += words;
    if (breather.due()) await giveWay();
  }
  return sorted.slice(0, kept);
}
