/** Stop strings in a text that arrives in pieces. */
import { nameCharacters, type Vocabulary } from '../corpus/vocabulary';
import { DataError } from '../errors';

/** What {@link StopMatcher.push} returns. */
export interface StopResult {
  /** Text that can be emitted: no stop string begins in it. */
  text: string;
  /** Whether a stop string was completed: the text up to it has been emitted, and nothing more follows. */
  stopped: boolean;
}

/**
 * Finds the stop string that is completed first (of two completed by the same character, the longer), however the text is split into
 * pieces. Text that may be the beginning of a stop string is held back until that is decided.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  readonly #keep: boolean;
  #held = '';

  /** @param keep Whether the stop string itself is emitted, as the end of the text. */
  constructor(stops: readonly string[], keep = false) {
    this.#stops = stops;
    this.#keep = keep;
  }

  /** Takes the next piece of the text. */
  push(piece: string): StopResult {
    const text = this.#held + piece;
    let start = -1;
    let end = Number.POSITIVE_INFINITY;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at < 0) continue;
      const to = at + stop.length;
      if (to < end || (to === end && at < start)) {
        start = at;
        end = to;
      }
    }
    if (start >= 0) {
      this.#held = '';
      return { text: text.slice(0, this.#keep ? end : start), stopped: true };
    }
    const keep = this.#possibleStart(text);
    this.#held = text.slice(text.length - keep);
    return { text: text.slice(0, text.length - keep), stopped: false };
  }

  /** Ends the text and returns what was held back. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  /** Length of the longest suffix of `text` that a stop string begins with. */
  #possibleStart(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}

/** Counts the lines and sentences of a text that arrives in pieces. */
class UnitCounter {
  #lines: number;
  #sentences: number;
  /** Whether the last character ends a sentence if white space follows. */
  #closing = false;

  constructor(lines: number, sentences: number) {
    this.#lines = lines;
    this.#sentences = sentences;
  }

  push(piece: string): StopResult {
    let at = 0;
    for (const symbol of piece) {
      if (/[.!?…]/.test(symbol)) this.#closing = true;
      else if (this.#closing && /\s/.test(symbol) && --this.#sentences === 0) return over(piece, at);
      else if (!/["'”’»)\]]/.test(symbol)) this.#closing = false;
      if (symbol === '\n' && --this.#lines === 0) return over(piece, at);
      at += symbol.length;
      if (/[。！？]/.test(symbol) && --this.#sentences === 0) return over(piece, at);
    }
    return { text: piece, stopped: false };
  }
}

function over(piece: string, end: number): StopResult {
  return { text: piece.slice(0, end), stopped: true };
}

/** How a text may end before it reaches its length. */
export interface TextEnds {
  stop: readonly string[];
  keepStop: boolean;
  /** After this many. */
  untilLines?: number | undefined;
  untilSentences?: number | undefined;
}

/** Everything that can end a text, whichever comes first. */
export class TextEnd {
  readonly #units: UnitCounter | undefined;
  readonly #stops: StopMatcher;

  constructor({ stop, keepStop, untilLines, untilSentences }: TextEnds) {
    this.#stops = new StopMatcher(stop, keepStop);
    const counted = untilLines !== undefined || untilSentences !== undefined;
    const never = Number.POSITIVE_INFINITY;
    this.#units = counted ? new UnitCounter(untilLines ?? never, untilSentences ?? never) : undefined;
  }

  /** Takes the next piece of the text. */
  push(piece: string): StopResult {
    const counted = this.#units?.push(piece) ?? { text: piece, stopped: false };
    const result = this.#stops.push(counted.text);
    if (!counted.stopped || result.stopped) return result;
    return { text: result.text + this.#stops.end(), stopped: true };
  }

  /** Ends the text and returns what was held back. */
  end(): string {
    return this.#stops.end();
  }
}

/**
 * Refuses stop strings with a character that the model never writes.
 *
 * @throws DataError
 */
export function checkStops(stops: readonly string[], vocabulary: Pick<Vocabulary, 'idOf'>): void {
  for (const stop of stops) {
    const unknown = new Set([...stop].filter((symbol) => vocabulary.idOf(symbol) === undefined));
    if (unknown.size === 0) continue;
    throw new DataError(
      `stop ${JSON.stringify(stop)} can never match: the model does not know ${nameCharacters(unknown)}`,
    );
  }
}
