/**
 * A PyTorch state dict as torch.save writes it: a zip archive with a pickled ordered dict of tensors and, next to it, their numbers. It
 * names only classes that torch.load(weights_only=True) knows.
 */
import { zipOf } from './zip-writer';

export interface OutTensor {
  name: string;
  shape: readonly number[];
  data: Float32Array;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const head = Buffer.alloc(5);
  head.write('X');
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** A whole number below 2^31, or a long of up to 8 bytes. */
function whole(value: number): Buffer {
  if (value < 2 ** 31) {
    const out = Buffer.alloc(5);
    out.write('J');
    out.writeInt32LE(value, 1);
    return out;
  }
  const out = Buffer.alloc(10, '\x8a\x08', 'latin1');
  out.writeBigInt64LE(BigInt(value), 2);
  return out;
}

const code = (instructions: string) => Buffer.from(instructions, 'latin1');
const tuple = (items: readonly Buffer[]) => Buffer.concat([code('('), ...items, code('t')]);

/** Row-major strides. */
function stridesOf(shape: readonly number[]): number[] {
  return shape.map((_, axis) => shape.slice(axis + 1).reduce((product, extent) => product * extent, 1));
}

/** The pickle of an ordered dict of tensors, whose storages are named 0, 1, … */
export function stateDictPickle(tensors: readonly OutTensor[]): Buffer {
  const parts: Uint8Array[] = [code('\x80\x02ccollections\nOrderedDict\n)R(')];
  for (const [key, { name, shape, data }] of tensors.entries()) {
    const storage = tuple([
      text('storage'),
      code('ctorch\nFloatStorage\n'),
      text(String(key)),
      text('cpu'),
      whole(data.length),
    ]);
    const args = [
      Buffer.concat([storage, code('Q')]),
      whole(0),
      tuple(shape.map(whole)),
      tuple(stridesOf(shape).map(whole)),
      code('\x89ccollections\nOrderedDict\n)R'),
    ];
    parts.push(text(name), code('ctorch._utils\n_rebuild_tensor_v2\n'), tuple(args), code('R'));
  }
  parts.push(code('u.'));
  return Buffer.concat(parts);
}

/** The pieces of the file. */
export function* torchFile(tensors: readonly OutTensor[], archive = 'model'): Generator<Uint8Array> {
  const entry = (name: string, bytes: Uint8Array) => ({ name: `${archive}/${name}`, bytes });
  yield* zipOf([
    entry('data.pkl', stateDictPickle(tensors)),
    entry('byteorder', Buffer.from('little')),
    ...tensors.map(({ data }, key) =>
      entry(`data/${key}`, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
    ),
    entry('version', Buffer.from('3\n')),
  ]);
}
