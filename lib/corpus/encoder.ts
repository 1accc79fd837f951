/** Turns pieces of text into symbols and ids. A piece never splits a surrogate pair. */
import { plural } from '../numbers';
import type { IdArray } from './ids';
import { nameCharacters, unknownCharacters, unknownSymbol, Vocabulary } from './vocabulary';

const unseen = -1;
/** How many distinct unknown characters are recorded individually. */
const unknownKept = 1000;

const isHighSurrogate = (unit: number) => unit >= 0xd800 && unit <= 0xdbff;

/** Combining marks of Latin, Greek and Cyrillic letters and of kana, the scripts in which both forms are in use. */
const isMark = (unit: number) => (unit >= 0x300 && unit <= 0x36f) || unit === 0x3099 || unit === 0x309a;

/** Ids by code point: a table for the first plane, a map above it. */
export class Encoder {
  readonly #table = new Int32Array(65_536).fill(unseen);
  /** Characters that the vocabulary lacks, each with the position of its first occurrence in its source. */
  #unknown = new Map<string, number>();
  #position = 0;
  #source = '';
  /** Number of characters so far that the vocabulary lacks. */
  skipped = 0;
  /** Number of characters that became the unknown symbol. */
  folded = 0;
  readonly #skip: boolean;

  constructor(
    readonly vocabulary: Vocabulary,
    skip: boolean,
  ) {
    this.#skip = skip;
    for (const [id, symbol] of vocabulary.symbols.entries())
      if (symbol.length === 1) this.#table[symbol.charCodeAt(0)] = id;
  }

  /** Starts a source: what is encoded next belongs to it. @throws as `finish` does for the previous one. */
  begin(source: string): void {
    this.finish();
    this.#source = source;
    this.#position = 0;
  }

  /** Writes the ids of a piece to `out`; returns how many. */
  encode(text: string, out: IdArray | Int32Array, at: number): number {
    const begin = at;
    for (let i = 0; i < text.length; i++) {
      let id = this.#table[text.charCodeAt(i)] as number;
      if (id === unseen) {
        const symbol = String.fromCodePoint(text.codePointAt(i) as number);
        if (symbol.length === 2) i++;
        id = this.vocabulary.idOf(symbol) ?? unseen;
        const { unknownId } = this.vocabulary;
        if (id === unseen && unknownId !== undefined) {
          id = unknownId;
          this.folded++;
        }
        if (id === unseen) {
          if (!this.#unknown.has(symbol) && this.#unknown.size < unknownKept) this.#unknown.set(symbol, this.#position);
          this.skipped++;
          this.#position++;
          continue;
        }
      }
      this.#position++;
      out[at++] = id;
    }
    return at - begin;
  }

  /** @throws DataError naming the characters that were not in the vocabulary, unless they are to be skipped. */
  finish(): void {
    if (!this.#skip && this.#unknown.size > 0) throw unknownCharacters(this.#unknown, this.#source, this.vocabulary);
  }

  /** Notes for the user about characters left out. */
  notes(): string[] {
    return this.skipped === 0 ? [] : [leftOut(this.skipped, this.#unknown.keys())];
  }
}

/** The note about characters that a vocabulary lacks; `symbols` says which. */
export function leftOut(count: number, symbols: Iterable<string>): string {
  return `${plural(count, 'character')} that the model does not know left out: ${nameCharacters(symbols)}`;
}

/** Counts the symbols and characters of a text. */
export class SymbolCounter {
  readonly #seen = new Float64Array(65_536);
  /** The highest unit seen: in most texts, that leaves a hundred of them to look at. */
  #highest = -1;
  readonly #above = new Map<string, number>();
  /** Characters that were written as a letter and a mark but are a single one in NFC. */
  readonly #composable = new Set<string>();
  #last = '';
  /** Code points counted. */
  length = 0;

  count(text: string): void {
    let highest = this.#highest;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (isHighSurrogate(unit)) {
        const symbol = String.fromCodePoint(text.codePointAt(i) as number);
        this.#above.set(symbol, (this.#above.get(symbol) ?? 0) + 1);
        i++;
      } else {
        this.#seen[unit] = (this.#seen[unit] as number) + 1;
        if (unit > highest) highest = unit;
        if (isMark(unit)) this.#compose(i > 0 ? (text[i - 1] as string) : this.#last, text[i] as string);
      }
      this.length++;
    }
    this.#highest = highest;
    if (text !== '') this.#last = text.slice(-1);
  }

  #compose(letter: string, mark: string): void {
    const composed = (letter + mark).normalize('NFC');
    if (composed.length === 1) this.#composable.add(composed);
  }

  /** Characters that occur in both forms: precomposed, and as a letter with a mark. */
  get inBothForms(): string[] {
    return [...this.#composable].filter((symbol) => (this.#seen[symbol.charCodeAt(0)] as number) > 0).sort();
  }

  /**
   * @param least Symbols with fewer occurrences are folded into the unknown symbol; with 1 there is none.
   * @param always Symbols to include in any case.
   * @throws DataError if there are none, or too many.
   */
  vocabulary(least = 1, always: readonly string[] = []): Vocabulary {
    const symbols = new Set(always);
    for (const [symbol, count] of this.#above) if (count >= least) symbols.add(symbol);
    for (let unit = 0; unit <= this.#highest; unit++) {
      if ((this.#seen[unit] as number) >= least) symbols.add(String.fromCharCode(unit));
    }
    if (least === 1) return Vocabulary.sorted(symbols);
    symbols.add(unknownSymbol);
    return new Vocabulary(Vocabulary.sorted(symbols).symbols, unknownSymbol);
  }

  /** Occurrences of the most frequent symbol that is not among `others`. */
  mostFrequent(others: readonly string[]): number {
    let most = 0;
    const look = (symbol: string, count: number) => {
      if (count > most && !others.includes(symbol)) most = count;
    };
    for (const [symbol, count] of this.#above) look(symbol, count);
    for (let unit = 0; unit <= this.#highest; unit++) look(String.fromCharCode(unit), this.#seen[unit] as number);
    return most;
  }

  /** How many symbols would then be folded, and how many characters they account for. */
  rarer(least: number): { symbols: number; characters: number } {
    const rare = { symbols: 0, characters: 0 };
    const look = (count: number) => {
      if (count === 0 || count >= least) return;
      rare.symbols++;
      rare.characters += count;
    };
    for (const count of this.#above.values()) look(count);
    for (let unit = 0; unit <= this.#highest; unit++) look(this.#seen[unit] as number);
    return rare;
  }
}
