import { choiceOf, listOf, looking, optionsOf, show, textOf } from '../arguments';
import { DataError, UsageError } from '../errors';
import { grouped } from '../numbers';
import { option } from '../wording';

/** Ids are at most 16 bits wide. */
export const largestVocabulary = 65_536;

/**
 * Options of `Vocabulary.encode`.
 *
 * @category Texts
 */
export interface EncodeOptions {
  /**
   * What to do about a character that the vocabulary lacks: `'error'` names it, `'skip'` leaves it out.
   *
   * @default 'error'
   */
  unknown?: 'error' | 'skip';
  /**
   * Where the text is from, for the message: 'the prompt', a file name.
   *
   * @default 'the text'
   */
  what?: string;
}

function describe(symbol: string): string {
  const code = symbol.codePointAt(0) ?? 0;
  const name = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  // A combining mark on its own would attach to the quotation mark.
  return /[\p{L}\p{N}\p{P}\p{S}]/u.test(symbol) ? `'${symbol}' (${name})` : name;
}

/** Characters as shown in a message, the first five by name. */
export function nameCharacters(symbols: Iterable<string>): string {
  const all = [...symbols];
  const more = all.length > 5 ? ` and ${all.length - 5} more` : '';
  return `${all.slice(0, 5).map(describe).join(', ')}${more}`;
}

/** A character in the other of its two forms: é as one character, or as e with a mark. */
function otherForm(symbol: string): string | undefined {
  const [one, two] = [symbol.normalize('NFC'), symbol.normalize('NFD')];
  return one !== symbol ? one : two !== symbol ? two : undefined;
}

/** What to do about characters that a vocabulary has in another form, if there are any. */
function formHint(unknown: Iterable<string>, vocabulary: Pick<Vocabulary, 'idOf' | 'symbols'>): string | undefined {
  for (const symbol of unknown) {
    const other = otherForm(symbol);
    if (other !== undefined && [...other].every((part) => vocabulary.idOf(part) !== undefined)) {
      return (
        `the model knows ${describe(symbol)} as ${[...other].map(describe).join(' and ')}: write it so, ` +
        `or train with ${option({ normalize: 'nfc' })}, after which either form will do`
      );
    }
    // A mark on its own: the model may have the letter and the mark as one character.
    if (/^\p{M}$/u.test(symbol)) {
      const composed = vocabulary.symbols.find((known) => [...known.normalize('NFD')].slice(1).includes(symbol));
      if (composed !== undefined) {
        return (
          `the model knows letters with that mark as one character, like ${describe(composed)}: write them so (NFC), ` +
          `or train with ${option({ normalize: 'nfc' })}, after which either form will do`
        );
      }
    }
  }
  return undefined;
}

/**
 * The error for characters that a vocabulary lacks.
 *
 * @param unknown Each with the position, in characters, of its first occurrence.
 */
export function unknownCharacters(
  unknown: ReadonlyMap<string, number>,
  what: string,
  vocabulary: Pick<Vocabulary, 'idOf' | 'symbols'>,
): DataError {
  const [first = 0] = unknown.values();
  const hint = formHint(unknown.keys(), vocabulary);
  return new DataError(
    `${what} has characters the model does not know: ${nameCharacters(unknown.keys())} ` +
      `(the first at character ${grouped(first)}); ${hint ? `${hint}; otherwise ` : ''}remove them, or leave them out with ` +
      option({ unknown: 'skip' }),
  );
}

/** The symbol for rare characters, and for those that a vocabulary lacks: Unicode's replacement character. */
export const unknownSymbol = '\uFFFD';

/**
 * The symbols of a model in id order. A symbol is one Unicode code point, never half a surrogate pair.
 *
 * @category Texts
 */
export class Vocabulary {
  readonly symbols: readonly string[];
  /** Id of the symbol that replaces every character not among them; undefined if there is none. */
  readonly unknownId: number | undefined;
  readonly #ids: Map<string, number>;

  /**
   * @param unknown The symbol that replaces every character not among them.
   * @throws DataError if there are more than 65,536 symbols, none, a duplicate, or one that is not a single code point; or if the unknown
   * one is not among them.
   */
  constructor(given: readonly string[], unknown?: string) {
    const symbols = listOf('symbols', given, textOf);
    if (symbols.length === 0) throw new DataError('the vocabulary is empty');
    if (symbols.length > largestVocabulary) {
      throw new DataError(
        `the text has ${grouped(symbols.length)} different characters, more than ${grouped(largestVocabulary)}: ` +
          'is it a text file?',
      );
    }
    this.symbols = symbols;
    this.#ids = new Map(symbols.map((symbol, id) => [symbol, id]));
    if (this.#ids.size !== symbols.length) throw new DataError('the vocabulary names a symbol twice');
    this.unknownId = unknown === undefined ? undefined : this.#ids.get(textOf('unknown', unknown));
    if (unknown !== undefined && this.unknownId === undefined) {
      throw new DataError(`the vocabulary lacks ${nameCharacters([unknown])}, its symbol for what is unknown`);
    }
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
    looking('texts', () => {
      for (const text of texts) for (const symbol of textOf('each of texts', text)) seen.add(symbol);
    });
    return Vocabulary.sorted(seen);
  }

  /** These symbols, sorted by code point. */
  static sorted(symbols: Iterable<string>): Vocabulary {
    const all = looking('symbols', () => Array.from(symbols, (symbol) => textOf('each of symbols', symbol)));
    return new Vocabulary(all.sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number)));
  }

  get size(): number {
    return this.symbols.length;
  }

  idOf(symbol: string): number | undefined {
    return this.#ids.get(symbol);
  }

  /** @throws DataError naming the characters that are not in the vocabulary, unless they are to be skipped. */
  encode(text: string, options: EncodeOptions = {}): Int32Array {
    textOf('text', text);
    const { unknown: policy = 'error', what = 'the text' } = optionsOf<EncodeOptions>('options', options, {
      unknown: (property, value) => choiceOf(property, value, ['error', 'skip']),
      what: textOf,
    });
    const out = new Int32Array(text.length);
    const unknown = new Map<string, number>();
    let count = 0;
    let position = 0;
    for (const symbol of text) {
      const id = this.#ids.get(symbol) ?? this.unknownId;
      if (id !== undefined) out[count++] = id;
      else if (!unknown.has(symbol)) unknown.set(symbol, position);
      position++;
    }
    if (unknown.size > 0 && policy !== 'skip') throw unknownCharacters(unknown, what, this);
    return out.slice(0, count);
  }

  /** @throws UsageError for anything that is not a symbol's id. */
  decode(ids: Iterable<number>): string {
    return looking('ids', () => {
      let text = '';
      for (const id of ids) {
        const symbol = typeof id === 'number' ? this.symbols[id] : undefined;
        if (symbol === undefined) throw new UsageError(`id ${show(id)} is outside the vocabulary of ${this.size}`);
        text += symbol;
      }
      return text;
    });
  }

  toJSON(): readonly string[] {
    return this.symbols;
  }
}

/** The symbols of `vocabulary`, with their ids, followed by those of `symbols` that it lacks, sorted by code point. */
export function grownVocabulary(vocabulary: Vocabulary, symbols: Iterable<string>): Vocabulary {
  const added = new Set([...symbols].filter((symbol) => vocabulary.idOf(symbol) === undefined));
  return added.size === 0
    ? vocabulary
    : new Vocabulary(
        [...vocabulary.symbols, ...Vocabulary.sorted(added).symbols],
        vocabulary.unknownId === undefined ? undefined : vocabulary.symbols[vocabulary.unknownId],
      );
}
