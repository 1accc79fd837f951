/** Where the ids of a text go while it is read. */
import type { Encoder } from './encoder';
import { bytesPerId, FileIds, type IdArray, type IdSource, MemoryIds } from './ids';
import type { TemporaryFile } from './temporary';

export interface IdSink {
  /** Encodes a piece of text. */
  add(text: string): Promise<void>;
  /** Returns everything that was added; nothing can be added afterwards. */
  finish(): Promise<IdSource>;
  /** Called instead of `finish` if reading failed. */
  abandon(): Promise<void>;
  /** Number of ids added. */
  readonly length: number;
}

function makeIds(encoder: Encoder, length: number): IdArray {
  return bytesPerId(encoder.vocabulary.size) === 1 ? new Uint8Array(length) : new Uint16Array(length);
}

/** Ids in one array. */
export class MemorySink implements IdSink {
  readonly #all: IdArray;
  #length = 0;
  readonly #encoder: Encoder;

  /** @param capacity The most ids that can be added. */
  constructor(encoder: Encoder, capacity: number) {
    this.#encoder = encoder;
    this.#all = makeIds(encoder, capacity);
  }

  get length(): number {
    return this.#length;
  }

  async add(text: string): Promise<void> {
    this.#length += this.#encoder.encode(text, this.#all, this.#length);
  }

  async finish(): Promise<IdSource> {
    return new MemoryIds(this.#length === this.#all.length ? this.#all : this.#all.slice(0, this.#length));
  }

  async abandon(): Promise<void> {}
}

/** Ids in a temporary file. */
export class FileSink implements IdSink {
  #length = 0;
  readonly #encoder: Encoder;
  readonly #file: TemporaryFile;

  constructor(encoder: Encoder, file: TemporaryFile) {
    this.#encoder = encoder;
    this.#file = file;
  }

  get length(): number {
    return this.#length;
  }

  async add(text: string): Promise<void> {
    const ids = makeIds(this.#encoder, text.length);
    const count = this.#encoder.encode(text, ids, 0);
    this.#length += count;
    await this.#file.write(new Uint8Array(ids.buffer, 0, count * ids.BYTES_PER_ELEMENT));
  }

  async finish(): Promise<IdSource> {
    await this.#file.close();
    return new FileIds(this.#file.path, this.#length, bytesPerId(this.#encoder.vocabulary.size), true);
  }

  abandon(): Promise<void> {
    return this.#file.close();
  }
}
