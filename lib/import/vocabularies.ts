/** Which symbol an id stands for: what a file holds, what a user names, and how it becomes a vocabulary of single characters. */
import type { Normalization } from '../corpus/normalization';
import { Vocabulary } from '../corpus/vocabulary';
import { Refusal } from './bounds';
import { type Pickled, PickledCall } from './pickle';

/** Entry i is the symbol of id i, which need not be one character; an empty one is unknown. */
export interface FoundVocabulary {
  where: string;
  symbols: string[];
}

const deepest = 12;
const mostVisited = 400_000;

/** A value of a pickle or of JSON as a list of symbols; undefined if it is not one of `size`. */
export function symbolsOf(value: unknown, size: number): string[] | undefined {
  if (typeof value === 'string') {
    const symbols = value.length <= 2 * size ? [...value] : [];
    return symbols.length === size && new Set(symbols).size === size ? symbols : undefined;
  }
  if (value instanceof Set) return undefined; // A set has no order.
  if (Array.isArray(value)) {
    if (value.length !== size || !value.every((symbol) => typeof symbol === 'string')) return undefined;
    return new Set(value).size === size ? (value as string[]) : undefined;
  }
  const entries = value instanceof Map ? [...value] : isObject(value) ? Object.entries(value) : [];
  // A Keras tokenizer counts from 1, so one id, or a few, may be unused.
  if (entries.length < 2 || entries.length > size || entries.length < size - 4) return undefined;
  const symbols = new Array<string>(size).fill('');
  for (const [key, entry] of entries) {
    const [id, symbol] = typeof entry === 'string' ? [Number(key), entry] : [entry, key];
    if (typeof id !== 'number' || typeof symbol !== 'string' || symbol === '') return undefined;
    if (!Number.isInteger(id) || id < 0 || id >= size || symbols[id] !== '') return undefined;
    symbols[id] = symbol;
  }
  return symbols;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' && value !== null && !(value instanceof Uint8Array) && !(value instanceof PickledCall)
  );
}

/** All vocabularies of `size` symbols in what a pickle held, outermost first. */
export function vocabulariesIn(root: Pickled, size: number): FoundVocabulary[] {
  const found: FoundVocabulary[] = [];
  const seen = new Set<Pickled>();
  let level: { value: Pickled; where: string }[] = [{ value: root, where: '' }];
  let visited = 0;
  for (let depth = 0; depth < deepest && level.length > 0; depth++) {
    const next: typeof level = [];
    for (const { value, where } of level) {
      // A value that occurs in many places, at a few bytes each, is looked at once.
      if (++visited > mostVisited) return found;
      if (seen.has(value)) continue;
      seen.add(value);
      const symbols = symbolsOf(value, size);
      if (symbols !== undefined) found.push({ where: where === '' ? 'the file' : `the file's '${where}'`, symbols });
      if (value === null || typeof value !== 'object') continue;
      const add = (key: Pickled, inner: Pickled) => {
        const name = typeof key === 'string' || typeof key === 'number' ? String(key) : '…';
        if (next.length < mostVisited) next.push({ value: inner, where: where === '' ? name : `${where}.${name}` });
      };
      if (symbols !== undefined) continue;
      if (value instanceof PickledCall) {
        add('', value.state);
        for (const [key, inner] of value.entries) add(key, inner);
      } else if (value instanceof Map) for (const [key, inner] of value) add(key, inner);
      else if (Array.isArray(value)) for (const [i, inner] of value.entries()) add(i, inner);
    }
    level = next;
  }
  return found;
}

/** Python's string.printable, the alphabet of several PyTorch scripts. */
export const pythonPrintable = [
  ...'0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r\x0b\x0c',
];

const privateUse = 0xe000;

/**
 * A vocabulary of single characters; symbols that are not (`<unk>`, ids without a symbol) get private-use characters, which no text has.
 *
 * @throws Refusal if so many are not that it is a model of words.
 */
export function toVocabulary(symbols: readonly string[]): { vocabulary: Vocabulary; notes: string[] } {
  const single = (symbol: string) => {
    const code = symbol.codePointAt(0);
    return code !== undefined && String.fromCodePoint(code) === symbol && !(code >= 0xd800 && code <= 0xdfff);
  };
  const stand: string[] = [];
  const taken = new Set(symbols.filter(single));
  let next = privateUse;
  const made = symbols.map((symbol) => {
    if (single(symbol)) return symbol;
    while (taken.has(String.fromCodePoint(next))) next++;
    const character = String.fromCodePoint(next++);
    stand.push(
      `${symbol === '' ? 'an id without a symbol' : JSON.stringify(symbol.slice(0, 20))} as U+${(next - 1).toString(16).toUpperCase()}`,
    );
    return character;
  });
  if (stand.length > 8 + symbols.length / 8) {
    const words = symbols.filter((symbol) => symbol !== '' && !single(symbol)).slice(0, 3);
    throw new Refusal(
      `its symbols are words (${words.map((word) => JSON.stringify(word)).join(', ')}, …), not characters`,
    );
  }
  const notes =
    stand.length === 0 ? [] : [`symbols that are no characters stand as private ones: ${stand.slice(0, 5).join(', ')}`];
  return { vocabulary: new Vocabulary(made), notes };
}

/** The normalisation that a vocabulary implies: what it lacks was lower-cased, or never there. */
export function normalizationFor(vocabulary: Vocabulary): Normalization {
  const cased = vocabulary.symbols.some((symbol) => symbol !== symbol.toUpperCase());
  const upper = vocabulary.symbols.some((symbol) => symbol !== symbol.toLowerCase());
  return {
    lowercase: cased && !upper,
    ...(vocabulary.idOf('\r') === undefined ? {} : { lineBreaks: 'keep' }),
    ...(vocabulary.idOf('\uFEFF') === undefined ? {} : { byteOrderMark: 'keep' }),
  };
}
