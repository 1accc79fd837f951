/** One test body for every device that is asked for. With REQUIRE_GPU=1 a GPU is one of them, and a missing one is a failure. */
import { loadNative, type NativeModel, type NativeTrainCall } from '../../lib/device/native';
import type { Spec } from '../oracle/lstm';

export interface Device {
  name: string;
  device: 'cpu' | 'cuda';
  /** Relative bound for gradients against float64. */
  tolerance: number;
}

/** The CPU always; a GPU if the environment asks for it, since Jest needs the list before it can wait for an answer. */
export const devices: Device[] = [{ name: 'cpu', device: 'cpu', tolerance: 1e-5 }];
if (process.env.REQUIRE_GPU === '1') devices.push({ name: 'cuda', device: 'cuda', tolerance: 1e-4 });

export function createModel(
  spec: Spec,
  device: Device,
  options: { dropout?: number; seed?: number; threads?: number; team?: 'adapt' | 'fixed' | 'random' } = {},
): Promise<NativeModel> {
  return loadNative().createModel(
    { ...spec, dropout: options.dropout ?? 0, seed: options.seed ?? 1 },
    {
      device: device.device,
      threads: options.threads ?? 2,
      // All threads, even where the machine has fewer CPUs: the tests are about different divisions of the work.
      team: options.team ?? 'fixed',
      ...(device.device === 'cuda' ? { precision: 'fp32' } : {}),
    },
  );
}

/** Reproducible numbers in [-1, 1). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

export function randomIds(count: number, vocabulary: number, seed = 3): Int32Array {
  const random = generator(seed);
  return Int32Array.from({ length: count }, () =>
    Math.min(vocabulary - 1, Math.floor(((random() + 1) / 2) * vocabulary)),
  );
}

export function trainCall(
  ids: Int32Array,
  steps: number,
  batch: number,
  options: Partial<NativeTrainCall> = {},
): NativeTrainCall {
  const count = options.count ?? 1;
  return {
    ids,
    count,
    steps,
    batch,
    target: 'every',
    carryState: false,
    learningRates: new Float64Array(count).fill(1e-2),
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
    clip: 0,
    ...options,
  };
}

/** ||a - b|| / ||b||. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>, begin = 0, end = b.length): number {
  let difference = 0;
  let size = 0;
  for (let k = begin; k < end; k++) {
    difference += (a[k]! - b[k]!) ** 2;
    size += b[k]! ** 2;
  }
  return Math.sqrt(difference) / Math.max(Math.sqrt(size), 1e-12);
}
