import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { bytesPerId, FileIds, MemoryIds } from '../../../lib/corpus/ids';
import { UsageError } from '../../../lib/errors';
import { share } from '../../fixtures/child';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ids-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const bytes = (ids: Uint8Array | Uint16Array) => Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength);
const compare = (a: Uint8Array | Uint16Array, b: Uint8Array | Uint16Array) => Buffer.compare(bytes(a), bytes(b));

function both(values: Uint8Array | Uint16Array) {
  const path = join(folder, `ids-${Math.random()}`);
  writeFileSync(path, values);
  return {
    memory: new MemoryIds(values),
    file: new FileIds(path, values.length, values.BYTES_PER_ELEMENT as 1 | 2, false),
    path,
  };
}

it('are as wide as the vocabulary needs', () => {
  expect([1, 2, 255, 256, 257, 65_536].map(bytesPerId)).toEqual([1, 1, 1, 1, 2, 2]);
});

// Several pages of 64 KiB and part of another. More pages than are kept in memory, over 16 MB, are left to the next test.
it.each([
  [1, Uint8Array.from({ length: 200_001 }, (_, i) => (i * i) >> 3)],
  [2, Uint16Array.from({ length: 200_001 }, (_, i) => (i * 40_503) >> 2)],
])('%i bytes wide: from a file equal to those in memory, wherever they are read', (_, values) => {
  const { memory, file } = both(values);
  const start = fc.oneof(
    fc.nat({ max: values.length }),
    fc.constantFrom(0, 65_535, 65_536, 32_767, 32_768, 131_072, values.length),
  );
  const count = fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 150_000 }));
  fc.assert(
    fc.property(start, count, (from, wanted) => {
      const length = Math.min(wanted, values.length - from);
      const [a, b] = [memory.read(from, length), file.read(from, length)];
      expect(b.BYTES_PER_ELEMENT).toBe(a.BYTES_PER_ELEMENT);
      expect(compare(a, b)).toBe(0);
      expect(b).toHaveLength(length);
    }),
    { numRuns: share(3000) },
  );
  expect([memory.length, memory.bytesPerId]).toEqual([file.length, file.bytesPerId]);
  file.close();
});

it('are read from more pages than are kept', () => {
  const values = new Uint8Array(20 << 20).map((_, i) => (i >> 12) ^ i);
  const { memory, file } = both(values);
  for (let round = 0; round < 2; round++) {
    for (let at = 0; at + 100 < values.length; at += 60_000)
      expect(compare(memory.read(at, 100), file.read(at, 100))).toBe(0);
  }
  file.close();
});

it('refuse what lies outside, and what is no place', () => {
  const { memory, file } = both(Uint8Array.of(1, 2, 3));
  for (const source of [memory, file]) {
    for (const [start, count] of [
      [-1, 1],
      [0, 4],
      [3, 1],
      [4, 0],
      [0, -1],
      [0.5, 1],
      [Number.NaN, 1],
      [0, Number.NaN],
      [0, Infinity],
    ])
      expect(() => source.read(start as number, count as number)).toThrow(UsageError);
    expect([...source.read(3, 0)]).toEqual([]);
  }
  file.close();
});

it('say that their file was cut short, or that they are closed', () => {
  const { file, path } = both(new Uint8Array(100_000));
  truncateSync(path, 70_000);
  expect([...file.read(10, 2)]).toEqual([0, 0]);
  expect(() => file.read(80_000, 1)).toThrow(/cut short while it was in use/);
  file.close();
  file.close();
  expect(() => file.read(0, 1)).toThrow('closed');
});

it('take a temporary folder with them', () => {
  const temporary = join(folder, 'temporary');
  mkdirSync(temporary);
  writeFileSync(join(temporary, 'ids'), 'abc');
  const ids = new FileIds(join(temporary, 'ids'), 3, 1, true);
  // Where an open file can be deleted, this is done at once, so that even a killed process leaves nothing behind.
  if (process.platform !== 'win32') expect(existsSync(temporary)).toBe(false);
  expect([...ids.read(0, 3)]).toEqual([97, 98, 99]);
  ids.close();
  expect(readdirSync(folder)).not.toContain('temporary');
});
