/** The directory of a new run: its name, and what is in it beside checkpoints. */
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { checkDirectory, makeDirectory, toDiskError } from '../checkpoint/disk';
import { hasKnownLines, mostKnownLines, saveKnownLines } from '../checkpoint/known-lines';
import { holdsRun, RunDirectory } from '../checkpoint/run-directory';
import type { Corpus } from '../corpus/corpus';
import { KnownLines } from '../corpus/known-lines';
import { readWeighted } from '../corpus/weighted';
import { takeAllQuietly } from '../endings';
import { UsageError } from '../errors';
import { grouped } from '../numbers';
import { option, told } from '../wording';

/** So that the model, wherever it goes with its directory, can write lines that its corpus does not hold. */
export async function keepKnownLines(
  directory: string,
  { lines, vocabulary, sha256, notes }: Corpus,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (lines === undefined || (await hasKnownLines(directory))) return;
  if (lines.count > mostKnownLines) {
    notes.push(
      `more than ${grouped(mostKnownLines)} lines: none are kept for ${told('sample --novel, which takes --not-in FILE then', '`loadKnownLines` to find')}`,
    );
    return;
  }
  const texts = function* () {
    for (let line = 0; line < lines.count; line++) yield vocabulary.decode(lines.read(line));
  };
  await saveKnownLines(directory, await KnownLines.of(texts(), signal), sha256);
}

/**
 * Whether a new run can have a directory, as far as that can be told without changing anything, for a dry run.
 *
 * @throws UsageError if it holds a run already; DiskError if it cannot be made or written to.
 */
export async function checkNewRun(directory: string): Promise<void> {
  await checkDirectory(directory);
  if (await holdsRun(directory)) throw holdsAlready(directory);
}

function holdsAlready(directory: string): UsageError {
  return new UsageError(
    `${directory} already holds a run: resume it with ${option({ resume: directory })}, or choose another ${option('out')}.`,
  );
}

/** A damaged checkpoint, or a best one alone, is somebody's work too: a new run would soon delete it. */
export async function createRun(directory: string, lock: boolean): Promise<RunDirectory> {
  const run = await RunDirectory.open(directory, { create: true, lock });
  let held: boolean;
  try {
    held = await holdsRun(directory);
  } catch (error) {
    await takeAllQuietly([() => run.close()]);
    throw error;
  }
  if (!held) return run;
  await takeAllQuietly([() => run.close()]);
  throw holdsAlready(directory);
}

/**
 * Makes runs/<name of the first source>-<date and time, local>; of several runs that begin in the same second, the later ones
 * get a number.
 */
export async function newDirectory(sources: readonly string[]): Promise<string> {
  const name = directoryName(sources);
  await makeDirectory('runs');
  for (let number = 1; ; number++) {
    const directory = join('runs', number === 1 ? name : `${name}-${number}`);
    try {
      await mkdir(directory);
      return directory;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw toDiskError(error, `make ${directory}`);
    }
  }
}

function directoryName(sources: readonly string[]): string {
  const { name: source } = readWeighted(sources[0] ?? 'bundled');
  const first = source === '-' ? 'stdin' : basename(source);
  const plain = first
    .replace(/\.[^.]*$/, '')
    .normalize('NFC')
    .replace(/[^\p{L}\p{M}\p{N}_]+/gu, '-');
  const name = [...plain.replace(/^-+|-+$/g, '')].slice(0, 60).join('') || 'corpus';
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, '0');
  const date = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `${name}-${date}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}
