/**
 * Whether weights and vocabulary belong together, that is, predict a text better than its letter frequencies do. A wrong gate order, a
 * vocabulary in another order or an activation that is not the model's all show here and nowhere else.
 */
import { type Normalization, normalizeText } from '../corpus/normalization';
import type { Vocabulary } from '../corpus/vocabulary';
import type { LanguageModel } from '../model';
import type { RawText } from './raw-text';

/**
 * How a model did on a piece of text.
 *
 * @category Models of other programs
 */
export interface Proof {
  /** The text's name: a file's, or the bundled tale. */
  text: string;
  /** Mean nats per character. */
  loss: number;
  /** The entropy of the character frequencies in the same piece, in nats: what counting letters would score. */
  letterLoss: number;
  /** Characters counted. */
  characters: number;
}

/** A vocabulary that a model may have, and how its texts would be read. */
export interface Reading {
  /** Where it comes from, in words. */
  where: string;
  vocabulary: Vocabulary;
  normalization: Normalization;
  notes: string[];
}

/** The most characters that are scored. */
const scored = 8192;
const streams = 8;
/** Fewer than this prove nothing. */
const fewest = 100;
const windowsScored = 256;

/** The ids of a piece of text, and the share of it that is not in the vocabulary. */
function idsOf(text: string, { vocabulary, normalization }: Reading): { ids: Int32Array; unknown: number } {
  const piece = normalizeText(text, normalization);
  const symbols = [...piece].length;
  const ids = vocabulary.encode(piece, { unknown: 'skip' }).slice(0, scored);
  const known = vocabulary.encode(piece, { unknown: 'skip' }).length;
  return { ids, unknown: symbols === 0 ? 1 : 1 - known / symbols };
}

/** Entropy of the ids' frequencies, in nats. */
function entropy(ids: Int32Array): number {
  const counts = new Map<number, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  let nats = 0;
  for (const count of counts.values()) nats -= (count / ids.length) * Math.log(count / ids.length);
  return nats;
}

/** How a reading does on a piece of text; undefined if too little of it is in the vocabulary to tell. */
export async function tryReading(
  model: LanguageModel,
  text: string,
  name: string,
  reading: Reading,
  signal?: AbortSignal,
): Promise<Proof | undefined> {
  const { ids, unknown } = idsOf(text, reading);
  if (ids.length < fewest || unknown > 0.2) return undefined;
  const letterLoss = entropy(ids);
  const source = { length: ids.length, read: (start: number, count: number) => ids.subarray(start, start + count) };
  const { target, seqLength } = model.metadata;
  if (target === 'last' && ids.length > seqLength + fewest) {
    const stride = Math.max(1, Math.floor((ids.length - seqLength - 1) / windowsScored));
    const { dropoutOff, windows } = await model.scoreWindows(source, { window: seqLength, stride, signal });
    return { text: name, loss: dropoutOff.loss, letterLoss, characters: windows };
  }
  const parts = Math.max(1, Math.min(streams, Math.floor(ids.length / 256)));
  const { loss, characters } = await model.score(source, { streams: parts, signal });
  return { text: name, loss, letterLoss, characters };
}

/**
 * The vocabularies of `size` symbols that a script may have made from a text: its characters in code point order, with line breaks and byte
 * order mark as they are or as Python's text mode has them, lower-cased or not, with or without Project Gutenberg's frame. `sizes`: how
 * many symbols each way of reading gives.
 */
export function readingsOfText(
  { all, books }: RawText,
  name: string,
  size: number,
): { readings: Reading[]; sizes: Map<string, number> } {
  const readings: Reading[] = [];
  const sizes = new Map<string, number>();
  const known = new Set<string>();
  const bodies = [{ symbols: all, of: '' }, ...(books ? [{ symbols: books, of: ', without its frame' }] : [])];
  for (const { symbols, of } of bodies) {
    for (const lowercase of [false, true]) {
      for (const lineBreaks of [undefined, 'keep'] as const) {
        for (const byteOrderMark of [undefined, 'keep'] as const) {
          const normalization: Normalization = {
            lowercase,
            ...(lineBreaks ? { lineBreaks } : {}),
            ...(byteOrderMark ? { byteOrderMark } : {}),
          };
          const vocabulary = symbols.vocabulary(normalization);
          const key = `${lowercase}${vocabulary.symbols.join('')}`;
          const how = [
            lowercase ? 'lower-cased' : 'as it is',
            ...(lineBreaks && vocabulary.idOf('\r') !== undefined ? ['CR kept'] : []),
            ...(byteOrderMark && vocabulary.idOf('\uFEFF') !== undefined ? ['byte order mark kept'] : []),
          ].join(', ');
          if (known.has(key)) continue;
          known.add(key);
          sizes.set(`${how}${of}`, vocabulary.size);
          if (vocabulary.size === size)
            readings.push({ where: `${name} (${how}${of})`, vocabulary, normalization, notes: [] });
        }
      }
    }
  }
  return { readings, sizes };
}
