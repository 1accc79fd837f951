/** Moves whole slots of a model in pieces, between which the event loop runs: a large model's slots take most of a second. */
import type { Hash } from 'node:crypto';
import { Breather } from '../breather';
import type { NativeModel, Slot } from './native';

/** Floats per piece: 1 MiB. */
const pieceFloats = 1 << 18;

/** Copies a slot. The model must not change meanwhile: use {@link QueuedModel.whenIdle}. */
export async function readSlot(native: NativeModel, slot: Exclude<Slot, `${string}State`>): Promise<Float32Array> {
  const values = new Float32Array(native.parameterCount);
  const breather = new Breather();
  for (let from = 0; from < values.length; from += pieceFloats) {
    values.set(native.read(slot, from, Math.min(pieceFloats, values.length - from)), from);
    if (breather.due()) await breather.rest();
  }
  return values;
}

/** Writes a slot. @param values One for each of the model's parameters. */
export async function writeSlot(
  native: NativeModel,
  slot: Exclude<Slot, `${string}State`>,
  values: Float32Array,
): Promise<void> {
  // With the wrong number of values this throws, and nothing is written.
  if (values.length !== native.parameterCount) native.write(slot, values);
  const breather = new Breather();
  for (let from = 0; from < values.length; from += pieceFloats) {
    native.write(slot, values.subarray(from, from + pieceFloats), from);
    if (breather.due()) await breather.rest();
  }
}

/** Adds a slot's bytes to a hash. The model must not change meanwhile, as for {@link readSlot}. */
export async function hashSlot(native: NativeModel, slot: Exclude<Slot, `${string}State`>, hash: Hash): Promise<void> {
  const size = native.parameterCount;
  const breather = new Breather();
  for (let from = 0; from < size; from += pieceFloats) {
    hash.update(native.read(slot, from, Math.min(pieceFloats, size - from)));
    if (breather.due()) await breather.rest();
  }
}
