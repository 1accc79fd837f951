/**
 * PyTorch's files: state dicts, whole modules and dicts around them, in the zip form (since 1.6) and the stream form before it. No class of
 * the file is instantiated and none of its code is run: modules are traversed as plain data.
 */
import { halfToFloat } from '../checkpoint/safetensors';
import { Refusal, sizeOf } from './bounds';
import { type Pickled, PickledForeign, PickledGlobal, PickleReader } from './pickle';
import type { ZipArchive } from './zip';

const readers = {
  float32: { bytes: 4, read: (view: DataView, at: number, little: boolean) => view.getFloat32(at, little) },
  float64: { bytes: 8, read: (view: DataView, at: number, little: boolean) => view.getFloat64(at, little) },
  float16: {
    bytes: 2,
    read: (view: DataView, at: number, little: boolean) => halfToFloat(view.getUint16(at, little)),
  },
  bfloat16: {
    bytes: 2,
    read: (view: DataView, at: number, little: boolean) => {
      const bits = new DataView(new ArrayBuffer(4));
      bits.setUint16(0, view.getUint16(at, little));
      return bits.getFloat32(0);
    },
  },
};
type FloatType = keyof typeof readers;

const storageTypes: Readonly<Record<string, FloatType>> = {
  FloatStorage: 'float32',
  DoubleStorage: 'float64',
  HalfStorage: 'float16',
  BFloat16Storage: 'bfloat16',
};

/** Where a tensor's numbers are; they are read on demand. */
class Storage extends PickledForeign {
  constructor(
    readonly key: string,
    /** Undefined if not of floating-point numbers, or untyped. */
    readonly type: FloatType | undefined,
    readonly typeName: string,
    readonly bytes: () => Promise<Uint8Array>,
    readonly littleEndian: boolean,
  ) {
    super();
  }
}

/** A tensor that a file holds. */
export class TorchTensor extends PickledForeign {
  readonly #storage: Storage;
  readonly #type: FloatType | undefined;
  readonly #offset: number;
  readonly #strides: readonly number[];

  constructor(
    storage: Storage,
    type: FloatType | undefined,
    offset: number,
    readonly shape: readonly number[],
    strides: readonly number[],
  ) {
    super();
    this.#storage = storage;
    this.#type = type;
    this.#offset = offset;
    this.#strides = strides;
  }

  /** Row-major. @throws Refusal if its numbers are missing, not of a floating-point type, or not finite. */
  async load(name: string): Promise<Float32Array> {
    const { shape } = this;
    const type = this.#type;
    const storage = this.#storage;
    const strides = this.#strides;
    if (type === undefined)
      throw new Refusal(`tensor '${name}' is of the type ${storage.typeName}, not of floating-point numbers`);
    const { bytes: width, read } = readers[type];
    const bytes = await storage.bytes();
    const size = sizeOf(shape, name);
    const out = new Float32Array(size);
    if (size === 0) return out;
    const last = shape.reduce((at, extent, axis) => at + (extent - 1) * (strides[axis] as number), this.#offset);
    // A tensor that repeats one number many times would take memory that the file does not have.
    if (size * width > bytes.length || (last + 1) * width > bytes.length)
      throw new Refusal(`tensor '${name}' is larger than its storage`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const index = shape.map(() => 0);
    let at = this.#offset;
    for (let i = 0; i < size; i++) {
      const value = read(view, at * width, storage.littleEndian);
      if (!Number.isFinite(value)) throw new Refusal(`tensor '${name}' holds ${value} at index ${i}`);
      out[i] = value;
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        at += strides[axis] as number;
        index[axis] = (index[axis] as number) + 1;
        if ((index[axis] as number) < (shape[axis] as number)) break;
        at -= (strides[axis] as number) * (shape[axis] as number);
        index[axis] = 0;
      }
    }
    return out;
  }
}

function isExtents(value: Pickled | undefined): value is number[] {
  return (
    Array.isArray(value) &&
    value.length <= 8 &&
    value.every((extent) => Number.isSafeInteger(extent) && (extent as number) >= 0)
  );
}

/** The few callables of PyTorch that make a tensor, implemented by this file's own code. */
function callOf(path: string, args: readonly Pickled[]): Pickled | undefined {
  const [first, second, third] = args;
  if (path === 'torch._utils._rebuild_tensor_v2' || path === 'torch._utils._rebuild_tensor') return tensorOf(args);
  if (path === 'torch._utils._rebuild_tensor_v3') return tensorOf(args, args[6]);
  if (path === 'torch._utils._rebuild_parameter' || path === 'torch._utils._rebuild_parameter_with_state') return first;
  if (path === 'torch._tensor._rebuild_from_type_v2' && first instanceof PickledGlobal && Array.isArray(third)) {
    return callOf(first.path, third);
  }
  if (path === 'torch.Size' && Array.isArray(first)) return first;
  // Parameters of PyTorch 0.x: the class called with the tensor.
  if (path === 'torch.nn.parameter.Parameter' && (first instanceof TorchTensor || second !== undefined)) return first;
  return undefined;
}

function tensorOf([storage, offset, shape, strides]: readonly Pickled[], dtype?: Pickled): Pickled | undefined {
  if (!(storage instanceof Storage) || !Number.isSafeInteger(offset) || (offset as number) < 0) {
    throw new Refusal('a tensor without a storage');
  }
  if (!isExtents(shape) || !isExtents(strides) || shape.length !== strides.length) {
    throw new Refusal('a tensor without a shape');
  }
  const named =
    dtype instanceof PickledGlobal && Object.hasOwn(readers, dtype.name) ? (dtype.name as FloatType) : undefined;
  return new TorchTensor(storage, dtype === undefined ? storage.type : named, offset as number, shape, strides);
}

/** The class, key and count in ('storage', class, key, device, numbers). */
function storageId(id: Pickled): { typeName: string; key: string; count: number } {
  if (!Array.isArray(id) || id[0] !== 'storage') throw new Refusal('a reference that is no storage');
  const [, type, key, , count] = id;
  if (!(type instanceof PickledGlobal) || (typeof key !== 'string' && typeof key !== 'number')) {
    throw new Refusal('a storage without a key');
  }
  return { typeName: type.name, key: String(key), count: typeof count === 'number' ? count : 0 };
}

const mostPickle = 128 << 20;

/** The root object of a zip file that `torch.save` or `torch.jit.save` wrote; undefined if the archive is neither. */
export async function readTorchZip(zip: ZipArchive): Promise<Pickled | undefined> {
  const pickle = zip.names.find((name) => /^[^/]*\/data\.pkl$/.test(name));
  if (pickle === undefined) return undefined;
  const folder = pickle.slice(0, -'data.pkl'.length);
  const orderFile = `${folder}byteorder`;
  const order = zip.has(orderFile) ? (await zip.read(orderFile, 64)).toString('latin1').trim() : 'little';
  if (order !== 'little' && order !== 'big') throw new Refusal(`its byte order is '${order}'`);
  const read = new Map<string, Promise<Uint8Array>>();
  const persistent = (id: Pickled): Pickled => {
    const { typeName, key } = storageId(id);
    const bytes = () => {
      const before = read.get(key) ?? zip.read(`${folder}data/${key}`);
      read.set(key, before);
      return before;
    };
    return new Storage(key, storageTypes[typeName], typeName, bytes, order === 'little');
  };
  return new PickleReader(await zip.read(pickle, mostPickle), { call: callOf, persistent }).read();
}

const streamMagic = 0x1950a86a20f9469cfc6cn;
/** Bytes per number, by the storage's type. */
const widths: Readonly<Record<string, number>> = {
  FloatStorage: 4,
  DoubleStorage: 8,
  HalfStorage: 2,
  BFloat16Storage: 2,
  LongStorage: 8,
  IntStorage: 4,
  ShortStorage: 2,
  CharStorage: 1,
  ByteStorage: 1,
  BoolStorage: 1,
};

/** Whether bytes begin as the stream form does, with a pickle of the magic number. */
export function isTorchStream(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.subarray(0, 14)).toString('latin1');
  return head.startsWith('\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19');
}

/** The root object of the stream form: five pickles, then each storage's count and numbers. */
export function readTorchStream(bytes: Buffer): Pickled {
  const offsets = new Map<string, { at: number; length: number }>();
  const types = new Map<string, string>();
  let little = true;
  const persistent = (id: Pickled): Pickled => {
    // Modules of PyTorch 0.x carry their source; only their class matters here, and it is just a name.
    if (Array.isArray(id) && id[0] === 'module' && id[1] instanceof PickledGlobal) return id[1];
    const { typeName, key } = storageId(id);
    const view = Array.isArray(id) ? id[5] : null;
    types.set(key, typeName);
    const width = widths[typeName] ?? 1;
    let first = 0;
    if (Array.isArray(view)) {
      if (!Number.isSafeInteger(view[1]) || (view[1] as number) < 0) throw new Refusal('a view without an offset');
      first = (view[1] as number) * width;
    }
    const contents = async () => {
      const place = offsets.get(key);
      if (place === undefined) throw new Refusal(`its storage '${key}' is missing`);
      if (first > place.length) throw new Refusal(`a view outside of its storage '${key}'`);
      return bytes.subarray(place.at + first, place.at + place.length);
    };
    return new Storage(key, storageTypes[typeName], typeName, contents, little);
  };
  const magic = new PickleReader(bytes);
  if (magic.read() !== streamMagic) throw new Refusal('it does not begin with the magic number of PyTorch');
  const system = new PickleReader(bytes, {}, magic.position);
  if (system.read() !== 1001) throw new Refusal('its version of the stream form is not 1001');
  const info = system.read();
  if (info instanceof Map) little = info.get('little_endian') !== false;
  const reader = new PickleReader(bytes, { call: callOf, persistent }, system.position);
  const root = reader.read();
  const keys = reader.read();
  if (!Array.isArray(keys)) throw new Refusal('its list of storages is missing');
  let at = reader.position;
  for (const key of keys) {
    // A list would be written out, and lists that contain one another twice would take for ever.
    if (typeof key !== 'string' && typeof key !== 'number') throw new Refusal('a storage without a key');
    if (at + 8 > bytes.length) throw new Refusal('it is cut short in its storages');
    const count = Number(little ? bytes.readBigInt64LE(at) : bytes.readBigInt64BE(at));
    const width = widths[types.get(String(key)) ?? ''];
    if (width === undefined) throw new Refusal(`its storage '${key}' is of a type that is not known`);
    const length = count * width;
    if (!(count >= 0) || at + 8 + length > bytes.length) throw new Refusal('it is cut short in its storages');
    offsets.set(String(key), { at: at + 8, length });
    at += 8 + length;
  }
  return root;
}
