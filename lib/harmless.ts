/**
 * Text from a file, a name or an argument as part of a message: on one line, with nothing in it that a terminal would obey, that
 * breaks the line, or that changes the order in which it is read.
 */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, escaped);
}

/** The same for a text of several lines, in whatever script: it keeps its line breaks, tabs, joiners and marks of direction. */
export function harmlessText(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, escaped);
}

/** The same for a document, where a replacement character says that something stood there. */
export function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, '\ufffd');
}

function escaped(symbol: string): string {
  return `\\u{${symbol.codePointAt(0)?.toString(16)}}`;
}
