import fc from 'fast-check';
import { largestVocabulary, Vocabulary } from '../../../lib/corpus/vocabulary';
import { UsageError } from '../../../lib/errors';
import { share } from '../../fixtures/child';
import { codePoint } from '../../fixtures/texts';

it('sorts by code point, not by code unit, and never splits a pair', () => {
  // By code units, U+FFFD comes after U+1F98A, which begins with D83E; by code points, before it.
  const vocabulary = Vocabulary.of(['b🦊a\uFFFD', 'é\nb']);
  expect(vocabulary.symbols).toEqual(['\n', 'a', 'b', 'é', '\uFFFD', '🦊']);
  expect(vocabulary.size).toBe(6);
  expect(vocabulary.idOf('🦊')).toBe(5);
  expect(vocabulary.idOf('x')).toBeUndefined();
  expect(JSON.parse(JSON.stringify(vocabulary))).toEqual(vocabulary.symbols);
});

it('decodes what it encoded', () => {
  fc.assert(
    fc.property(fc.string({ unit: codePoint, minLength: 1, maxLength: 40 }), (text) => {
      const vocabulary = Vocabulary.of([text]);
      const ids = vocabulary.encode(text);
      expect(ids).toHaveLength([...text].length);
      expect(vocabulary.decode(ids)).toBe(text);
      const points = vocabulary.symbols.map((symbol) => symbol.codePointAt(0) as number);
      expect(points).toEqual([...new Set(points)].sort((a, b) => a - b));
    }),
    { numRuns: share(2000) },
  );
});

it('names unknown characters, each with its code, the first with its place', () => {
  const vocabulary = new Vocabulary(['a', 'b']);
  expect(() => vocabulary.encode('ab🦊aéb\u0007é', { what: 'the prompt' })).toThrow(
    "the prompt has characters the model does not know: '🦊' (U+1F98A), 'é' (U+00E9), U+0007 " +
      "(the first at character 2); remove them, or leave them out with `unknown: 'skip'`",
  );
  expect(() => vocabulary.encode('1234567')).toThrow("'5' (U+0035) and 2 more (the first at character 0)");
  expect([...vocabulary.encode('ab🦊aéb', { unknown: 'skip' })]).toEqual([0, 1, 0, 1]);
  expect([...vocabulary.encode('', {})]).toEqual([]);
});

it.each([
  [[], 'the vocabulary is empty'],
  [['a', 'a'], 'names a symbol twice'],
  [['ab'], '"ab" is not one character'],
  [[''], '"" is not one character'],
  [['\ud83e'], '"\\ud83e" is not one character'],
  [['e\u0301'], 'is not one character'],
])('refuses %j', (symbols, message) => {
  expect(() => new Vocabulary(symbols)).toThrow(message);
});

it('holds 65,536 symbols and no more', () => {
  const symbols = Array.from({ length: largestVocabulary + 1 }, (_, i) => String.fromCodePoint(0x10000 + i));
  expect(new Vocabulary(symbols.slice(1)).idOf(symbols.at(-1) as string)).toBe(65_535);
  expect(() => new Vocabulary(symbols)).toThrow('65,537 different characters, more than 65,536: is it a text file?');
});

it('refuses an id that it does not have', () => {
  for (const id of [-1, 2, 0.5, Number.NaN])
    expect(() => new Vocabulary(['a', 'b']).decode([0, id])).toThrow(UsageError);
});

describe('a character that is known in its other form', () => {
  const error = (symbols: string, text: string) => {
    try {
      new Vocabulary([...new Set(symbols)]).encode(text, { what: 'the prompt' });
    } catch (thrown) {
      return (thrown as Error).message;
    }
    return '';
  };

  it('is said to be known so', () => {
    expect(error('cafe\u0301', 'café')).toContain(
      "'é' (U+00E9) (the first at character 3); the model knows 'é' (U+00E9) as 'e' (U+0065) and U+0301: write it so, or train with `normalize: 'nfc'`",
    );
    expect(error('café', 'cafe\u0301')).toContain("like 'é' (U+00E9): write them so (NFC)");
    expect(error('abc', 'é')).not.toContain('`normalize');
    expect(error('abc', 'b\u0301')).not.toContain('`normalize');
  });

  it('is taken when it is written so, as the message says', () => {
    expect(error('cafe\u0301', 'café'.normalize('NFD'))).toBe('');
    expect(error('café', 'cafe\u0301'.normalize('NFC'))).toBe('');
  });
});
