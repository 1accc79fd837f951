/**
 * Files that anybody may have put there: opened without blocking, checked to be files, and read up to a limit. Otherwise a pipe would
 * block its reader for ever, in a thread that the process cannot exit without, and a device has no end.
 */
import { constants, openSync, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { addAbortSignal, type Readable } from 'node:stream';
import { takeAllQuietly } from './endings';
import { grouped } from './numbers';

/** Absent on Windows, which has neither such pipes nor such links. */
const { O_NONBLOCK = 0, O_NOFOLLOW = 0 } = constants as Partial<typeof constants>;

/** Why a path cannot be used as a file. The message names the path; whoever catches this adds the remedy. */
export class FileProblem extends Error {
  constructor(
    readonly path: string,
    /** What follows the path in the message: `is a directory, not a file`. */
    readonly problem: string,
    /** Nothing is there; something other than a file is there; it exceeds the limit; or the system reported an error. */
    readonly kind: 'missing' | 'other' | 'large' | 'system',
    options?: ErrorOptions,
  ) {
    super(`${path} ${problem}`, options);
  }
}

/** The kind of something that is not a file: `a named pipe`. */
export function kindOf(found: Stats): string {
  if (found.isDirectory()) return 'a directory';
  if (found.isFIFO()) return 'a named pipe';
  if (found.isSocket()) return 'a socket';
  return found.isSymbolicLink() ? 'a symbolic link' : 'a device';
}

function refuseOther(path: string, found: Stats): void {
  if (!found.isFile()) throw new FileProblem(path, `is ${kindOf(found)}, not a file`, 'other');
}

async function problemOf(path: string, cause: unknown, doing: string): Promise<FileProblem> {
  if (cause instanceof FileProblem) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    const link = await lstat(path).catch(() => undefined);
    if (link?.isSymbolicLink()) return new FileProblem(path, 'is a link to nothing', 'other', { cause });
    return new FileProblem(path, 'is not there', 'missing', { cause });
  }
  return new FileProblem(path, `cannot be ${doing} (${withoutPath(message)})`, 'system', { cause });
}

/** A system error's message, such as `EIO: i/o error, open '/a/b'`, without the call and the path, which the caller names. */
function withoutPath(message: string): string {
  return message.replace(/, \w+( '.*)?$/s, '');
}

/** Why something cannot be read and what to do about it, to follow its path in a message. */
export function whyUnreadable({ code, message }: NodeJS.ErrnoException): string {
  const denied = code === 'EACCES' || code === 'EPERM';
  return denied ? 'permission denied; its owner can let you read it' : withoutPath(message);
}

/**
 * Whether a name is taken by anything, even by a dangling or circular link. Also false if this cannot be determined: writing there
 * will report why.
 */
export async function isTaken(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** What is at a path, following links. @throws FileProblem if nothing is, or this cannot be determined. */
async function look(path: string): Promise<Stats> {
  return stat(path).catch(async (error: unknown) => {
    throw await problemOf(path, error, 'read');
  });
}

async function checked(path: string, flags: number): Promise<FileHandle> {
  const handle = await open(path, flags | O_NONBLOCK);
  try {
    refuseOther(path, await handle.stat());
    return handle;
  } catch (error) {
    await takeAllQuietly([() => handle.close()]);
    throw error;
  }
}

/**
 * Opens a file for reading, without ever waiting for another process.
 *
 * @throws FileProblem if it is missing, or not a file.
 */
export async function openFile(path: string): Promise<FileHandle> {
  // Checked first, since merely opening some devices has an effect.
  refuseOther(path, await look(path));
  try {
    return await checked(path, constants.O_RDONLY);
  } catch (error) {
    throw await problemOf(path, error, 'read');
  }
}

/**
 * Opens a file for appending, and creates it if it is missing. Links are not followed: they would lead out of the directory.
 *
 * @throws FileProblem if something other than a file is there, or it cannot be written to.
 */
export function openToAppend(path: string): Promise<FileHandle> {
  return openToWrite(path, constants.O_WRONLY | constants.O_APPEND);
}

/** Opens a file for locking, reading and writing, otherwise like {@link openToAppend}. */
export function openToLock(path: string): Promise<FileHandle> {
  return openToWrite(path, constants.O_RDWR);
}

async function openToWrite(path: string, flags: number): Promise<FileHandle> {
  try {
    const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (found) refuseOther(path, found);
    return await checked(path, flags | constants.O_CREAT | O_NOFOLLOW);
  } catch (error) {
    throw await problemOf(path, error, 'written');
  }
}

const pieceBytes = 1 << 16;

/** Reads an open file piece by piece, from its beginning to its end or the limit. @throws FileProblem */
async function* piecesOf(path: string, handle: FileHandle, limit: number): AsyncGenerator<Uint8Array> {
  // A file whose size is above the limit is not read at all; one without a size, as in /proc, is read that far.
  if ((await handle.stat()).size > limit) throw tooLarge(path, limit);
  let done = 0;
  for (;;) {
    const piece = new Uint8Array(Math.min(pieceBytes, limit + 1));
    const { bytesRead } = await handle.read(piece, 0, piece.length, null).catch(async (error: unknown) => {
      throw await problemOf(path, error, 'read');
    });
    if (bytesRead === 0) return;
    done += bytesRead;
    if (done > limit) throw tooLarge(path, limit);
    yield piece.subarray(0, bytesRead);
  }
}

function tooLarge(path: string, limit: number): FileProblem {
  const most = limit < 1 << 20 ? `${grouped(limit)} bytes` : `${limit >> 20} MiB`;
  return new FileProblem(path, `is larger than ${most}`, 'large');
}

/**
 * The whole content of a file.
 *
 * @param limit In bytes. Files that report no size, as in /proc, are read no further either.
 * @throws FileProblem if it is missing, not a file, larger than that, or cannot be read.
 */
export async function readSmallFile(path: string, limit: number): Promise<Buffer> {
  const handle = await openFile(path);
  try {
    if ((await handle.stat()).size > limit) throw tooLarge(path, limit);
    const pieces: Uint8Array[] = [];
    for await (const piece of piecesOf(path, handle, limit)) pieces.push(piece);
    return Buffer.concat(pieces);
  } finally {
    await handle.close();
  }
}

/**
 * The lines of a UTF-8 file, without their line breaks. Lines longer than `longest` bytes are skipped.
 *
 * @param limit Of the file, in bytes.
 * @throws FileProblem as readSmallFile does, after the lines before the problem.
 */
export async function* linesOf(path: string, limit: number, longest = 1 << 16): AsyncGenerator<string> {
  const handle = await openFile(path);
  try {
    let held: Uint8Array[] = [];
    let length = 0;
    for await (const piece of piecesOf(path, handle, limit)) {
      for (let from = 0; from < piece.length; ) {
        const end = piece.indexOf(0x0a, from);
        const part = piece.subarray(from, end < 0 ? piece.length : end);
        length += part.length;
        if (length <= longest) held.push(part);
        else held = [];
        if (end < 0) break;
        if (length <= longest) yield Buffer.concat(held).toString();
        held = [];
        length = 0;
        from = end + 1;
      }
    }
    if (length > 0 && length <= longest) yield Buffer.concat(held).toString();
  } finally {
    await handle.close();
  }
}

/**
 * Opens an argument to be read once, from beginning to end: a file, or a pipe such as a shell's `<(command)`. A pipe is waited for, as
 * in any program, but not in a thread that an abort or an exit would have to wait for.
 *
 * @throws FileProblem if it is missing, or neither.
 */
export async function openInput(path: string, signal?: AbortSignal): Promise<Readable> {
  signal?.throwIfAborted();
  const found = await look(path);
  if (!found.isFIFO()) {
    const handle = await openFile(path);
    return abortable(handle.createReadStream({ highWaterMark: 1 << 18 }), signal);
  }
  try {
    return abortable(new Socket({ fd: openSync(path, constants.O_RDONLY | O_NONBLOCK), writable: false }), signal);
  } catch (error) {
    throw await problemOf(path, error, 'read');
  }
}

/** A stream that an abort ends even while no data arrives. */
export function abortable<S extends Readable>(stream: S, signal: AbortSignal | undefined): S {
  return signal ? addAbortSignal(signal, stream) : stream;
}

/**
 * The whole content of an argument: a small file, or what comes through a pipe.
 *
 * @param limit In bytes.
 * @throws FileProblem as openInput does, or if there is more.
 */
export async function readSmallInput(path: string, limit: number, signal?: AbortSignal): Promise<Buffer> {
  return await upTo(path, await openInput(path, signal), limit);
}

/** Everything that comes from a stream. @throws FileProblem if that is more than `limit` bytes, or the stream fails. */
export async function upTo(name: string, stream: AsyncIterable<Uint8Array>, limit: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of stream) {
      bytes += piece.length;
      if (bytes > limit) throw tooLarge(name, limit);
      pieces.push(piece);
    }
  } catch (error) {
    throw (error as Error).name === 'AbortError' ? error : await problemOf(name, error, 'read');
  }
  return Buffer.concat(pieces);
}
