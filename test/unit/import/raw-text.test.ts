/** The symbols and the middle of a text that is read in pieces, against those of the whole text in memory. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { stripGutenberg } from '../../../lib/corpus/gutenberg';
import { type Normalization, normalizeText } from '../../../lib/corpus/normalization';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { examine, readMiddle, readRaw } from '../../../lib/import/raw-text';
import { share } from '../../fixtures/child';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'raw-text-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const normalizations: Normalization[] = [false, true].flatMap((lowercase) =>
  [undefined, 'keep' as const].flatMap((lineBreaks) =>
    [undefined, 'keep' as const].map((byteOrderMark) => ({ lowercase, lineBreaks, byteOrderMark })),
  ),
);

const start = '*** START OF THE PROJECT GUTENBERG EBOOK ALICE ***\n';
const end = '*** END OF THIS PROJECT GUTENBERG EBOOK\n';
const words = fc.constantFrom(
  'a',
  'Σ',
  'İ',
  'é',
  '\r',
  '\n',
  '\r\n',
  '\uFEFF',
  '🦊',
  '*',
  '***',
  `*${'x'.repeat(100)}\n`,
);
const markers = fc.constantFrom(start, end, `${end.trim()}\r\n`, end.trim(), `${start.trim()}${'y'.repeat(100)}\n`);
const somewhere = fc
  .array(fc.oneof({ weight: 3, arbitrary: words }, { weight: 2, arbitrary: markers }), { maxLength: 24 })
  .map((parts) => parts.join(''));
const plain = fc.array(words, { maxLength: 8 }).map((parts) => parts.join(''));
/** Books, each between its own start line and end line. */
const books = fc
  .array(fc.tuple(plain, plain), { minLength: 1, maxLength: 3 })
  .map((all) => all.map(([before, book]) => `${before}\n${start}${book}\n${end}`).join(''));
const texts = fc.oneof(somewhere, books);

/** Cuts a text at these places, except where that would split a surrogate pair. */
function cut(text: string, places: readonly number[]): string[] {
  const borders = [...new Set([0, ...places.map((place) => place % (text.length + 1)), text.length])]
    .filter((at) => !/^[\uDC00-\uDFFF]/.test(text.slice(at)))
    .sort((a, b) => a - b);
  return borders.slice(1).map((to, i) => text.slice(borders[i], to));
}

function vocabularyOf(make: () => Vocabulary): string {
  try {
    return make().symbols.join('|');
  } catch (error) {
    return (error as Error).message;
  }
}

it('its symbols are those of the whole text, with and without a frame, as each normalization has them', async () => {
  let framed = 0;
  await fc.assert(
    fc.asyncProperty(texts, fc.array(fc.nat(2000), { maxLength: 8 }), async (text, places) => {
      const { all, books: inBooks, middle } = await examine(cut(text, places));
      expect(middle).toBe(text);
      const book = stripGutenberg(text);
      expect(inBooks !== undefined).toBe(book !== undefined && book.replace(/^\uFEFF+/, '') !== '');
      framed += inBooks ? 1 : 0;
      for (const normalization of normalizations) {
        const of = (whole: string) => vocabularyOf(() => Vocabulary.of([normalizeText(whole, normalization)]));
        expect(vocabularyOf(() => all.vocabulary(normalization))).toBe(of(text));
        if (inBooks) expect(vocabularyOf(() => inBooks.vocabulary(normalization))).toBe(of(book as string));
      }
    }),
    { numRuns: share(1000) },
  );
  expect(framed).toBeGreaterThan(share(100));
});

it('its middle is that of the text, or of the beginning of one that is long', async () => {
  const digits = (length: number) =>
    Array.from({ length: Math.ceil(length / 8) }, (_, i) => `${i}`.padStart(8)).join('');
  for (const length of [0, 1, 16_383, 16_384, 16_385, 40_001, (1 << 22) - 1, 1 << 22, (1 << 22) + 1, 5_000_000]) {
    const text = digits(length).slice(0, length);
    const path = join(folder, 'text.txt');
    writeFileSync(path, text);
    const beginning = text.slice(0, 1 << 22);
    const from = Math.max(0, Math.floor((beginning.length - 16_384) / 2));
    const middle = beginning.slice(from, from + 16_384);
    expect((await readMiddle(path, 'utf8')) === middle).toBe(true);
    expect((await readRaw(path, 'utf8')).middle === middle).toBe(true);
  }
});

it('no more of a text is read for its middle than that takes', async () => {
  const path = join(folder, 'endless.txt');
  writeFileSync(path, '');
  truncateSync(path, 2 ** 40); // Far too long to be read to its end.
  expect(await readMiddle(path, 'utf8')).toBe('\0'.repeat(16_384));
});
