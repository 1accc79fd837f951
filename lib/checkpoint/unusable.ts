import { CheckpointError } from '../errors';
import { harmless } from '../harmless';

const longest = 300;

/**
 * The error of a file that is no checkpoint. What the file says of itself (names, keys) is shown on one line of bounded
 * length, with nothing in it that a terminal would obey.
 */
export function unusable(path: string, problem: string, cause?: unknown): CheckpointError {
  const short = problem.length > longest ? `${problem.slice(0, longest)}…` : problem;
  return new CheckpointError(harmless(`${path} is not a usable checkpoint: ${short}`), { cause });
}
