/** HDF5 files, read by h5wasm in a thread of their own. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { packageRoot } from '../device/native';
import { Refusal } from './bounds';
import { missingPackage } from './optional-package';

export interface Hdf5Request {
  bytes: Uint8Array;
  /** That all tensors may take. */
  mostBytes: number;
}

export interface Hdf5Tensor {
  /** Names of groups and dataset, joined by `/`. */
  path: string;
  shape: number[];
  data: Float32Array;
}

export interface Hdf5Contents {
  tensors: Hdf5Tensor[];
  /** Keras' attributes of the root, and of a group at the root by `group/name`. */
  attributes: Record<string, string | string[]>;
}

/** Weights are packed little, if at all. */
const mostPacked = 16;

export function isHdf5(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, 8)).toString('latin1') === '\x89HDF\r\n\x1a\n';
}

/** A file to write. */
export interface Hdf5Writing {
  tensors: readonly { path: string; shape: readonly number[]; data: Float32Array }[];
}

/**
 * All float tensors of an HDF5 file but those of optimisers, and Keras' attributes.
 *
 * @throws Refusal if it is damaged; CudnnLstmError `ERR_MISSING_PACKAGE` without h5wasm.
 */
export function readHdf5(bytes: Uint8Array, signal?: AbortSignal): Promise<Hdf5Contents> {
  return inThread<Hdf5Contents>({ bytes, mostBytes: mostPacked * bytes.length + (1 << 20) }, bytes.length, signal);
}

/** The bytes of an HDF5 file with these tensors. @throws CudnnLstmError `ERR_MISSING_PACKAGE` without h5wasm. */
export function writeHdf5(tensors: Hdf5Writing['tensors']): Promise<Uint8Array> {
  return inThread<Uint8Array>(
    { tensors },
    tensors.reduce((sum, { data }) => sum + data.byteLength, 0),
  );
}

async function inThread<Answer extends object>(
  request: Hdf5Request | Hdf5Writing,
  size: number,
  signal?: AbortSignal,
): Promise<Answer> {
  signal?.throwIfAborted();
  const worker = new Worker(join(packageRoot, 'dist', 'import', 'hdf5-worker.js'), {
    workerData: request,
    // What the library prints about damaged files is not for the user.
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: 512 },
  });
  const patience = 60_000 + size / 1000;
  let abandon: (() => void) | undefined;
  try {
    const answer = await new Promise<Answer | { error: string; missing: boolean }>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Refusal('its HDF5 reader does not come to an end')), patience);
      const onAbort = () => reject(signal?.reason as Error);
      signal?.addEventListener('abort', onAbort);
      abandon = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      worker.on('message', resolve);
      worker.on('error', (error) =>
        reject(new Refusal(`it is a damaged HDF5 file (${error.message})`, { cause: error })),
      );
      worker.on('exit', () => reject(new Refusal('it is a damaged HDF5 file (its reader ended)')));
    });
    if (!('error' in answer)) return answer;
    if (answer.missing) throw missingPackage('Keras files are HDF5', 'h5wasm');
    throw new Refusal(`it is a damaged HDF5 file (${answer.error})`);
  } finally {
    abandon?.();
    await worker.terminate();
  }
}
