/** Project Gutenberg's licence text around a book is not the book. */

const marker = /^\*\*\* ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG EBOOK/i;
/** Of a line, what is looked at: a marker's fixed part is shorter. */
const headLength = 64;

/** Where a book stands in a text: code units begin .. end - 1. */
export interface BookRange {
  begin: number;
  end: number;
}

/** Looks for the two marker lines in a text that comes in pieces, its lines ended by LF. */
export class BookFinder {
  private seen = 0;
  private lineBegin = 0;
  /** The beginning of the line in progress, if it begins with an asterisk. */
  private head = '';
  private readonly startLineEnds: number[] = [];
  private readonly endLineBegins: number[] = [];

  push(text: string): void {
    for (let from = 0; from < text.length; ) {
      const newline = text.indexOf('\n', from);
      const stop = newline < 0 ? text.length : newline;
      if (this.head !== '' || (this.seen + from === this.lineBegin && text[from] === '*'))
        this.head += text.slice(from, Math.min(stop, from + headLength - this.head.length));
      if (newline >= 0) this.endLine(this.seen + newline);
      from = stop + 1;
    }
    this.seen += text.length;
  }

  private endLine(at: number): void {
    const kind = marker.exec(this.head)?.[1]?.toUpperCase();
    if (kind === 'START') this.startLineEnds.push(at);
    else if (kind === 'END') this.endLineBegins.push(this.lineBegin);
    this.lineBegin = at + 1;
    this.head = '';
  }

  /**
   * What stands between the two lines, or undefined if they are not both there exactly once in that order: then the text is not
   * what it seems, and stays as it is.
   */
  end(): BookRange | undefined {
    this.endLine(this.seen);
    const [start] = this.startLineEnds;
    const [end] = this.endLineBegins;
    if (this.startLineEnds.length !== 1 || this.endLineBegins.length !== 1) return undefined;
    if (start === undefined || end === undefined || start > end) return undefined;
    return { begin: start + 1, end };
  }
}

/** The book in a text, or undefined if it stands between no such lines. */
export function stripGutenberg(text: string): string | undefined {
  const finder = new BookFinder();
  finder.push(text);
  const book = finder.end();
  return book && text.slice(book.begin, book.end);
}
