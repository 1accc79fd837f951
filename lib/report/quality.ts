/**
 * How good a generated text is, by numbers that need no reader: the share of its words that the corpus knows, the longest
 * stretch it copied verbatim, and whether it runs in a loop.
 */

export interface Quality {
  /** Words of the sample that occur in the corpus, as a share of all its words; NaN if it has none. */
  knownWords: number;
  /** Number of words in the sample. */
  words: number;
  /** Longest substring of the sample that occurs verbatim in the corpus. */
  longestCopy: { characters: number; text: string };
  /** The unit that the sample's end repeats at least three times, or undefined if it does not loop. */
  loop?: { period: number; text: string };
}

const word = /[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*/gu;

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(word) ?? [];
}

/** One state of a suffix automaton (Blumer et al. 1985): the substrings of the sample that end in the same places. */
interface State {
  next: Map<string, number>;
  link: number;
  length: number;
}

function suffixAutomaton(symbols: readonly string[]): State[] {
  const states: State[] = [{ next: new Map(), link: -1, length: 0 }];
  const at = (index: number) => states[index] as State;
  let last = 0;
  for (const symbol of symbols) {
    const current = states.push({ next: new Map(), link: 0, length: at(last).length + 1 }) - 1;
    let p = last;
    while (p >= 0 && !at(p).next.has(symbol)) {
      at(p).next.set(symbol, current);
      p = at(p).link;
    }
    if (p >= 0) {
      const q = at(p).next.get(symbol) as number;
      if (at(p).length + 1 === at(q).length) {
        at(current).link = q;
      } else {
        const clone = states.push({ next: new Map(at(q).next), link: at(q).link, length: at(p).length + 1 }) - 1;
        while (p >= 0 && at(p).next.get(symbol) === q) {
          at(p).next.set(symbol, clone);
          p = at(p).link;
        }
        at(q).link = clone;
        at(current).link = clone;
      }
    }
    last = current;
  }
  return states;
}

/** The longest substring of `sample` that occurs in `corpus`: the corpus is read once through the sample's automaton. */
export function longestCopy(sample: string, corpus: string): { characters: number; text: string } {
  const states = suffixAutomaton([...sample]);
  const at = (index: number) => states[index] as State;
  let state = 0;
  let length = 0;
  let best = 0;
  let bestEnd = 0;
  let position = 0;
  for (const symbol of corpus) {
    position += symbol.length;
    while (state > 0 && !at(state).next.has(symbol)) {
      state = at(state).link;
      length = at(state).length;
    }
    const next = at(state).next.get(symbol);
    if (next === undefined) continue;
    state = next;
    length++;
    if (length > best) {
      best = length;
      bestEnd = position;
    }
  }
  const symbols = [...corpus.slice(Math.max(0, bestEnd - 2 * best), bestEnd)];
  return { characters: best, text: symbols.slice(symbols.length - best).join('') };
}

/** The shortest unit that fills the sample's end at least three times and at least 30 characters of it. */
export function findLoop(sample: string): { period: number; text: string } | undefined {
  const symbols = [...sample];
  const n = symbols.length;
  for (let period = 1; 3 * period <= n; period++) {
    const reach = Math.max(3 * period, 30);
    if (reach > n) continue;
    let same = true;
    for (let i = n - reach; i + period < n && same; i++) same = symbols[i] === symbols[i + period];
    if (same) return { period, text: symbols.slice(n - period).join('') };
  }
  return undefined;
}

/** Measures a sample against the corpus its model was trained on (both normalised alike). */
export function measureQuality(sample: string, corpus: string): Quality {
  const known = new Set(wordsOf(corpus));
  const words = wordsOf(sample);
  const loop = findLoop(sample);
  return {
    knownWords: words.filter((each) => known.has(each)).length / words.length,
    words: words.length,
    longestCopy: longestCopy(sample, corpus),
    ...(loop === undefined ? {} : { loop }),
  };
}
