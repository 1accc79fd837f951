/** Resolves which texts CORPUS… means. */
import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import type { GlobOptions } from 'tinyglobby';
import { fieldsOf, listOf, looking, show, textOf } from '../arguments';
import { packageRoot } from '../device/native';
import { DataError, UsageError } from '../errors';
import { whyUnreadable } from '../files';
import { checkKeys } from '../nearest';
import { grouped, plural } from '../numbers';
import { alicePath } from './alice';
import { compareNaturally, nameSome } from './names';
import { largestWeight, readWeighted } from './weighted';

/**
 * A text in memory.
 *
 * @category Texts
 */
export interface CorpusText {
  readonly text: string;
  /** Its name in messages. Default 'the text'. */
  readonly name?: string | undefined;
}

/**
 * What to read: a text in memory; pieces of one, which need not end at a line or a character; or files, directories, globs, `-`
 * (standard input) and `alice`. An empty list means the tale bundled with the package.
 *
 * @category Texts
 */
export type CorpusInput = CorpusText | AsyncIterable<string> | readonly string[];

/** One text to read: a file, something in memory, or standard input. */
export interface Source {
  /** Its name in messages. */
  name: string;
  /** Undefined if it is not a file. */
  path?: string;
  /** Its contents, if they have already been read. */
  bytes?: readonly Uint8Array[];
  /** Read instead of standard input if there is no path: once, as UTF-8. */
  stream?: AsyncIterable<Uint8Array>;
  /** If weights are read: that of the argument it came from, one object per argument. */
  share?: Weight;
}

/** How many times an epoch has a text. */
export interface Weight {
  readonly weight: number;
}

/**
 * The tale bundled with the package, which is trained on when nothing else is named.
 *
 * @category Texts
 */
export const bundledCorpusPath = join(packageRoot, 'corpora', 'the-lamplighters-road.txt');

/** The files taken from a directory, at any depth and in any case. Others are taken only when named or matched by a glob. */
const directoryPattern = '**/*.{txt,text,md}';
const directoryRule = '*.txt, *.text and *.md';

/** Matches in natural order of their paths; if links give a file several paths, the shortest. */
async function matches(pattern: string, options: GlobOptions): Promise<string[]> {
  // Loaded only when a pattern is matched, which most commands never do.
  const { glob } = require('tinyglobby') as typeof import('tinyglobby');
  const found = (await glob(pattern, { ...options, onlyFiles: true })).sort();
  const shortest = new Map<string, string>();
  for (const file of found) {
    const path = options.cwd === undefined ? file : join(String(options.cwd), file);
    const real = await realpath(path).catch(() => file);
    const other = shortest.get(real);
    if (other === undefined || file.length < other.length) shortest.set(real, file);
  }
  return [...shortest.values()].sort(compareNaturally);
}

/** Whether any part of a path begins with a dot; a directory's rule takes no such file. */
const isHidden = (path: string) => /(^|[\\/])\./.test(path);

/** The texts of a directory, and the files in it that by their names are not texts. */
async function filesOf(directory: string): Promise<{ texts: string[]; others: string[] }> {
  const texts = await matches(directoryPattern, { cwd: directory, caseSensitiveMatch: false });
  const all = await matches('**/*', { cwd: directory, dot: true });
  // Another link to a text that is taken does not count as left out.
  const others = all.filter((file) => isHidden(file) || !/\.(txt|text|md)$/i.test(file));
  return { texts, others: others.sort((a, b) => Number(isHidden(a)) - Number(isHidden(b)) || compareNaturally(a, b)) };
}

/**
 * The files in the order in which they are concatenated: arguments as given; a directory's *.txt, *.text and *.md, at any depth and in
 * any case, and a glob's matches, in natural order of their paths (ch2 before ch10). `-` is standard input; `alice` is the named corpus,
 * unless a file of that name exists.
 *
 * @param tell Receives a note about what else a directory holds.
 * @param weighted Whether `a.txt:2` is `a.txt` with a weight, unless there is a file of that name.
 * @throws DataError for a missing file, a directory without text or a pattern without a match; UsageError for an invalid weight.
 */
export async function resolveSources(
  corpora: CorpusInput,
  signal?: AbortSignal,
  tell: (note: string) => void = () => {},
  weighted = false,
): Promise<Source[]> {
  if (!isList(corpora)) return [inMemory(corpora)];
  const named = listOf('corpus', corpora, textOf);
  if (named.length === 0) return [{ name: 'the bundled tale', path: bundledCorpusPath }];
  const sources: Source[] = [];
  for (const argument of named) {
    const { name: corpus, weight } = weighted ? readWeighted(argument) : { name: argument };
    const share = weight === undefined ? {} : { share: { weight: weightOf(argument, weight) } };
    if (corpus === '-') {
      if (sources.some((source) => source.path === undefined))
        throw new DataError('- (standard input) is named twice; name it once');
      sources.push({ name: 'standard input', ...share });
      continue;
    }
    const found = await stat(corpus).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
      throw new DataError(`cannot read ${corpus}: ${whyUnreadable(error)}`, { cause: error });
    });
    if (found?.isDirectory()) {
      await access(corpus, constants.R_OK | constants.X_OK).catch((error: Error) => {
        throw new DataError(`cannot read ${corpus}: ${whyUnreadable(error)}`, { cause: error });
      });
      const { texts, others } = await filesOf(corpus);
      if (texts.length === 0) {
        throw new DataError(`${corpus} holds no text: no *.txt, *.text or *.md in it; name the files, or use a glob`);
      }
      if (others.length > 0) tell(leftOut(corpus, others));
      for (const file of texts) sources.push({ name: join(corpus, file), path: join(corpus, file), ...share });
    } else if (found !== undefined) {
      sources.push({ name: corpus, path: corpus, ...share });
    } else if (corpus === 'alice') {
      sources.push({ name: "Alice's Adventures in Wonderland", path: await alicePath(signal), ...share });
    } else if (/[*?[\]{}]/.test(corpus)) {
      const files = await matches(corpus, { absolute: isAbsolute(corpus), expandDirectories: false });
      if (files.length === 0)
        throw new DataError(`no file matches ${corpus}; name a text file, a directory, or another glob`);
      for (const file of files) sources.push({ name: file, path: file, ...share });
    } else {
      throw new DataError(`no such file: ${corpus}; name a text file, a directory, a glob, - or alice`);
    }
  }
  return sources;
}

/** @throws UsageError unless it is above 0 and not too large. */
function weightOf(argument: string, weight: number): number {
  if (weight > 0 && weight <= largestWeight) return weight;
  throw new UsageError(
    `${argument}: a weight is a number above 0 and at most ${grouped(largestWeight)}, the times that an epoch has the text; ` +
      `give it another one, or leave the text out.`,
  );
}

function leftOut(directory: string, others: readonly string[]): string {
  return (
    `${directory}: ${plural(others.length, 'file')} left out, as a directory means its ${directoryRule} that are not hidden: ${nameSome(others)} ` +
    '(name the files, or use a glob, to have them in)'
  );
}

/** Whether a corpus is a list, of anything: {@link resolveSources} checks its items. */
export function isList(corpus: unknown): corpus is readonly string[] {
  return looking('corpus', () => Array.isArray(corpus));
}

/** @throws UsageError if it is neither a text nor pieces of one. */
function inMemory(corpus: unknown): Source {
  if (typeof corpus !== 'object' || corpus === null) throw notCorpus(corpus);
  const begin = looking('corpus', () => (corpus as AsyncIterable<string>)[Symbol.asyncIterator]);
  if (typeof begin === 'function') {
    return { name: 'the text', stream: utf8(corpus as AsyncIterable<string>, 'the text') };
  }
  const { text, name = 'the text' } = fieldsOf<CorpusText>('corpus', corpus, ['text', 'name']);
  if (text === undefined) throw notCorpus(corpus);
  checkKeys(
    looking('corpus', () => Object.keys(corpus)),
    ['text', 'name'],
    'corpus',
  );
  return { name: textOf('name of corpus', name), stream: utf8([textOf('text of corpus', text)], name) };
}

function notCorpus(corpus: unknown): UsageError {
  return new UsageError(
    `corpus must be a list of files, such as ['book.txt'], { text: '…' } or an async iterable of strings, not ${show(corpus)}.`,
  );
}

/** Pieces of a text as UTF-8; two of them may share a surrogate pair. @throws DataError if half of one is missing. */
async function* utf8(pieces: Iterable<string> | AsyncIterable<string>, name: string): AsyncGenerator<Uint8Array> {
  let held = '';
  let done = 0;
  const whole = (text: string) => {
    const lone = text.search(/\p{Surrogate}/u);
    if (lone < 0) return Buffer.from(text, 'utf8');
    const unit = text.charCodeAt(lone).toString(16).toUpperCase();
    throw new DataError(
      `${name} is no well-formed text: half of a surrogate pair, U+${unit}, stands alone at index ${done + lone}; toWellFormed() replaces it`,
    );
  };
  for await (const piece of pieces) {
    if (typeof piece !== 'string') throw new UsageError(`corpus must yield strings, not ${typeof piece}.`);
    const text = held + piece;
    held = /[\uD800-\uDBFF]$/.test(text) ? text.slice(-1) : '';
    const ready = text.slice(0, text.length - held.length);
    yield whole(ready);
    done += ready.length;
  }
  if (held !== '') yield whole(held);
}
