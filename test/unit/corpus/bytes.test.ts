import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { byteVocabulary, fromByteString, toByteString, Utf8Reader } from '../../../lib/corpus/bytes';
import { openCorpus } from '../../../lib/corpus/corpus';
import { normalizeText, StreamNormalizer } from '../../../lib/corpus/normalization';
import { share } from '../../fixtures/child';
import { codePoint } from '../../fixtures/texts';

const bytes = fc.uint8Array({ maxLength: 200 });
/** Bytes of which many are nearly valid UTF-8. */
const nearly = fc
  .array(
    fc.oneof(
      fc.constantFrom(0x61, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xa6, 0x8a, 0xed, 0xa0, 0xf4, 0x90, 0xc0, 0xff),
      fc.integer({ min: 0, max: 255 }),
    ),
    { maxLength: 60 },
  )
  .map((list) => Uint8Array.from(list));

it('a byte string stands for its bytes, and its ids are they', () => {
  const vocabulary = byteVocabulary();
  fc.assert(
    fc.property(bytes, (given) => {
      const text = toByteString(given);
      expect([...fromByteString(text)]).toEqual([...given]);
      expect([...vocabulary.encode(text)]).toEqual([...given]);
    }),
  );
});

it('is read as UTF-8 whatever the pieces are: all that is valid as it is, each other byte by itself', () => {
  fc.assert(
    fc.property(nearly, fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 5 }), (given, cuts) => {
      fc.pre(!given.includes(0x3c));
      const reader = new Utf8Reader((byte) => `<${byte}>`);
      const places = [0, ...cuts.filter((cut) => cut <= given.length).sort((a, b) => a - b), given.length];
      let text = '';
      for (const [i, place] of places.slice(1).entries())
        text += reader.push(toByteString(given.subarray(places[i], place)));
      text += reader.end();
      // Nothing is lost: the characters and the invalid bytes together give the input again.
      const again = text
        .split(/(<\d+>)/)
        .flatMap((part) => (/^<\d+>$/.test(part) ? [Number(part.slice(1, -1))] : [...Buffer.from(part)]));
      expect(again).toEqual([...given]);
      // Bytes are invalid exactly where Node's decoder finds some.
      const whole = Buffer.from(given);
      const valid = whole.equals(Buffer.from(whole.toString('utf8'), 'utf8'));
      expect(text.includes('<')).toBe(!valid);
    }),
    { numRuns: share(500) },
  );
});

it('a text becomes its bytes, in one piece or in many', () => {
  const normalization = { lowercase: false, lineBreaks: 'keep', byteOrderMark: 'keep', symbols: 'bytes' } as const;
  fc.assert(
    fc.property(fc.string({ unit: codePoint, maxLength: 40 }), fc.integer({ min: 0, max: 40 }), (text, cut) => {
      const expected = toByteString(Buffer.from(text));
      expect(normalizeText(text, normalization)).toBe(expected);
      const normalizer = new StreamNormalizer(normalization);
      expect(normalizer.push(text.slice(0, cut)) + normalizer.push(text.slice(cut)) + normalizer.end()).toBe(expected);
    }),
  );
  expect(normalizeText('\uFEFFa\r\n', normalization)).toBe('\xef\xbb\xbfa\r\n');
});

describe('a corpus of bytes', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'bytes-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('is the files as they are, one behind another, in memory or not', async () => {
    const all = Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * 31 + (i >> 8)) % 256));
    const [a, b] = [join(folder, 'a.bin'), join(folder, 'b.bin')];
    writeFileSync(a, all.subarray(0, 1001));
    writeFileSync(b, all.subarray(1001));
    for (const streamAbove of [1e9, 0]) {
      const corpus = await openCorpus([a, b], { bytes: true, streamAbove });
      expect(corpus.length).toBe(all.length);
      expect(Buffer.from(corpus.ids.read(0, all.length)).equals(all)).toBe(true);
      expect(corpus.vocabulary.size).toBe(256);
      expect(corpus.sha256).toBe(createHash('sha256').update(all).digest('hex'));
      expect(corpus.normalization).toEqual({
        lowercase: false,
        lineBreaks: 'keep',
        byteOrderMark: 'keep',
        symbols: 'bytes',
      });
      expect(corpus.notes.filter((note) => !note.includes('id file'))).toEqual([]);
      corpus.close();
    }
  });

  it('keeps what a text would lose, and is refused what bytes cannot be', async () => {
    const file = join(folder, 'book.txt');
    const text =
      '\uFEFFhead\r\n*** START OF THE PROJECT GUTENBERG EBOOK A ***\r\nBook\r\n*** END OF THE PROJECT GUTENBERG EBOOK A ***\r\n';
    writeFileSync(file, text);
    const corpus = await openCorpus([file], { bytes: true });
    expect(corpus.length).toBe(Buffer.byteLength(text));
    await expect(openCorpus([file], { bytes: true, lowercase: true })).rejects.toThrow('bytes are taken as they are');
    await expect(openCorpus([file], { bytes: true, normalize: 'nfc' })).rejects.toThrow('bytes are taken as they are');
    const empty = join(folder, 'empty');
    writeFileSync(empty, '');
    await expect(openCorpus([empty], { bytes: true })).rejects.toThrow('is empty');
    writeFileSync(empty, Buffer.alloc(100));
    await expect(openCorpus([empty], { bytes: true })).rejects.toThrow('only one symbol');
  });
});
