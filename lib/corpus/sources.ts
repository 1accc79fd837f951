/** Which texts CORPUS… means. */
import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { type GlobOptions, glob } from 'tinyglobby';
import { packageRoot } from '../device/native';
import { DataError, UsageError } from '../errors';
import { alicePath } from './alice';

/** One text to read: a file, or standard input. */
export interface Source {
  /** As the user would name it. */
  name: string;
  /** Undefined for standard input. */
  path?: string;
  /** What it holds, where that has been read already. */
  bytes?: readonly Uint8Array[];
}

/** The tale that comes with the package: what is trained on when nothing else is named. */
export const bundledCorpusPath = join(packageRoot, 'corpora', 'the-lamplighters-road.txt');

/** Taken from a directory, at any depth. Other files are taken only when named or matched by a glob. */
const directoryPattern = '**/*.{txt,text,md}';

/** Matches sorted by path; of the ways that links give to a file, the shortest. */
async function matches(pattern: string, o: GlobOptions): Promise<string[]> {
  const found = (await glob(pattern, { ...o, onlyFiles: true })).sort();
  const shortest = new Map<string, string>();
  for (const file of found) {
    const real = await realpath(o.cwd === undefined ? file : join(String(o.cwd), file)).catch(() => file);
    const other = shortest.get(real);
    if (other === undefined || file.length < other.length) shortest.set(real, file);
  }
  return [...shortest.values()].sort();
}

/**
 * Files in the order in which they are concatenated: arguments as given; a directory's *.txt, *.text and *.md at any depth and
 * a glob's matches sorted by path; `-` is standard input; `alice` (unless a file of that name is there) the named corpus.
 *
 * @throws DataError for a file that is not there, a directory without text, a pattern without a match.
 */
export async function resolveSources(corpora: readonly string[], signal?: AbortSignal): Promise<Source[]> {
  if (!Array.isArray(corpora)) throw new UsageError(`corpus must be a list, such as ['book.txt'], not ${corpora}.`);
  if (corpora.length === 0) return [{ name: 'the bundled tale', path: bundledCorpusPath }];
  const sources: Source[] = [];
  for (const corpus of corpora) {
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
      const files = await matches(directoryPattern, { cwd: corpus });
      if (files.length === 0) {
        throw new DataError(`${corpus} holds no text: no *.txt, *.text or *.md in it; name the files, or use a glob`);
      }
      for (const file of files) sources.push({ name: join(corpus, file), path: join(corpus, file) });
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
