/** Whole slots of a model are moved in pieces, between which the event loop can run. */
import { createHash } from 'node:crypto';
import type { NativeModel } from '../../../lib/device/native';
import { hashSlot, readSlot, writeSlot } from '../../../lib/device/pieces';

/** Milliseconds that a slow model takes for each piece: longer than a loop runs before it yields. */
const longPiece = 8;

/** The time that the loops see. */
let clock = 0;
beforeEach(() => {
  jest.spyOn(performance, 'now').mockImplementation(() => clock);
});
afterEach(() => {
  jest.restoreAllMocks();
});

/** A model with one slot. `end` returns the turn of the event loop in which each piece was moved. */
function slotted(values: Float32Array, milliseconds: number) {
  const turns: number[] = [];
  let turn = 0;
  let counting = true;
  const count = () => {
    turn++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const move = () => {
    turns.push(turn);
    clock += milliseconds;
  };
  const native = {
    parameterCount: values.length,
    read(_slot: string, from: number, count: number) {
      move();
      return values.slice(from, from + count);
    },
    write(_slot: string, piece: Float32Array, from: number) {
      move();
      values.set(piece, from);
    },
  } as unknown as NativeModel;
  const end = () => {
    counting = false;
    return turns;
  };
  return { native, end };
}

const some = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i));
const bytesOf = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
const piece = 1 << 18;

const moves = {
  read: (native: NativeModel) => readSlot(native, 'firstMoments'),
  write: (native: NativeModel) => writeSlot(native, 'firstMoments', some(native.parameterCount)),
  hash: (native: NativeModel) => hashSlot(native, 'firstMoments', createHash('sha256')),
};

it.each(Object.entries(moves))(
  'to %s a slot takes a turn of the event loop for each piece that takes long',
  async (_, move) => {
    const { native, end } = slotted(new Float32Array(5 * piece + 1), longPiece);
    await move(native);
    const turns = end();
    expect(turns).toHaveLength(6);
    expect(new Set(turns).size).toBe(6);
  },
);

it.each([0, 1, 2, piece - 1, piece, piece + 1, 3 * piece + 5])(
  'moves all of %i numbers, and no others',
  async (length) => {
    const values = new Float32Array(length);
    const { native, end } = slotted(values, 0);
    await writeSlot(native, 'parameters', some(length));
    expect(bytesOf(values).equals(bytesOf(some(length)))).toBe(true);
    expect(bytesOf(await readSlot(native, 'parameters')).equals(bytesOf(values))).toBe(true);
    const hash = createHash('sha256');
    await hashSlot(native, 'parameters', hash);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(bytesOf(values)).digest('hex'));
    end();
  },
);
