/**
 * Files that anybody may have put where they are: opened without waiting, looked at to be files, and read up to a bound. A pipe
 * would otherwise hold the reader for ever, in a thread that the process cannot end without, and a device has no end.
 */
import { constants, openSync, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { addAbortSignal, type Readable } from 'node:stream';
import { takeAllQuietly } from './endings';
import { grouped } from './numbers';

/** Absent on Windows, which has neither such pipes nor such links. */
const { O_NONBLOCK = 0, O_NOFOLLOW = 0 } = constants as Partial<typeof constants>;

/** Why a path is of no use as a file. The message names it, and whoever catches this adds the remedy. */
export class FileProblem extends Error {
  constructor(
    readonly path: string,
    /** What follows the path in the message: `is a directory, not a file`. */
    readonly problem: string,
    /** Nothing is there; something else than a file is there; more than the bound; or what the system said. */
    readonly kind: 'missing' | 'other' | 'large' | 'system',
    options?: ErrorOptions,
  ) {
    super(`${path} ${problem}`, options);
  }
}

/** What something is that is no file: `a named pipe`. */
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

/** What the system says of a path, as in `EIO: i/o error, open '/a/b'`, where that has been said. */
function withoutPath(message: string): string {
  return message.replace(/, \w+( '.*)?$/s, '');
}

/** Why something cannot be read, and what to do, after its path. */
export function whyUnreadable({ code, message }: NodeJS.ErrnoException): string {
  const denied = code === 'EACCES' || code === 'EPERM';
  return denied ? 'permission denied; its owner can let you read it' : withoutPath(message);
}

/**
 * Whether a name is taken, by whatever it may be, as by a link that leads nowhere or round in a circle. False too where that cannot be
 * told: whoever writes there is told why.
 */
export async function isTaken(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** What is at a path, links followed. @throws FileProblem if nothing is, or that cannot be told. */
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
 * Opens a file to read. It never waits for anybody.
 *
 * @throws FileProblem if it is not there, or not a file.
 */
export async function openFile(path: string): Promise<FileHandle> {
  // Looked at before: to open some devices does something.
  refuseOther(path, await look(path));
  try {
    return await checked(path, constants.O_RDONLY);
  } catch (error) {
    throw await problemOf(path, error, 'read');
  }
}

/**
 * Opens a file to add to its end; it is made if it is not there. A link is not followed: it would lead out of the directory.
 *
 * @throws FileProblem if something else than a file is there, or it cannot be written to.
 */
export function openToAppend(path: string): Promise<FileHandle> {
  return openToWrite(path, constants.O_WRONLY | constants.O_APPEND);
}

/** Opens a file to lock it, and to read and write what it says, as {@link openToAppend} does. */
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

/** The pieces of an open file from its beginning to its end, or to the bound. @throws FileProblem */
async function* piecesOf(path: string, handle: FileHandle, limit: number): AsyncGenerator<Uint8Array> {
  // What says that it is too large need not be read so far; what says nothing, as in /proc, is.
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
 * A file's content, whole.
 *
 * @param limit Bytes. Also files whose size says nothing, as in /proc, are read no further.
 * @throws FileProblem if it is not there, not a file, larger than that, or cannot be read.
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
 * The lines of a file in UTF-8, without their line breaks. Of a longer line than `longest` bytes nothing is given.
 *
 * @param limit Bytes of the file.
 * @throws FileProblem as readSmallFile does; the lines before have been given then.
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
 * What somebody has named as an argument, to read once from its beginning to its end: a file, or a pipe such as a shell's
 * `<(command)`, which is waited for as every program does, but not in a thread that an abort or an exit would have to wait for.
 *
 * @throws FileProblem if it is not there, or neither.
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

/** A stream that an abort ends, though nothing comes. */
export function abortable<S extends Readable>(stream: S, signal: AbortSignal | undefined): S {
  return signal ? addAbortSignal(signal, stream) : stream;
}

/**
 * An argument's content, whole: a small file, or what comes through a pipe.
 *
 * @param limit Bytes.
 * @throws FileProblem as openInput does, or if there is more.
 */
export async function readSmallInput(path: string, limit: number, signal?: AbortSignal): Promise<Buffer> {
  return await upTo(path, await openInput(path, signal), limit);
}

/** All that comes from a stream. @throws FileProblem if that is more than `limit` bytes, or the stream fails. */
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
