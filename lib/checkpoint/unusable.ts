import { CheckpointError } from '../errors';
import { harmless } from '../harmless';

const longest = 300;

/**
 * The error for a file that is not a checkpoint. What the file says about itself (names, keys) is shown on one line of bounded
 * length, with nothing in it that a terminal would obey.
 */
export function unusable(path: string, problem: string, cause?: unknown): CheckpointError {
  const short = problem.length > longest ? `${problem.slice(0, longest)}…` : problem;
  return new CheckpointError(harmless(`${path} is not a usable checkpoint: ${short}`), { cause });
}
