/**
 * A run's directory:
 *   checkpoint-<step>.safetensors   the last two, with all that --resume needs; `latest` names the newer
 *   weights-improvement-….safetensors   the best one, weights only; `best` names it
 *   metrics.jsonl, config.json      what happened, and with which options
 *   lock                            the trainer at work
 */
import { appendFile, mkdir, readdir, readFile, stat, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CheckpointError } from '../errors';
import type { NativeParameter } from '../native';
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from './checkpoint';
import { isTemporary, toDiskError, writeFileAtomically } from './disk';
import { DirectoryLock } from './lock';

const lastKept = 2;
const lastPattern = /^checkpoint-(\d+)\.safetensors$/;
const lastName = (step: number) => `checkpoint-${String(step).padStart(8, '0')}.safetensors`;

const text = (value: string) => [Buffer.from(value, 'utf8')];

/** Names of the last checkpoints, newest first. */
async function lastCheckpoints(directory: string): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => lastPattern.test(name));
  return names.sort((a, b) => Number(lastPattern.exec(b)?.[1]) - Number(lastPattern.exec(a)?.[1]));
}

async function pointedAt(directory: string, pointer: 'best' | 'latest'): Promise<string | undefined> {
  const name = (await readFile(join(directory, pointer), 'utf8').catch(() => '')).trim();
  // A pointer is a file name, never a path.
  if (name === '' || basename(name) !== name) return undefined;
  const path = join(directory, name);
  return (await stat(path).catch(() => undefined))?.isFile() ? path : undefined;
}

/** A directory that one trainer writes to. */
export class RunDirectory implements AsyncDisposable {
  /** What open and newest had to pass over or clean up: lines worth telling the user. */
  readonly notes: string[] = [];

  private constructor(
    readonly path: string,
    private readonly lock: DirectoryLock,
  ) {}

  /**
   * Takes the directory, makes it if asked, and removes what a killed trainer left half-written.
   *
   * @throws DiskError if another trainer has it, or it cannot be written to; CheckpointError if it is not there.
   */
  static async open(directory: string, { create }: { create: boolean }): Promise<RunDirectory> {
    const found = await stat(directory).catch(() => undefined);
    if (found === undefined && !create) throw new CheckpointError(`there is no run at ${directory}`);
    try {
      await mkdir(directory, { recursive: true });
    } catch (error) {
      const exists = (error as NodeJS.ErrnoException).code === 'EEXIST';
      throw toDiskError(
        exists ? Object.assign(new Error(), { code: 'ENOTDIR' }) : error,
        `make the directory ${directory}`,
      );
    }
    const run = new RunDirectory(directory, await DirectoryLock.take(directory));
    for (const name of await readdir(directory)) {
      if (isTemporary(name)) await unlink(join(directory, name)).catch(() => {});
    }
    return run;
  }

  /** Saves everything needed to resume; the one before is kept, older ones go. */
  async saveLast(checkpoint: Checkpoint, layout: readonly NativeParameter[]): Promise<string> {
    const name = lastName(checkpoint.metadata.step);
    const path = join(this.path, name);
    await saveCheckpoint(path, checkpoint, layout);
    await writeFileAtomically(join(this.path, 'latest'), text(`${name}\n`));
    const others = (await lastCheckpoints(this.path)).filter((other) => other !== name);
    for (const old of others.slice(lastKept - 1)) await unlink(join(this.path, old)).catch(() => {});
    return path;
  }

  /** Saves a new best; the one before goes once the new one is safe. */
  async saveBest(checkpoint: Checkpoint, layout: readonly NativeParameter[], fileName: string): Promise<string> {
    const before = await pointedAt(this.path, 'best');
    const path = join(this.path, fileName);
    await saveCheckpoint(path, checkpoint, layout);
    await writeFileAtomically(join(this.path, 'best'), text(`${fileName}\n`));
    if (before !== undefined && before !== path) await unlink(before).catch(() => {});
    return path;
  }

  /** The newest checkpoint that is whole; a damaged one is passed over, with a note. */
  async newest(): Promise<string | undefined> {
    const latest = await pointedAt(this.path, 'latest');
    const all = (await lastCheckpoints(this.path)).map((name) => join(this.path, name));
    // What `latest` names was flushed last, whatever the step numbers say.
    const candidates = latest === undefined ? all : [latest, ...all.filter((path) => path !== latest)];
    for (const path of candidates) {
      try {
        await loadCheckpoint(path);
        return path;
      } catch (error) {
        if (!(error instanceof CheckpointError)) throw error;
        this.notes.push(`passed over: ${error.message}`);
      }
    }
    return undefined;
  }

  /** Path of the best checkpoint. */
  best(): Promise<string | undefined> {
    return pointedAt(this.path, 'best');
  }

  /** Adds a line to metrics.jsonl. */
  async appendMetrics(record: object): Promise<void> {
    const path = join(this.path, 'metrics.jsonl');
    try {
      await appendFile(path, `${JSON.stringify(record)}\n`);
    } catch (error) {
      throw toDiskError(error, `write ${path}`);
    }
  }

  async writeConfiguration(configuration: object): Promise<void> {
    await writeFileAtomically(join(this.path, 'config.json'), text(`${JSON.stringify(configuration, null, 2)}\n`));
  }

  /** Gives the directory back. */
  close(): Promise<void> {
    return this.lock.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * A checkpoint's path: a file as it is; of a run's directory the best one, else the last.
 *
 * @throws CheckpointError if there is none.
 */
export async function resolveCheckpoint(pathOrDirectory: string): Promise<string> {
  const found = await stat(pathOrDirectory).catch(() => undefined);
  if (found === undefined) throw new CheckpointError(`no checkpoint at ${pathOrDirectory}`);
  if (!found.isDirectory()) return pathOrDirectory;
  const best = await pointedAt(pathOrDirectory, 'best');
  if (best !== undefined) return best;
  const [last] = await lastCheckpoints(pathOrDirectory);
  if (last !== undefined) return join(pathOrDirectory, last);
  throw new CheckpointError(`${pathOrDirectory} holds no checkpoint: name a run's directory or a .safetensors file`);
}
