/**
 * Texts of bytes. Where a symbol stands for a byte, byte n is the character U+00nn inside the package, so that a text of bytes is a
 * string like any other ("byte string"); it becomes bytes, or what they mean as UTF-8, where it leaves.
 */
import type { Normalization } from './normalization';
import { Vocabulary } from './vocabulary';

/** How a text of bytes is read: as it is. */
export const byteNormalization: Readonly<Normalization> = {
  lowercase: false,
  lineBreaks: 'keep',
  byteOrderMark: 'keep',
  symbols: 'bytes',
};

/** All bytes, in order: any text has an id for each of its bytes. */
export function byteVocabulary(): Vocabulary {
  return new Vocabulary(Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)));
}

/** Whether these are all bytes, in order. */
export function isByteVocabulary(symbols: readonly string[]): boolean {
  return symbols.length === 256 && symbols.every((symbol, byte) => symbol === String.fromCharCode(byte));
}

/** Bytes as a byte string. */
export function toByteString(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** What a byte string stands for. */
export function fromByteString(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** Reads a byte string that comes in pieces as UTF-8. What is none becomes U+FFFD, or what `invalid` makes of the byte. */
export class Utf8Reader {
  readonly #invalid: (byte: number) => string;
  #held: Buffer = Buffer.alloc(0);

  constructor(invalid: (byte: number) => string = () => '\uFFFD') {
    this.#invalid = invalid;
  }

  /** The text that a piece completes. */
  push(piece: string): string {
    return this.#read(Buffer.concat([this.#held, fromByteString(piece)]), false);
  }

  /** The text is over: what was held back. */
  end(): string {
    return this.#read(this.#held, true);
  }

  #read(bytes: Buffer, last: boolean): string {
    let text = '';
    let at = 0;
    while (at < bytes.length) {
      const lead = bytes[at] as number;
      // Of ASCII as much as there is at once.
      let end = at;
      while (end < bytes.length && (bytes[end] as number) < 0x80) end++;
      if (end > at) {
        text += bytes.toString('latin1', at, end);
        at = end;
        continue;
      }
      const length = sequenceLength(bytes, at);
      if (length === 'cut' && !last) break;
      if (typeof length === 'number') {
        text += bytes.toString('utf8', at, at + length);
        at += length;
      } else {
        text += this.#invalid(lead);
        at++;
      }
    }
    this.#held = bytes.subarray(at);
    return text;
  }
}

/** A byte string as UTF-8, U+FFFD for each byte that is none. */
export function readUtf8(text: string): string {
  const reader = new Utf8Reader();
  return reader.push(text) + reader.end();
}

/** Bytes of the sequence that begins at `at` (RFC 3629); 'cut': it may go on behind the end; undefined: it is none. */
function sequenceLength(bytes: Uint8Array, at: number): number | 'cut' | undefined {
  const lead = bytes[at] as number;
  const length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (length === 0) return undefined;
  // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  for (let i = 1; i < length; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return 'cut';
    if (byte < (i === 1 ? low : 0x80) || byte > (i === 1 ? high : 0xbf)) return undefined;
  }
  return length;
}
