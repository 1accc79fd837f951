import { choiceOf, flagOf, optionsOf, textOf } from '../arguments';
import { UsageError } from '../errors';

/**
 * How a text is changed before it becomes symbols. Stored in every checkpoint, so that prompts are treated the same.
 *
 * @category Texts
 */
export interface Normalization {
  /** Lower-case each code point on its own, so that the result does not depend on its neighbours (no final-sigma rule). */
  lowercase: boolean;
  /**
   * The Unicode normal form to which the text is converted.
   *
   * @default none: accents stay in the form in which they are written
   */
  form?: NormalForm | undefined;
  /**
   * `'keep'` leaves CR and CRLF unchanged, since a model trained elsewhere may know them.
   *
   * @default they become LF
   */
  lineBreaks?: 'keep' | undefined;
  /**
   * `'keep'` treats leading byte order marks as characters of the text.
   *
   * @default they are dropped
   */
  byteOrderMark?: 'keep' | undefined;
  /**
   * `'bytes'` makes each symbol a byte, of a text in UTF-8 or of any file; byte n is called U+00nn.
   *
   * @default a symbol is a character
   */
  symbols?: 'bytes' | undefined;
  /**
   * The symbol of the vocabulary that replaces every character not in it.
   *
   * @default none: such a character is an error
   */
  unknown?: string | undefined;
}

/**
 * A Unicode normal form.
 *
 * @category Texts
 */
export type NormalForm = 'nfc' | 'nfkc';

/** @throws UsageError if it is not a normalization. */
export function checkNormalization(normalization: Normalization): Normalization {
  const checked = optionsOf<Normalization>('normalization', normalization, {
    lowercase: flagOf,
    form: (what, value) => choiceOf(what, value, ['nfc', 'nfkc']),
    lineBreaks: (what, value) => choiceOf(what, value, ['keep']),
    byteOrderMark: (what, value) => choiceOf(what, value, ['keep']),
    symbols: (what, value) => choiceOf(what, value, ['bytes']),
    unknown: textOf,
  });
  if (checked.lowercase === undefined) throw new UsageError('normalization must say whether it is lowercase.');
  return checked;
}

function lowerCodePoints(text: string): string {
  const lower = text.toLowerCase();
  // The only context rule of JavaScript's lower-casing is the Greek final sigma.
  return text.includes('Σ') ? Array.from(text, (symbol) => symbol.toLowerCase()).join('') : lower;
}

function toForm(text: string, form: NormalForm | undefined): string {
  return form === undefined ? text : text.normalize(form === 'nfc' ? 'NFC' : 'NFKC');
}

/**
 * Converts line ends, normal form and case of a text, or of a part of one that composes with nothing outside it. If symbols are bytes:
 * the text's bytes, as lib/corpus/bytes.ts represents them.
 */
export function normalizePart(text: string, { lowercase, form, lineBreaks, symbols }: Normalization): string {
  if (symbols === 'bytes') return Buffer.from(text, 'utf8').toString('latin1');
  const lines = lineBreaks !== 'keep' && text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text;
  const formed = toForm(lines, form);
  // Lower-casing İ leaves a combining dot above, which may have to be reordered with the marks after it.
  return lowercase ? toForm(lowerCodePoints(formed), form) : formed;
}

/**
 * Drops leading byte order marks and turns CRLF and CR into LF, unless they are to be kept; converts to a normal form and lower-cases if
 * asked. Idempotent.
 *
 * @category Texts
 */
export function normalizeText(text: string, normalization: Normalization): string {
  textOf('text', text);
  const checked = checkNormalization(normalization);
  const marked = checked.byteOrderMark !== 'keep' && text.startsWith('\uFEFF');
  return normalizePart(marked ? text.replace(/^\uFEFF+/, '') : text, checked);
}

/**
 * Whether a code unit begins a sequence that composes with nothing before it, in either form: Latin, Greek and Cyrillic letters and
 * signs, kana, ideographs, Hangul syllables. It need not accept all such characters, but must accept no others.
 */
function beginsAnew(unit: number): boolean {
  return (
    unit < 0x300 ||
    (unit >= 0x386 && unit <= 0x481) ||
    (unit >= 0x3041 && unit <= 0x3096) ||
    (unit >= 0x30a1 && unit <= 0x30fa) ||
    (unit >= 0x4e00 && unit <= 0x9fff) ||
    (unit >= 0xac00 && unit <= 0xd7a3)
  );
}

/**
 * The same for a text that arrives in pieces. A CR at the end of a piece, a surrogate pair split between two and, with a normal form,
 * the last characters that may compose with what follows are held back until the next piece.
 */
export class StreamNormalizer {
  #held: string[] = [];
  #started: boolean;
  readonly #normalization: Normalization;

  constructor(normalization: Normalization) {
    this.#normalization = normalization;
    this.#started = normalization.byteOrderMark === 'keep';
  }

  push(piece: string): string {
    let text = piece;
    if (!this.#started) {
      text = text.replace(/^\uFEFF+/, '');
      this.#started = text !== '';
    }
    if (text === '') return '';
    const border = this.#border(text);
    if (border === undefined) {
      this.#held.push(text);
      return '';
    }
    const ready = this.#held.join('') + text.slice(0, border);
    this.#held = border < text.length ? [text.slice(border)] : [];
    return normalizePart(ready, this.#normalization);
  }

  end(): string {
    const text = this.#held.join('');
    this.#held = [];
    return normalizePart(text, this.#normalization);
  }

  /** Where the part to hold back begins; undefined if before this text. */
  #border(text: string): number | undefined {
    if (this.#normalization.form !== undefined) {
      for (let at = text.length - 1; at >= 0; at--) {
        // A CRLF is not split.
        if (beginsAnew(text.charCodeAt(at)) && text[at] !== '\n') return at;
      }
      return undefined;
    }
    const last = text.charCodeAt(text.length - 1);
    return (last === 0x0d && this.#normalization.lineBreaks !== 'keep') || (last >= 0xd800 && last <= 0xdbff)
      ? text.length - 1
      : text.length;
  }
}
