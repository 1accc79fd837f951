/** Files in the system's temporary folder while a corpus is open. */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiskError } from '../errors';
import { readBytes } from './decode';
import type { Source } from './sources';

async function onDisk<T>(doing: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    const { message } = cause as Error;
    throw new DiskError(
      `cannot ${doing} in ${tmpdir()} (${message}): free some space, or set TMPDIR to a larger disk that can be written to`,
      { cause },
    );
  }
}

/** A file being written. */
export class TemporaryFile {
  readonly #handle: FileHandle;

  constructor(
    readonly path: string,
    handle: FileHandle,
  ) {
    this.#handle = handle;
  }

  /** @throws DiskError */
  write(bytes: Uint8Array): Promise<void> {
    return onDisk('write a temporary file', () => this.#handle.writeFile(bytes));
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** A folder created when first needed. */
export class TemporaryFolder {
  #path: string | undefined;

  /** @throws DiskError */
  async create(name: string): Promise<TemporaryFile> {
    this.#path ??= await onDisk('make a folder', () => mkdtemp(join(tmpdir(), 'cudnn-lstm-ids-')));
    const path = join(this.#path, name);
    return new TemporaryFile(path, await onDisk('make a temporary file', () => open(path, 'wx')));
  }

  async remove(): Promise<void> {
    if (this.#path !== undefined) await rm(this.#path, { recursive: true, force: true });
  }
}

/**
 * Reads a source that can be read only once and whose size is not known in advance, such as standard input, into memory or, if it has
 * more than `limit` bytes, into a file.
 */
export async function spool(
  source: Source,
  folder: TemporaryFolder,
  limit: number,
  signal: AbortSignal | undefined,
): Promise<{ source: Source; size: number }> {
  let bytes: Uint8Array[] = [];
  let size = 0;
  let file: TemporaryFile | undefined;
  try {
    for await (const piece of readBytes(source, signal)) {
      size += piece.length;
      bytes.push(piece);
      if (size <= limit) continue;
      file ??= await folder.create(`spooled-${process.hrtime.bigint()}`);
      for (const held of bytes) await file.write(held);
      bytes = [];
    }
  } finally {
    await file?.close();
  }
  const { name, share } = source;
  return { source: { name, ...(file ? { path: file.path } : { bytes }), ...(share ? { share } : {}) }, size };
}
