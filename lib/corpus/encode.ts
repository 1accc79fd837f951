/** Encodes texts in memory as ids, in pieces; between them the event loop runs and an abort takes effect. */
import { Breather } from '../breather';
import { Encoder } from './encoder';
import { type Normalization, normalizeText, StreamNormalizer } from './normalization';
import type { Vocabulary } from './vocabulary';

export interface TextEncoding {
  vocabulary: Vocabulary;
  normalization: Normalization;
  /** What to do about a character that the vocabulary lacks. */
  unknown: 'error' | 'skip';
  signal?: AbortSignal | undefined;
}

/** The normalization that leaves a text unchanged. */
export const asItIs: Normalization = { lowercase: false, lineBreaks: 'keep', byteOrderMark: 'keep' };

/** Code units normalised and encoded at a time: a millisecond or two of work. */
export const pieceUnits = 1 << 16;

/**
 * The ids of a text, which is normalised first.
 *
 * @param what Where the text is from, for the message.
 * @throws DataError naming the characters that the vocabulary lacks; the signal's reason when it is aborted.
 */
export async function encodeText(text: string, what: string, options: TextEncoding): Promise<Int32Array> {
  const encoder = new Encoder(options.vocabulary, options.unknown === 'skip');
  encoder.begin(what);
  const ids = await encodePieces(text, encoder, options, new Breather());
  encoder.finish();
  return ids;
}

/**
 * The ids of many texts, each normalised separately.
 *
 * @param what Where text i is from.
 * @throws as encodeText does.
 */
export async function encodeTexts(
  texts: readonly string[],
  what: (index: number) => string,
  options: TextEncoding,
): Promise<Int32Array[]> {
  const encoder = new Encoder(options.vocabulary, options.unknown === 'skip');
  const breather = new Breather();
  const all: Int32Array[] = [];
  for (const [i, text] of texts.entries()) {
    encoder.begin(what(i));
    if (text.length <= pieceUnits) {
      const normalized = normalizeText(text, options.normalization);
      const ids = new Int32Array(normalized.length);
      all.push(ids.slice(0, encoder.encode(normalized, ids, 0)));
    } else {
      all.push(await encodePieces(text, encoder, options, breather));
    }
    options.signal?.throwIfAborted();
    if (breather.due()) await breather.rest();
  }
  encoder.finish();
  return all;
}

/** Decodes ids to text. */
export async function decodeText(ids: Int32Array, vocabulary: Vocabulary): Promise<string> {
  const breather = new Breather();
  let text = '';
  for (let at = 0; at < ids.length; at += pieceUnits) {
    text += vocabulary.decode(ids.subarray(at, at + pieceUnits));
    if (breather.due()) await breather.rest();
  }
  return text;
}

async function encodePieces(
  text: string,
  encoder: Encoder,
  { normalization, signal }: TextEncoding,
  breather: Breather,
): Promise<Int32Array> {
  const normalizer = new StreamNormalizer(normalization);
  const pieces: Int32Array[] = [];
  let length = 0;
  for (let at = 0; at <= text.length; at += pieceUnits) {
    const last = at + pieceUnits > text.length;
    const piece = normalizer.push(text.slice(at, at + pieceUnits)) + (last ? normalizer.end() : '');
    const ids = new Int32Array(piece.length);
    const count = encoder.encode(piece, ids, 0);
    pieces.push(ids.subarray(0, count));
    length += count;
    signal?.throwIfAborted();
    if (breather.due()) await breather.rest();
  }
  const all = new Int32Array(length);
  let done = 0;
  for (const piece of pieces) {
    all.set(piece, done);
    done += piece.length;
    if (breather.due()) await breather.rest();
  }
  return all;
}
