/** Texts to score, from wherever a corpus may come (files, folders, globs, names, stdin). */
import { openCorpus } from '../corpus/corpus';
import type { LanguageModel } from '../model';
import type { ReadableIds } from './score';

/** A text, open for scoring. */
export interface OpenText {
  ids: ReadableIds;
  /** Lines worth telling the user, e.g. that a Project Gutenberg header was left out. */
  notes: string[];
  close(): void;
}

/** How a text is read. */
export interface OpenTextOptions {
  unknown?: 'error' | 'skip' | undefined;
  encoding?: string | undefined;
  gutenberg?: 'auto' | 'keep' | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Opens a text as ids of the model's vocabulary, normalised as its corpus was.
 *
 * @throws DataError if it cannot be read, or has characters that the model does not know (and `unknown` is not `'skip'`).
 */
export async function openText(model: LanguageModel, source: string, o: OpenTextOptions = {}): Promise<OpenText> {
  if (o.unknown !== 'skip') {
    const corpus = await openCorpus([source], { ...readingOptions(model, o), vocabulary: model.vocabulary });
    return { ids: corpus.ids, notes: corpus.notes, close: () => corpus.close() };
  }
  // Read with a vocabulary of its own, the text can have any character; those that the model does not know are left out.
  const corpus = await openCorpus([source], readingOptions(model, o));
  try {
    const table = corpus.vocabulary.symbols.map((symbol) => model.vocabulary.idOf(symbol) ?? -1);
    const kept = new Uint16Array(corpus.length);
    let length = 0;
    for (let start = 0; start < corpus.length; start += pieceLength) {
      for (const own of corpus.ids.read(start, Math.min(pieceLength, corpus.length - start))) {
        const id = table[own] as number;
        if (id >= 0) kept[length++] = id;
      }
    }
    const skipped = corpus.length - length;
    const notes = skipped > 0 ? [`${source}: skipped ${skipped} characters that the model does not know`] : [];
    const read = (start: number, count: number) => kept.subarray(start, Math.min(start + count, length));
    return { ids: { length, read }, notes: [...corpus.notes, ...notes], close: () => {} };
  } finally {
    corpus.close();
  }
}

/** Reads a text's lines, normalised as the model's corpus was, without their line breaks. */
export async function readLines(
  model: LanguageModel,
  source: string,
  o: OpenTextOptions = {},
): Promise<{ lines: string[]; notes: string[] }> {
  const corpus = await openCorpus([source], readingOptions(model, o));
  try {
    const pieces: string[] = [];
    for (let start = 0; start < corpus.length; start += pieceLength) {
      pieces.push(corpus.vocabulary.decode(corpus.ids.read(start, Math.min(pieceLength, corpus.length - start))));
    }
    const lines = pieces.join('').split('\n');
    if (lines.at(-1) === '') lines.pop(); // What follows the last line break is no line.
    return { lines, notes: corpus.notes };
  } finally {
    corpus.close();
  }
}

const pieceLength = 65_536;

function readingOptions(model: LanguageModel, o: OpenTextOptions) {
  return {
    lowercase: model.metadata.normalization.lowercase,
    ...(o.encoding === undefined ? {} : { encoding: o.encoding }),
    ...(o.gutenberg === undefined ? {} : { gutenberg: o.gutenberg }),
    ...(o.signal === undefined ? {} : { signal: o.signal }),
  };
}
