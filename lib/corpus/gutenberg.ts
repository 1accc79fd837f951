/** Project Gutenberg's licence text around a book is not the book. */

const start = /^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*$/gim;
const end = /^\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*$/gim;

/**
 * What stands between the two marker lines, or undefined if they are not both there exactly once in that order: then the text
 * is not what it seems, and stays as it is.
 */
export function stripGutenberg(text: string): string | undefined {
  const starts = [...text.matchAll(start)];
  const ends = [...text.matchAll(end)];
  const [first] = starts;
  const [last] = ends;
  if (starts.length !== 1 || ends.length !== 1 || first === undefined || last === undefined) return undefined;
  const from = first.index + first[0].length;
  if (from > last.index) return undefined;
  return text.slice(from, last.index).replace(/^\n/, '');
}
