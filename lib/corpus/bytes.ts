/**
 * Byte-level texts. Where symbols are bytes, the package represents byte n as the character U+00nn, so that such a text is an ordinary
 * string (a "byte string"). It becomes bytes again, or is decoded as UTF-8, on the way out.
 */
import type { Normalization } from './normalization';
import { Vocabulary } from './vocabulary';

/** The normalization of a byte-level text: it is read unchanged. */
export const byteNormalization: Readonly<Normalization> = {
  lowercase: false,
  lineBreaks: 'keep',
  byteOrderMark: 'keep',
  symbols: 'bytes',
};

/** All 256 bytes, in order, so that every byte of any text has an id. */
export function byteVocabulary(): Vocabulary {
  return new Vocabulary(Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)));
}

/** Whether the symbols are all 256 bytes, in order. */
export function isByteVocabulary(symbols: readonly string[]): boolean {
  return symbols.length === 256 && symbols.every((symbol, byte) => symbol === String.fromCharCode(byte));
}

/** Bytes as a byte string. */
export function toByteString(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** The bytes that a byte string represents. */
export function fromByteString(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** Decodes a byte string that arrives in pieces as UTF-8. An invalid byte becomes U+FFFD, or what `invalid` returns for it. */
export class Utf8Reader {
  readonly #invalid: (byte: number) => string;
  #held: Buffer = Buffer.alloc(0);

  constructor(invalid: (byte: number) => string = () => '\uFFFD') {
    this.#invalid = invalid;
  }

  /** Returns the text that the piece completes. */
  push(piece: string): string {
    return this.#read(Buffer.concat([this.#held, fromByteString(piece)]), false);
  }

  /** Ends the text and returns what was held back. */
  end(): string {
    return this.#read(this.#held, true);
  }

  #read(bytes: Buffer, last: boolean): string {
    let text = '';
    let at = 0;
    while (at < bytes.length) {
      const lead = bytes[at] as number;
      // A run of ASCII is decoded at once.
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

/** Decodes a byte string as UTF-8, with U+FFFD for each invalid byte. */
export function readUtf8(text: string): string {
  const reader = new Utf8Reader();
  return reader.push(text) + reader.end();
}

/** Length in bytes of the sequence at `at` (RFC 3629); 'cut' if it may continue past the end, undefined if it is invalid. */
function sequenceLength(bytes: Uint8Array, at: number): number | 'cut' | undefined {
  const lead = bytes[at] as number;
  const length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (length === 0) return undefined;
  // The second byte shows overlong forms, surrogates and values above U+10FFFF.
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  for (let i = 1; i < length; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return 'cut';
    if (byte < (i === 1 ? low : 0x80) || byte > (i === 1 ? high : 0xbf)) return undefined;
  }
  return length;
}
