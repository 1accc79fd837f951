/**
 * Rounds matrices to 8 or 16 bits per weight, for models that are sampled from and scored, by the rule of
 * native/core/weight_form.h.
 */
import { Breather } from '../breather';
import type { NativeModel, NativeParameter, WeightForm } from '../device/native';

/** Floats rounded at a time, or one row if it has more. */
const pieceFloats = 1 << 18;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The quantisation step of a row whose largest magnitude is `largest`: a 127th of it, rounded up to 16 significant bits. */
export function byteScale(largest: number): number {
  if (!(largest >= 1e-30)) return 0;
  float[0] = largest / 127;
  bits[0] = ((bits[0] as number) + 0xff) & ~0xff;
  return float[0];
}

/** Rounds to nearest, ties to even: doubles of this size are exactly the integers. */
function nearestEven(value: number): number {
  return value + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;
}

/** Fills `steps` with a row in steps of its scale, -127 to 127, and returns the scale. */
export function rowToBytes(row: Float32Array, steps: Int8Array): number {
  let largest = 0;
  for (const value of row) largest = Math.max(largest, Math.abs(value));
  const scale = byteScale(largest);
  for (let k = 0; k < row.length; k++)
    steps[k] = scale === 0 ? 0 : nearestEven(Math.fround((row[k] as number) / scale));
  return scale;
}

/** The upper 16 bits of a finite float, rounded to nearest, ties to even. */
export function toBf16(value: number): number {
  float[0] = value;
  const all = bits[0] as number;
  const rounded = ((all + 0x7fff + ((all >>> 16) & 1)) >>> 16) & 0xffff;
  // What would round to infinity stays the largest finite value.
  return (rounded & 0x7f80) === 0x7f80 ? all >>> 16 : rounded;
}

/** Rounds rows [n, depth] in place. */
export function roundRows(rows: Float32Array, depth: number, form: Exclude<WeightForm, 'fp32'>): void {
  if (form === 'bf16') {
    const all = new Uint32Array(rows.buffer, rows.byteOffset, rows.length);
    for (let i = 0; i < rows.length; i++) all[i] = toBf16(rows[i] as number) << 16;
    return;
  }
  const steps = new Int8Array(depth);
  for (let at = 0; at < rows.length; at += depth) {
    const row = rows.subarray(at, at + depth);
    const scale = rowToBytes(row, steps);
    for (let k = 0; k < depth; k++) row[k] = (steps[k] as number) * scale;
  }
}

/** Whether a parameter is stored in fewer bits: matrices are, biases are not. */
export function isNarrowed({ shape }: NativeParameter): boolean {
  return shape.length === 2;
}

/** Rounds a model's matrices in place. Nothing else may use the model meanwhile. */
export async function roundModel(native: NativeModel, form: Exclude<WeightForm, 'fp32'>): Promise<void> {
  const breather = new Breather();
  for (const parameter of native.parameters.filter(isNarrowed)) {
    const [rows = 0, depth = 0] = parameter.shape;
    const most = Math.max(1, Math.floor(pieceFloats / depth));
    for (let row = 0; row < rows; row += most) {
      const offset = parameter.offset + row * depth;
      const values = native.read('parameters', offset, Math.min(most, rows - row) * depth);
      roundRows(values, depth, form);
      native.write('parameters', values, offset);
      if (breather.due()) await breather.rest();
    }
  }
}
