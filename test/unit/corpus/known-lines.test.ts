import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadKnownLines, saveKnownLines } from '../../../lib/checkpoint/known-lines';
import { KnownLines } from '../../../lib/corpus/known-lines';

const corpus = createHash('sha256').update('corpus').digest('hex');
const lineAt = (i: number) => `line ${(i * 7919) % 100_003}`;

it.each([0, 1, 2, 3, 255, 256, 257, 30_000])('of %i lines it knows each, and no other', async (count) => {
  const lines = Array.from({ length: count }, (_, i) => lineAt(i));
  const known = await KnownLines.of([...lines, ...lines.slice(0, 100)]);
  expect(known.size).toBe(count);
  for (const set of [known, (await KnownLines.fromBytes(await known.toBytes(corpus), corpus)) as KnownLines]) {
    expect(lines.filter((line) => !set.has(line))).toEqual([]);
    const others = ['', ' line 0', 'line', ...Array.from({ length: 2000 }, (_, i) => lineAt(count + i))];
    expect(others.filter((line) => set.has(line))).toEqual([]);
  }
  // 16 bytes per line.
  expect((await known.toBytes(corpus)).length).toBe(96 + 16 * count);
});

it('takes lines as they come, and ends at an abort', async () => {
  const slowly = async function* () {
    for (const line of ['a', '', 'ü', 'a']) yield line;
  };
  const known = await KnownLines.of(slowly());
  expect([known.size, known.has(''), known.has('ü'), known.has('u')]).toEqual([3, true, true, false]);
  const endless = function* () {
    for (let i = 0; ; i++) yield String(i);
  };
  const controller = new AbortController();
  const reason = new Error('enough');
  setImmediate(() => controller.abort(reason)); // Runs as soon as `of` yields to the event loop.
  await expect(KnownLines.of(endless(), controller.signal)).rejects.toBe(reason);
});

describe('the file', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'known-'));
    writeFileSync(join(folder, 'x.safetensors'), '');
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const load = (sha256 = corpus) =>
    loadKnownLines(join(folder, 'x.safetensors'), { corpus: { name: 'names.txt', sha256 } });

  it('is read as it was written, beside the checkpoint', async () => {
    await expect(load()).rejects.toThrow(
      /^which lines the corpus holds is not known: .*known-lines.bin is not there.*; give the lines of the text .*: `known: await KnownLines\.of\(lines\)`$/,
    );
    const known = await KnownLines.of(['Anna', 'Bob']);
    await saveKnownLines(folder, known, corpus);
    expect((await load()).has('Bob')).toBe(true);
    await expect(load('0'.repeat(64))).rejects.toThrow('is of another corpus; give the lines of the text');
    await expect(load('')).rejects.toThrow('is of another corpus');
  });

  it('is refused if a single byte is another, or it is cut or longer', async () => {
    const bytes = await (await KnownLines.of(Array.from({ length: 20 }, (_, i) => `${i}`))).toBytes(corpus);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] as number) ^ 16;
      expect(typeof (await KnownLines.fromBytes(damaged, corpus))).toBe('string');
    }
    for (const length of [0, 1, 95, 96, bytes.length - 16, bytes.length - 1]) {
      expect(typeof (await KnownLines.fromBytes(bytes.subarray(0, length), corpus))).toBe('string');
    }
    expect(typeof (await KnownLines.fromBytes(Buffer.concat([bytes, Buffer.alloc(16, 255)]), corpus))).toBe('string');
    // Keys out of order, with a checksum that matches them.
    const keys = bytes.subarray(96);
    const swapped = Buffer.concat([keys.subarray(16, 32), keys.subarray(0, 16), keys.subarray(32)]);
    const forged = Buffer.concat([bytes.subarray(0, 64), createHash('sha256').update(swapped).digest(), swapped]);
    expect(await KnownLines.fromBytes(forged, corpus)).toBe('is damaged');
  });

  it('is quick to ask, though its keys lie close together', async () => {
    const key = createHash('sha256').update('Anna').digest().subarray(0, 16);
    const others = Array.from({ length: 200_000 }, (_, i) => {
      const other = Buffer.from(key);
      other.writeUInt32BE(i, 4);
      return other;
    });
    const keys = Buffer.concat([...others, key].sort(Buffer.compare));
    const sums = [Buffer.from(corpus, 'hex'), createHash('sha256').update(keys).digest()];
    const magic = Buffer.from('cudnn-lstm known lines 1\n'.padEnd(32, '\0'));
    const known = (await KnownLines.fromBytes(Buffer.concat([magic, ...sums, keys]), corpus)) as KnownLines;
    // Looking at all keys each time would take 10^10 comparisons.
    let found = 0;
    for (let i = 0; i < 50_000; i++) if (known.has('Anna')) found++;
    expect(found).toBe(50_000);
    expect(known.has('Bob')).toBe(false);
  });
});
