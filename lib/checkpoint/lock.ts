/**
 * One trainer per directory. The lock is the kernel's, on the file `lock`: it goes to a single open of that file, and ends by itself with
 * its process, however that ends (docs/adr/0012-kernel-lock.md). The file's contents are for people, and for the message to whoever is
 * refused.
 */
import { type FileHandle, stat, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { loadNative } from '../device/native';
import { takeAll, takeAllQuietly } from '../endings';
import { DiskError } from '../errors';
import { FileProblem, openToLock } from '../files';
import { grouped } from '../numbers';
import { option } from '../wording';
import { toDiskError } from './disk';

/** Limit on a lock's text in bytes, far more than one needs. */
const longestText = 4096;

/** Released by calling `release`, or by the end of the process. */
export class DirectoryLock {
  /** Locks not yet released, kept here so that the garbage collector does not close their files. */
  static readonly #held = new Set<DirectoryLock>();

  #file: FileHandle | undefined;
  readonly #path: string;

  private constructor(file: FileHandle, path: string) {
    this.#file = file;
    this.#path = path;
    DirectoryLock.#held.add(this);
  }

  /** @throws DiskError if another trainer has the directory, naming it, or if the directory cannot be written to or locked. */
  static async take(directory: string): Promise<DirectoryLock> {
    const path = join(directory, 'lock');
    for (;;) {
      const file = await openLock(path, directory);
      try {
        if (!(await lockFile(file, path, directory))) throw inUse(directory, await textOf(file));
        const { size } = await file.stat();
        if (size > longestText) throw noLock(`${path} holds ${grouped(size)} bytes`); // Possibly somebody's text.
        // The previous owner removes the file while it still has the lock: the file just locked may be gone.
        if (!(await stands(file, path))) {
          await file.close();
          continue;
        }
      } catch (error) {
        await takeAllQuietly([() => file.close()]);
        throw toDiskError(error, `lock ${directory}`);
      }
      const lock = new DirectoryLock(file, path);
      try {
        const owner = { pid: process.pid, host: hostname(), since: new Date().toISOString() };
        await file.truncate(0);
        await file.write(`${JSON.stringify(owner)}\n`, 0);
        return lock;
      } catch (error) {
        await takeAllQuietly([() => lock.release()]);
        throw toDiskError(error, `lock ${directory}`);
      }
    }
  }

  /** Removes the file and releases the lock. Idempotent. */
  async release(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    // In this order, whoever opens the file in between finds it locked, or gone.
    await takeAll([
      async () => {
        if (await stands(file, this.#path)) await unlink(this.#path).catch(() => {});
      },
      () => file.close(),
      () => DirectoryLock.#held.delete(this),
    ]);
  }
}

async function openLock(path: string, directory: string): Promise<FileHandle> {
  try {
    return await openToLock(path);
  } catch (error) {
    if (!(error instanceof FileProblem)) throw error;
    if (error.kind !== 'other') throw toDiskError(error.cause, `lock ${directory}`);
    throw noLock(error.message, error);
  }
}

function noLock(problem: string, cause?: unknown): DiskError {
  return new DiskError(`${problem}, and is no trainer's lock: remove it`, { cause });
}

async function lockFile(file: FileHandle, path: string, directory: string): Promise<boolean> {
  try {
    return await loadNative().lockFile(file.fd);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_CANNOT_LOCK') throw error;
    await unlink(path).catch(() => {}); // Nobody holds it: nobody can.
    throw new DiskError(
      `${directory} is on a file system that cannot lock (${message}); choose another ${option('out')}, or add ${option({ lock: false })} and let no other trainer into it`,
      { cause: error },
    );
  }
}

/** Whether the open file is the one at the path. */
async function stands(file: FileHandle, path: string): Promise<boolean> {
  const [opened, there] = await Promise.all([
    file.stat({ bigint: true }),
    stat(path, { bigint: true }).catch(() => undefined),
  ]);
  return opened.ino === there?.ino && opened.dev === there.dev;
}

async function textOf(file: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(longestText), 0, longestText, 0);
  return buffer.toString('utf8', 0, bytesRead);
}

function inUse(directory: string, text: string): DiskError {
  let owner = 'another trainer';
  try {
    const { pid, host } = JSON.parse(text) as { pid?: unknown; host?: unknown };
    if (Number.isSafeInteger(pid)) owner = `process ${pid}`;
    if (typeof host === 'string' && host !== hostname()) owner += ` on ${host}`;
  } catch {
    // Its owner has not written it yet, or somebody else has.
  }
  return new DiskError(`${directory} is in use by ${owner}; wait for it, or choose another ${option('out')}`);
}
