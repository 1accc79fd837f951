/** Which texts CORPUS… means. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { glob } from 'tinyglobby';
import { DataError } from '../errors';
import { packageRoot } from '../native';
import { alicePath } from './alice';

/** One text to read: a file, or standard input. */
export interface Source {
  /** As the user would name it. */
  name: string;
  /** Undefined for standard input. */
  path?: string;
}

/** The tale that comes with the package: what is trained on when nothing else is named. */
export const bundledCorpusPath = join(packageRoot, 'corpora', 'the-lamplighters-road.txt');

/** Taken from a directory, at any depth. Other files are taken only when named or matched by a glob. */
const directoryPattern = '**/*.{txt,text,md}';

/**
 * Files in the order in which they are concatenated: arguments as given; a directory's *.txt, *.text and *.md at any depth and
 * a glob's matches sorted by path; `-` is standard input; `alice` (unless a file of that name is there) the named corpus.
 *
 * @throws DataError for a file that is not there, a directory without text, a pattern without a match.
 */
export async function resolveSources(corpora: readonly string[], signal?: AbortSignal): Promise<Source[]> {
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
      const files = await glob(directoryPattern, { cwd: corpus, onlyFiles: true });
      if (files.length === 0) {
        throw new DataError(`${corpus} holds no text: no *.txt, *.text or *.md in it; name the files, or use a glob`);
      }
      for (const file of files.sort()) sources.push({ name: join(corpus, file), path: join(corpus, file) });
    } else if (found !== undefined) {
      sources.push({ name: corpus, path: corpus });
    } else if (corpus === 'alice') {
      sources.push({ name: "Alice's Adventures in Wonderland", path: await alicePath(signal) });
    } else if (/[*?[\]{}]/.test(corpus)) {
      const files = await glob(corpus, { onlyFiles: true, expandDirectories: false });
      if (files.length === 0) throw new DataError(`no file matches ${corpus}`);
      for (const file of files.sort()) sources.push({ name: file, path: file });
    } else {
      throw new DataError(`no such file: ${corpus}; name a text file, a directory, a glob, - or alice`);
    }
  }
  return sources;
}
