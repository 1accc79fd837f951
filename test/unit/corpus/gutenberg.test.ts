import fc from 'fast-check';
import { BookFinder, stripGutenberg } from '../../../lib/corpus/gutenberg';

const start = '*** START OF THE PROJECT GUTENBERG EBOOK ALICE ***';
const end = '*** END OF THE PROJECT GUTENBERG EBOOK ALICE ***';
const book = (o: { before?: string; text?: string; after?: string; first?: string; last?: string } = {}) =>
  `${o.before ?? 'The licence\n\n'}${o.first ?? start}\n${o.text ?? '\nDown the rabbit-hole.\n'}${o.last ?? end}\n${o.after ?? 'Donate\n'}`;

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
        const range = finder.end();
        expect(range && text.slice(range.begin, range.end)).toBe(stripGutenberg(text));
        // The rule itself, line by line.
        const all = text.split('\n');
        const [starts, ends] = [
          /^\*\*\* ?START OF THE PROJECT GUTENBERG EBOOK/i,
          /^\*\*\* ?END OF THE PROJECT GUTENBERG EBOOK/i,
        ].map((marker) => all.flatMap((l, i) => (marker.test(l) ? [i] : []))) as [number[], number[]];
        const framed = starts.length === 1 && ends.length === 1 && (starts[0] as number) < (ends[0] as number);
        const expected = framed
          ? all
              .slice((starts[0] as number) + 1, ends[0])
              .map((l) => `${l}\n`)
              .join('')
          : undefined;
        expect(stripGutenberg(text)).toBe(expected);
      },
    ),
    { numRuns: 5000 },
  );
});
