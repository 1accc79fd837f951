import fc from 'fast-check';
import { normalizeText, StreamNormalizer } from '../../../lib/corpus/normalization';

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
  ['ΟΔΟΣ ΟΔΟΣ', 'οδοσ οδοσ'], // No final sigma: each code point by itself.
  ['İ', 'i̇'],
  ['\u{10400}𝕏', '\u{10428}𝕏'], // A Deseret letter, and a mathematical one that has no lower case.
  ['Ⅷ', 'ⅷ'],
])('%s in lower case is %s', (text, expected) => {
  expect(normalizeText(text, lower)).toBe(expected);
});

/** Texts rich in what normalisation touches. */
const texts = fc.string({
  unit: fc.oneof(
    fc.constantFrom('\r', '\n', '\uFEFF', 'Σ', 'σ', 'A', 'İ', ' ', '\u{10400}', '🦊'),
    fc.string({ unit: 'binary', maxLength: 1 }),
  ),
  maxLength: 30,
});

it('is idempotent', () => {
  fc.assert(
    fc.property(texts, fc.boolean(), (text, lowercase) => {
      const once = normalizeText(text, { lowercase });
      expect(normalizeText(once, { lowercase })).toBe(once);
    }),
    { numRuns: 3000 },
  );
});

it('is the same in pieces cut anywhere, between surrogates and between CR and LF too, and no piece splits a pair', () => {
  fc.assert(
    fc.property(texts, fc.array(fc.nat({ max: 30 }), { maxLength: 8 }), fc.boolean(), (text, cuts, lowercase) => {
      const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((a, b) => a - b), text.length];
      const normalizer = new StreamNormalizer({ lowercase });
      const pieces = places.slice(1).map((end, i) => normalizer.push(text.slice(places[i], end)));
      pieces.push(normalizer.end());
      expect(pieces.join('')).toBe(normalizeText(text, { lowercase }));
      for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
    }),
    { numRuns: 5000 },
  );
});
