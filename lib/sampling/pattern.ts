/**
 * A small regular expression that a text must match from its beginning to its end, as an automaton over a model's symbols: after each
 * character it says which may come next, and how many more a match takes at least.
 *
 * Syntax and meaning are those of JavaScript's RegExp with the flag u: characters, escapes, classes, `.`, groups, `|`, `?`, `*`, `+`,
 * `{m}`, `{m,}`, `{m,n}`; `^` at the beginning and `$` at the end say what holds anyway. What looks around or back is refused.
 */
import { nameCharacters, type Vocabulary } from '../corpus/vocabulary';
import { DataError, UsageError } from '../errors';
import type { ConstraintMaker } from './constraints';

/** The most states that an automaton may have, and positions that the pattern may come to when its counts are written out. */
const mostStates = 10_000;
const mostPositions = 20_000;
/** Positions looked at while the automaton is made: about half a second. */
const mostWork = 4_000_000;
const longestPattern = 10_000;
const deepestNesting = 100;

/** A position of the pattern: takes one of the symbols, or leads elsewhere without one. */
interface Position {
  /** For each of the vocabulary's symbols whether it is taken. */
  symbols?: Uint8Array;
  next: number[];
}

/** A part of the pattern: where it begins, and a position that leads on from its end. */
interface Part {
  start: number;
  end: number;
}

/** Of a state: for each class of symbols the next state, -1 where none leads to a match. */
interface State {
  next: Int32Array;
  accepting: boolean;
  /** Characters that a match takes at least from here. */
  least: number;
  /** The ids that may come, ascending. */
  ids: Int32Array;
}

const refused = (pattern: string, problem: string): UsageError => new UsageError(`The pattern /${pattern}/ ${problem}`);

/** Reads a pattern, whose syntax RegExp has checked, into positions. */
class Reader {
  readonly positions: Position[] = [];
  readonly #pattern: string;
  readonly #characters: string[];
  readonly #vocabulary: readonly string[];
  readonly #classes = new Map<string, Uint8Array>();
  #at = 0;
  #depth = 0;

  constructor(pattern: string, vocabulary: readonly string[]) {
    this.#pattern = pattern;
    this.#characters = [...pattern];
    this.#vocabulary = vocabulary;
  }

  whole(): Part {
    return this.#alternatives();
  }

  #position(symbols?: Uint8Array): number {
    if (this.positions.length === mostPositions)
      throw refused(
        this.#pattern,
        `is too large: with its counts written out it has more than ${mostPositions.toLocaleString('en')} places.`,
      );
    return this.positions.push({ ...(symbols ? { symbols } : {}), next: [] }) - 1;
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
    // A text begins where a top-level alternative does, and ends where it does.
    while (this.#depth === 1 && this.#take('^'));
    for (;;) {
      const next = this.#characters[this.#at];
      if (next === undefined || next === '|' || next === ')') break;
      if (next === '$' && this.#depth === 1 && this.#endsAfter(this.#at)) {
        this.#at++;
        continue;
      }
      const part = this.#counted();
      this.#link(end, part.start);
      end = part.end;
    }
    return { start, end };
  }

  /** Nothing but `$` stands between there and the end of the alternative. */
  #endsAfter(at: number): boolean {
    let after = at + 1;
    while (this.#characters[after] === '$') after++;
    const next = this.#characters[after];
    return next === undefined || next === '|';
  }

  /** An atom with what says how often it comes. */
  #counted(): Part {
    const from = this.#at;
    const first = this.#atom();
    const to = this.#at;
    const [low, high] = this.#count();
    if (low === 1 && high === 1) return first;
    // Each time but the first reads the atom anew.
    let reads = 0;
    const again = (): Part => {
      if (reads++ === 0) return first;
      const after = this.#at;
      this.#at = from;
      const part = this.#atom();
      if (this.#at !== to) throw new Error('an atom was read differently the second time');
      this.#at = after;
      return part;
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
    const rest = this.#characters.slice(this.#at, this.#at + 50).join('');
    const [whole = '', sign, low, comma, high] = /^(?:([?*+])|\{(\d+)(,?)(\d*)\})\??/.exec(rest) ?? [];
    this.#at += [...whole].length;
    if (whole === '') return [1, 1];
    if (sign) return [sign === '+' ? 1 : 0, sign === '?' ? 1 : Number.POSITIVE_INFINITY];
    const least = Number(low);
    return [least, high ? Number(high) : comma ? Number.POSITIVE_INFINITY : least];
  }

  #atom(): Part {
    const symbol = this.#characters[this.#at] as string;
    if (symbol === '(') {
      this.#at++;
      const head = this.#characters.slice(this.#at, this.#at + 3).join('');
      if (/^\?(?:[=!]|<[=!])/.test(head))
        throw refused(this.#pattern, 'looks ahead or behind, which is not supported: leave (?= … ) out.');
      const [opening = ''] = /^\?(?::|<[^>]*>)/.exec(this.#characters.slice(this.#at, this.#at + 200).join('')) ?? [];
      if (opening === '' && head.startsWith('?'))
        throw refused(this.#pattern, 'has a group of flags, which is not supported: leave (?i: … ) out.');
      this.#at += [...opening].length;
      const part = this.#alternatives();
      this.#at++; // The bracket that closes it.
      return part;
    }
    if (symbol === '^' || symbol === '$')
      throw refused(
        this.#pattern,
        `has ${symbol} in the middle, which is not supported: the whole text must match anyway, so leave it out.`,
      );
    const source = this.#one();
    const start = this.#position(this.#symbolsOf(source));
    const end = this.#position();
    this.#link(start, end);
    return { start, end };
  }

  /** The source of what stands for one character. */
  #one(): string {
    const from = this.#at;
    const symbol = this.#characters[this.#at++];
    if (symbol === '[') {
      for (; this.#characters[this.#at] !== ']'; this.#at++) if (this.#characters[this.#at] === '\\') this.#at++;
      this.#at++;
    } else if (symbol === '\\') {
      const rest = this.#characters.slice(this.#at, this.#at + 100).join('');
      if (/^(?:[1-9]|k<)/.test(rest))
        throw refused(
          this.#pattern,
          `refers back to a group (\\${rest[0]}), which is not supported: write out what it may be.`,
        );
      if (/^[bB]/.test(rest))
        throw refused(
          this.#pattern,
          `has \\${rest[0]}, which looks at its neighbours and is not supported: leave it out.`,
        );
      const [written] = /^(?:[pP]\{[^}]*\}|u\{[^}]*\}|u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|x..|c.|.)/su.exec(
        rest,
      ) as RegExpExecArray;
      this.#at += [...written].length;
    }
    return this.#characters.slice(from, this.#at).join('');
  }

  /** Which symbols it stands for, as RegExp has it. */
  #symbolsOf(source: string): Uint8Array {
    const known = this.#classes.get(source);
    if (known) return known;
    const one = new RegExp(`^(?:${source})$`, 'u');
    const symbols = Uint8Array.from(this.#vocabulary, (symbol) => (one.test(symbol) ? 1 : 0));
    this.#classes.set(source, symbols);
    return symbols;
  }

  #take(symbol: string): boolean {
    if (this.#characters[this.#at] !== symbol) return false;
    this.#at++;
    return true;
  }
}

/** A pattern as an automaton over the ids of a vocabulary. */
export class Pattern {
  /** Characters that a match has at least. */
  readonly least: number;
  readonly #states: readonly State[];
  /** [V]: the class of each symbol; those of one class are taken in the same places. */
  readonly #classes: Uint32Array;

  /**
   * @throws UsageError if it is no regular expression, has what is not supported, or is too large; DataError if no text of symbols that
   * the model writes matches it.
   */
  constructor(pattern: string, vocabulary: Vocabulary) {
    if (pattern.length > longestPattern)
      throw new UsageError(
        `A pattern has ${longestPattern.toLocaleString('en')} characters at most, not ${pattern.length.toLocaleString('en')}.`,
      );
    try {
      new RegExp(pattern, 'u');
    } catch (cause) {
      const problem = (cause as Error).message.replace(/^Invalid regular expression: /, '').replace(/^\/.*\/u?: /s, '');
      throw refused(pattern, `is no regular expression: ${problem}.`);
    }
    const reader = new Reader(pattern, vocabulary.symbols);
    const { start, end } = reader.whole();
    const { positions } = reader;
    const { classes, members } = classify(positions, vocabulary);
    this.#classes = classes;
    this.#states = determine(pattern, positions, start, end, members);
    const [first] = this.#states as [State];
    if (first.least === Number.POSITIVE_INFINITY)
      throw new DataError(
        `no text of the model's characters matches the pattern /${pattern}/; it knows ${nameCharacters(vocabulary.symbols)}`,
      );
    this.least = first.least;
  }

  /** Whether a text matches. */
  matches(ids: Iterable<number>): boolean {
    let state = 0;
    for (const id of ids) {
      state = this.next(state, id);
      if (state < 0) return false;
    }
    return this.accepts(state);
  }

  /** The state after a symbol; -1 if no match begins so. State 0 is the first. */
  next(state: number, id: number): number {
    const { next } = this.#states[state] as State;
    return next[this.#classes[id] as number] as number;
  }

  accepts(state: number): boolean {
    return (this.#states[state] as State).accepting;
  }

  /** The ids that may come, of which a match of at most `left` more characters can be made, ascending. */
  allowed(state: number, left: number): Int32Array {
    const { ids } = this.#states[state] as State;
    const short = (id: number) => (this.#states[this.next(state, id)] as State).least < left;
    return ids.every(short) ? ids : ids.filter(short);
  }
}

/** Puts symbols together that every position treats alike. `members[c]` are the ids of class c. */
function classify(
  positions: readonly Position[],
  { symbols, unknownId }: Vocabulary,
): { classes: Uint32Array; members: number[][] } {
  const sets = [...new Set(positions.flatMap(({ symbols: taken }) => (taken ? [taken] : [])))];
  let classes = new Uint32Array(symbols.length);
  let count = 1;
  for (const set of sets) {
    const renamed = new Map<number, number>();
    classes = classes.map((each, id) => {
      const key = each * 2 + (set[id] as number);
      const name = renamed.get(key) ?? renamed.size;
      renamed.set(key, name);
      return name;
    });
    count = renamed.size;
  }
  const members = Array.from({ length: count }, (): number[] => []);
  // The symbol for what is unknown is never written.
  for (const [id, each] of classes.entries()) if (id !== unknownId) members[each]?.push(id);
  return { classes, members };
}

/** The subset construction, and from each state the way to a match. */
function determine(
  pattern: string,
  positions: readonly Position[],
  start: number,
  end: number,
  members: readonly number[][],
): State[] {
  const names = new Map<string, number>();
  const sets: number[][] = [];
  const closure = new Closure(positions, end);
  const stateOf = (from: readonly number[]): number => {
    const set = closure.of(from);
    const key = set.join();
    const known = names.get(key);
    if (known !== undefined) return known;
    if (sets.length === mostStates) throw tooMany(pattern);
    names.set(key, sets.length);
    return sets.push(set) - 1;
  };
  stateOf([start]);
  const moves: Int32Array[] = [];
  for (let state = 0; state < sets.length; state++) {
    const set = sets[state] as number[];
    moves.push(
      Int32Array.from(members, ([id]) => {
        if (id === undefined) return -1;
        const to = set.flatMap((at) => (positions[at]?.symbols?.[id] ? (positions[at]?.next ?? []) : []));
        return to.length === 0 ? -1 : stateOf(to);
      }),
    );
    closure.work += set.length * members.length;
    if (closure.work > mostWork) throw tooMany(pattern);
  }
  const accepting = sets.map((set) => set.includes(end));
  const least = distances(moves, accepting);
  return moves.map((to, state) => {
    const next = to.map((each) => (each >= 0 && (least[each] as number) < Number.POSITIVE_INFINITY ? each : -1));
    const allowed = members.flatMap((symbols, each) => ((next[each] as number) >= 0 ? symbols : []));
    return {
      ...{ next, accepting: accepting[state] as boolean, least: least[state] as number },
      ids: Int32Array.from(allowed).sort(),
    };
  });
}

function tooMany(pattern: string): UsageError {
  return refused(
    pattern,
    `is too large: it takes more than ${mostStates.toLocaleString('en')} states, or too long to make; make its counts smaller.`,
  );
}

/** Where positions lead without a character. */
class Closure {
  readonly #positions: readonly Position[];
  readonly #end: number;
  /** Of each position, the question in which it was seen last. */
  readonly #seen: Uint32Array;
  #question = 0;
  /** Positions looked at. */
  work = 0;

  constructor(positions: readonly Position[], end: number) {
    this.#positions = positions;
    this.#end = end;
    this.#seen = new Uint32Array(positions.length);
  }

  /** Those that take a symbol, and the end, which are reached from some, ascending. */
  of(from: readonly number[]): number[] {
    this.#question++;
    const found: number[] = [];
    const open = [...from];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      if (this.#seen[at] === this.#question) continue;
      this.#seen[at] = this.#question;
      this.work++;
      const { symbols, next } = this.#positions[at] as Position;
      if (symbols || at === this.#end) found.push(at);
      if (!symbols) open.push(...next);
    }
    return found.sort((a, b) => a - b);
  }
}

/** Characters from each state to the nearest accepting one. */
function distances(moves: readonly Int32Array[], accepting: readonly boolean[]): Float64Array {
  const before: number[][] = moves.map(() => []);
  for (const [state, to] of moves.entries()) for (const next of new Set(to)) if (next >= 0) before[next]?.push(state);
  const least = new Float64Array(moves.length).fill(Number.POSITIVE_INFINITY);
  const queue = accepting.flatMap((is, state) => (is ? [state] : []));
  for (const state of queue) least[state] = 0;
  for (const state of queue) {
    for (const earlier of before[state] as number[]) {
      if (least[earlier] !== Number.POSITIVE_INFINITY) continue;
      least[earlier] = (least[state] as number) + 1;
      queue.push(earlier);
    }
  }
  return least;
}

/**
 * Texts that match as a whole. Where a match is complete the text may end: it does when the model writes a character that cannot follow,
 * which is left out, or when none can.
 *
 * @param length Characters of a text at most. @throws UsageError if no match is so short.
 */
export function matching(pattern: Pattern, length: number): ConstraintMaker {
  if (pattern.least > length) {
    throw new UsageError(
      `What matches the pattern has at least ${pattern.least.toLocaleString('en')} characters: length must be no less.`,
    );
  }
  return () => {
    let state = 0;
    let written = 0;
    const followed = () => pattern.allowed(state, length - written).length > 0;
    return {
      allowed: () => (pattern.accepts(state) ? undefined : pattern.allowed(state, length - written)),
      push: (id) => {
        const next = pattern.next(state, id);
        if (next < 0 || !pattern.allowed(state, length - written).includes(id)) return 'before';
        state = next;
        written++;
        return pattern.accepts(state) && !followed() ? 'after' : undefined;
      },
      get ended() {
        return pattern.accepts(state) && !followed();
      },
    };
  };
}
