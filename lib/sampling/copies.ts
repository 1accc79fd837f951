/**
 * How much of the given texts a corpus contains verbatim. The texts are built into a suffix automaton (Blumer et al. 1985), through which
 * the corpus is read once: time grows with the corpus, memory with the texts alone.
 */
import { Breather } from '../breather';
import { UsageError } from '../errors';
import { grouped } from '../numbers';
import type { ReadableIds } from '../scoring/score';

/** How much of the texts occurs in the corpus. */
export interface Copies {
  /** The longest common run, in characters, and where it begins: in which text, at which character of it and of the corpus. */
  longest: { length: number; text: number; at: number; inCorpus: number };
  /** Runs of {@link windowLength} characters in the texts, and how many of them occur in the corpus. */
  windows: number;
  copiedWindows: number;
}

/** Length in characters of the runs that are counted. */
export const windowLength = 30;
/** The most characters that are compared. */
export const mostChecked = 1_000_000;
/** Larger than any symbol; ends a text. */
const separator = 2 ** 17;
const pieceIds = 1 << 16;

/**
 * All runs of symbols in a sequence; state 0 is the empty run. For N symbols it has at most 2 N states and 3 N edges: about 100 bytes per
 * symbol in all, allocated at once.
 */
class SuffixAutomaton {
  /** Per state: the length of its longest run, the state of that run's longest suffix elsewhere, and where one of its runs ends. */
  readonly length: Int32Array;
  readonly link: Int32Array;
  readonly end: Int32Array;
  states = 1;
  /** Per state, the slot of its newest edge; per slot, that of the edge before; -1: none. */
  readonly #newest: Int32Array;
  readonly #before: Int32Array;
  /** A hash table of edges: the source state plus 1 (0: a free slot), the symbol and the target. */
  readonly #from: Int32Array;
  readonly #symbol: Int32Array;
  readonly #target: Int32Array;
  #last = 0;

  /** @param size The most symbols that will be pushed. */
  constructor(size: number) {
    const states = 2 * size + 2;
    this.length = new Int32Array(states);
    this.link = new Int32Array(states);
    this.end = new Int32Array(states);
    this.#newest = new Int32Array(states).fill(-1);
    this.link[0] = -1;
    // At most three quarters of the slots are taken.
    const slots = 2 ** Math.ceil(Math.log2(4 * size + 16));
    this.#from = new Int32Array(slots);
    this.#symbol = new Int32Array(slots);
    this.#target = new Int32Array(slots);
    this.#before = new Int32Array(slots);
  }

  /** The state that `symbol` leads to; -1: none. */
  target(state: number, symbol: number): number {
    const slot = this.#slot(state, symbol);
    return this.#from[slot] === 0 ? -1 : (this.#target[slot] as number);
  }

  push(symbol: number): void {
    const length = this.length[this.#last] as number;
    const added = this.#add(length + 1, length);
    let state = this.#last;
    while (state >= 0 && this.target(state, symbol) < 0) {
      this.#connect(state, symbol, added);
      state = this.link[state] as number;
    }
    this.link[added] = state < 0 ? 0 : this.#linkFor(state, symbol);
    this.#last = added;
  }

  #linkFor(from: number, symbol: number): number {
    const next = this.target(from, symbol);
    const length = (this.length[from] as number) + 1;
    if (this.length[next] === length) return next;
    const clone = this.#add(length, this.end[next] as number);
    this.link[clone] = this.link[next] as number;
    for (let slot = this.#newest[next] as number; slot >= 0; slot = this.#before[slot] as number) {
      this.#connect(clone, this.#symbol[slot] as number, this.#target[slot] as number);
    }
    for (let state = from; state >= 0 && this.target(state, symbol) === next; state = this.link[state] as number) {
      this.#connect(state, symbol, clone);
    }
    this.link[next] = clone;
    return clone;
  }

  #add(length: number, end: number): number {
    this.end[this.states] = end;
    this.length[this.states] = length;
    return this.states++;
  }

  #connect(state: number, symbol: number, to: number): void {
    const slot = this.#slot(state, symbol);
    if (this.#from[slot] === 0) {
      this.#from[slot] = state + 1;
      this.#symbol[slot] = symbol;
      this.#before[slot] = this.#newest[state] as number;
      this.#newest[state] = slot;
    }
    this.#target[slot] = to;
  }

  /** The slot where an edge is, or would be. */
  #slot(state: number, symbol: number): number {
    const last = this.#from.length - 1;
    let hash = Math.imul(state, 0x9e3779b1) ^ Math.imul(symbol, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    let slot = (hash ^ (hash >>> 13)) & last;
    while (this.#from[slot] !== 0 && (this.#from[slot] !== state + 1 || this.#symbol[slot] !== symbol))
      slot = (slot + 1) & last;
    return slot;
  }
}

/** Follows a sequence: the longest suffix of what was read that the automaton holds. */
class Follower {
  state = 0;
  length = 0;

  constructor(readonly automaton: SuffixAutomaton) {}

  push(symbol: number): void {
    const { automaton } = this;
    for (;;) {
      const next = automaton.target(this.state, symbol);
      if (next >= 0) {
        this.state = next;
        this.length++;
        return;
      }
      if (this.state === 0) {
        this.length = 0;
        return;
      }
      this.state = automaton.link[this.state] as number;
      this.length = automaton.length[this.state] as number;
    }
  }
}

/**
 * The states of runs of {@link windowLength} characters. A text that repeats itself gives a chain of as many states as it has repetitions:
 * each is climbed once.
 */
class WindowStates {
  readonly #automaton: SuffixAutomaton;
  readonly #known: Int32Array;

  constructor(automaton: SuffixAutomaton) {
    this.#automaton = automaton;
    this.#known = new Int32Array(automaton.states).fill(-1);
  }

  /** The state of the last {@link windowLength} symbols of a state's runs, which have at least that many. */
  of(state: number): number {
    const { length, link } = this.#automaton;
    let found = state;
    while (this.#known[found] === -1 && (length[link[found] as number] as number) >= windowLength)
      found = link[found] as number;
    if (this.#known[found] !== -1) found = this.#known[found] as number;
    for (let at = state; this.#known[at] === -1; at = link[at] as number) {
      this.#known[at] = found;
      if (at === found) break;
    }
    return found;
  }
}

/**
 * Compares texts with a corpus.
 *
 * @param texts Ids, at most {@link mostChecked} in total. Those below 65,536 are the corpus' symbols.
 * @throws UsageError if there are more.
 * @throws The signal's reason when it is aborted.
 */
export async function findCopies(
  texts: readonly ArrayLike<number>[],
  corpus: ReadableIds,
  signal?: AbortSignal,
): Promise<Copies> {
  const total = texts.reduce((sum, text) => sum + text.length, 0);
  if (total > mostChecked) {
    throw new UsageError(`texts have ${total} characters, and ${mostChecked} at most are compared with a corpus.`);
  }
  const breather = new Breather();
  const automaton = new SuffixAutomaton(total + texts.length);
  const starts: number[] = [];
  let size = 0;
  for (const text of texts) {
    starts.push(size);
    for (let i = 0; i < text.length; i++) {
      automaton.push(text[i] as number);
      if (i % 1024 === 0 && breather.due()) {
        await breather.rest();
        signal?.throwIfAborted();
      }
    }
    automaton.push(separator);
    size += text.length + 1;
  }
  const windowStates = new WindowStates(automaton);
  const copied = new Uint8Array(automaton.states);
  const follower = new Follower(automaton);
  let longest = { length: 0, end: 0, inCorpus: 0 };
  for (let from = 0; from < corpus.length; from += pieceIds) {
    signal?.throwIfAborted();
    const piece = corpus.read(from, Math.min(pieceIds, corpus.length - from));
    for (let i = 0; i < piece.length; i++) {
      follower.push(piece[i] as number);
      const { length, state } = follower;
      if (length >= windowLength) copied[windowStates.of(state)] = 1;
      if (length > longest.length)
        longest = { length, end: automaton.end[state] as number, inCorpus: from + i + 1 - length };
    }
    if (breather.due()) await breather.rest();
  }
  let [windows, copiedWindows] = [0, 0];
  for (const text of texts) {
    const own = new Follower(automaton);
    for (let i = 0; i < text.length; i++) {
      own.push(text[i] as number);
      if (i % 1024 === 0 && breather.due()) {
        await breather.rest();
        signal?.throwIfAborted();
      }
      if (i + 1 < windowLength) continue;
      windows++;
      copiedWindows += copied[windowStates.of(own.state)] as number;
    }
  }
  const at = longest.length === 0 ? 0 : longest.end + 1 - longest.length;
  const text = Math.max(
    0,
    starts.findLastIndex((start) => start <= at),
  );
  return {
    longest: { length: longest.length, text, at: at - (starts[text] ?? 0), inCorpus: longest.inCorpus },
    windows,
    copiedWindows,
  };
}

/** The result in words. */
export function copyLines({ longest, windows, copiedWindows }: Copies, texts: readonly string[]): string[] {
  const { length, text, at } = longest;
  const copy = codePoints(texts[text] ?? '', at, Math.min(length, 81));
  const shown = length > 80 ? `${codePoints(copy, 0, 77)}...` : copy;
  const share = windows === 0 ? 'no' : `${((100 * copiedWindows) / windows).toFixed(1)} % of the`;
  return [
    `longest copy: ${grouped(length)} characters${length > 0 ? `, ${JSON.stringify(shown)}` : ''}`,
    `copied: ${share} runs of ${windowLength} characters${windows === 0 ? ': the text is shorter' : ' stand in the corpus'}`,
  ];
}

function codePoints(text: string, first: number, count: number): string {
  let found = '';
  let at = 0;
  for (const symbol of text) {
    if (at >= first + count) break;
    if (at++ >= first) found += symbol;
  }
  return found;
}
