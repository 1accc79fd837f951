/** Strict decoding: what is invalid in the declared encoding is an error with its offset, never a replacement character. */
import iconv from 'iconv-lite';
import { DataError, UsageError } from '../errors';
import { abortable, FileProblem, openInput, whyUnreadable } from '../files';
import { option } from '../wording';
import { explainUndecodable, sampleBytes } from './guess';
import type { Source } from './sources';

/** Index of the first byte that is not part of a valid UTF-8 sequence (RFC 3629), or -1. One cut off at the end counts as invalid. */
export function firstInvalidUtf8(bytes: Uint8Array): number {
  for (let i = 0; i < bytes.length; ) {
    const lead = bytes[i] as number;
    const next = bytes[i + 1] ?? 0;
    let length = 1;
    let low = 0x80;
    let high = 0xbf;
    if (lead >= 0x80) {
      if (lead >= 0xc2 && lead <= 0xdf) length = 2;
      else if (lead >= 0xe0 && lead <= 0xef) length = 3;
      else if (lead >= 0xf0 && lead <= 0xf4) length = 4;
      else return i;
      // The second byte shows overlong forms, surrogates and values above U+10FFFF.
      if (lead === 0xe0) low = 0xa0;
      if (lead === 0xed) high = 0x9f;
      if (lead === 0xf0) low = 0x90;
      if (lead === 0xf4) high = 0x8f;
      if (next < low || next > high) return i;
      for (let j = 2; j < length; j++) if (((bytes[i + j] ?? 0) & 0xc0) !== 0x80) return i;
    }
    i += length;
  }
  return -1;
}

/** How many bytes at the end belong to a sequence that the next piece may complete: 0 to 3. */
function unfinishedBytes(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

interface PieceDecoder {
  push(bytes: Uint8Array): string;
  end(): string;
}

/** Thrown by the UTF-8 decoder; `readText` turns it into an error that says what the text looks like. */
class NotUtf8 extends Error {
  constructor(
    /** Offset of the first invalid byte. */
    readonly offset: number,
    /** The bytes available from there on. */
    readonly after: Uint8Array,
  ) {
    super('not valid UTF-8');
  }
}

function utf8Decoder(): PieceDecoder {
  // The normaliser handles the byte order mark.
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let held: Uint8Array = new Uint8Array(0);
  let offset = 0;
  /** `next`: the following bytes, which are held back. */
  const decode = (bytes: Uint8Array, next: Uint8Array) => {
    try {
      const text = decoder.decode(bytes);
      offset += bytes.length;
      return text;
    } catch {
      const at = Math.max(0, firstInvalidUtf8(bytes));
      throw new NotUtf8(offset + at, Buffer.concat([bytes.subarray(at), next]));
    }
  };
  return {
    push(bytes) {
      const all = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
      const whole = all.length - unfinishedBytes(all);
      held = all.slice(whole);
      return decode(all.subarray(0, whole), held);
    },
    end: () => decode(held, new Uint8Array(0)),
  };
}

/** If `order` is undefined, the byte order mark decides; without one, little-endian. */
function utf16Decoder(name: string, order?: 'le' | 'be'): PieceDecoder {
  let big = order === undefined ? undefined : order === 'be';
  let held: Buffer = Buffer.alloc(0);
  let offset = 0;
  const refuse = (at: number, problem: string): never => {
    throw new DataError(
      `${name} is not valid UTF-16: ${problem} at offset ${at}; name its encoding with ${option('encoding')}`,
    );
  };
  return {
    push(bytes) {
      const all = Buffer.concat([held, bytes]);
      if (all.length >= 2) big ??= all[0] === 0xfe && all[1] === 0xff;
      let whole = all.length & ~1;
      // The first half of a surrogate pair waits for the second.
      if (whole >= 2 && ((all[big ? whole - 2 : whole - 1] as number) & 0xfc) === 0xd8) whole -= 2;
      held = all.subarray(whole);
      const units = all.subarray(0, whole);
      const text = (big ? Buffer.from(units).swap16() : units).toString('utf16le');
      const alone = text.search(/\p{Surrogate}/u);
      if (alone >= 0) refuse(offset + 2 * alone, 'half a surrogate pair');
      offset += whole;
      return text;
    },
    end: () => (held.length === 0 ? '' : refuse(offset, 'half a character')),
  };
}

/** Any other encoding that iconv-lite knows. It puts U+FFFD where it cannot decode. */
function iconvDecoder(name: string, encoding: string): PieceDecoder {
  const decoder = iconv.getDecoder(encoding, { stripBOM: false });
  let offset = 0;
  const checked = (text: string) => {
    const at = text.indexOf('\uFFFD');
    if (at < 0) return text;
    const near = offset + iconv.encode(text.slice(0, at), encoding).length;
    throw new DataError(
      `${name} is not valid ${encoding}, near offset ${near}; name its encoding with ${option('encoding')}`,
    );
  };
  return {
    push(bytes) {
      const text = checked(decoder.write(Buffer.from(bytes)));
      offset += bytes.length;
      return text;
    },
    // Some of its decoders return a number when nothing is left.
    end: () => checked(decoder.end() || ''),
  };
}

/** An encoding's name in lower case, without hyphens and the like. */
function canonicalName(encoding: string): string {
  return encoding.toLowerCase().replace(/[^0-9a-z]/g, '');
}

/** Whether an encoding is strictly ISO 8859-1, in which 0x80 to 0x9F are control characters. */
export function isLatin1(encoding: string): boolean {
  return ['latin1', 'iso88591', 'binary', 'l1', 'cp819'].includes(canonicalName(encoding));
}

function makeDecoder(name: string, encoding: string): PieceDecoder {
  const canonical = canonicalName(encoding);
  if (canonical === 'utf8' || canonical === 'utf8sig' || canonical === 'unicode11utf8') return utf8Decoder();
  if (canonical === 'utf16') return utf16Decoder(name);
  if (canonical === 'utf16le' || canonical === 'ucs2') return utf16Decoder(name, 'le');
  if (canonical === 'utf16be') return utf16Decoder(name, 'be');
  return iconvDecoder(name, encoding);
}

/** @throws UsageError for a name that is not a known text encoding. */
export function checkEncoding(encoding: string): void {
  const canonical = canonicalName(encoding);
  // No need to ask iconv-lite, which loads all of its encodings first.
  if (canonical === 'utf8') return;
  // Two ways of writing bytes as text, which iconv-lite counts among its encodings.
  const isText = canonical !== 'base64' && canonical !== 'hex';
  if (canonical === 'utf8sig' || (isText && iconv.encodingExists(encoding))) return;
  throw new UsageError(
    `no text encoding named ${encoding}; common ones are utf8, windows-1252, latin1, utf-16, shift_jis, gbk`,
  );
}

/** The text of a source, piece by piece. @throws DataError with the file's name, and the offset of a byte that cannot be decoded. */
export async function* readText(source: Source, encoding: string, signal?: AbortSignal): AsyncGenerator<string> {
  const decoder = makeDecoder(source.name, encoding);
  const pieces = readBytes(source, signal);
  const head: Uint8Array[] = [];
  let kept = 0;
  try {
    for (;;) {
      const { value: piece, done } = await pieces.next();
      if (done) break;
      if (kept < sampleBytes) {
        head.push(piece.slice(0, sampleBytes - kept));
        kept += piece.length;
      }
      yield decoder.push(piece);
    }
    yield decoder.end();
  } catch (error) {
    throw error instanceof NotUtf8 ? await notUtf8(source.name, error, Buffer.concat(head), pieces) : error;
  } finally {
    await pieces.return(undefined);
  }
}

/** The error for a text that is not UTF-8. Reads a little further to see what it looks like instead. */
async function notUtf8(
  name: string,
  { offset, after: begun }: NotUtf8,
  head: Uint8Array,
  rest: AsyncGenerator<Uint8Array>,
): Promise<DataError> {
  const parts = [begun];
  for (let length = begun.length; length < sampleBytes; ) {
    const { value: piece, done } = await rest.next();
    if (done) break;
    parts.push(piece);
    length += piece.length;
  }
  const after = Buffer.concat(parts).subarray(0, sampleBytes);
  const byte = (after[0] ?? 0).toString(16).toUpperCase().padStart(2, '0');
  const remedy = explainUndecodable({ offset, before: head.subarray(0, offset), after });
  return new DataError(`${name} is not valid UTF-8: byte 0x${byte} at offset ${offset}; ${remedy}`);
}

/** The first bytes of a source that can be read again. */
export async function readHead(source: Source, signal?: AbortSignal): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const piece of readBytes(source, signal)) {
    parts.push(piece);
    length += piece.length;
    if (length >= sampleBytes) break;
  }
  return Buffer.concat(parts).subarray(0, sampleBytes);
}

/** The error for a text that cannot be read. */
export function unreadable(name: string, error: FileProblem): DataError {
  if (error.kind === 'system') return new DataError(`${name} ${error.problem}`, { cause: error });
  const problem = error.kind === 'missing' ? `no such file: ${name}` : `cannot read ${name}: it ${error.problem}`;
  return new DataError(`${problem}; name a text file, a directory, a glob, or - for standard input`, { cause: error });
}

/** The bytes of a source, piece by piece. @throws DataError if it cannot be read. */
export async function* readBytes(source: Source, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  signal?.throwIfAborted();
  if (source.bytes !== undefined) {
    yield* source.bytes;
    return;
  }
  if (source.stream !== undefined) {
    for await (const piece of source.stream) {
      signal?.throwIfAborted();
      yield piece;
    }
    return;
  }
  try {
    // An abort must not wait for input from a terminal or a pipe.
    const { path } = source;
    const stream = path === undefined ? abortable(process.stdin, signal) : await openInput(path, signal);
    for await (const piece of stream) yield piece as Uint8Array;
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof FileProblem) throw unreadable(source.name, error);
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code !== undefined && syscall !== undefined) {
      throw new DataError(`cannot read ${source.name}: ${whyUnreadable(error as NodeJS.ErrnoException)}`, {
        cause: error,
      });
    }
    throw error;
  }
}
