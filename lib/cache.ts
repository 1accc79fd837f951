/** Where this package keeps what it has fetched. */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { DiskError } from './errors';

/**
 * `cudnn-lstm` in the XDG base directory for caches; as the specification demands, a relative path in the variable is ignored.
 *
 * @throws DiskError if neither a variable nor the system says where the user's home is, as in a container that runs under an unknown
 * user id.
 */
export function cacheDirectory(): string {
  const cache = process.env.XDG_CACHE_HOME ?? '';
  return join(isAbsolute(cache) ? cache : join(home(), '.cache'), 'cudnn-lstm');
}

function home(): string {
  try {
    return homedir();
  } catch (cause) {
    const problem = 'this user has no home directory to keep files in: set XDG_CACHE_HOME to a folder you may write to';
    throw new DiskError(problem, { cause });
  }
}
