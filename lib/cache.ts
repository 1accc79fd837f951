/** Where this package keeps what it has fetched. */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** `cudnn-lstm` in the XDG base directory for caches; as the specification has it, a relative path in the variable is ignored. */
export function cacheDirectory(): string {
  const cache = process.env.XDG_CACHE_HOME ?? '';
  return join(isAbsolute(cache) ? cache : join(homedir(), '.cache'), 'cudnn-lstm');
}
