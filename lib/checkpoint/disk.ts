/** Files that are either complete or absent: written under a temporary name, flushed, then renamed into place. */
import { randomBytes } from 'node:crypto';
import { constants, fsync, unlinkSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import * as fs from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { DiskError } from '../errors';
import { isTaken } from '../files';
import { told } from '../wording';

/** The calls that can fail; tests substitute failures for them. */
export interface DiskCalls {
  open: (path: string, flags: string) => Promise<Pick<FileHandle, 'write' | 'fd' | 'close'>>;
  /** Flushes a file to the disk, by its descriptor: the file handles of Yarn's Plug'n'Play have no `sync`. */
  sync: (fd: number) => Promise<void>;
  rename: (from: string, to: string) => Promise<void>;
  unlink: (path: string) => Promise<void>;
}

export const realCalls: DiskCalls = { open: fs.open, sync: promisify(fsync), rename: fs.rename, unlink: fs.unlink };

/** What to do if writing fails because of the place itself, which a command names by --out, and a program in one way or another. */
const anotherPlace = () => `choose another ${told('--out', 'place')}`;

function remedyOf(code: string): string | undefined {
  const another = anotherPlace();
  const allowed = told('a directory you may write to with --out', 'a place you may write to');
  const remedies: Record<string, string> = {
    ENOSPC: `no space is left on the disk; free some, or ${another}`,
    EDQUOT: `the disk quota is used up; free some, or ${another}`,
    EFBIG: `the file would be larger than this system allows; ${another}`,
    EROFS: `the file system is read-only; ${another}`,
    EACCES: `permission denied; choose ${allowed}`,
    EPERM: `permission denied; choose ${allowed}`,
    EIO: `the disk reports an error; ${another}`,
    ENOTDIR: `a part of the path is a file, not a directory; ${another}`,
    ENOENT: `the directory is not there; make it, or ${another}`,
    ENAMETOOLONG: `the name is too long; ${another}`,
  };
  return remedies[code];
}

/** Converts a failed system call to a DiskError that names the place and the remedy; returns anything else unchanged. */
export function toDiskError(error: unknown, doing: string): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  const remedy = code === undefined ? undefined : remedyOf(code);
  if (code === undefined || (remedy === undefined && syscall === undefined)) return error;
  return new DiskError(`cannot ${doing}: ${remedy ?? message}`, { cause: error });
}

/**
 * Makes a directory and its parents. Node's own recursive mkdir retries for ever if an existing directory answers ENOENT, as /proc does.
 *
 * @throws DiskError if it cannot be made, or is a file.
 */
export async function makeDirectory(path: string): Promise<void> {
  const doing = `make the directory ${path}`;
  const { missing } = await wayTo(path, doing);
  for (const next of missing) {
    try {
      await fs.mkdir(next);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST' && (await isDirectory(next, doing))) continue; // Made by another process meanwhile.
      if (code === 'EEXIST') throw linkToNothing(doing, next, error);
      if (code === 'ENOENT')
        throw new DiskError(`cannot ${doing}: the file system does not allow it; ${anotherPlace()}`, {
          cause: error,
        });
      throw toDiskError(error, doing);
    }
  }
}

/**
 * Checks, as far as possible without doing it, that {@link makeDirectory} would make a directory and files could be put into it.
 *
 * @throws DiskError if not.
 */
export async function checkDirectory(path: string): Promise<void> {
  const doing = `make the directory ${path}`;
  const { lowest, missing } = await wayTo(path, doing);
  const [first] = missing;
  if (first !== undefined && (await isTaken(first))) throw linkToNothing(doing, first);
  await fs.access(lowest, constants.W_OK | constants.X_OK).catch((error: unknown) => {
    throw toDiskError(error, missing.length > 0 ? doing : `write to ${path}`);
  });
}

/** The missing directories of a path, in the order in which to make them, and the directory to make them in. */
async function wayTo(path: string, doing: string): Promise<{ lowest: string; missing: string[] }> {
  const missing: string[] = [];
  let lowest = resolve(path);
  for (; !(await isDirectory(lowest, doing)); lowest = dirname(lowest)) missing.unshift(lowest);
  return { lowest, missing };
}

function linkToNothing(doing: string, path: string, cause?: unknown): DiskError {
  return new DiskError(`cannot ${doing}: ${path} is a link to nothing; ${anotherPlace()}`, { cause });
}

/** @throws DiskError if it exists and is not a directory. */
async function isDirectory(path: string, doing: string): Promise<boolean> {
  const found = await fs.stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw toDiskError(error, doing);
  });
  if (found && !found.isDirectory()) throw new DiskError(`cannot ${doing}: ${path} is a file; ${anotherPlace()}`);
  return found !== undefined;
}

/** The temporary names of writeFileAtomically. */
const temporaryName = /^\..+\.tmp-\d+-[\da-f]{8}$/;

/** Whether a file name is that of an unfinished write, which the next run in the directory removes. */
export function isTemporary(name: string): boolean {
  return temporaryName.test(name);
}

/** Makes a rename durable. Windows and some file systems cannot open a directory: there, it is as durable as they make it. */
async function syncDirectory(directory: string): Promise<void> {
  let handle: FileHandle;
  try {
    handle = await fs.open(directory, 'r');
  } catch {
    return;
  }
  try {
    await realCalls.sync(handle.fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EIO') throw error;
  } finally {
    await handle.close();
  }
}

/** Temporary files being written. */
const unfinished = new Set<string>();

/** Removes the files being written, as the process ends: `process.exit()` does so by itself. */
export function removeUnfinished(): void {
  for (const temporary of unfinished) {
    try {
      unlinkSync(temporary);
    } catch {
      // It has been renamed into place, or was never made.
    }
  }
}

function begin(temporary: string): void {
  // Ahead of other listeners, some of which wait.
  if (unfinished.size === 0) process.prependListener('exit', removeUnfinished);
  unfinished.add(temporary);
}

function end(temporary: string): void {
  unfinished.delete(temporary);
  if (unfinished.size === 0) process.off('exit', removeUnfinished);
}

/** How a file is written. */
export interface WriteOptions {
  /** Aborts the writing, which then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  readonly calls?: DiskCalls | undefined;
}

/**
 * Writes the pieces to `path`: temporary file in the same directory, flush, rename, flush of the directory. Whatever fails
 * before the rename, `path` still holds what it held before, and the temporary file is gone.
 *
 * @throws DiskError without space, permission or a healthy disk.
 */
export async function writeFileAtomically(
  path: string,
  pieces: Iterable<Uint8Array>,
  { signal, calls = realCalls }: WriteOptions = {},
): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.tmp-${process.pid}-${randomBytes(4).toString('hex')}`);
  signal?.throwIfAborted();
  begin(temporary);
  try {
    const handle = await calls.open(temporary, 'wx');
    try {
      try {
        for (const piece of pieces) {
          for (let done = 0; done < piece.length; ) {
            signal?.throwIfAborted();
            done += (await handle.write(piece, done, Math.min(piece.length - done, 1 << 22))).bytesWritten;
          }
        }
        await calls.sync(handle.fd);
      } finally {
        await handle.close();
      }
      signal?.throwIfAborted();
      await calls.rename(temporary, path);
    } catch (error) {
      await calls.unlink(temporary).catch(() => {});
      throw error;
    }
    await syncDirectory(directory);
  } catch (error) {
    throw signal?.aborted && error === signal.reason ? error : toDiskError(error, `write ${path}`);
  } finally {
    end(temporary);
  }
}
