/** Errors about arrays that do not fit in memory. */
import { OutOfMemoryError } from './errors';

/** V8's messages about an array that it has no memory for, or that is longer than any array can be. */
const noRoom = /allocation failed|invalid (?:typed array|array buffer) length/i;

/**
 * The error as it is, or the package's own if it is V8's about such an array.
 *
 * @param purpose `for a text`
 * @param remedy `; give a part of it`
 */
export function orOutOfMemory(error: unknown, purpose = '', remedy = ''): unknown {
  const { name, message } = error instanceof Error ? error : { name: '', message: '' };
  if (name !== 'RangeError' || !noRoom.test(message)) return error;
  const what = purpose === '' ? '' : ` ${purpose}`;
  return new OutOfMemoryError(`there is not enough memory${what} (${message})${remedy}`, { cause: error });
}
