/**
 * Safetensors: 8 bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets}, __metadata__}, then
 * the tensors' bytes. Data only: nothing in it is executed. Reading makes the checks of the format's Rust crate: the offsets must
 * tile the rest of the file without gaps or overlaps, and a tensor's size must match its shape and type.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { takeAllQuietly } from '../endings';
import { CheckpointError, OutOfMemoryError, TrainingError } from '../errors';
import { FileProblem, openFile } from '../files';
import { option } from '../wording';
import { toDiskError, writeFileAtomically } from './disk';
import { parseStrictJsonInTurns } from './strict-json';
import { unusable } from './unusable';

export interface Tensor {
  shape: number[];
  data: Float32Array;
}

/** A tensor to write: `F32`, `I8`, or `BF16` as raw bits. */
export interface OutTensor {
  name: string;
  shape: number[];
  data: Float32Array | Int8Array | Uint16Array;
}

const bytesOf = { F64: 8, F32: 4, F16: 2, BF16: 2, I8: 1 } as const;
type Dtype = keyof typeof bytesOf;

/** The format allows 100 MB; a vocabulary of 65,536 symbols needs 1 MB. Larger headers only serve to exhaust a reader. */
const headerLimit = 16 << 20;

/** Tensors are read, checked and written in pieces of this size, so that neither memory nor event-loop delay depends on theirs. */
const pieceBytes = 1 << 20;

/**
 * Metadata key of the SHA-256 of the tensors' bytes, taken in code-unit order of their names, wherever they lie in the file: a weight
 * with a flipped bit is still a weight.
 */
const checksumKey = 'dataSha256';

interface Entry {
  dtype: Dtype;
  shape: number[];
  begin: number;
  end: number;
}

function checkFinite(data: Float32Array, explain: (index: number) => Error): void {
  // x - x is zero, or NaN if x is not finite.
  for (let i = 0; i < data.length; i++) if ((data[i] as number) - (data[i] as number) !== 0) throw explain(i);
}

/** The bytes of the tensors. A value that no reader would accept aborts the writing, and with it the file. */
function* tensorBytes(path: string, tensors: readonly OutTensor[]): Generator<Uint8Array> {
  const step = pieceBytes / 4;
  for (const { name, data } of tensors) {
    for (let begin = 0; begin < data.length; begin += step) {
      const piece = data.subarray(begin, begin + step);
      if (piece.BYTES_PER_ELEMENT === 4)
        checkFinite(
          piece as Float32Array,
          (i) =>
            new TrainingError(
              `${path} is not written: '${name}' holds ${piece[i]} at index ${begin + i}, so the numbers have exploded; ` +
                `continue from the checkpoint before, with a lower ${option('learningRate')} or a ${option('clip')}`,
            ),
        );
      yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
    }
  }
}

function byName<T extends { name: string }>(tensors: readonly T[]): T[] {
  return [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The hash of the pieces, with a turn of the event loop after each. */
async function sha256(pieces: Iterable<Uint8Array>, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256');
  for (const piece of pieces) {
    signal?.throwIfAborted();
    hash.update(piece);
    await setImmediate();
  }
  return hash.digest('hex');
}

/**
 * Writes the tensors, in the order given, the metadata, and a checksum. Atomic: see writeFileAtomically.
 *
 * @throws DiskError without space or permission; TrainingError if a value is not finite; CheckpointError for what could not be
 * read back: two tensors with the same name, a shape that does not match its data, a header above 16 MiB.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<OutTensor> | AsyncIterable<OutTensor>,
  metadata: Record<string, string>,
  signal?: AbortSignal | undefined,
): Promise<void> {
  const list: OutTensor[] = [];
  for await (const tensor of tensors) {
    signal?.throwIfAborted();
    list.push(tensor);
  }
  const header = new Map<string, unknown>([['__metadata__', {}]]);
  let offset = 0;
  for (const { name, shape, data } of list) {
    if (header.has(name) || name === '__proto__')
      throw new CheckpointError(`a checkpoint cannot hold the tensor '${name}': the name is taken`);
    if (elements(shape) !== data.length)
      throw new CheckpointError(`tensor '${name}' of ${data.length} numbers cannot have the shape [${shape}]`);
    // By element size: the addon's arrays may be from another realm than this module, as under jest.
    const dtype = ({ 4: 'F32', 2: 'BF16', 1: 'I8' } as const)[data.BYTES_PER_ELEMENT as 1 | 2 | 4];
    header.set(name, { dtype, shape, data_offsets: [offset, offset + data.byteLength] });
    offset += data.byteLength;
  }
  header.set('__metadata__', { ...metadata, [checksumKey]: await sha256(tensorBytes(path, byName(list)), signal) });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)), 'utf8');
  // Padded with spaces so that the data is aligned to 8 bytes, as the format asks of writers.
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, ' ');
  if (padded.length > headerLimit)
    throw new CheckpointError(
      `${path} is not written: its metadata of ${json.length} bytes is more than a checkpoint can hold`,
    );
  json.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  function* pieces() {
    yield length;
    yield padded;
    yield* tensorBytes(path, list);
  }
  await writeFileAtomically(path, pieces(), { signal });
}

/** The value of a number in IEEE 754 half precision, given by its 16 bits. */
export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Fills `out` with the values in `bytes`. */
function toFloats(dtype: Exclude<Dtype, 'F32'>, bytes: Uint8Array, out: Float32Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bits = new DataView(new ArrayBuffer(4));
  for (let i = 0; i < out.length; i++) {
    if (dtype === 'F64') out[i] = view.getFloat64(8 * i, true);
    else if (dtype === 'I8') out[i] = view.getInt8(i);
    else if (dtype === 'F16') out[i] = halfToFloat(view.getUint16(2 * i, true));
    else {
      bits.setUint32(0, view.getUint16(2 * i, true) << 16);
      out[i] = bits.getFloat32(0);
    }
  }
  return out;
}

/** @throws OutOfMemoryError: a file may be sparse and describe more than fits into the machine's memory. */
export function allocateFloats(length: number, path: string): Float32Array {
  try {
    return new Float32Array(length);
  } catch (cause) {
    const size = `${(length / 2 ** 28).toFixed(1)} GiB`;
    throw new OutOfMemoryError(`${path} holds ${length} numbers, and there is no memory for them (${size})`, { cause });
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Product of the extents, or undefined if one is not a non-negative integer or the product is not a safe integer. */
function elements(shape: unknown): number | undefined {
  if (!Array.isArray(shape) || shape.length > 8) return undefined;
  let product = 1;
  for (const extent of shape as unknown[]) {
    if (!Number.isSafeInteger(extent) || (extent as number) < 0) return undefined;
    product *= extent as number;
    if (!Number.isSafeInteger(product)) return undefined;
  }
  return product;
}

/** An open file whose header has been checked; tensors are read one by one. */
export class SafetensorsFile {
  readonly path: string;
  readonly metadata: Record<string, string>;
  readonly #handle: FileHandle;
  readonly #dataStart: number;
  readonly #entries: Map<string, Entry>;
  readonly #checksum: string | undefined;
  /** Where pieces become floats. */
  #room = new Float32Array(0);

  private constructor(
    path: string,
    handle: FileHandle,
    dataStart: number,
    entries: Map<string, Entry>,
    metadata: Record<string, string>,
    checksum: string | undefined,
  ) {
    this.path = path;
    this.metadata = metadata;
    this.#handle = handle;
    this.#dataStart = dataStart;
    this.#entries = entries;
    this.#checksum = checksum;
  }

  /** @throws CheckpointError if it is missing, or not a completely valid safetensors file. */
  static async open(path: string): Promise<SafetensorsFile> {
    let handle: FileHandle;
    try {
      handle = await openFile(path);
    } catch (error) {
      if (!(error instanceof FileProblem)) throw error;
      if (error.kind === 'missing')
        throw new CheckpointError(`no checkpoint at ${path}: name a .safetensors file that is there`, { cause: error });
      if (error.kind === 'other') throw unusable(path, `it ${error.problem}`, error);
      throw new CheckpointError(error.message, { cause: error });
    }
    try {
      return await SafetensorsFile.#check(path, handle);
    } catch (error) {
      await takeAllQuietly([() => handle.close()]);
      throw error;
    }
  }

  static async #check(path: string, handle: FileHandle): Promise<SafetensorsFile> {
    const refuse = (problem: string, cause?: unknown): never => {
      throw unusable(path, problem, cause);
    };
    const info = await handle.stat();
    if (info.size < 8) refuse(`it is ${info.size} bytes long, too short for a safetensors file`);
    const headerLength = Number(Buffer.from(await readExactly(handle, path, 0, 8)).readBigUInt64LE());
    if (headerLength > info.size - 8) refuse('it is not a safetensors file, or it is cut short in the header');
    if (headerLength > headerLimit) refuse(`its header of ${headerLength} bytes is larger than ${headerLimit}`);
    let header: unknown;
    try {
      const bytes = await readExactly(handle, path, 8, headerLength);
      if (bytes[0] !== 0x7b) refuse("its header does not begin with '{'");
      header = await parseStrictJsonInTurns(decode(bytes));
    } catch (error) {
      if (error instanceof CheckpointError) throw error;
      refuse(`its header is not the JSON it should be (${describe(error)})`, error);
    }
    if (typeof header !== 'object' || header === null || Array.isArray(header)) refuse('its header is not an object');
    const metadata: Record<string, string> = {};
    const entries = new Map<string, Entry>();
    for (const [name, value] of Object.entries(header as Record<string, unknown>)) {
      if (name === '__metadata__') {
        if (typeof value !== 'object' || value === null || Array.isArray(value))
          refuse('its metadata is not an object');
        for (const [key, text] of Object.entries(value as Record<string, unknown>)) {
          if (typeof text !== 'string') refuse(`its metadata '${key}' is not a string`);
          metadata[key] = text as string;
        }
        continue;
      }
      const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
      if (typeof dtype !== 'string' || !Object.hasOwn(bytesOf, dtype)) {
        refuse(`tensor '${name}' has the type ${JSON.stringify(dtype)}; F32, F16, BF16, F64 and I8 are known`);
      }
      const count = elements(shape);
      if (count === undefined)
        refuse(`tensor '${name}' has the impossible shape ${JSON.stringify(shape)?.slice(0, 80)}`);
      const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? (offsets as unknown[]) : [];
      if (!Number.isSafeInteger(begin) || !Number.isSafeInteger(end)) refuse(`tensor '${name}' has no offsets`);
      const bytes = (count as number) * bytesOf[dtype as Dtype];
      if ((end as number) - (begin as number) !== bytes || (begin as number) < 0) {
        refuse(`tensor '${name}' should take ${bytes} bytes by its shape, but has the offsets ${begin} to ${end}`);
      }
      entries.set(name, {
        dtype: dtype as Dtype,
        shape: shape as number[],
        begin: begin as number,
        end: end as number,
      });
    }
    const dataStart = 8 + headerLength;
    let expected = 0;
    for (const [name, { begin, end }] of [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
      if (begin !== expected) refuse(`tensor '${name}' begins at ${begin}, where ${expected} should follow`);
      expected = end;
    }
    if (dataStart + expected !== info.size) {
      refuse(
        `it is ${info.size} bytes long where its tensors end at ${dataStart + expected}: it is cut short or altered`,
      );
    }
    const { [checksumKey]: checksum, ...others } = metadata;
    return new SafetensorsFile(path, handle, dataStart, entries, others, checksum);
  }

  get names(): string[] {
    return [...this.#entries.keys()];
  }

  typeOf(name: string): string | undefined {
    return this.#entries.get(name)?.dtype;
  }

  shapeOf(name: string): readonly number[] | undefined {
    return this.#entries.get(name)?.shape;
  }

  /** @throws CheckpointError if there is no such tensor, or a value in it is not finite. */
  async tensor(name: string): Promise<Tensor> {
    const { shape, ...entry } = this.#entry(name);
    const data = allocateFloats(elements(shape) as number, this.path);
    for await (const { bytes, from } of this.#pieces([{ name, shape, ...entry }])) {
      data.set(this.#floats(name, entry.dtype, bytes, from), from / bytesOf[entry.dtype]);
    }
    return { shape, data };
  }

  /**
   * Reads all tensors once, in the order of their names, and checks them against the checksum that the file was written with; a file
   * without one passes.
   *
   * @param take Returns the function that receives a tensor's values from `index` on, piece by piece, each valid only during the call; or
   * undefined if the tensor's values are not needed.
   * @throws CheckpointError if a value that is taken is not finite or, after all have been given, if the tensors are not what was written.
   */
  async readAll(take: (name: string) => ((values: Float32Array, index: number) => void) | undefined): Promise<void> {
    const hash = this.#checksum === undefined ? undefined : createHash('sha256');
    const tensors = byName([...this.#entries].map(([name, entry]) => ({ name, ...entry, taker: take(name) })));
    for await (const { tensor, bytes, from } of this.#pieces(tensors.filter(({ taker }) => taker || hash))) {
      const { name, dtype, taker } = tensor;
      taker?.(this.#floats(name, dtype, bytes, from), from / bytesOf[dtype]);
      hash?.update(bytes);
    }
    if (hash === undefined || hash.digest('hex') === this.#checksum) return;
    throw unusable(
      this.path,
      `its tensors are not those that were written (their SHA-256 is not the metadata's ${checksumKey}): it is damaged; if a ` +
        `program of yours changed them, let it leave ${checksumKey} out`,
    );
  }

  /** The piece of a tensor at its byte `from`, as floats, valid until the next. @throws CheckpointError if a value is not finite. */
  #floats(name: string, dtype: Dtype, bytes: Uint8Array, from: number): Float32Array {
    const count = bytes.byteLength / bytesOf[dtype];
    // One array serves all pieces: with one for each, Node 26 has as many floats waiting to be collected as a file has bytes.
    if (dtype !== 'F32' && this.#room.length < count) this.#room = new Float32Array(count);
    const values =
      dtype === 'F32'
        ? new Float32Array(bytes.buffer, bytes.byteOffset, count)
        : toFloats(dtype, bytes, this.#room.subarray(0, count));
    checkFinite(values, (i) =>
      unusable(this.path, `tensor '${name}' holds ${values[i]} at index ${from / bytesOf[dtype] + i}`),
    );
    return values;
  }

  /** The tensors' bytes, one tensor after another. A piece is valid until the next is requested, which is being read meanwhile. */
  async *#pieces<T extends Entry>(
    tensors: Iterable<T>,
  ): AsyncGenerator<{ tensor: T; from: number; bytes: Uint8Array }> {
    const buffers = [new Uint8Array(pieceBytes), new Uint8Array(pieceBytes)] as const;
    let reads = 0;
    const read = async (tensor: T, from: number) => {
      const length = Math.min(pieceBytes, tensor.end - tensor.begin - from);
      const bytes = buffers[reads++ % 2 === 0 ? 0 : 1].subarray(0, length);
      await fill(this.#handle, this.path, this.#dataStart + tensor.begin + from, bytes);
      return { tensor, from, bytes };
    };
    let ahead: ReturnType<typeof read> | undefined;
    try {
      for (const tensor of tensors) {
        for (let from = 0; from < tensor.end - tensor.begin; from += pieceBytes) {
          const piece = ahead;
          ahead = read(tensor, from);
          ahead.catch(() => {}); // It may fail before it is awaited.
          if (piece) yield await piece;
        }
      }
      if (ahead) yield await ahead;
    } finally {
      await ahead?.catch(() => {}); // The file must not be closed under it.
    }
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw unusable(this.path, `tensor '${name}' is missing`);
    return entry;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** Decodes all at once: 16 MiB take tens of milliseconds at most, and joining pieces would take their memory twice. */
function decode(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

async function readExactly(handle: FileHandle, path: string, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await fill(handle, path, position, bytes);
  return bytes;
}

async function fill(handle: FileHandle, path: string, position: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await handle
      .read(bytes, done, bytes.length - done, position + done)
      .catch((error: unknown) => {
        throw toDiskError(error, `read ${path}`);
      });
    if (bytesRead === 0) throw unusable(path, `it ends at byte ${position + done}, in the middle of its data`);
    done += bytesRead;
  }
}

/** Reads everything in a file at once. @throws CheckpointError as SafetensorsFile does. */
export async function readSafetensors(
  path: string,
): Promise<{ tensors: Map<string, Tensor>; metadata: Record<string, string> }> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, Tensor>();
    for (const name of file.names) {
      const shape = [...(file.shapeOf(name) as readonly number[])];
      tensors.set(name, { shape, data: allocateFloats(elements(shape) as number, path) });
    }
    await file.readAll((name) => (values, index) => tensors.get(name)?.data.set(values, index));
    return { tensors, metadata: file.metadata };
  } finally {
    await file.close();
  }
}
