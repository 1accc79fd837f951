/** The directory of a new run: its name, and its contents besides checkpoints. */
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

/** Saves the corpus's lines, so that the model can generate lines not among them wherever its directory is moved. */
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
 * For a dry run: checks, as far as possible without changing anything, that a new run can use a directory.
 *
 * @throws UsageError if it already holds a run; DiskError if it cannot be created or written to.
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

/** Refuses even a directory with just a damaged or a best checkpoint: it is somebody's work, and a new run would soon delete it. */
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
 * Creates runs/<name of the first source>-<local date and time>; if several runs start in the same second, the later ones get a
 * number.
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
