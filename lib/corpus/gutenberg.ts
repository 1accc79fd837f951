import { grouped, plural } from '../numbers';
import { option } from '../wording';

/** Separates a book from the licence text that Project Gutenberg puts around it. */

const marker = /^\*\*\* ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG EBOOK/i;
/** How many characters of a line are examined; a marker's fixed part is shorter. */
const headLength = 64;

/** Where a book lies in a text: code units begin .. end - 1. */
export interface BookRange {
  begin: number;
  end: number;
}

/** What the marker lines of a text say. */
export interface FoundBooks {
  /** The books, in order; none unless the lines are consecutive pairs of a start and an end. */
  books: BookRange[];
  /** How many lines of each kind there are. */
  starts: number;
  ends: number;
}

/** Finds the marker lines in a text that arrives in pieces, with LF line ends. */
export class BookFinder {
  #seen = 0;
  #lineBegin = 0;
  /** The beginning of the current line, if it begins with an asterisk. */
  #head = '';
  /** In order: where a book begins, after its start line, or ends, before its end line. */
  readonly #markers: { kind: 'START' | 'END'; at: number }[] = [];

  push(text: string): void {
    for (let from = 0; from < text.length; ) {
      const newline = text.indexOf('\n', from);
      const stop = newline < 0 ? text.length : newline;
      if (this.#head !== '' || (this.#seen + from === this.#lineBegin && text[from] === '*'))
        this.#head += text.slice(from, Math.min(stop, from + headLength - this.#head.length));
      if (newline >= 0) this.#endLine(this.#seen + newline);
      from = stop + 1;
    }
    this.#seen += text.length;
  }

  #endLine(at: number): void {
    const kind = marker.exec(this.#head)?.[1]?.toUpperCase();
    if (kind === 'START') this.#markers.push({ kind, at: at + 1 });
    else if (kind === 'END') this.#markers.push({ kind, at: this.#lineBegin });
    this.#lineBegin = at + 1;
    this.#head = '';
  }

  /** Returns what lies between each start line and its end line. If they do not pair up, the text is not what it seems. */
  end(): FoundBooks {
    this.#endLine(this.#seen);
    const starts = this.#markers.filter(({ kind }) => kind === 'START').length;
    const ends = this.#markers.length - starts;
    const paired = starts === ends && this.#markers.every(({ kind }, i) => kind === (i % 2 === 0 ? 'START' : 'END'));
    const books: BookRange[] = [];
    for (let i = 0; paired && i < this.#markers.length; i += 2)
      books.push({ begin: this.#markers[i]?.at as number, end: this.#markers[i + 1]?.at as number });
    return { books, starts, ends };
  }
}

/** The parts of a piece, which begins at `at` in the text, that belong to one of the books. */
export function cutBooks(piece: string, at: number, books: readonly BookRange[]): string {
  return books.map(({ begin, end }) => piece.slice(Math.max(0, begin - at), Math.max(0, end - at))).join('');
}

/** The books in a text, concatenated, or undefined if it has no marker lines or they do not pair up. */
export function stripGutenberg(text: string): string | undefined {
  const finder = new BookFinder();
  finder.push(text);
  const { books } = finder.end();
  return books.length === 0 ? undefined : cutBooks(text, 0, books);
}

/**
 * Passes on the contents of the books in a text that arrives in pieces, and says at the end whether they were books: the same as
 * {@link stripGutenberg}, for a text that is never held in memory.
 */
export class BookSplitter {
  readonly #give: (text: string) => void;
  /** The beginning of the current line, while it may still be a marker. */
  #head = '';
  /** What the current line is; undefined while that is not known. */
  #line: 'text' | 'marker' | undefined;
  #inside = false;
  #books = 0;
  #paired = true;

  constructor(give: (text: string) => void) {
    this.#give = give;
  }

  push(text: string): void {
    for (let from = 0; from < text.length; ) {
      const newline = text.indexOf('\n', from);
      const end = newline < 0 ? text.length : newline + 1;
      this.#push(text.slice(from, end), newline >= 0);
      from = end;
    }
  }

  /** @param ended Whether the text ends a line. */
  #push(text: string, ended: boolean): void {
    if (this.#line === undefined) {
      this.#head += text;
      if (ended || this.#head.length >= headLength || !this.#head.startsWith('*')) this.#settle();
    } else if (this.#line === 'text' && this.#inside) {
      this.#give(text);
    }
    if (ended) this.#line = undefined;
  }

  #settle(): void {
    const head = this.#head;
    const kind = marker.exec(head.slice(0, headLength))?.[1]?.toUpperCase();
    this.#head = '';
    this.#line = kind === undefined ? 'text' : 'marker';
    if (kind === undefined) {
      if (this.#inside) this.#give(head);
      return;
    }
    if ((kind === 'START') === this.#inside) this.#paired = false;
    this.#inside = kind === 'START';
    if (kind === 'END') this.#books++;
  }

  /** Whether what was passed on were books: what lies between each start line and its end line. */
  end(): boolean {
    if (this.#line === undefined && this.#head !== '') this.#settle();
    return this.#paired && !this.#inside && this.#books > 0;
  }
}

/** The note about a text: that its headers and footers were left out, or that they were not. `keep`: how to keep them. */
export function gutenbergNote(
  name: string,
  { books, starts, ends }: FoundBooks,
  keep = `${option({ gutenberg: 'keep' })} to have them in`,
): string | undefined {
  if (books.length === 1) return `${name}: Project Gutenberg's header and footer left out (${keep})`;
  if (books.length > 1) {
    return `${name}: Project Gutenberg's headers and footers of ${grouped(books.length)} books left out (${keep})`;
  }
  if (starts + ends === 0) return undefined;
  return (
    `${name}: Project Gutenberg's text left in, as it has ${plural(starts, 'start')} and ${plural(ends, 'end')}, ` +
    'not one of each for every book'
  );
}
