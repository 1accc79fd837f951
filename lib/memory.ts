/** Arrays that there is no memory for. */
import { OutOfMemoryError } from './errors';

/** What V8 says of an array that it gets no memory for, or that is longer than any of its arrays. */
const noRoom = /allocation failed|invalid (?:typed array|array buffer) length/i;

/**
 * An error as it is; where it is V8's of such an array, the package's own.
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
