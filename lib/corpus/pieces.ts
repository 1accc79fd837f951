/** The texts of several sources as one: normalised, without Project Gutenberg's frame, in pieces. */
import { readText } from './decode';
import { BookFinder, type BookRange, stripGutenberg } from './gutenberg';
import { type Normalization, StreamNormalizer } from './normalization';
import type { Source } from './sources';

/** A part of a text that splits no surrogate pair. */
export interface Piece {
  text: string;
  /** The source that begins with it; undefined within one, and for what is put between two. */
  begins?: string;
}

export interface ReadOptions {
  normalization: Normalization;
  encoding: string;
  gutenberg: 'auto' | 'keep';
  signal: AbortSignal | undefined;
  /** Called once for every source whose frame is left out. */
  onStripped: (source: Source) => void;
}

async function* normalized(source: Source, o: ReadOptions): AsyncGenerator<string> {
  const normalizer = new StreamNormalizer(o.normalization);
  for await (const piece of readText(source, o.encoding, o.signal)) yield normalizer.push(piece);
  yield normalizer.end();
}

/** A source's text in one string. */
export async function* wholeText(source: Source, o: ReadOptions): AsyncGenerator<string> {
  const pieces: string[] = [];
  for await (const piece of normalized(source, o)) pieces.push(piece);
  const text = pieces.join('');
  const book = o.gutenberg === 'keep' ? undefined : stripGutenberg(text);
  if (book !== undefined) o.onStripped(source);
  yield book ?? text;
}

/** A source's text piece by piece, in memory that does not grow with it: it is read through first to find the frame. */
export async function* streamedText(source: Source, o: ReadOptions): AsyncGenerator<string> {
  let range: BookRange | undefined;
  if (o.gutenberg !== 'keep') {
    const finder = new BookFinder();
    for await (const piece of normalized(source, o)) finder.push(piece);
    range = finder.end();
    if (range) o.onStripped(source);
  }
  let at = 0;
  for await (const piece of normalized(source, o)) {
    yield range ? piece.slice(Math.max(0, range.begin - at), Math.max(0, range.end - at)) : piece;
    at += piece.length;
  }
}

/** The texts one after another; a newline goes between two where the first does not end in one. None of the pieces is empty. */
export async function* concatenated(
  sources: readonly Source[],
  read: (source: Source) => AsyncIterable<string>,
): AsyncGenerator<Piece> {
  let last = '\n';
  for (const source of sources) {
    let begun = false;
    for await (const text of read(source)) {
      if (text === '') continue;
      if (!begun && last !== '\n') yield { text: '\n' };
      yield begun ? { text } : { text, begins: source.name };
      begun = true;
      last = text.slice(-1);
    }
  }
}
