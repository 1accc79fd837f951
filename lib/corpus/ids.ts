/** A corpus as ids: one array in memory, or a file read by position, behind one interface. */
import { closeSync, openSync, readSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { show } from '../arguments';
import { CudnnLstmError, DiskError, exitCodes, UsageError } from '../errors';

/**
 * Ids in memory, in the smallest type that the vocabulary allows.
 *
 * @category Texts
 */
export type IdArray = Uint8Array | Uint16Array;

/**
 * The ids of a text, wherever they are stored.
 *
 * @category Texts
 */
export interface IdSource {
  /** Number of ids. */
  readonly length: number;
  /** 1 for up to 256 symbols, 2 above. */
  readonly bytesPerId: 1 | 2;
  /** Ids start .. start + count - 1; may be a view that is valid until the next read. */
  read(start: number, count: number): IdArray;
  close(): void;
}

/** Bytes per id for a vocabulary of this size. */
export function bytesPerId(vocabularySize: number): 1 | 2 {
  return vocabularySize <= 256 ? 1 : 2;
}

function checkRange(start: number, count: number, length: number): void {
  if (!(Number.isInteger(start) && Number.isInteger(count) && start >= 0 && count >= 0 && start + count <= length)) {
    throw new UsageError(`there are no ${show(count)} ids from ${show(start)} in a corpus of ${length}`);
  }
}

export class MemoryIds implements IdSource {
  readonly length: number;
  readonly bytesPerId: 1 | 2;
  #ids: IdArray;

  constructor(ids: IdArray) {
    this.#ids = ids;
    this.length = ids.length;
    this.bytesPerId = ids instanceof Uint8Array ? 1 : 2;
  }

  read(start: number, count: number): IdArray {
    checkRange(start, count, this.length);
    return this.#ids.subarray(start, start + count);
  }

  close(): void {}
}

const pageBytes = 1 << 16;
const pagesKept = 256; // 16 MB: each stream of a batch stays on its own page

/** Ids in a file, little-endian, read through a small LRU cache of pages. */
export class FileIds implements IdSource {
  readonly #pages = new Map<number, Uint8Array>();
  #descriptor: number | undefined;
  readonly #path: string;
  /** The file's folder is temporary and is removed with it. */
  readonly #temporary: boolean;

  constructor(
    path: string,
    readonly length: number,
    readonly bytesPerId: 1 | 2,
    temporary: boolean,
  ) {
    this.#path = path;
    this.#temporary = temporary;
    this.#descriptor = openSync(path, 'r');
    // An open file can be read without its name, so even a killed process leaves nothing behind; not so on Windows.
    if (temporary && process.platform !== 'win32') this.#removeFolder();
  }

  #removeFolder(): void {
    rmSync(dirname(this.#path), { recursive: true, force: true });
  }

  read(start: number, count: number): IdArray {
    checkRange(start, count, this.length);
    const bytes = new Uint8Array(count * this.bytesPerId);
    let from = start * this.bytesPerId;
    for (let filled = 0; filled < bytes.length; ) {
      const page = this.#page(Math.floor(from / pageBytes));
      const piece = page.subarray(from % pageBytes, (from % pageBytes) + bytes.length - filled);
      bytes.set(piece, filled);
      filled += piece.length;
      from += piece.length;
    }
    return this.bytesPerId === 1 ? bytes : new Uint16Array(bytes.buffer);
  }

  #page(index: number): Uint8Array {
    let page = this.#pages.get(index);
    if (page !== undefined) {
      this.#pages.delete(index);
    } else {
      if (this.#descriptor === undefined)
        throw new CudnnLstmError('ERR_DISPOSED', 'The corpus is closed.', exitCodes.runtime);
      page = new Uint8Array(Math.min(pageBytes, this.length * this.bytesPerId - index * pageBytes));
      const read = readSync(this.#descriptor, page, 0, page.length, index * pageBytes);
      if (read !== page.length) throw new DiskError(`${this.#path} was cut short while it was in use`);
      if (this.#pages.size >= pagesKept) this.#pages.delete(this.#pages.keys().next().value as number);
    }
    this.#pages.set(index, page);
    return page;
  }

  close(): void {
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return;
    this.#descriptor = undefined;
    this.#pages.clear();
    try {
      closeSync(descriptor);
    } finally {
      if (this.#temporary) this.#removeFolder();
    }
  }
}
