/** Texts to score, from wherever a corpus may come (files, folders, globs, names, stdin). */
import { type CorpusOptions, openCorpus } from '../corpus/corpus';
import { readText } from '../corpus/decode';
import { BookFinder, cutBooks, gutenbergNote } from '../corpus/gutenberg';
import type { IdSource } from '../corpus/ids';
import type { Normalization } from '../corpus/normalization';
import { resolveSources } from '../corpus/sources';
import type { Vocabulary } from '../corpus/vocabulary';

/** What of a model decides how a text is read; a `LanguageModel` is one. */
export interface Reader {
  readonly vocabulary: Vocabulary;
  readonly metadata: { readonly normalization: Normalization };
  /** A text as the model's corpus was normalised. */
  normalize(text: string): string;
}

/** A text, open for scoring. */
export interface OpenText {
  ids: IdSource;
  /** Characters left out because the model does not know them. */
  skipped: number;
  /** Lines for the user, e.g. that a Project Gutenberg header was left out. */
  notes: string[];
  close(): void;
}

/** How a text is read; see `CorpusOptions`. */
export interface OpenTextOptions {
  /** 'add': what the model does not know gets ids above its own, which are for comparing alone. */
  unknown?: 'error' | 'skip' | 'add' | undefined;
  encoding?: string | undefined;
  gutenberg?: 'auto' | 'keep' | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Opens a text as ids of the model's vocabulary, normalised as its corpus was.
 *
 * @throws DataError if it cannot be read, or has characters that the model does not know (and `unknown` is not `'skip'`).
 */
export async function openText(
  model: Pick<Reader, 'vocabulary' | 'metadata'>,
  source: string,
  options: OpenTextOptions = {},
): Promise<OpenText> {
  const { symbols } = model.metadata.normalization;
  const reading: CorpusOptions = {
    vocabulary: model.vocabulary,
    bytes: symbols === 'bytes',
    lowercase: model.metadata.normalization.lowercase,
    normalize: model.metadata.normalization.form ?? 'none',
    lineBreaks: model.metadata.normalization.lineBreaks,
    byteOrderMark: model.metadata.normalization.byteOrderMark,
    ...(options.unknown === undefined ? {} : { unknown: options.unknown }),
    ...(options.encoding === undefined ? {} : { encoding: options.encoding }),
    ...(options.gutenberg === undefined ? {} : { gutenberg: options.gutenberg }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  const { ids, skipped, notes, close } = await openCorpus([source], reading);
  return { ids, skipped, notes, close };
}

/** Reads a text's lines, normalised as the model's corpus was, without their line breaks. */
export async function readLines(
  model: Pick<Reader, 'normalize'>,
  source: string,
  options: Omit<OpenTextOptions, 'unknown'> = {},
): Promise<{ lines: string[]; notes: string[] }> {
  const lines: string[] = [];
  const notes: string[] = [];
  for (const file of await resolveSources([source], options.signal, (note) => notes.push(note))) {
    const pieces: string[] = [];
    for await (const piece of readText(file, options.encoding ?? 'utf8', options.signal)) pieces.push(piece);
    const text = model.normalize(pieces.join(''));
    for (const line of withoutFrames(file.name, text, options.gutenberg, notes).split('\n')) lines.push(line);
    if (lines.at(-1) === '') lines.pop(); // What follows the last line break is no line.
  }
  return { lines, notes };
}

function withoutFrames(name: string, text: string, gutenberg: 'auto' | 'keep' | undefined, notes: string[]): string {
  if (gutenberg === 'keep') return text;
  const finder = new BookFinder();
  finder.push(text);
  const found = finder.end();
  const note = gutenbergNote(name, found, '--gutenberg keep to score them');
  if (note !== undefined) notes.push(note);
  return found.books.length === 0 ? text : cutBooks(text, 0, found.books);
}
