/** Which texts CORPUS… means. */
import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { type GlobOptions, glob } from 'tinyglobby';
import { listOf, show, textOf } from '../arguments';
import { packageRoot } from '../device/native';
import { DataError, UsageError } from '../errors';
import { alicePath } from './alice';
import { compareNaturally, nameSome } from './names';

/** One text to read: a file, or standard input. */
export interface Source {
  /** The name that messages show. */
  name: string;
  /** Undefined for standard input. */
  path?: string;
  /** What it holds, where that has been read already. */
  bytes?: readonly Uint8Array[];
}

/** The tale that comes with the package: what is trained on when nothing else is named. */
export const bundledCorpusPath = join(packageRoot, 'corpora', 'the-lamplighters-road.txt');

/** Taken from a directory, at any depth and in any case. Other files are taken only when named or matched by a glob. */
const directoryPattern = '**/*.{txt,text,md}';
const directoryRule = '*.txt, *.text and *.md';

/** Matches in natural order of their paths; of the ways that links give to a file, the shortest. */
async function matches(pattern: string, options: GlobOptions): Promise<string[]> {
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

/** Whether a path has a part that begins with a dot; a directory's rule takes none of these. */
const isHidden = (path: string) => /(^|[\\/])\./.test(path);

/** The texts of a directory, and the files there that are none by their names. */
async function filesOf(directory: string): Promise<{ texts: string[]; others: string[] }> {
  const texts = await matches(directoryPattern, { cwd: directory, caseSensitiveMatch: false });
  const all = await matches('**/*', { cwd: directory, dot: true });
  // Another link to a text that is taken is no loss.
  const others = all.filter((file) => isHidden(file) || !/\.(txt|text|md)$/i.test(file));
  return { texts, others: others.sort((a, b) => Number(isHidden(a)) - Number(isHidden(b)) || compareNaturally(a, b)) };
}

/**
 * Files in the order in which they are concatenated: arguments as given; a directory's *.txt, *.text and *.md at any depth, in
 * any case, and a glob's matches in natural order of their paths (ch2 before ch10); `-` is standard input; `alice` (unless a file
 * of that name is there) the named corpus.
 *
 * @param tell Gets a line about what a directory holds besides.
 * @throws DataError for a file that is not there, a directory without text, a pattern without a match.
 */
export async function resolveSources(
  corpora: readonly string[],
  signal?: AbortSignal,
  tell: (note: string) => void = () => {},
): Promise<Source[]> {
  if (typeof corpora === 'string')
    throw new UsageError(`corpus must be a list, such as ['book.txt'], not ${show(corpora)}.`);
  const named = listOf('corpus', corpora, textOf);
  if (named.length === 0) return [{ name: 'the bundled tale', path: bundledCorpusPath }];
  const sources: Source[] = [];
  for (const corpus of named) {
    if (corpus === '-') {
      if (sources.some((source) => source.path === undefined)) throw new DataError('- (standard input) is named twice');
      sources.push({ name: 'standard input' });
      continue;
    }
    const found = await stat(corpus).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
      throw new DataError(`cannot read ${corpus}: ${error.message}`, { cause: error });
    });
    if (found?.isDirectory()) {
      await access(corpus, constants.R_OK | constants.X_OK).catch((error: Error) => {
        throw new DataError(`cannot read ${corpus}: ${error.message}`, { cause: error });
      });
      const { texts, others } = await filesOf(corpus);
      if (texts.length === 0) {
        throw new DataError(`${corpus} holds no text: no *.txt, *.text or *.md in it; name the files, or use a glob`);
      }
      if (others.length > 0) tell(leftOut(corpus, others));
      for (const file of texts) sources.push({ name: join(corpus, file), path: join(corpus, file) });
    } else if (found !== undefined) {
      sources.push({ name: corpus, path: corpus });
    } else if (corpus === 'alice') {
      sources.push({ name: "Alice's Adventures in Wonderland", path: await alicePath(signal) });
    } else if (/[*?[\]{}]/.test(corpus)) {
      const files = await matches(corpus, { absolute: isAbsolute(corpus), expandDirectories: false });
      if (files.length === 0) throw new DataError(`no file matches ${corpus}`);
      for (const file of files) sources.push({ name: file, path: file });
    } else {
      throw new DataError(`no such file: ${corpus}; name a text file, a directory, a glob, - or alice`);
    }
  }
  return sources;
}

function leftOut(directory: string, others: readonly string[]): string {
  const files = others.length === 1 ? '1 file' : `${others.length.toLocaleString('en')} files`;
  return (
    `${directory}: ${files} left out, as a directory means its ${directoryRule} that are not hidden: ${nameSome(others)} ` +
    '(name the files, or use a glob, to have them in)'
  );
}
