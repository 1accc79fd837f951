/** Texts to score, from wherever a corpus may come (files, folders, globs, names, stdin). */
import { Breather } from '../breather';
import { type CorpusOptions, defaultStreamAbove, openCorpus, settle } from '../corpus/corpus';
import { gutenbergNote } from '../corpus/gutenberg';
import type { IdSource } from '../corpus/ids';
import type { Normalization } from '../corpus/normalization';
import { heldText, type ReadOptions, streamedText } from '../corpus/pieces';
import { resolveSources } from '../corpus/sources';
import { TemporaryFolder } from '../corpus/temporary';
import type { Vocabulary } from '../corpus/vocabulary';
import { DataError } from '../errors';
import { grouped } from '../numbers';
import { option } from '../wording';

/** The part of a model that decides how a text is read; a `LanguageModel` is one. */
export interface Reader {
  readonly vocabulary: Vocabulary;
  readonly metadata: { readonly normalization: Normalization };
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
  /** 'add': characters that the model does not know get ids above its own, which are for comparison only. */
  unknown?: 'error' | 'skip' | 'add' | undefined;
  encoding?: string | undefined;
  gutenberg?: 'auto' | 'keep' | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Opens a text as ids of the model's vocabulary, normalised as its corpus was.
 *
 * @throws DataError if it cannot be read, or has characters that the model does not know (and `unknown` is `'error'`).
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

/** The longest line that is accepted, in code units. */
const longestLine = 2 ** 24;

/**
 * A text's lines, normalised as the model's corpus was, without their line breaks. They are read on demand: no more than a piece of a large
 * text is in memory.
 *
 * @param onNote Gets each note before the first line of the text that it is about.
 * @throws DataError if the text cannot be read, or has a line above 2^24 characters.
 */
export async function* readLines(
  model: Pick<Reader, 'metadata'>,
  source: string,
  options: Omit<OpenTextOptions, 'unknown'>,
  onNote: (note: string) => void,
): AsyncGenerator<string> {
  const folder = new TemporaryFolder();
  const sources = await resolveSources([source], options.signal, onNote);
  const reading: ReadOptions = {
    normalization: model.metadata.normalization,
    encoding: options.encoding ?? 'utf8',
    gutenberg: options.gutenberg ?? 'auto',
    signal: options.signal,
    onFound: ({ name }, books) => {
      const note = gutenbergNote(name, books, `${option({ gutenberg: 'keep' })} to score them`);
      if (note !== undefined) onNote(note);
    },
  };
  try {
    const { settled, bytes } = await settle(sources, folder, defaultStreamAbove, options.signal);
    const breather = new Breather();
    for (const file of settled) {
      let begun = '';
      const grown = (part: string) => {
        const line = begun + part;
        if (line.length <= longestLine) return line;
        throw new DataError(
          `${file.name} has a line of more than ${grouped(longestLine)} characters, so it is no list of lines`,
        );
      };
      for await (const piece of (bytes > defaultStreamAbove ? streamedText : heldText)(file, reading)) {
        let from = 0;
        for (let end = piece.indexOf('\n'); end >= 0; end = piece.indexOf('\n', from)) {
          yield grown(piece.slice(from, end));
          begun = '';
          from = end + 1;
          if (breather.due()) await breather.rest();
        }
        begun = grown(piece.slice(from));
        options.signal?.throwIfAborted();
        if (breather.due()) await breather.rest();
      }
      if (begun !== '') yield begun; // An empty rest after the last line break is not a line.
    }
  } finally {
    await folder.remove();
  }
}
