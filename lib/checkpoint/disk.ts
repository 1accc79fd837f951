/** Files that are either whole or not there: written beside their place, flushed, then renamed into it. */
import { randomBytes } from 'node:crypto';
import { fsync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import * as fs from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { DiskError } from '../errors';

/** The calls that can fail; tests put failures in their place. */
export interface DiskCalls {
  open: (path: string, flags: string) => Promise<Pick<FileHandle, 'write' | 'fd' | 'close'>>;
  /** Flushes a file to the disk. By its number: the file handles of Yarn's Plug'n'Play have no `sync`. */
  sync: (fd: number) => Promise<void>;
  rename: (from: string, to: string) => Promise<void>;
  unlink: (path: string) => Promise<void>;
}

export const realCalls: DiskCalls = { open: fs.open, sync: promisify(fsync), rename: fs.rename, unlink: fs.unlink };

const remedies: Record<string, string> = {
  ENOSPC: 'no space is left on the disk; free some, or choose another --out',
  EDQUOT: 'the disk quota is used up; free some, or choose another --out',
  EFBIG: 'the file would be larger than this system allows',
  EROFS: 'the file system is read-only; choose another --out',
  EACCES: 'permission denied; choose a directory you may write to with --out',
  EPERM: 'permission denied; choose a directory you may write to with --out',
  EIO: 'the disk reports an error',
  ENOTDIR: 'a part of the path is a file, not a directory',
  ENOENT: 'the directory is not there',
  ENAMETOOLONG: 'the name is too long',
};

/** A failed call of the operating system as a DiskError that names the place and the remedy; anything else as it is. */
export function toDiskError(error: unknown, doing: string): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (code === undefined || (remedies[code] === undefined && syscall === undefined)) return error;
  return new DiskError(`cannot ${doing}: ${remedies[code] ?? message}`, { cause: error });
}

/**
 * Makes a directory and those above it. Node's own recursive mkdir tries for ever where a directory that exists answers ENOENT,
 * as /proc does.
 *
 * @throws DiskError if it cannot be made, or is a file.
 */
export async function makeDirectory(path: string): Promise<void> {
  const doing = `make the directory ${path}`;
  const missing: string[] = [];
  for (let at = resolve(path); !(await isDirectory(at, doing)); at = dirname(at)) missing.push(at);
  for (const next of missing.reverse()) {
    try {
      await fs.mkdir(next);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST' && (await isDirectory(next, doing))) continue; // Made by another process meanwhile.
      if (code === 'EEXIST') throw new DiskError(`cannot ${doing}: ${next} is a link to nothing`, { cause: error });
      if (code === 'ENOENT')
        throw new DiskError(`cannot ${doing}: the file system does not allow it`, { cause: error });
      throw toDiskError(error, doing);
    }
  }
}

/** @throws DiskError if it is there and is not a directory. */
async function isDirectory(path: string, doing: string): Promise<boolean> {
  const found = await fs.stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw toDiskError(error, doing);
  });
  if (found && !found.isDirectory()) throw new DiskError(`cannot ${doing}: ${path} is a file`);
  return found !== undefined;
}

/** Names of writeFileAtomically. */
const temporaryName = /^\..+\.tmp-\d+-[\da-f]{8}$/;

/** Whether a file name is that of an unfinished write, which the next run in the directory removes. */
export function isTemporary(name: string): boolean {
  return temporaryName.test(name);
}

/** Makes a rename durable. Windows, and some file systems, cannot open a directory: there it is as durable as they make it. */
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

/**
 * Writes the pieces to `path`: temporary file in the same directory, flush, rename, flush of the directory. Whatever fails,
 * what stood at `path` stands there still, and the temporary is gone.
 *
 * @throws DiskError without space, permission or a healthy disk.
 */
export async function writeFileAtomically(
  path: string,
  pieces: Iterable<Uint8Array>,
  calls: DiskCalls = realCalls,
): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.tmp-${process.pid}-${randomBytes(4).toString('hex')}`);
  try {
    const handle = await calls.open(temporary, 'wx');
    try {
      try {
        for (const piece of pieces) {
          for (let done = 0; done < piece.length; ) {
            done += (await handle.write(piece, done, Math.min(piece.length - done, 1 << 22))).bytesWritten;
          }
        }
        await calls.sync(handle.fd);
      } finally {
        await handle.close();
      }
      await calls.rename(temporary, path);
    } catch (error) {
      await calls.unlink(temporary).catch(() => {});
      throw error;
    }
    await syncDirectory(directory);
  } catch (error) {
    throw toDiskError(error, `write ${path}`);
  }
}
