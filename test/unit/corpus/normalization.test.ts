import fc from 'fast-check';
import { normalizeText, StreamNormalizer } from '../../../lib/corpus/normalization';
import { share } from '../../fixtures/child';
import { expectSame } from '../../fixtures/same';
import { codePoint } from '../../fixtures/texts';

const plain = { lowercase: false };
const lower = { lowercase: true };

it.each([
  ['a\r\nb', 'a\nb'],
  ['a\rb', 'a\nb'],
  ['\r\r\n\n\r', '\n\n\n\n'],
  ['\uFEFFa', 'a'],
  ['\uFEFF\uFEFFa\uFEFF', 'a\uFEFF'],
  ['\uFEFF\r\n', '\n'],
  ['', ''],
  ['\uFEFF', ''],
])('%j becomes %j', (text, expected) => {
  expect(normalizeText(text, plain)).toBe(expected);
});

it.each([
  ['ÄÖÜẞ', 'äöüß'],
  ['ΟΔΟΣ ΟΔΟΣ', 'οδοσ οδοσ'], // No final sigma: each code point is lower-cased by itself.
  ['İ', 'i̇'],
  ['\u{10400}𝕏', '\u{10428}𝕏'], // A Deseret letter, and a mathematical one that has no lower case.
  ['Ⅷ', 'ⅷ'],
])('%s in lower case is %s', (text, expected) => {
  expect(normalizeText(text, lower)).toBe(expected);
});

it('brings into a normal form, before and after lower-casing', () => {
  expect(normalizeText('cafe\u0301 ﬁ', { lowercase: false, form: 'nfc' })).toBe('café ﬁ');
  expect(normalizeText('cafe\u0301 ﬁ ℌ', { lowercase: true, form: 'nfkc' })).toBe('café fi h');
  // Lower-casing İ leaves a combining dot above, which NFC puts after a mark below.
  expect(normalizeText('İ\u0316', { lowercase: true, form: 'nfc' })).toBe('i\u0316\u0307');
});

it('keeps line breaks and a byte order mark if asked', () => {
  const text = '\uFEFFA\r\nb\rc\n';
  expect(normalizeText(text, { lowercase: true, lineBreaks: 'keep' })).toBe('a\r\nb\rc\n');
  expect(normalizeText(text, { lowercase: true, byteOrderMark: 'keep' })).toBe('\uFEFFa\nb\nc\n');
});

/** Texts rich in what normalisation changes. */
const texts = fc.string({
  unit: fc.oneof(
    fc.constantFrom('\r', '\n', '\uFEFF', 'Σ', 'σ', 'A', 'İ', ' ', '\u{10400}', '🦊'),
    // What composes with its neighbours: letters and marks above or below them, full- and half-width kana, parts of Hangul syllables.
    fc.constantFrom(
      'e',
      'é',
      '\u0301',
      '\u0316',
      '\u0323',
      '\u0345',
      'が',
      '\u3099',
      'ﾊ',
      '\uFF9E',
      'ᄀ',
      '가',
      'ᆨ',
      'ﬁ',
      'α',
      'Å',
    ),
    codePoint,
  ),
  maxLength: 30,
});
const normalizations = fc.record({
  lowercase: fc.boolean(),
  form: fc.constantFrom(undefined, 'nfc' as const, 'nfkc' as const),
  lineBreaks: fc.constantFrom(undefined, 'keep' as const),
  byteOrderMark: fc.constantFrom(undefined, 'keep' as const),
});

it('is idempotent', () => {
  fc.assert(
    fc.property(texts, normalizations, (text, normalization) => {
      const once = normalizeText(text, normalization);
      expectSame(normalizeText(once, normalization), once);
    }),
    { numRuns: share(6000) },
  );
});

it('is the same in pieces cut anywhere, between surrogates and between CR and LF too, and no piece splits a pair', () => {
  fc.assert(
    fc.property(texts, fc.array(fc.nat({ max: 30 }), { maxLength: 8 }), normalizations, (text, cuts, normalization) => {
      const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((a, b) => a - b), text.length];
      const normalizer = new StreamNormalizer(normalization);
      const pieces = places.slice(1).map((end, i) => normalizer.push(text.slice(places[i], end)));
      pieces.push(normalizer.end());
      expectSame(pieces.join(''), normalizeText(text, normalization));
      expectSame(
        pieces.find((piece) => /\p{Surrogate}/u.test(piece)),
        undefined,
      );
    }),
    { numRuns: share(10_000) },
  );
});
