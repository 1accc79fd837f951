/** Reads a prompt that is too long for a command line, or has line breaks. */
import { DataError } from '../errors';
import { abortable, FileProblem, openInput, upTo } from '../files';

/** Bytes; far more than a model remembers. */
const longest = 16 << 20;

/**
 * The bytes of a file, or of standard input for `-`, unchanged.
 *
 * @throws DataError if it cannot be read, or is longer than 16 MiB.
 */
export async function readPrompt(path: string, signal: AbortSignal): Promise<Buffer> {
  const name = path === '-' ? 'standard input' : path;
  try {
    const input = path === '-' ? abortable(process.stdin, signal) : await openInput(path, signal);
    return await upTo(name, input, longest);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof FileProblem)) throw error;
    if (error.kind === 'large')
      throw new DataError(`the prompt in ${name} is longer than 16 MiB; give the end of it`, { cause: error });
    throw new DataError(`cannot read the prompt: ${error.message}; give a text file, or - for standard input`, {
      cause: error,
    });
  }
}

/** The bytes as text, including a final line break. @throws DataError if they are not UTF-8. */
export function promptText(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    const name = path === '-' ? 'standard input' : path;
    throw new DataError(`the prompt in ${name} is not UTF-8 text; convert it first`, { cause: error });
  }
}
