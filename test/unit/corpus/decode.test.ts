import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import iconv from 'iconv-lite';
import { checkEncoding, firstInvalidUtf8, readText } from '../../../lib/corpus/decode';
import { share } from '../../fixtures/child';
import { expectSame } from '../../fixtures/same';
import { codePoint } from '../../fixtures/texts';

/** Decodes bytes that arrive in these pieces. */
async function decode(pieces: readonly Uint8Array[], encoding = 'utf8'): Promise<string> {
  let text = '';
  for await (const piece of readText({ name: 'a.txt', bytes: pieces }, encoding)) {
    if (/^[\udc00-\udfff]|[\ud800-\udbff]$/.test(piece)) throw new Error('a piece splits a pair');
    text += piece;
  }
  return text;
}

const bytesOf = (...values: number[]) => [Uint8Array.from(values)];

/** Cuts bytes at these places. */
const cut = (bytes: Uint8Array, cuts: readonly number[]) => {
  const places = [0, ...cuts.map((at) => Math.min(at, bytes.length)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, i) => bytes.subarray(places[i], end));
};
const cuts = fc.array(fc.nat({ max: 60 }), { maxLength: 10 });
const text = fc.string({ unit: codePoint, maxLength: 30 });

describe('UTF-8', () => {
  it('is decoded whatever the pieces', async () => {
    await fc.assert(
      fc.asyncProperty(text, cuts, async (expected, places) => {
        expectSame(await decode(cut(Buffer.from(expected), places)), expected);
      }),
      { numRuns: share(2000) },
    );
  });

  // The bytes at the limits of well-formed sequences (Unicode, table 3-7).
  const critical = fc.constantFrom(
    0,
    0x41,
    0x7f,
    0x80,
    0x8f,
    0x90,
    0x9f,
    0xa0,
    0xbf,
    0xc0,
    0xc1,
    0xc2,
    0xdf,
    0xe0,
    0xe1,
    0xec,
    0xed,
    0xee,
    0xef,
    0xf0,
    0xf1,
    0xf3,
    0xf4,
    0xf5,
    0xff,
  );

  it('is refused exactly where a fatal TextDecoder refuses it, with the offset of the first byte that is wrong', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(critical, { maxLength: 8 }), cuts, async (values, places) => {
        const bytes = Uint8Array.from(values);
        let expected: string | undefined;
        try {
          expected = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
        } catch {}
        const at = firstInvalidUtf8(bytes);
        expectSame(at < 0, expected !== undefined);
        if (expected !== undefined) {
          expectSame(await decode(cut(bytes, places)), expected);
          return;
        }
        // All bytes before the offset are valid.
        expectSame(firstInvalidUtf8(bytes.subarray(0, at)), -1);
        const byte = (bytes[at] as number).toString(16).toUpperCase().padStart(2, '0');
        const problem = (pieces: readonly Uint8Array[]) => decode(pieces).catch((error: unknown) => error);
        const refused = await problem(cut(bytes, places));
        expect(refused).toMatchObject({
          code: 'ERR_DATA',
          exitCode: 3,
          message: expect.stringMatching(
            `^a.txt is not valid UTF-8: byte 0x${byte} at offset ${at}; .*(\`encoding|name a text|head -c|iconv -c)`,
          ),
        });
        expectSame((refused as Error).message, ((await problem([bytes])) as Error).message);
      }),
      { numRuns: share(5000) },
    );
  });

  it('is refused where it is UTF-16, with that remedy', async () => {
    for (const mark of [
      [0xff, 0xfe],
      [0xfe, 0xff],
    ])
      await expect(decode(bytesOf(...mark, 0x41, 0))).rejects.toThrow("it begins as UTF-16 does: `encoding: 'utf-16'`");
  });

  it('is known by each of its names, and always strictly', async () => {
    for (const name of ['utf8', 'UTF-8', 'utf_8', 'Utf8', 'unicode-1-1-utf-8']) {
      checkEncoding(name);
      await expect(decode(bytesOf(0x41, 0xff), name)).rejects.toThrow('byte 0xFF at offset 1');
    }
  });
});

describe('UTF-16', () => {
  const big = (bytes: Buffer) => Buffer.from(bytes).swap16();

  it('is decoded in either order, whatever the pieces', async () => {
    await fc.assert(
      fc.asyncProperty(text, cuts, async (expected, places) => {
        const little = Buffer.from(expected, 'utf16le');
        for (const [encoding, bytes] of [
          ['utf-16le', little],
          ['ucs2', little],
          ['utf-16be', big(little)],
        ] as const)
          expectSame(await decode(cut(bytes, places), encoding), expected);
        const marked = Buffer.from(`\uFEFF${expected}`, 'utf16le');
        for (const bytes of [marked, big(marked)])
          expectSame(await decode(cut(bytes, places), 'utf-16'), `\uFEFF${expected}`);
      }),
      { numRuns: share(1000) },
    );
  });

  it.each([
    ['half a character at the end', [0x41, 0, 0x42], 'half a character at offset 2'],
    ['a high surrogate at the end', [0x41, 0, 0x3e, 0xd8], 'half a character at offset 2'],
    ['a high surrogate by itself', [0x41, 0, 0x3e, 0xd8, 0x42, 0], 'half a surrogate pair at offset 2'],
    ['a low surrogate by itself', [0x41, 0, 0x42, 0, 0x8a, 0xdd], 'half a surrogate pair at offset 4'],
    ['two high ones', [0x3e, 0xd8, 0x3e, 0xd8], 'half a surrogate pair at offset 0'],
  ])('is refused with %s, whatever the pieces', async (_, values, message) => {
    for (const size of [1, 2, 3, 100]) {
      const pieces = cut(
        Uint8Array.from(values),
        Array.from({ length: 20 }, (_, i) => i * size),
      );
      await expect(decode(pieces, 'utf-16le')).rejects.toMatchObject({
        code: 'ERR_DATA',
        message: expect.stringContaining(message),
      });
    }
  });
});

describe('other encodings', () => {
  it('latin1 and windows-1252 differ where they do', async () => {
    const bytes = bytesOf(0x63, 0x61, 0x66, 0xe9, 0x20, 0x93, 0x80, 0x94);
    expect(await decode(bytes, 'windows-1252')).toBe('café “€”');
    expect(await decode(bytes, 'latin1')).toBe('café \x93\x80\x94');
  });

  it.each(['latin1', 'windows-1251', 'koi8-r', 'shift_jis', 'gbk', 'big5', 'euc-jp', 'euc-kr', 'gb18030'])(
    '%s is decoded whatever the pieces',
    async (encoding) => {
      const samples: Record<string, string> = { latin1: 'Grüße, ça', 'windows-1251': 'Привет', 'koi8-r': 'Привет' };
      const expected = samples[encoding] ?? '\u4e2d\u6587 abc\n'.repeat(3);
      const bytes = iconv.encode(expected, encoding);
      for (let size = 1; size < 6; size++)
        expect(
          await decode(
            cut(
              bytes,
              Array.from({ length: 60 }, (_, i) => i * size),
            ),
            encoding,
          ),
        ).toBe(expected);
    },
  );

  it('are refused where they do not decode, never with a replacement character', async () => {
    await expect(decode(bytesOf(0x41, 0x42, 0x81), 'windows-1252')).rejects.toThrow('near offset 2'); // 0x81 is unassigned.
    await expect(decode(bytesOf(0x41, 0xff, 0xff), 'shift_jis')).rejects.toMatchObject({
      code: 'ERR_DATA',
      message: 'a.txt is not valid shift_jis, near offset 1; name its encoding with `encoding`',
    });
    await expect(decode([...bytesOf(0x41, 0x42), ...bytesOf(0x43, 0x80)], 'ascii')).rejects.toThrow('near offset 3');
    await expect(decode(bytesOf(0x41, 0xff, 0x20), 'gbk')).rejects.toThrow('near offset 1');
    await expect(decode(bytesOf(0x41, 0x81), 'gbk')).rejects.toThrow('not valid gbk');
  });

  it.each(['base64', 'hex', 'BASE-64', 'Hex'])('%s is no encoding of a text', (name) => {
    expect(() => checkEncoding(name)).toThrow(`no text encoding named ${name}`);
  });

  it('utf-8-sig, as Python calls it, is UTF-8', async () => {
    checkEncoding('utf-8-sig');
    expect(await decode([Buffer.from('\uFEFFé')], 'utf-8-sig')).toBe('\uFEFFé');
    await expect(decode(bytesOf(0x41, 0xff), 'UTF_8_SIG')).rejects.toThrow('byte 0xFF at offset 1');
  });

  it('are refused by a name that is none', () => {
    expect(() => checkEncoding('klingon')).toThrow(
      expect.objectContaining({
        code: 'ERR_USAGE',
        message: expect.stringMatching(/no text encoding named klingon; common ones are/),
      }),
    );
  });
});

describe('a file', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'decode-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('is decoded over the borders of what is read at once, for each of the bytes of a character', async () => {
    for (let shift = 0; shift < 4; shift++) {
      const path = join(folder, 'text');
      const expected = 'x'.repeat((1 << 20) - shift) + '🦊é'.repeat(10);
      await writeFile(path, expected);
      let read = '';
      for await (const piece of readText({ name: path, path }, 'utf8')) read += piece;
      expect(read === expected).toBe(true);
    }
  });

  it('has the offset of a wrong byte beyond the first piece', async () => {
    const path = join(folder, 'wrong');
    await writeFile(path, Buffer.concat([Buffer.from('é'.repeat(1 << 20)), Buffer.from([0xe9])]));
    const read = async () => {
      for await (const _ of readText({ name: path, path }, 'utf8'));
    };
    await expect(read()).rejects.toThrow(`byte 0xE9 at offset ${2 << 20}`);
  });

  it('that is gone, or a folder, is an error with its name', async () => {
    for (const [path, message] of [
      [join(folder, 'none'), /^no such file: /],
      [folder, /^cannot read /],
    ] as const) {
      const read = async () => {
        for await (const _ of readText({ name: path, path }, 'utf8'));
      };
      await expect(read()).rejects.toMatchObject({ code: 'ERR_DATA', message: expect.stringMatching(message) });
    }
  });
});
