/** One trainer a directory: a lock file that names its owner, taken over if the owner is dead. */
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { DiskError } from '../errors';
import { toDiskError } from './disk';

interface Owner {
  pid: number;
  host: string;
  /** When the process started, in the kernel's own count: tells a reused pid from its first bearer. Empty where unknown. */
  started: string;
}

async function startOf(pid: number): Promise<string> {
  // Field 22 of /proc/PID/stat (proc(5)); the command in field 2 may hold spaces and parentheses.
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return status.slice(status.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

async function isAlive(owner: Owner): Promise<boolean> {
  if (owner.host !== hostname()) return true; // not ours to judge
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const started = await startOf(owner.pid);
  return owner.started === '' || started === '' || owner.started === started;
}

function parseOwner(text: string): Owner | undefined {
  try {
    const { pid, host, started } = JSON.parse(text) as Partial<Owner>;
    if (Number.isSafeInteger(pid) && typeof host === 'string')
      return { pid: pid as number, host, started: started ?? '' };
  } catch {
    // A lock that says nothing has no owner to wait for.
  }
  return undefined;
}

/** Released by calling `release`; a process that dies leaves it to be reclaimed. */
export class DirectoryLock {
  private constructor(
    private readonly path: string,
    private readonly text: string,
  ) {}

  /** @throws DiskError naming the owner if the directory is in use. */
  static async take(directory: string): Promise<DirectoryLock> {
    const path = join(directory, 'lock');
    const owner: Owner = { pid: process.pid, host: hostname(), started: await startOf(process.pid) };
    const text = `${JSON.stringify({ ...owner, taken: performance.timeOrigin + performance.now() })}\n`;
    // Linked into place whole: nobody ever reads half a lock.
    const draft = join(directory, `.lock.tmp-${process.pid}-${Math.random().toString(36).slice(2)}`);
    try {
      await writeFile(draft, text, { flag: 'wx' });
      try {
        for (let attempt = 0; attempt < 5; attempt++) {
          try {
            await link(draft, path);
            return new DirectoryLock(path, text);
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
          }
          await DirectoryLock.reclaim(directory, path);
        }
      } finally {
        await unlink(draft).catch(() => {});
      }
    } catch (error) {
      throw toDiskError(error, `lock ${directory}`);
    }
    throw new DiskError(`${directory} is in use by another trainer; choose another --out`);
  }

  /** Removes a dead owner's lock. @throws DiskError if the owner lives. */
  private static async reclaim(directory: string, path: string): Promise<void> {
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) return; // released meanwhile
    const owner = parseOwner(text);
    if (owner !== undefined && (await isAlive(owner))) {
      const where = owner.host === hostname() ? '' : ` on ${owner.host}`;
      throw new DiskError(
        `${directory} is in use by process ${owner.pid}${where}; wait for it, choose another --out, or remove ${path} if you know it is gone`,
      );
    }
    const aside = join(directory, `.lock.tmp-stale-${process.pid}-${Math.random().toString(36).slice(2)}`);
    try {
      await rename(path, aside);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    // Between reading and renaming, another starter may have put its own lock there: give it back.
    if ((await readFile(aside, 'utf8')) !== text) await link(aside, path).catch(() => {});
    await unlink(aside).catch(() => {});
  }

  async release(): Promise<void> {
    const text = await readFile(this.path, 'utf8').catch(() => undefined);
    if (text === this.text) await unlink(this.path).catch(() => {});
  }
}
