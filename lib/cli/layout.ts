/** Lines that fit a terminal. */
import { grouped } from '../numbers';

/** Columns of a terminal; undefined for a file or a pipe, where lines may be of any length. */
export function columnsOf(stream: NodeJS.WritableStream): number | undefined {
  const { isTTY, columns } = stream as NodeJS.WriteStream;
  return isTTY ? Math.max(20, columns || 80) : undefined;
}

/** A part of a line. Parts with the highest rank are left out first; rank 0 stays. */
export interface Part {
  readonly text: string;
  readonly rank: number;
  /** Colours it, without taking up columns. */
  readonly style?: (text: string) => string;
}

/** Joins the parts that fit in `width` columns, in order, with two spaces between them. */
export function fitParts(parts: readonly Part[], width = Number.POSITIVE_INFINITY): string {
  let kept = [...parts];
  const length = () => kept.reduce((sum, { text }) => sum + text.length + 2, -2);
  while (length() > width) {
    const worst = Math.max(...kept.map(({ rank }) => rank));
    if (worst === 0) break;
    const at = kept.findLastIndex(({ rank }) => rank === worst);
    kept = kept.filter((_, i) => i !== at);
  }
  if (length() > width)
    return kept
      .map(({ text }) => text)
      .join('  ')
      .slice(0, width);
  return kept.map(({ text, style }) => (style ? style(text) : text)).join('  ');
}

/** Breaks a line at spaces so that it fits in `width`; further lines are indented by two. A longer word stays whole. */
export function wrap(line: string, width = Number.POSITIVE_INFINITY): string[] {
  if (line.length <= width) return [line];
  const lines: string[] = [];
  let current = '';
  for (const word of line.split(' ')) {
    const longer = current === '' ? word : `${current} ${word}`;
    if (longer.length <= width || current.trim() === '') {
      current = longer;
    } else {
      lines.push(current);
      current = `  ${word}`;
    }
  }
  return [...lines, current];
}

export function wholeNumber(value: number): string {
  return Number.isFinite(value) ? grouped(Math.round(value)) : '?';
}
