/** The advice in errors about encodings: each test follows it, to see that it works. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import iconv from 'iconv-lite';
import { checkEncoding, readText } from '../../../lib/corpus/decode';
import { guessWide, sampleBytes } from '../../../lib/corpus/guess';
import { canRun, itWhere, share } from '../../fixtures/child';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'guess-'));
  path = join(folder, 'text');
});
afterAll(() => rm(folder, { recursive: true }));

async function decode(bytes: Uint8Array, encoding = 'utf8'): Promise<string> {
  let text = '';
  for await (const piece of readText({ name: 'a.txt', bytes: [bytes] }, encoding)) text += piece;
  return text;
}

const errorOf = (bytes: Uint8Array, encoding?: string) =>
  decode(bytes, encoding).then(
    () => undefined,
    (error: Error) => error.message,
  );
const adviceOf = (message: string | undefined) => / `encoding: '([\w-]+)'`$/.exec(message ?? '')?.[1];
const withoutMark = (text: string) => text.replace(/^\uFEFF/, '');

const chinese = '这是一个中文文本。今天天气很好，我们去公园吧。\n'.repeat(20);
const japanese = 'これは日本語の文章です。今日はいい天気ですね。\n'.repeat(20);
const russian = 'Привет, мир! Это обычный русский текст, и в нём есть буквы.\n'.repeat(20);
const english = 'It’s “late”, she said — the café had closed.\n'.repeat(20);

describe('an encoding that is looked like is the right one', () => {
  it.each([
    ['windows-1252', english],
    ['latin1', 'Le garçon a déjà mangé à côté du café.\n'.repeat(20)],
    ['windows-1251', russian],
    ['koi8-r', russian],
    ['shift_jis', japanese],
    ['euc-jp', japanese],
    ['gbk', chinese],
    ['big5', '這是一個中文文本。今天天氣很好，我們去公園吧。\n'.repeat(20)],
    ['euc-kr', '안녕하세요 세계. 이것은 한국어 텍스트입니다.\n'.repeat(20)],
    ['cesu8', 'A fox 🦊 and a tree 🌳.\n'],
    ['utf-16le', english],
    ['utf-16be', english],
    ['utf-16le', russian],
    ['utf-16be', russian],
    ['utf-16le', '天气 🦊 很好\n'.repeat(20)],
    ['utf-32le', english],
    ['utf-32be', english],
  ])('%s', async (encoding, text) => {
    const bytes = iconv.encode(text, encoding, { addBOM: false });
    const message = await errorOf(bytes);
    const advice = message === undefined ? guessWide(bytes) : adviceOf(message);
    expect([message, await decode(bytes, advice)]).toEqual([message, text]);
  });

  it.each(['utf-16le', 'utf-16be', 'utf-32le', 'utf-32be'])('%s with its mark', async (encoding) => {
    const bytes = iconv.encode(english, encoding, { addBOM: true });
    const message = await errorOf(bytes);
    expect(message).toContain(`it begins as UTF-${encoding.slice(4, 6)} does`);
    expect(withoutMark(await decode(bytes, adviceOf(message)))).toBe(english);
  });

  it('wherever the first byte that is not ASCII stands, and however long the text is', async () => {
    for (const before of [0, 100, sampleBytes - 1, sampleBytes, 5 * sampleBytes]) {
      const bytes = iconv.encode(
        `${'a plain line\n'.repeat(before / 13)}${english.repeat(before > 0 ? 200 : 1)}`,
        'windows-1252',
      );
      expect(adviceOf(await errorOf(bytes))).toBe('windows-1252');
    }
  });
});

it('never advises an encoding in which the text is not valid either', async () => {
  let advised = 0;
  const byte = fc.oneof(fc.integer({ min: 0x20, max: 0x7e }), fc.integer({ min: 0x80, max: 0xff }), fc.constant(10));
  await fc.assert(
    fc.asyncProperty(fc.array(byte, { minLength: 1, maxLength: 60 }), async (values) => {
      const bytes = Uint8Array.from(values);
      const message = await errorOf(bytes);
      if (message === undefined || message.includes('begins as') || message.includes('CESU')) return;
      expect(message).toMatch(/; it |; name its encoding|; the text around/);
      const advice = adviceOf(message);
      if (advice === undefined || message.includes('middle of a character')) return;
      advised++;
      checkEncoding(advice);
      expect([message, await errorOf(bytes, advice)]).toEqual([message, undefined]);
    }),
    { numRuns: share(2000) },
  );
  expect(advised).toBeGreaterThan(share(200));
});

describe('a text that is cut in the middle of a character', () => {
  it('is whole once it is cut where the error says', async () => {
    for (const symbol of ['é', '€', '🦊', '\u0800', '\ud7ff', '\u{10ffff}']) {
      for (const before of ['über ', `${'über '.repeat(sampleBytes)}`]) {
        const bytes = Buffer.from(before + symbol);
        for (let missing = 1; missing < Buffer.byteLength(symbol); missing++) {
          const message = await errorOf(bytes.subarray(0, bytes.length - missing));
          const [, count] =
            /ends in the middle of a character: cut it there, e\.g\. head -c (\d+) FILE > whole\.txt$/.exec(
              message ?? '',
            ) ?? [];
          expect(await decode(bytes.subarray(0, Number(count)))).toBe(before);
        }
      }
    }
  });

  it('may be in another encoding where it has no other character that is not ASCII', async () => {
    expect(await errorOf(Buffer.from('caf\xe9', 'latin1'))).toMatch(
      /head -c 3 FILE .*; or, if it is no UTF-8, .*`encoding: 'windows-1252'`$/,
    );
    expect(await decode(Buffer.from('caf\xe9', 'latin1'), 'windows-1252')).toBe('café');
  });
});

describe('a text that is damaged', () => {
  const damaged = Buffer.concat([
    Buffer.from('Zoë, naïve, über\n'.repeat(9)),
    Buffer.from([0xff]),
    Buffer.from('café\n'),
  ]);

  it('is not taken for one in another encoding', async () => {
    expect(await errorOf(damaged)).toMatch(
      /the text around it is UTF-8, so it is damaged there: .* iconv -c -f UTF-8 -t UTF-8 FILE > clean\.txt$/,
    );
  });

  itWhere(canRun('iconv', ['--version']), 'no iconv')('is a text after iconv -c', async () => {
    await writeFile(path, damaged);
    execFileSync('bash', ['-c', 'iconv -c -f UTF-8 -t UTF-8 "$0" > "$0.clean" || true', path]);
    expect(await decode(await readFile(`${path}.clean`))).toBe(`${'Zoë, naïve, über\n'.repeat(9)}café\n`);
  });
});

describe('what is no text', () => {
  it('that is compressed is said to be, and is one once it is unpacked', async () => {
    const message = await errorOf(gzipSync(english));
    expect(message).toContain('it looks like a gzip file: unpack it, e.g. gunzip -c FILE | cudnn-lstm train -');
    await writeFile(path, gzipSync(english));
    expect(await decode(execFileSync('bash', ['-c', 'gunzip -c < "$0"', path]))).toBe(english);
  });

  it.each([
    ['bzip2', 'a bzip2 file', ['bzip2', '-c'], ['bunzip2', '-c']],
    ['xz', 'an xz file', ['xz', '-c'], ['xz', '-dc']],
    ['zstd', 'a zstd file', ['zstd', '-qc'], ['zstd', '-dqc']],
  ] as const)('as %s', async (name, what, pack, unpack) => {
    if (!canRun(name, ['--version'])) {
      process.stdout.write(`not tried: no ${name}\n`);
      return;
    }
    const [program, ...argv] = pack;
    const packed = execFileSync(program, argv, { input: english });
    expect(await errorOf(packed)).toContain(`it looks like ${what}: unpack it, e.g. ${unpack[0]}`);
    expect(await decode(execFileSync(unpack[0], unpack.slice(1), { input: packed }))).toBe(english);
  });

  it.each([
    [
      'a program',
      readFileSync(process.execPath).subarray(0, 200_000),
      process.platform === 'linux' ? 'a program' : 'no text',
    ],
    ['noise', Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7919 + (i >> 3) * 31) & 0xff)), 'no text'],
    ['a picture', Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0]), 'a picture'],
    ['an e-book', Buffer.from([0x50, 0x4b, 3, 4, 20, 0, 0xff, 0xff]), 'an e-book'],
  ])('%s gets no advice about an encoding', async (_, bytes, what) => {
    const message = await errorOf(bytes);
    expect(message).toContain(what);
    expect(message).not.toContain('`encoding');
  });
});

describe.each<[string, Buffer, string, string | undefined]>([
  [
    'Windows-1252',
    iconv.encode(english, 'win1252'),
    "it looks like windows-1252: `encoding: 'windows-1252'`",
    'windows-1252',
  ],
  ['UTF-16 with its mark', iconv.encode(english, 'utf-16le', { addBOM: true }), "`encoding: 'utf-16'`", 'utf-16'],
  ['UTF-32 with its mark', iconv.encode(english, 'utf-32le', { addBOM: true }), "`encoding: 'utf-32'`", 'utf-32'],
  [
    'UTF-8 with one character of CESU-8 at its end',
    Buffer.concat([Buffer.from('abc def\n'.repeat(60)), Buffer.from([0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80, 0x0a])]),
    "`encoding: 'cesu8'`",
    'cesu8',
  ],
  [
    'UTF-8 that ends in mid-character',
    Buffer.from('abc déf\n'.repeat(60)).subarray(0, -3),
    'ends in the middle of a character',
    undefined,
  ],
])('%s', (_, bytes, expected, encoding) => {
  it('gets the remedy that works', async () => {
    const message = await errorOf(bytes);
    expect(message).toContain(expected);
    const length = /head -c (\d+)/.exec(message ?? '')?.[1];
    const text = await decode(encoding ? bytes : bytes.subarray(0, Number(length)), encoding);
    expect(text).not.toMatch(
      /[\0\x80-\x9f\uFFFD]|[\ud800-\udfff](?![\udc00-\udfff])(?<![\ud800-\udbff][\udc00-\udfff])/,
    );
  });
});
