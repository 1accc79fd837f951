/**
 * Text from a file, a name or an argument as part of a message: on one line, with everything escaped that a terminal would obey,
 * that breaks the line, or that changes the reading order.
 */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, escaped);
}

/** The same for text of several lines in any script: line breaks, tabs, joiners and direction marks are kept. */
export function harmlessText(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, escaped);
}

/** The same for a document, with a replacement character in place of each escape. */
export function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, '\ufffd');
}

function escaped(symbol: string): string {
  return `\\u{${symbol.codePointAt(0)?.toString(16)}}`;
}
