import { DataError } from '../errors';

/** Ids are 16 bits wide at most. */
export const largestVocabulary = 65_536;

export interface EncodeOptions {
  /** What to do with a character the model has never seen: 'error' names it, 'skip' leaves it out. */
  unknown?: 'error' | 'skip';
  /** Where the text is from, for the message: 'the prompt', a file name. */
  what?: string;
}

function describe(symbol: string): string {
  const code = symbol.codePointAt(0) ?? 0;
  const name = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  return /[\p{L}\p{M}\p{N}\p{P}\p{S}]/u.test(symbol) ? `'${symbol}' (${name})` : name;
}

/** Characters as a message shows them, the first five by name. */
export function nameCharacters(symbols: Iterable<string>): string {
  const all = [...symbols];
  const more = all.length > 5 ? ` and ${all.length - 5} more` : '';
  return `${all.slice(0, 5).map(describe).join(', ')}${more}`;
}

/** The error about characters that a vocabulary does not hold. `unknown`: each with the position, in characters, of its first. */
export function unknownCharacters(unknown: ReadonlyMap<string, number>, what: string): DataError {
  const [first] = unknown.values();
  return new DataError(
    `${what} has characters the model does not know: ${nameCharacters(unknown.keys())} ` +
      `(the first at character ${first}); remove them, or leave them out with --unknown skip`,
  );
}

/** The symbols of a model in id order. A symbol is one Unicode code point, never half a surrogate pair. */
export class Vocabulary {
  readonly symbols: readonly string[];
  private readonly ids: Map<string, number>;

  /** @throws DataError if there are more than 65,536 symbols, none, a duplicate, or one that is not a single code point. */
  constructor(symbols: readonly string[]) {
    if (symbols.length === 0) throw new DataError('the vocabulary is empty');
    if (symbols.length > largestVocabulary) {
      throw new DataError(
        `the text has ${symbols.length} different characters, more than ${largestVocabulary}: is it a text file?`,
      );
    }
    this.symbols = [...symbols];
    this.ids = new Map(symbols.map((symbol, id) => [symbol, id]));
    if (this.ids.size !== symbols.length) throw new DataError('the vocabulary names a symbol twice');
    for (const symbol of symbols) {
      const code = symbol.codePointAt(0);
      const single = code !== undefined && String.fromCodePoint(code) === symbol;
      if (!single || (code >= 0xd800 && code <= 0xdfff)) {
        throw new DataError(`the vocabulary's ${JSON.stringify(symbol)} is not one character`);
      }
    }
  }

  /** The symbols that occur in a text (or in several), sorted by code point. */
  static of(texts: Iterable<string>): Vocabulary {
    const seen = new Set<string>();
    for (const text of texts) for (const symbol of text) seen.add(symbol);
    return Vocabulary.sorted(seen);
  }

  /** These symbols, sorted by code point. */
  static sorted(symbols: Iterable<string>): Vocabulary {
    return new Vocabulary([...symbols].sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number)));
  }

  get size(): number {
    return this.symbols.length;
  }

  idOf(symbol: string): number | undefined {
    return this.ids.get(symbol);
  }

  /** @throws DataError naming the characters that are not in the vocabulary, unless they are to be skipped. */
  encode(text: string, options: EncodeOptions = {}): Int32Array {
    const out = new Int32Array(text.length);
    const unknown = new Map<string, number>();
    let count = 0;
    let position = 0;
    for (const symbol of text) {
      const id = this.ids.get(symbol);
      if (id !== undefined) out[count++] = id;
      else if (!unknown.has(symbol)) unknown.set(symbol, position);
      position++;
    }
    if (unknown.size > 0 && options.unknown !== 'skip') throw unknownCharacters(unknown, options.what ?? 'the text');
    return out.slice(0, count);
  }

  decode(ids: Iterable<number>): string {
    let text = '';
    for (const id of ids) {
      const symbol = this.symbols[id];
      if (symbol === undefined) throw new RangeError(`id ${id} is outside the vocabulary of ${this.size}`);
      text += symbol;
    }
    return text;
  }

  toJSON(): readonly string[] {
    return this.symbols;
  }
}
