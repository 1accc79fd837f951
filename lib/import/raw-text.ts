/**
 * A text as it stands in a file, with its line breaks, byte order mark and frame: which symbols it has, and a part of its middle. Memory
 * does not grow with the text.
 */
import { readText } from '../corpus/decode';
import { SymbolCounter } from '../corpus/encoder';
import { BookSplitter } from '../corpus/gutenberg';
import { type Normalization, normalizePart } from '../corpus/normalization';
import { resolveSources } from '../corpus/sources';
import { Vocabulary } from '../corpus/vocabulary';

/** Code units of the middle. */
const span = 1 << 14;
/** Code units that the middle is taken from; a longer text is read no further than this for it. */
const longestHeld = 1 << 22;

/** The beginning of a text. */
class Beginning {
  readonly #pieces: string[] = [];
  #length = 0;

  get isWhole(): boolean {
    return this.#length >= longestHeld;
  }

  push(piece: string): void {
    if (this.isWhole) return;
    this.#pieces.push(piece.slice(0, longestHeld - this.#length));
    this.#length += piece.length;
  }

  /** A part of its middle, which is neither table of contents nor appendix. */
  middle(): string {
    const text = this.#pieces.join('');
    const start = Math.max(0, Math.floor((text.length - span) / 2));
    // Half of a surrogate pair at either end is no character of any vocabulary, and is left out.
    return text.slice(start, start + span);
  }
}

/** The symbols of a text before any normalisation. */
class RawSymbols {
  readonly #counter = new SymbolCounter();
  #begun = false;
  /** Whether it begins with byte order marks; elsewhere they are symbols like any other. */
  #marked = false;

  /** Characters, not counting those marks. */
  get length(): number {
    return this.#counter.length;
  }

  push(piece: string): void {
    let text = piece;
    if (!this.#begun) {
      text = piece.replace(/^\uFEFF+/, '');
      this.#marked ||= text.length < piece.length;
      this.#begun = text !== '';
    }
    this.#counter.count(text);
  }

  /** The symbols of the normalised text. @throws DataError if there are none, or too many. */
  vocabulary(normalization: Normalization): Vocabulary {
    const marks = this.#marked && normalization.byteOrderMark === 'keep' ? ['\uFEFF'] : [];
    const raw = this.#counter.vocabulary(1, marks).symbols;
    return Vocabulary.sorted(new Set(raw.flatMap((symbol) => [...normalizePart(symbol, normalization)])));
  }
}

/** What a text is made of. */
export interface RawText {
  /** A part of its middle. */
  middle: string;
  /** The symbols of all of it and, if it has Project Gutenberg's frames, of what is inside them. */
  all: Pick<RawSymbols, 'vocabulary'>;
  books?: Pick<RawSymbols, 'vocabulary'>;
}

async function* rawPieces(source: string, encoding: string, signal?: AbortSignal): AsyncGenerator<string> {
  for (const file of await resolveSources([source], signal)) yield* readText(file, encoding, signal);
}

/** Reads a text from beginning to end. @throws DataError if it cannot be read. */
export async function readRaw(source: string, encoding: string, signal?: AbortSignal): Promise<RawText> {
  return examine(rawPieces(source, encoding, signal));
}

/** The same for the pieces of a text, none of which splits a surrogate pair. */
export async function examine(pieces: AsyncIterable<string> | Iterable<string>): Promise<RawText> {
  const beginning = new Beginning();
  const [all, books] = [new RawSymbols(), new RawSymbols()];
  const splitter = new BookSplitter((text) => books.push(text));
  for await (const piece of pieces) {
    beginning.push(piece);
    all.push(piece);
    splitter.push(piece);
  }
  return { middle: beginning.middle(), all, ...(splitter.end() && books.length > 0 ? { books } : {}) };
}

/** A part of the middle of a text, reading no more of it than that takes. @throws DataError if it cannot be read. */
export async function readMiddle(source: string, encoding: string, signal?: AbortSignal): Promise<string> {
  const beginning = new Beginning();
  for await (const piece of rawPieces(source, encoding, signal)) {
    beginning.push(piece);
    if (beginning.isWhole) break;
  }
  return beginning.middle();
}
