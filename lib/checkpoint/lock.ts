/** One trainer a directory: a lock file that names its owner, taken over if the owner is dead. */
import { randomBytes } from 'node:crypto';
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DiskError } from '../errors';
import { FileProblem, readSmallFile } from '../files';
import { toDiskError } from './disk';

interface Owner {
  pid: number;
  host: string;
  /** When the process started, in the kernel's own count: tells a reused pid from its first bearer. Empty where unknown. */
  started: string;
}

/** A process's state letter and start time, fields 3 and 22 of /proc/PID/stat (proc(5)); empty where there is no such file. */
async function statusOf(pid: number): Promise<{ state: string; started: string }> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The command in field 2 may hold spaces and parentheses.
  const fields = status.slice(status.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', started: fields[19] ?? '' };
}

async function isAlive(owner: Owner): Promise<boolean> {
  if (owner.host !== hostname()) return true; // not ours to judge
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const { state, started } = await statusOf(owner.pid);
  if (state === 'Z' || state === 'X') return false; // dead, and its parent (a container's init, say) has not asked yet
  return owner.started === '' || started === '' || owner.started === started;
}

function parseOwner(text: string): Owner | undefined {
  try {
    const { pid, host, started } = JSON.parse(text) as Partial<Owner>;
    if (Number.isSafeInteger(pid) && (pid as number) > 0 && typeof host === 'string')
      return { pid: pid as number, host, started: String(started ?? '') };
  } catch {
    // A lock that says nothing has no owner to wait for.
  }
  return undefined;
}

/** Bytes of a lock's text, far more than one takes. */
const longestText = 4096;

/** What a lock says; undefined if it is gone. @throws DiskError if it cannot be one, or cannot be read. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    return (await readSmallFile(path, longestText)).toString();
  } catch (error) {
    if (!(error instanceof FileProblem)) throw error;
    if (error.kind === 'missing') return undefined;
    throw new DiskError(`${error.message}, and no trainer's lock: remove it`, { cause: error });
  }
}

const randomName = () => randomBytes(6).toString('hex');

const noHardLinks = new Set(['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK']);

/** Puts a lock into place: whole, or, on a file system without hard links (FAT), written there; undefined if there is one. */
async function place(directory: string, path: string, text: string): Promise<'whole' | 'written' | undefined> {
  const draft = join(directory, `.lock.tmp-${randomName()}`);
  await writeFile(draft, text, { flag: 'wx' });
  try {
    await link(draft, path);
    return 'whole';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ENOENT: the owner, who has it now, has tidied the draft away.
    if (code === 'EEXIST' || code === 'ENOENT') return undefined;
    if (!noHardLinks.has(code ?? '')) throw error;
  } finally {
    await unlink(draft).catch(() => {});
  }
  try {
    await writeFile(path, text, { flag: 'wx' });
    return 'written';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined;
    throw error;
  }
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
    const { started } = await statusOf(process.pid);
    const owner: Owner = { pid: process.pid, host: hostname(), started };
    const text = `${JSON.stringify({ ...owner, taken: performance.timeOrigin + performance.now(), key: randomName() })}\n`;
    try {
      for (let attempt = 0; attempt < 5; attempt++) {
        const placed = await place(directory, path, text);
        if (placed === undefined) {
          await DirectoryLock.reclaim(directory, path);
          continue;
        }
        const lock = new DirectoryLock(path, text);
        if (attempt === 0 && placed === 'whole') return lock;
        // Two that reclaim the same dead lock, or see half of a written one, may take each other's away: the one left has it.
        await setTimeout(100);
        if (await lock.isHeld()) return lock;
      }
    } catch (error) {
      throw toDiskError(error, `lock ${directory}`);
    }
    throw new DiskError(`${directory} is in use by another trainer; choose another --out`);
  }

  /** Removes a dead owner's lock. @throws DiskError if the owner lives. */
  private static async reclaim(directory: string, path: string): Promise<void> {
    const text = await textOf(path);
    if (text === undefined) return; // released meanwhile
    const owner = parseOwner(text);
    if (owner !== undefined && (await isAlive(owner))) {
      const where = owner.host === hostname() ? '' : ` on ${owner.host}`;
      throw new DiskError(
        `${directory} is in use by process ${owner.pid}${where}; wait for it, choose another --out, or remove ${path} if you know it is gone`,
      );
    }
    const aside = join(directory, `.lock.tmp-stale-${randomName()}`);
    try {
      await rename(path, aside);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    // Between reading and renaming, another starter may have put its own lock there: give it back.
    if ((await textOf(aside)) !== text) await link(aside, path).catch(() => {});
    await unlink(aside).catch(() => {});
  }

  private async isHeld(): Promise<boolean> {
    return (await textOf(this.path).catch(() => undefined)) === this.text;
  }

  async release(): Promise<void> {
    if (await this.isHeld()) await unlink(this.path).catch(() => {});
  }
}
