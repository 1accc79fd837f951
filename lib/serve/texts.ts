/** One text of an answer, piece by piece, with the log-probabilities that the API reports. */
import type { Vocabulary } from '../corpus/vocabulary';
import type { Drawn } from '../sampling/shared';
import { StopMatcher } from '../sampling/stop';

/** One character as the API's `logprobs` describe it. */
export interface Token {
  token: string;
  /** Natural logarithm; null if nothing came before. */
  logprob: number | null;
  /** The likeliest characters, and this one. */
  top: Record<string, number> | null;
}

export interface TextPiece {
  text: string;
  /** The tokens of `text`, if requested. */
  tokens: Token[];
  finish: 'stop' | 'length' | null;
}

/** Turns draws into text that ends before the first stop string. */
export async function* readText(
  drawn: AsyncIterable<Drawn>,
  vocabulary: Vocabulary,
  options: { stop: readonly string[]; length: number; logprobs: boolean },
): AsyncGenerator<TextPiece, void, undefined> {
  const matcher = new StopMatcher(options.stop);
  // Tokens of characters that the matcher holds back.
  const held: Token[] = [];
  let count = 0;
  for await (const each of drawn) {
    count += each.ids.length;
    if (options.logprobs) held.push(...tokensOf(each, vocabulary));
    const { text, stopped } = matcher.push(vocabulary.decode(each.ids));
    const all = !stopped && count >= options.length ? text + matcher.end() : text;
    const finish = stopped ? 'stop' : count >= options.length ? 'length' : null;
    if (all !== '' || finish !== null)
      yield { text: all, tokens: options.logprobs ? held.splice(0, [...all].length) : [], finish };
    if (finish !== null) return;
  }
  if (count === 0 && options.length === 0) yield { text: '', tokens: [], finish: 'length' };
}

function tokensOf(drawn: Drawn, vocabulary: Vocabulary): Token[] {
  const { ids, logProbabilities, rivals, rivalLogProbabilities } = drawn;
  const each = rivals ? rivals.length / ids.length : 0;
  return Array.from(ids, (id, i) => {
    const logprob = logProbabilities?.[i] as number;
    return {
      token: vocabulary.symbols[id] as string,
      logprob,
      top: rivals
        ? topOf(
            vocabulary,
            id,
            logprob,
            rivals.subarray(i * each, (i + 1) * each),
            (rank) => rivalLogProbabilities?.[i * each + rank] as number,
          )
        : null,
    };
  });
}

/** The log-probabilities of the rivals, by character, and of the character itself. */
export function topOf(
  vocabulary: Vocabulary,
  id: number,
  logprob: number,
  rivals: Int32Array,
  logProbability: (rank: number) => number,
): Record<string, number> {
  // A key is one character, so it is never `__proto__`.
  const top: Record<string, number> = {};
  for (const [rank, rival] of rivals.entries()) top[vocabulary.symbols[rival] as string] = logProbability(rank);
  top[vocabulary.symbols[id] as string] = logprob;
  return top;
}

/** `logprobs` of a choice. `offset`: characters before the first token. */
export function logprobsOf(tokens: readonly Token[], offset: number): object {
  let at = offset;
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.some(({ top }) => top !== null) ? tokens.map(({ top }) => top) : null,
    text_offset: tokens.map(() => at++),
  };
}
