/** The named corpus `alice`: fetched once, when asked for, and kept; its hash is kept beside it and checked at every use. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { DataError } from '../errors';
import { packageVersion } from '../version';

const defaultUrl = 'https://www.gutenberg.org/cache/epub/11/pg11.txt';
const sizeLimit = 4 << 20; // the book is 170 KB
const redirectLimit = 5;
const timeoutMilliseconds = 30_000;

function cacheDirectory(): string {
  const cache = process.env.XDG_CACHE_HOME;
  return join(cache !== undefined && cache !== '' ? cache : join(homedir(), '.cache'), 'cudnn-lstm');
}

const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

async function fetchBook(url: string, file: string, signal?: AbortSignal): Promise<Buffer> {
  const explain = (problem: string, cause?: unknown) =>
    new DataError(
      `the corpus 'alice' could not be fetched from ${url}: ${problem}; check the network, or put the book's text at ${file}`,
      { cause },
    );
  const timeout = AbortSignal.timeout(timeoutMilliseconds);
  let location = new URL(url);
  for (let hop = 0; hop <= redirectLimit; hop++) {
    const response = await fetch(location, {
      redirect: 'manual',
      headers: { 'user-agent': `cudnn-lstm/${packageVersion} (a Node.js package that trains on public-domain texts)` },
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    }).catch((error: Error) => {
      signal?.throwIfAborted();
      throw explain(((error.cause as Error | undefined) ?? error).message, error);
    });
    const next = response.headers.get('location');
    if (response.status >= 300 && response.status < 400 && next !== null) {
      await response.body?.cancel();
      location = new URL(next, location);
      if (location.protocol !== 'https:' && location.protocol !== 'http:')
        throw explain(`it redirects to ${location.protocol}`);
      continue;
    }
    if (!response.ok) throw explain(`the server answered ${response.status}`);
    const pieces: Uint8Array[] = [];
    let size = 0;
    try {
      for await (const piece of response.body ?? []) {
        size += piece.length;
        if (size > sizeLimit) throw explain(`it is larger than ${sizeLimit} bytes`);
        pieces.push(piece);
      }
    } catch (error) {
      if (error instanceof DataError) throw error;
      throw explain((error as Error).message, error);
    }
    return Buffer.concat(pieces);
  }
  throw explain(`more than ${redirectLimit} redirects`);
}

/** The cached book's path, fetched first if it is not there or not what was fetched. CUDNN_LSTM_ALICE_URL overrides the address. */
export async function alicePath(signal?: AbortSignal): Promise<string> {
  const directory = cacheDirectory();
  const file = join(directory, 'alice.txt');
  const record = `${file}.sha256`;
  const cached = await readFile(file).catch(() => undefined);
  if (cached !== undefined) {
    // Without a record the user has put the file there.
    const expected = await readFile(record, 'utf8').catch(() => undefined);
    if (expected === undefined || expected.trim() === sha256(cached)) return file;
  }
  const override = process.env.CUDNN_LSTM_ALICE_URL;
  const book = await fetchBook(override !== undefined && override !== '' ? override : defaultUrl, file, signal);
  try {
    await mkdir(directory, { recursive: true });
    const temporary = `${file}.${process.pid}.tmp`;
    await writeFile(temporary, book);
    await writeFile(record, `${sha256(book)}\n`);
    await rename(temporary, file);
  } catch (error) {
    throw new DataError(`cannot keep the corpus 'alice' at ${file}: ${(error as Error).message}`, { cause: error });
  }
  return file;
}
