/** A prompt that is too long for a command line, or has line breaks. */
import { createReadStream } from 'node:fs';
import { DataError } from '../errors';

/** Bytes; far more than a model remembers. */
const longest = 16 << 20;

/**
 * The text of a file, or of standard input for `-`, as it stands, a last line break included.
 *
 * @throws DataError if it cannot be read, is longer than 16 MiB, or is not UTF-8.
 */
export async function readPrompt(path: string, signal: AbortSignal): Promise<string> {
  const name = path === '-' ? 'standard input' : path;
  const input = path === '-' ? process.stdin : createReadStream(path);
  const stop = () => input.destroy(signal.reason as Error);
  signal.addEventListener('abort', stop);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    signal.throwIfAborted();
    for await (const chunk of input as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > longest) throw new DataError(`the prompt in ${name} is longer than 16 MiB; give the end of it`);
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof DataError) throw error;
    throw new DataError(`cannot read the prompt: ${(error as Error).message}`, { cause: error });
  } finally {
    signal.removeEventListener('abort', stop);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (error) {
    throw new DataError(`the prompt in ${name} is not UTF-8 text; convert it first`, { cause: error });
  }
}
