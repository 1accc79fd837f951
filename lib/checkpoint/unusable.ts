import { CheckpointError } from '../errors';

const longest = 300;

/** What a stranger's file says of itself, with nothing in it that a terminal would obey; on one line. */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (symbol) => `\\u{${symbol.codePointAt(0)?.toString(16)}}`);
}

/**
 * The error of a file that is no checkpoint. What a stranger's file says of itself (names, keys) is shown on one line of bounded
 * length, with nothing in it that a terminal would obey.
 */
export function unusable(path: string, problem: string, cause?: unknown): CheckpointError {
  const short = problem.length > longest ? `${problem.slice(0, longest)}…` : problem;
  return new CheckpointError(`${path} is not a usable checkpoint: ${harmless(short)}`, { cause });
}
