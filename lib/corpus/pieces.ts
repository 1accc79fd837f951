/** The texts of several sources as one, in pieces: normalised, without Project Gutenberg's headers and footers. */
import { toByteString } from './bytes';
import { readBytes, readText } from './decode';
import { BookFinder, type BookRange, cutBooks, type FoundBooks } from './gutenberg';
import { type Normalization, StreamNormalizer } from './normalization';
import type { Source } from './sources';

/** A part of a text that splits no surrogate pair. */
export interface Piece {
  text: string;
  /** The source that begins with this piece; undefined within one, and for what is inserted between two. */
  begins?: Source;
}

export interface ReadOptions {
  normalization: Normalization;
  encoding: string;
  gutenberg: 'auto' | 'keep';
  signal: AbortSignal | undefined;
  /** Called once for every source that was searched for Project Gutenberg's lines. */
  onFound: (source: Source, books: FoundBooks) => void;
}

async function* normalized(source: Source, options: ReadOptions): AsyncGenerator<string> {
  if (options.normalization.symbols === 'bytes') {
    for await (const piece of readBytes(source, options.signal)) yield toByteString(piece);
    return;
  }
  const normalizer = new StreamNormalizer(options.normalization);
  for await (const piece of readText(source, options.encoding, options.signal)) yield normalizer.push(piece);
  yield normalizer.end();
}

/** A source's text, read once and held in memory. */
export async function* heldText(source: Source, options: ReadOptions): AsyncGenerator<string> {
  const finder = options.gutenberg === 'keep' ? undefined : new BookFinder();
  const pieces: string[] = [];
  for await (const piece of normalized(source, options)) {
    finder?.push(piece);
    pieces.push(piece);
  }
  yield* cut(pieces, found(finder, source, options));
}

/** A source's text, in memory that does not grow with it: a first pass finds the header and footer. */
export async function* streamedText(source: Source, options: ReadOptions): AsyncGenerator<string> {
  const finder = options.gutenberg === 'keep' ? undefined : new BookFinder();
  if (finder) for await (const piece of normalized(source, options)) finder.push(piece);
  yield* cut(normalized(source, options), found(finder, source, options));
}

function found(finder: BookFinder | undefined, source: Source, options: ReadOptions): readonly BookRange[] {
  const books = finder?.end();
  if (books) options.onFound(source, books);
  return books?.books ?? [];
}

/** The books in these pieces, or all of the text if there are none. */
async function* cut(
  pieces: Iterable<string> | AsyncIterable<string>,
  books: readonly BookRange[],
): AsyncGenerator<string> {
  let at = 0;
  for await (const piece of pieces) {
    yield books.length === 0 ? piece : cutBooks(piece, at, books);
    at += piece.length;
  }
}

/**
 * The texts, concatenated. A newline is inserted between two if the first does not end in one, unless they are to be left unchanged.
 * No piece is empty.
 */
export async function* concatenated(
  sources: readonly Source[],
  read: (source: Source) => AsyncIterable<string>,
  asTheyAre = false,
): AsyncGenerator<Piece> {
  let last = '\n';
  for (const source of sources) {
    let begun = false;
    for await (const text of read(source)) {
      if (text === '') continue;
      if (!begun && last !== '\n' && !asTheyAre) yield { text: '\n' };
      yield begun ? { text } : { text, begins: source };
      begun = true;
      last = text.slice(-1);
    }
  }
}
