/** A zip archive of stored entries, each aligned to 64 bytes, as PyTorch's reader prefers. */
import { UsageError } from '../errors';

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32 of the zip format. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crcTable[(crc ^ byte) & 255] as number) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

const alignment = 64;
const most = 0xffffffff;

interface Entry {
  name: string;
  bytes: Uint8Array;
}

/** 1980-01-01, so that the same content gives the same archive. */
const date = 0x21;

function record(signature: number, { name, bytes }: Entry, crc: number, extra: number, central?: number): Buffer {
  const isCentral = central !== undefined;
  const fixed = Buffer.alloc(isCentral ? 46 : 30);
  let at = fixed.writeUInt32LE(signature);
  if (isCentral) at = fixed.writeUInt16LE(20, at);
  at = fixed.writeUInt16LE(20, at);
  at = fixed.writeUInt16LE(0x800, at); // Names are UTF-8.
  at = fixed.writeUInt16LE(0, at); // Stored.
  at = fixed.writeUInt16LE(0, at);
  at = fixed.writeUInt16LE(date, at);
  at = fixed.writeUInt32LE(crc, at);
  at = fixed.writeUInt32LE(bytes.length, at);
  at = fixed.writeUInt32LE(bytes.length, at);
  at = fixed.writeUInt16LE(Buffer.byteLength(name), at);
  fixed.writeUInt16LE(extra, at);
  if (isCentral) fixed.writeUInt32LE(central, 42);
  return Buffer.concat([fixed, Buffer.from(name)]);
}

/**
 * The pieces of an archive.
 *
 * @throws UsageError beyond 4 GiB, which would need another form of the format.
 */
export function* zipOf(entries: readonly Entry[]): Generator<Uint8Array> {
  const central: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const crc = crc32(entry.bytes);
    const header = record(0x04034b50, entry, crc, 0).length;
    // An extra field has a header of four bytes.
    const gap = (alignment - ((offset + header) % alignment)) % alignment;
    const extra = gap === 0 ? 0 : gap < 4 ? gap + alignment : gap;
    const padding = Buffer.alloc(extra);
    if (extra > 0) {
      padding.writeUInt16LE(0x4246); // FB, PyTorch's own.
      padding.writeUInt16LE(extra - 4, 2);
    }
    yield record(0x04034b50, entry, crc, extra);
    yield padding;
    yield entry.bytes;
    central.push(record(0x02014b50, entry, crc, 0, offset));
    offset += header + extra + entry.bytes.length;
    if (offset > most)
      throw new UsageError(
        'the model is larger than the 4 GiB that this form of a zip archive can hold: choose another form.',
      );
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  yield directory;
  yield end;
}
