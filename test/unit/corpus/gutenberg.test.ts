import fc from 'fast-check';
import { BookFinder, cutBooks, gutenbergNote, stripGutenberg } from '../../../lib/corpus/gutenberg';
import { share } from '../../fixtures/child';

const start = '*** START OF THE PROJECT GUTENBERG EBOOK ALICE ***';
const end = '*** END OF THE PROJECT GUTENBERG EBOOK ALICE ***';
const book = (options: { before?: string; text?: string; after?: string; first?: string; last?: string } = {}) =>
  `${options.before ?? 'The licence\n\n'}${options.first ?? start}\n${options.text ?? '\nDown the rabbit-hole.\n'}${options.last ?? end}\n${options.after ?? 'Donate\n'}`;

it.each([
  ['the usual form', book()],
  ['of older books', book({ first: start.replace('THE', 'THIS'), last: end.replace('THE', 'THIS') })],
  ['without a space', book({ first: start.replace('*** ', '***'), last: end.replace('*** ', '***') })],
  ['in lower case', book({ first: start.toLowerCase(), last: end.toLowerCase() })],
  ['with nothing around', book({ before: '', after: '' })],
  ['with no line break at the end', book({ after: '' }).trimEnd()],
])('strips %s', (_, text) => {
  expect(stripGutenberg(text)).toBe('\nDown the rabbit-hole.\n');
});

it('strips to nothing where nothing is between', () => {
  expect(stripGutenberg(book({ text: '' }))).toBe('');
});

it.each([
  ['no markers', 'a text'],
  ['no text', ''],
  ['no end', book({ last: 'The end' })],
  ['no start', book({ first: 'Chapter 1' })],
  ['two starts', book({ text: `${start}\n` })],
  ['two ends', book({ text: `${end}\n` })],
  ['the end before the start', book({ first: end, last: start })],
  ['a marker in the middle of a line', book({ first: `See ${start}` })],
  ['another asterisk', book({ first: `*${start}` })],
  ['both in one line', `${start} ${end}\n`],
])('leaves a text alone that has %s', (_, text) => {
  expect(stripGutenberg(text)).toBeUndefined();
});

it('finds the same in pieces as in the whole, whatever the text', () => {
  const line = fc.oneof(
    fc.constantFrom(start, end, '', '*', '***', '*** START OF', `${start}${'x'.repeat(100)}`),
    fc.string(),
  );
  fc.assert(
    fc.property(
      fc.array(line, { maxLength: 8 }),
      fc.boolean(),
      fc.array(fc.nat({ max: 400 }), { maxLength: 10 }),
      (lines, closed, cuts) => {
        const text = lines.join('\n') + (closed ? '\n' : '');
        const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((a, b) => a - b), text.length];
        const finder = new BookFinder();
        for (const [i, to] of places.slice(1).entries()) finder.push(text.slice(places[i], to));
        const { books } = finder.end();
        const cut = places.slice(1).map((to, i) => cutBooks(text.slice(places[i], to), places[i] as number, books));
        expect(books.length > 0 ? cut.join('') : undefined).toBe(stripGutenberg(text));
        // The rule, written out line by line.
        const all = text.split('\n');
        const [starts, ends] = [
          /^\*\*\* ?START OF THE PROJECT GUTENBERG EBOOK/i,
          /^\*\*\* ?END OF THE PROJECT GUTENBERG EBOOK/i,
        ].map((marker) => all.flatMap((l, i) => (marker.test(l) ? [i] : []))) as [number[], number[]];
        const framed =
          starts.length > 0 &&
          starts.length === ends.length &&
          starts.every((at, i) => at < (ends[i] as number) && (i === 0 || at > (ends[i - 1] as number)));
        const expected = framed
          ? starts
              .map((at, i) =>
                all
                  .slice(at + 1, ends[i])
                  .map((l) => `${l}\n`)
                  .join(''),
              )
              .join('')
          : undefined;
        expect(stripGutenberg(text)).toBe(expected);
      },
    ),
    { numRuns: share(5000) },
  );
});

it('strips each of several books, and says how many', () => {
  const text = book() + book({ text: 'Through the glass.\n' }) + book({ text: '', before: '' });
  expect(stripGutenberg(text)).toBe('\nDown the rabbit-hole.\nThrough the glass.\n');
  const finder = new BookFinder();
  finder.push(text);
  expect(gutenbergNote('a.txt', finder.end())).toContain('headers and footers of 3 books left out');
});

it.each([
  ['no end line', book({ last: 'The end' }), '1 start and 0 ends'],
  ['the start of a second book', book() + start, '2 starts and 1 end'],
  ['a book within a book', book({ text: book() }), '2 starts and 2 ends'],
])('says that a text with %s is left as it is', (_, text, counts) => {
  const finder = new BookFinder();
  finder.push(text);
  const found = finder.end();
  expect(found.books).toEqual([]);
  expect(gutenbergNote('a.txt', found)).toMatch(`a.txt: Project Gutenberg's text left in, as it has ${counts}`);
});
