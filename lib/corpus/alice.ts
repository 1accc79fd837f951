/** The named corpus `alice`: downloaded when first asked for, then cached together with its hash, which is checked at every use. */
import { createHash } from 'node:crypto';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory } from '../cache';
import { makeDirectory, writeFileAtomically } from '../checkpoint/disk';
import { DataError, DiskError } from '../errors';
import { readSmallFile } from '../files';
import { packageVersion } from '../version';

const defaultUrl = 'https://www.gutenberg.org/cache/epub/11/pg11.txt';
const sizeLimit = 4 << 20; // the book is 170 KB
const redirectLimit = 5;
const timeoutMilliseconds = 30_000;

const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

type Explain = (problem: string, cause?: unknown) => DataError;

function webAddress(address: string, base: URL | undefined, explain: Explain): URL {
  let url: URL;
  try {
    url = new URL(address, base);
  } catch (cause) {
    throw explain(`'${address}' is not a web address`, cause);
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw explain(`${url} is not a web address`);
  return url;
}

async function readBody(response: Response, explain: Explain): Promise<Buffer> {
  if (!response.ok) throw explain(`the server answered ${response.status}`);
  if (response.headers.get('content-type')?.startsWith('text/html'))
    throw explain('the answer is a web page, perhaps of a network that requires a login');
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > sizeLimit) throw explain(`it is larger than ${sizeLimit} bytes`);
    pieces.push(piece);
  }
  if (size === 0) throw explain('the answer is empty');
  return Buffer.concat(pieces);
}

async function fetchBook(
  address: string,
  explain: Explain,
  { signal, timeout }: { signal: AbortSignal | undefined; timeout: number },
): Promise<Buffer> {
  const late = AbortSignal.timeout(timeout);
  let url = webAddress(address, undefined, explain);
  try {
    for (let hop = 0; hop <= redirectLimit; hop++) {
      const response = await fetch(url, {
        redirect: 'manual',
        headers: {
          'user-agent': `cudnn-lstm/${packageVersion} (a Node.js package that trains on public-domain texts)`,
        },
        signal: signal === undefined ? late : AbortSignal.any([signal, late]),
      });
      const next = response.headers.get('location');
      if (response.status < 300 || response.status >= 400 || next === null) return await readBody(response, explain);
      await response.body?.cancel();
      url = webAddress(next, url, explain);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof DataError) throw error;
    if (late.aborted) throw explain(`no answer within ${timeout / 1000} s`, error);
    const { cause, message } = error as Error;
    throw explain(
      (cause as Error | undefined)?.message || (cause as { code?: string } | undefined)?.code || message,
      error,
    );
  }
  throw explain(`more than ${redirectLimit} redirects`);
}

/**
 * The cached book's path. A book that is missing, or no longer what was fetched, is fetched first; CUDNN_LSTM_ALICE_URL overrides the
 * address.
 *
 * @throws DataError if it cannot be fetched; DiskError if it cannot be cached.
 */
export async function alicePath(signal?: AbortSignal, timeout = timeoutMilliseconds): Promise<string> {
  const directory = cacheDirectory();
  const file = join(directory, 'alice.txt');
  const record = `${file}.sha256`;
  const cached = (await stat(file).catch(() => undefined))?.isFile() === true;
  if (cached) {
    // There is no record when the user put the file there.
    const expected = await readSmallFile(record, 1024).catch(() => undefined);
    if (expected === undefined) return file;
    const book = await readSmallFile(file, sizeLimit).catch(() => undefined);
    if (book && expected.toString().trim() === sha256(book)) return file;
  }
  const address = process.env.CUDNN_LSTM_ALICE_URL || defaultUrl;
  const remedy = cached
    ? `${file} is there, but not as it was fetched: check the network, or delete ${record} to use it as it is`
    : `check the network, or put the book's text at ${file}`;
  const explain: Explain = (problem, cause) =>
    new DataError(`the corpus 'alice' could not be fetched from ${address}: ${problem}; ${remedy}`, { cause });
  const book = await fetchBook(address, explain, { signal, timeout });
  try {
    await makeDirectory(directory);
    // In this order, a process killed in between leaves a text without a record, never one with a wrong record.
    await rm(record, { force: true });
    await writeFileAtomically(file, [book]);
    await writeFileAtomically(record, [Buffer.from(`${sha256(book)}\n`)]);
  } catch (error) {
    const { message } = error instanceof DiskError ? ((error.cause as Error | undefined) ?? error) : (error as Error);
    throw new DiskError(
      `cannot keep the corpus 'alice' at ${file} (${message}); set XDG_CACHE_HOME to a folder you may write to`,
      {
        cause: error,
      },
    );
  }
  return file;
}
