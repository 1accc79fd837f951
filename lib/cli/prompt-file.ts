/** A prompt that is too long for a command line, or has line breaks. */
import { DataError } from '../errors';
import { abortable, FileProblem, openInput, upTo } from '../files';

/** Bytes; far more than a model remembers. */
const longest = 16 << 20;

/**
 * The text of a file, or of standard input for `-`, as it stands, a last line break included.
 *
 * @throws DataError if it cannot be read, is longer than 16 MiB, or is not UTF-8.
 */
export async function readPrompt(path: string, signal: AbortSignal): Promise<string> {
  const name = path === '-' ? 'standard input' : path;
  let bytes: Buffer;
  try {
    const input = path === '-' ? abortable(process.stdin, signal) : await openInput(path, signal);
    bytes = await upTo(name, input, longest);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof FileProblem)) throw error;
    if (error.kind === 'large')
      throw new DataError(`the prompt in ${name} is longer than 16 MiB; give the end of it`, { cause: error });
    throw new DataError(`cannot read the prompt: ${error.message}; give a text file, or - for standard input`, {
      cause: error,
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DataError(`the prompt in ${name} is not UTF-8 text; convert it first`, { cause: error });
  }
}
