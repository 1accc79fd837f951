/**
 * A run's directory:
 *   checkpoint-<step>.safetensors   the last two, with all that --resume needs; `latest` names the newer, for others to read
 *   weights-improvement-….safetensors   the best one, weights only; `best` names it
 *   metrics.jsonl, config.json      what happened, and with which options
 *   lock                            the trainer at work
 */
import type { Stats } from 'node:fs';
import { readdir, stat, unlink } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { type Checks, flagOf, looking, optionsOf, pathOf, recordOf, show, textOf } from '../arguments';
import type { NativeParameter } from '../device/native';
import { takeAllQuietly } from '../endings';
import { CheckpointError, DiskError, UsageError } from '../errors';
import { FileProblem, kindOf, openToAppend, readSmallFile, whyUnreadable } from '../files';
import { option } from '../wording';
import { type Checkpoint, checkCheckpoint, saveCheckpoint, verifyCheckpoint } from './checkpoint';
import { isTemporary, makeDirectory, toDiskError, writeFileAtomically } from './disk';
import { DirectoryLock } from './lock';

const lastKept = 2;
const lastPattern = /^checkpoint-(\d{8,})\.safetensors$/;
const lastName = (step: number) => `checkpoint-${String(step).padStart(8, '0')}.safetensors`;

const text = (value: string) => [Buffer.from(value, 'utf8')];

/** Names of the last checkpoints in a run's directory, newest first. @throws CheckpointError if it cannot be read. */
export async function lastCheckpoints(directory: string): Promise<string[]> {
  const all = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    throw unreadable(directory, error);
  });
  const names = all.filter((name) => lastPattern.test(name));
  return names.sort((a, b) => Number(lastPattern.exec(b)?.[1]) - Number(lastPattern.exec(a)?.[1]));
}

/** What is at a path; undefined if nothing is. @throws CheckpointError if that cannot be determined. */
export async function lookAt(path: string): Promise<Stats | undefined> {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw unreadable(path, error);
  });
}

function unreadable(path: string, cause: NodeJS.ErrnoException): CheckpointError {
  return new CheckpointError(`cannot read ${path}: ${whyUnreadable(cause)}`, { cause });
}

/**
 * The newest intact checkpoint of a run. Nothing in the directory is changed.
 *
 * @param passOver Receives the name of each newer one that is damaged, and what is wrong with it.
 */
export async function newestCheckpoint(
  directory: string,
  passOver: (name: string, problem: string) => void,
): Promise<string | undefined> {
  for (const name of await lastCheckpoints(directory)) {
    const path = join(directory, name);
    try {
      await verifyCheckpoint(path);
      return path;
    } catch (error) {
      // A DiskError: a part of the file that cannot be read from the disk.
      if (!(error instanceof CheckpointError || error instanceof DiskError)) throw error;
      passOver(name, `passed over: ${error.message}`);
    }
  }
  return undefined;
}

/** Limit on a pointer's size in bytes: it holds a file name. */
const longestPointer = 1024;

/** What a pointer holds; empty if there is none. @throws CheckpointError if the file cannot be a pointer. */
async function readPointer(path: string): Promise<string> {
  try {
    return (await readSmallFile(path, longestPointer)).toString().trim();
  } catch (error) {
    if (!(error instanceof FileProblem)) throw error;
    if (error.kind === 'missing') return '';
    const remedy = error.kind === 'system' ? '' : ', and should hold the name of a checkpoint: remove it';
    throw new CheckpointError(`${error.message}${remedy}`, { cause: error });
  }
}

/** The checkpoint that `best` names; undefined if it names none that exists. @throws CheckpointError if it cannot be read. */
async function bestCheckpoint(directory: string): Promise<string | undefined> {
  const name = await readPointer(join(directory, 'best'));
  // A pointer is a file name, never a path.
  if (name === '' || basename(name) !== name) return undefined;
  const path = join(directory, name);
  return (await stat(path).catch(() => undefined))?.isFile() ? path : undefined;
}

/** Whether a directory holds a run: a checkpoint of any kind, whole or not. */
export async function holdsRun(directory: string): Promise<boolean> {
  if ((await bestCheckpoint(directory)) !== undefined) return true;
  return (await lastCheckpoints(directory).catch(() => [])).length > 0;
}

/** A name in the directory, never a path out of it. */
const fileNamePattern = /^(?!\.)[^/\\\0]{1,255}$/;

/** Whether a file that `best` names can be one that saveBest wrote. */
const isBest = (path: string) => path.endsWith('.safetensors') && !lastPattern.test(basename(path));

/** @throws UsageError for what JSON cannot hold. */
function jsonOf(what: string, value: unknown, indent?: number): string {
  recordOf(what, value);
  const text = looking(what, () => JSON.stringify(value, null, indent));
  if (text === undefined) throw new UsageError(`${what} has no form in JSON.`);
  return text;
}

/**
 * A directory that one trainer writes to.
 *
 * @category Checkpoints and runs
 */
export class RunDirectory implements AsyncDisposable {
  /** Messages for the user about the checkpoints that `newest` had to pass over. */
  readonly notes: string[] = [];
  /** Names of last checkpoints that could not be loaded. */
  readonly #damaged = new Set<string>();

  readonly path: string;
  readonly #lock: DirectoryLock | undefined;

  private constructor(path: string, lock: DirectoryLock | undefined) {
    this.path = path;
    this.#lock = lock;
  }

  /**
   * Takes the directory, creates it if asked, and removes what a killed trainer left half-written.
   *
   * @param options `create` makes it if it does not exist. `lock`, by default true, keeps other trainers out; without it, make sure that
   * there is no other.
   * @throws DiskError if another trainer has it, or it cannot be locked or written to; CheckpointError if it does not exist.
   */
  static async open(directory: string, options: { create: boolean; lock?: boolean }): Promise<RunDirectory> {
    pathOf('directory', directory);
    const checks: Checks<{ create?: boolean; lock?: boolean }> = { create: flagOf, lock: flagOf };
    const { create = false, lock = true } = optionsOf('options', options, checks);
    if (!create && (await lookAt(directory)) === undefined)
      throw new CheckpointError(`there is no run at ${directory}: name the directory of one`);
    await makeDirectory(directory);
    const run = new RunDirectory(directory, lock ? await DirectoryLock.take(directory) : undefined);
    try {
      // A file that cannot be a pointer is refused now, not after an epoch's work.
      for (const pointer of ['best', 'latest']) await readPointer(join(directory, pointer));
      for (const name of await readdir(directory)) {
        if (isTemporary(name)) await unlink(join(directory, name)).catch(() => {});
      }
    } catch (error) {
      await takeAllQuietly([() => run.close()]);
      throw error instanceof CheckpointError ? error : toDiskError(error, `read ${directory}`);
    }
    return run;
  }

  /**
   * Saves everything needed to resume. The previous checkpoint is kept; older ones are deleted, as are those that `newest` passed over
   * and those of later steps, from which the run was not resumed.
   */
  async saveLast(given: Checkpoint, layout: readonly NativeParameter[]): Promise<string> {
    const checkpoint = checkCheckpoint(given, layout);
    const name = lastName(checkpoint.metadata.step);
    const path = join(this.path, name);
    await saveCheckpoint(path, checkpoint, layout);
    await writeFileAtomically(join(this.path, 'latest'), text(`${name}\n`));
    this.#damaged.delete(name);
    const all = await lastCheckpoints(this.path);
    const whole = all.filter((other) => !this.#damaged.has(other));
    const at = whole.indexOf(name);
    const kept = whole.slice(at, at + lastKept);
    for (const old of all) if (!kept.includes(old)) await unlink(join(this.path, old)).catch(() => {});
    return path;
  }

  /**
   * Saves a new best checkpoint; the previous one is deleted once the new one is safe.
   *
   * @throws UsageError if the file name is that of a last checkpoint.
   */
  async saveBest(checkpoint: Checkpoint, layout: readonly NativeParameter[], fileName: string): Promise<string> {
    textOf('fileName', fileName);
    if (!fileNamePattern.test(fileName))
      throw new UsageError(`the best checkpoint cannot be named ${show(fileName)}: give a file name, not a path`);
    if (lastPattern.test(fileName))
      throw new UsageError(
        `the best checkpoint cannot be named ${fileName}: choose another ${option('checkpointName')}`,
      );
    const before = await bestCheckpoint(this.path);
    const path = join(this.path, fileName);
    await saveCheckpoint(path, checkpoint, layout);
    try {
      await writeFileAtomically(join(this.path, 'best'), text(`${fileName}\n`));
    } catch (error) {
      if (before !== path) await unlink(path).catch(() => {});
      throw error;
    }
    if (before !== undefined && before !== path && isBest(before)) await unlink(before).catch(() => {});
    return path;
  }

  /** The newest intact checkpoint; damaged ones are passed over, with a note. */
  newest(): Promise<string | undefined> {
    return newestCheckpoint(this.path, (name, problem) => {
      this.#damaged.add(name);
      this.notes.push(problem);
    });
  }

  /** Path of the best checkpoint. */
  best(): Promise<string | undefined> {
    return bestCheckpoint(this.path);
  }

  /** Appends a line to metrics.jsonl. @throws DiskError if that is not a file, for example a link out of the directory. */
  async appendMetrics(record: object): Promise<void> {
    const path = join(this.path, 'metrics.jsonl');
    const line = `${jsonOf('record', record)}\n`;
    try {
      const handle = await openToAppend(path);
      try {
        await handle.appendFile(line);
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (!(error instanceof FileProblem)) throw toDiskError(error, `write ${path}`);
      if (error.kind === 'system') throw toDiskError(error.cause, `write ${path}`);
      throw new DiskError(`${error.message}; remove it, as a run's metrics are added to a file in its own directory`, {
        cause: error,
      });
    }
  }

  async writeConfiguration(configuration: object): Promise<void> {
    await writeFileAtomically(join(this.path, 'config.json'), text(`${jsonOf('configuration', configuration, 2)}\n`));
  }

  /** Releases the directory. */
  async close(): Promise<void> {
    await this.#lock?.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A model's name: that of its run's directory, or of its file. */
export function modelName(pathOrDirectory: string): string {
  return basename(resolve(pathOrDirectory)).replace(/\.safetensors$/, '') || 'model';
}

const whatToName = "name a run's directory or a .safetensors file";

/**
 * A checkpoint's path: a file's own or, for a run's directory, that of its best checkpoint, else the last.
 *
 * @throws CheckpointError if there is none.
 * @category Checkpoints and runs
 */
export async function resolveCheckpoint(pathOrDirectory: string): Promise<string> {
  pathOf('path', pathOrDirectory);
  const found = await lookAt(pathOrDirectory);
  if (found === undefined) throw new CheckpointError(`no checkpoint at ${pathOrDirectory}: ${whatToName}`);
  if (found.isFile()) return pathOrDirectory;
  if (!found.isDirectory()) {
    throw new CheckpointError(`${pathOrDirectory} is ${kindOf(found)}, not a file: ${whatToName}`);
  }
  const best = await bestCheckpoint(pathOrDirectory);
  if (best !== undefined) return best;
  const [last] = await lastCheckpoints(pathOrDirectory);
  if (last !== undefined) return join(pathOrDirectory, last);
  throw new CheckpointError(`${pathOrDirectory} holds no checkpoint: ${whatToName}`);
}
