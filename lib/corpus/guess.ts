/** What bytes that are not UTF-8 look like, and what to do about it. */
import iconv from 'iconv-lite';
import { option } from '../wording';

/** Number of bytes of a text to examine. */
export const sampleBytes = 1 << 16;

/** Where a text stops being UTF-8. */
export interface Undecodable {
  /** Offset of the first invalid byte. */
  readonly offset: number;
  /** The text's first bytes, up to `sampleBytes` and not beyond `offset`. */
  readonly before: Uint8Array;
  /** The bytes from the invalid one on: `sampleBytes` of them, or up to the end. */
  readonly after: Uint8Array;
}

/** The first bytes of files that are not text, and how to get at the text in them. */
const formats: readonly (readonly [magic: readonly number[], what: string, remedy: string])[] = [
  [[0x1f, 0x8b], 'a gzip file', 'unpack it, e.g. gunzip -c FILE | cudnn-lstm train -'],
  [[0x42, 0x5a, 0x68], 'a bzip2 file', 'unpack it, e.g. bunzip2 -c FILE | cudnn-lstm train -'],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], 'an xz file', 'unpack it, e.g. xz -dc FILE | cudnn-lstm train -'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'a zstd file', 'unpack it, e.g. zstd -dc FILE | cudnn-lstm train -'],
  [[0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], 'a 7z archive', 'unpack it and name the texts in it'],
  [
    [0x50, 0x4b, 0x03, 0x04],
    'a zip archive, an e-book or an office document',
    'unpack it and name the texts in it, or save it as plain text',
  ],
  [[0x25, 0x50, 0x44, 0x46], 'a PDF', 'save its text, e.g. pdftotext FILE - | cudnn-lstm train -'],
  [[0xd0, 0xcf, 0x11, 0xe0], 'an office document', 'save it as plain text'],
  [[0x7f, 0x45, 0x4c, 0x46], 'a program', 'name a text file'],
  [[0x89, 0x50, 0x4e, 0x47], 'a picture', 'name a text file'],
  [[0xff, 0xd8, 0xff], 'a picture', 'name a text file'],
];

function beginsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}

const isLayout = (byte: number) => (byte >= 0x09 && byte <= 0x0d) || byte === 0x1b;

/** Share of bytes, NUL included, that no text in an 8-bit or multi-byte encoding has. */
function controlShare(bytes: Uint8Array): number {
  let controls = 0;
  for (const byte of bytes) if (byte < 0x20 && !isLayout(byte)) controls++;
  return controls / bytes.length;
}

const wideEncodings = ['utf-32le', 'utf-32be', 'utf-16le', 'utf-16be'] as const;

/**
 * Detects UTF-16 or UTF-32 without a byte order mark: the bytes must be well-formed, without control or unassigned characters, and with
 * some ASCII (at least spaces and line ends), which the wrong byte order would lack.
 */
export function guessWide(bytes: Uint8Array): (typeof wideEncodings)[number] | undefined {
  // In UTF-16 about half the bytes look like ASCII, whatever the script; more means a single-byte text with NULs in it.
  const printable = bytes.filter((byte) => byte === 10 || (byte >= 0x20 && byte <= 0x7e)).length;
  if (printable > 0.7 * bytes.length) return undefined;
  let best: { name: (typeof wideEncodings)[number]; ascii: number } | undefined;
  for (const name of wideEncodings) {
    const size = name.startsWith('utf-32') ? 4 : 2;
    const over = bytes.length % size;
    if (over > 0 && bytes.length < sampleBytes) continue;
    const text = iconv.decode(Buffer.from(bytes.subarray(0, bytes.length - over)), name);
    // A sample may end in the middle of a surrogate pair.
    const whole = bytes.length < sampleBytes ? text : text.replace(/[\ud800-\udbff]$/, '');
    if (whole === '' || /[\p{Cn}\p{Co}\p{Cs}\uFFFD]|[^\P{Cc}\t-\r]/u.test(whole)) continue;
    const ascii = (whole.match(/[\t-~]/g)?.length ?? 0) / whole.length;
    if (ascii >= 0.02 && ascii > (best?.ascii ?? 0)) best = { name, ascii };
  }
  return best?.name;
}

/** Whether bytes begin with the halves of a surrogate pair, each encoded separately. */
function isCesu8Pair(bytes: Uint8Array): boolean {
  const isHalf = (at: number, first: number) => bytes[at] === 0xed && ((bytes[at + 1] ?? 0) & 0xf0) === first;
  return isHalf(0, 0xa0) && isHalf(3, 0xb0);
}

/** Whether a text's last bytes are the beginning of a UTF-8 character. */
function isUnfinished(bytes: Uint8Array): boolean {
  const lead = bytes[0] ?? 0;
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (bytes.length >= length) return false;
  return [0x80, 0x90, 0xa0].some((fill) => {
    const whole = Uint8Array.from({ length }, (_, i) => bytes[i] ?? fill);
    return isUtf8(whole);
  });
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Whether nearly all of the non-ASCII text is well-formed UTF-8. */
function isMostlyUtf8(bytes: Uint8Array): boolean {
  const text = new TextDecoder('utf-8').decode(bytes);
  const bad = text.match(/\uFFFD/g)?.length ?? 0;
  const good = text.match(/[^\0-\x7f\uFFFD]/gu)?.length ?? 0;
  return good > 0 && good >= 4 * bad;
}

/** The encodings that the bytes may be in, likeliest first. Each decodes all of them or, if `cut`, all but the last one or two characters. */
function guessEncodings(bytes: Uint8Array, cut: boolean): { name: string; confidence: number }[] {
  // Loaded only here, where an error is being written.
  const chardet = require('chardet') as typeof import('chardet');
  const found: { name: string; confidence: number }[] = [];
  for (const { name: given, confidence } of chardet.analyse(bytes)) {
    if (/^(ASCII|UTF)/.test(given)) continue; // Already ruled out.
    // On the web and in practice, what is called ISO 8859-1 is Windows-1252.
    const name = given === 'ISO-8859-1' ? 'windows-1252' : given.toLowerCase();
    if (!iconv.encodingExists(name) || found.some((other) => other.name === name)) continue;
    const text = iconv.decode(Buffer.from(bytes), name);
    if (!(cut ? text.slice(0, -2) : text).includes('\uFFFD')) found.push({ name, confidence });
  }
  return found;
}

/** What a text that is not UTF-8 looks like, and the remedy: the second half of an error message. */
export function explainUndecodable({ offset, before, after }: Undecodable): string {
  const sample = Buffer.concat([before, after]);
  const format = formats.find(([magic]) => beginsWith(sample, magic));
  if (format) return `it looks like ${format[1]}: ${format[2]}`;
  for (const mark of [
    [0xff, 0xfe, 0, 0],
    [0, 0, 0xfe, 0xff],
  ])
    if (beginsWith(sample, mark)) return `it begins as UTF-32 does: ${option({ encoding: 'utf-32' })}`;
  for (const mark of [
    [0xff, 0xfe],
    [0xfe, 0xff],
  ])
    if (beginsWith(sample, mark)) return `it begins as UTF-16 does: ${option({ encoding: 'utf-16' })}`;
  const wide = sample.includes(0) ? guessWide(sample) : undefined;
  if (wide) return `it looks like ${wide}: ${option({ encoding: wide })}`;
  if (controlShare(sample) > 0.01) return 'it has control characters and looks like no text: name a text file';
  if (isCesu8Pair(after)) {
    return `it looks like CESU-8, as some databases write it: ${option({ encoding: 'cesu8' })}`;
  }
  const known = !isUtf8(before) || before.some((byte) => byte >= 0x80);
  if (isUnfinished(after)) {
    const cut = `it ends in the middle of a character: cut it there, e.g. head -c ${offset} FILE > whole.txt`;
    return known
      ? cut
      : `${cut}; or, if it is no UTF-8, name its encoding, e.g. ${option({ encoding: 'windows-1252' })}`;
  }
  if (isMostlyUtf8(sample)) {
    return (
      'the text around it is UTF-8, so it is damaged there: repair it, or leave out what is no UTF-8, e.g. ' +
      'iconv -c -f UTF-8 -t UTF-8 FILE > clean.txt'
    );
  }
  const [best] = guessEncodings(sample, after.length === sampleBytes);
  if (!best) return `name its encoding with ${option('encoding')}, if it is a text`;
  return `it ${best.confidence >= 20 ? 'looks like' : 'may be'} ${best.name}: ${option({ encoding: best.name })}`;
}
