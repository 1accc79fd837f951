/**
 * A small regular expression that a text must match from beginning to end, parsed into positions (Thompson 1968). A text is in several of
 * them at once; they tell which symbols may come next, and how many characters a match takes at least.
 *
 * Syntax and semantics are those of JavaScript's RegExp with the u flag: characters, escapes, classes, `.`, groups, `|`, `?`, `*`, `+`,
 * `{m}`, `{m,}`, `{m,n}`; `^` at the beginning and `$` at the end say what holds anyway. Lookaround, word boundaries and backreferences are
 * refused.
 */
import { nameCharacters, type Vocabulary } from '../corpus/vocabulary';
import { DataError, OptionError, UsageError } from '../errors';
import { grouped } from '../numbers';
import type { ConstraintMaker } from './constraints';

/** The most positions of a pattern with its counts written out, and the most symbols tested against its classes: 20 milliseconds. */
const mostPositions = 20_000;
const mostTests = 300_000;
const longestPattern = 10_000;
const deepestNesting = 100;

/** A position of the pattern: it takes a symbol of a class, or leads elsewhere without one. */
interface Position {
  /** Index of the class. */
  takes?: number;
  next: number[];
}

/** A part of the pattern: where it begins, and a position that leads on from its end. */
interface Part {
  start: number;
  end: number;
}

/** Where a text is in a pattern. */
export interface PatternState {
  /** The positions that may take the next symbol. */
  readonly at: readonly number[];
  /** Whether the text is a match. */
  readonly accepting: boolean;
  /** Characters, one or more, that the shortest longer match adds; infinite if there is none. */
  readonly further: number;
}

const shown = (pattern: string) => `/${pattern.length > 80 ? `${pattern.slice(0, 80)}…` : pattern}/`;
const refused = (pattern: string, problem: string) => new UsageError(`The pattern ${shown(pattern)} ${problem}`);

/** Parses a pattern, whose syntax RegExp has checked, into positions. */
class Reader {
  readonly positions: Position[] = [];
  /** The source of each class, i.e. of anything that matches one character. */
  readonly classes: string[] = [];
  readonly #pattern: string;
  readonly #names = new Map<string, number>();
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  whole(): Part {
    return this.#alternatives();
  }

  #position(takes?: number): number {
    return this.#add({ ...(takes === undefined ? {} : { takes }), next: [] });
  }

  #add(position: Position): number {
    if (this.positions.length === mostPositions)
      throw refused(
        this.#pattern,
        `is too large: with its counts written out it has more than ${grouped(mostPositions)} places.`,
      );
    return this.positions.push(position) - 1;
  }

  #link(from: number, to: number): void {
    (this.positions[from] as Position).next.push(to);
  }

  #alternatives(): Part {
    if (++this.#depth > deepestNesting)
      throw refused(this.#pattern, `has more than ${deepestNesting} groups inside one another.`);
    const whole = { start: this.#position(), end: this.#position() };
    do {
      const { start, end } = this.#sequence();
      this.#link(whole.start, start);
      this.#link(end, whole.end);
    } while (this.#take('|'));
    this.#depth--;
    return whole;
  }

  #sequence(): Part {
    const start = this.#position();
    let end = start;
    // The text begins where a top-level alternative does, and ends where it does.
    while (this.#depth === 1 && this.#take('^'));
    for (;;) {
      const next = this.#pattern[this.#at];
      if (next === undefined || next === '|' || next === ')') break;
      // Nothing but `$` is left before the end of the alternative.
      if (next === '$' && this.#depth === 1 && this.#found(/\$+(?=\||$)/y) !== undefined) continue;
      const part = this.#counted();
      this.#link(end, part.start);
      end = part.end;
    }
    return { start, end };
  }

  /** An atom with its quantifier. */
  #counted(): Part {
    const from = this.positions.length;
    const first = this.#atom();
    const [low, high] = this.#count();
    if (low === 1 && high === 1) return first;
    // Every repetition but the first is a copy of what was read, taken before anything leads to it or on from it.
    const read = this.positions.slice(from).map(({ next, ...rest }) => ({ ...rest, next: [...next] }));
    let times = 0;
    const again = (): Part => {
      if (times++ === 0) return first;
      const by = this.positions.length - from;
      for (const { next, ...rest } of read) this.#add({ ...rest, next: next.map((to) => to + by) });
      return { start: first.start + by, end: first.end + by };
    };
    const start = this.#position();
    let end = start;
    for (let n = 0; n < low; n++) {
      const part = again();
      this.#link(end, part.start);
      end = part.end;
    }
    const last = this.#position();
    if (high === Number.POSITIVE_INFINITY) {
      const loop = this.#position();
      const part = again();
      this.#link(end, loop);
      this.#link(loop, part.start);
      this.#link(part.end, loop);
      this.#link(loop, last);
    } else {
      this.#link(end, last);
      for (let n = low; n < high; n++) {
        const part = again();
        this.#link(end, part.start);
        this.#link(part.end, last);
        end = part.end;
      }
    }
    return { start, end: last };
  }

  #count(): [number, number] {
    const [, sign, low, comma, high] = this.#found(/(?:([?*+])|\{(\d+)(,?)(\d*)\})\??/y) ?? [];
    if (sign) return [sign === '+' ? 1 : 0, sign === '?' ? 1 : Number.POSITIVE_INFINITY];
    if (low === undefined) return [1, 1];
    return [Number(low), high ? Number(high) : comma ? Number.POSITIVE_INFINITY : Number(low)];
  }

  #atom(): Part {
    const symbol = this.#pattern[this.#at] as string;
    if (this.#take('(')) {
      if (this.#found(/\?(?:[=!]|<[=!])/y))
        throw refused(this.#pattern, 'looks ahead or behind, which is not supported: leave (?= … ) out.');
      if (!this.#found(/\?(?::|<[^>]*>)/y) && this.#pattern[this.#at] === '?')
        throw refused(this.#pattern, 'has a group of flags, which is not supported: leave (?i: … ) out.');
      const part = this.#alternatives();
      this.#at++; // The closing bracket.
      return part;
    }
    if (symbol === '^' || symbol === '$')
      throw refused(
        this.#pattern,
        `has ${symbol} in the middle, which is not supported: the whole text must match anyway, so leave it out.`,
      );
    const [, back] = this.#seen(/\\([1-9]|k(?=<))/y) ?? [];
    if (back)
      throw refused(
        this.#pattern,
        `refers back to a group (\\${back}), which is not supported: write out what it may be.`,
      );
    const [border] = this.#seen(/\\[bB]/y) ?? [];
    if (border)
      throw refused(this.#pattern, `has ${border}, which looks at its neighbours and is not supported: leave it out.`);
    const [source] = this.#found(oneCharacter) as RegExpExecArray;
    const start = this.#position(this.#classOf(source));
    const end = this.#position();
    this.#link(start, end);
    return { start, end };
  }

  #classOf(source: string): number {
    const known = this.#names.get(source);
    if (known !== undefined) return known;
    this.#names.set(source, this.classes.length);
    return this.classes.push(source) - 1;
  }

  /** What matches at this place, if anything. */
  #seen(what: RegExp): RegExpExecArray | undefined {
    what.lastIndex = this.#at;
    return what.exec(this.#pattern) ?? undefined;
  }

  /** The same, and moves past it. */
  #found(what: RegExp): RegExpExecArray | undefined {
    const found = this.#seen(what);
    this.#at += found?.[0].length ?? 0;
    return found;
  }

  #take(symbol: string): boolean {
    if (this.#pattern[this.#at] !== symbol) return false;
    this.#at++;
    return true;
  }
}

/** The source of anything that matches one character: a class, an escape, a character. */
const oneCharacter =
  /\[(?:[^\]\\]|\\.)*\]|\\(?:[pP]\{[^}]*\}|u\{[^}]*\}|u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|x..|c.|.)|./suy;

/**
 * A pattern's positions, where a match begins and ends, and the sources of its classes.
 *
 * @throws UsageError if it is not a regular expression, uses what is not supported, or is too large.
 */
export function readPattern(pattern: string): Part & Pick<Reader, 'positions' | 'classes'> {
  if (pattern.length > longestPattern)
    throw new UsageError(
      `A pattern has ${grouped(longestPattern)} characters at most, not ${grouped(pattern.length)}.`,
    );
  try {
    new RegExp(pattern, 'u');
  } catch (cause) {
    const problem = (cause as Error).message.replace(/^Invalid regular expression: /, '').replace(/^\/.*\/u?: /s, '');
    throw refused(pattern, `is no regular expression: ${problem}.`);
  }
  const reader = new Reader(pattern);
  return { ...reader.whole(), positions: reader.positions, classes: reader.classes };
}

/** A pattern over the ids of a vocabulary. */
export class Pattern {
  /** The state before the first character. */
  readonly start: PatternState;
  readonly #positions: readonly Position[];
  readonly #end: number;
  /** Per class, the ids that may be written, ascending. */
  readonly #classes: readonly Int32Array[];
  /** Per position, the fewest characters that a match takes from there. */
  readonly #least: Float64Array;
  /** Per position, the last question in which it was seen. */
  readonly #seen: Uint32Array;
  #question = 0;

  /**
   * @param written The ids that may be written; by default all but that of the unknown symbol.
   * @throws UsageError if it is not a regular expression, uses what is not supported, or is too large; DataError if it matches no text of
   * symbols that the model writes.
   */
  constructor(pattern: string, vocabulary: Vocabulary, written?: ReadonlySet<number>) {
    const { positions, classes, start, end } = readPattern(pattern);
    this.#positions = positions;
    this.#end = end;
    this.#classes = idsOf(pattern, classes, vocabulary, written);
    this.#least = distances(this.#positions, this.#classes, end);
    this.#seen = new Uint32Array(this.#positions.length);
    this.start = this.#state([start]);
    if (this.least === Number.POSITIVE_INFINITY) {
      const symbols = written ? Array.from(written, (id) => vocabulary.symbols[id] as string) : vocabulary.symbols;
      throw new DataError(
        `no text of the ${written ? '' : "model's "}characters matches the pattern ${shown(pattern)}; ${written ? 'they are' : 'it knows'} ` +
          nameCharacters(symbols),
      );
    }
  }

  /** The fewest characters of a match. */
  get least(): number {
    return leastOf(this.start);
  }

  /** Whether a text matches. */
  matches(ids: Iterable<number>): boolean {
    let state: PatternState | undefined = this.start;
    for (const id of ids) {
      state = this.next(state, id);
      if (state === undefined) return false;
    }
    return state.accepting;
  }

  /** The state after a symbol; undefined if no match begins that way. */
  next(state: PatternState, id: number): PatternState | undefined {
    const to = state.at.flatMap((at) => {
      const { takes, next } = this.#positions[at] as Position;
      return has(this.#classes[takes as number] as Int32Array, id) ? next : [];
    });
    return to.length === 0 ? undefined : this.#state(to);
  }

  /** The ids, ascending, that may come next and allow a match of at most `left` more characters. */
  allowed(state: PatternState, left: number): Int32Array {
    const near = state.at.filter((at) => (this.#least[at] as number) <= left);
    const [first, ...others] = new Set(near.map((at) => (this.#positions[at] as Position).takes as number));
    if (first === undefined) return new Int32Array(0);
    const ids = this.#classes[first] as Int32Array;
    if (others.length === 0) return ids;
    const all = new Set(ids);
    for (const each of others) for (const id of this.#classes[each] as Int32Array) all.add(id);
    return Int32Array.from(all).sort();
  }

  /** The state reached from some positions without taking a character. */
  #state(from: readonly number[]): PatternState {
    this.#question++;
    const found: number[] = [];
    let [accepting, further] = [false, Number.POSITIVE_INFINITY];
    const open = [...from];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const least = this.#least[at] as number;
      if (this.#seen[at] === this.#question || least === Number.POSITIVE_INFINITY) continue;
      this.#seen[at] = this.#question;
      const { takes, next } = this.#positions[at] as Position;
      if (at === this.#end) accepting = true;
      if (takes === undefined) open.push(...next);
      else {
        found.push(at);
        further = Math.min(further, least);
      }
    }
    return { at: found, accepting, further };
  }
}

/** The fewest characters that a match still needs. */
function leastOf({ accepting, further }: PatternState): number {
  return accepting ? 0 : further;
}

/** Whether an ascending list contains an id. */
function has(ids: Int32Array, id: number): boolean {
  let [low, high] = [0, ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ids[middle] as number) < id) low = middle + 1;
    else high = middle;
  }
  return ids[low] === id;
}

/** The ids of each class, as RegExp understands it. */
function idsOf(
  pattern: string,
  sources: readonly string[],
  vocabulary: Vocabulary,
  written: ReadonlySet<number> | undefined,
): Int32Array[] {
  const { symbols, unknownId } = vocabulary;
  const may = (id: number) => id !== unknownId && (written?.has(id) ?? true);
  let tests = 0;
  return sources.map((source) => {
    if (source !== '.' && [...source].length === 1) {
      const id = vocabulary.idOf(source);
      return Int32Array.from(id !== undefined && may(id) ? [id] : []);
    }
    tests += symbols.length;
    if (tests > mostTests)
      throw refused(
        pattern,
        `is too large: it has too many different classes for a model of ${grouped(symbols.length)} symbols.`,
      );
    const one = new RegExp(`^(?:${source})$`, 'u');
    const ids: number[] = [];
    for (const [id, symbol] of symbols.entries()) if (one.test(symbol) && may(id)) ids.push(id);
    return Int32Array.from(ids);
  });
}

/** The fewest characters from each position to the end. */
function distances(positions: readonly Position[], classes: readonly Int32Array[], end: number): Float64Array {
  const before: number[][] = positions.map(() => []);
  for (const [at, { next }] of positions.entries()) for (const to of next) before[to]?.push(at);
  const least = new Float64Array(positions.length).fill(Number.POSITIVE_INFINITY);
  least[end] = 0;
  let near = [end];
  for (let distance = 0; near.length > 0; distance++) {
    const further: number[] = [];
    for (const at of near) {
      for (const earlier of before[at] as number[]) {
        const { takes } = positions[earlier] as Position;
        const here = takes === undefined ? distance : distance + 1;
        if ((least[earlier] as number) <= here || (takes !== undefined && classes[takes]?.length === 0)) continue;
        least[earlier] = here;
        (takes === undefined ? near : further).push(earlier);
      }
    }
    near = further;
  }
  return least;
}

/**
 * Constrains texts to match as a whole. Once a match is complete the text may end: it does when the model writes a character that cannot
 * follow, which is left out, or when none can.
 *
 * @param length The most characters of a text. @throws UsageError if no match is that short.
 */
export function matching(pattern: Pattern, length: number): ConstraintMaker {
  if (pattern.least > length) {
    const least = grouped(pattern.least);
    throw new OptionError(
      'length',
      `must be no less than ${least}: what matches the pattern has at least ${least} characters.`,
    );
  }
  return () => {
    let state = pattern.start;
    let left = length;
    const over = () => state.accepting && state.further > left;
    return {
      allowed: () => (state.accepting ? undefined : pattern.allowed(state, left)),
      push: (id) => {
        const next = pattern.next(state, id);
        if (next === undefined || leastOf(next) > left - 1) return 'before';
        state = next;
        left--;
        return over() ? 'after' : undefined;
      },
      get ended() {
        return over();
      },
    };
  };
}
