/** HDF5 files, read and written by h5wasm, in a separate thread. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { packageRoot } from '../device/native';
import { Refusal } from './bounds';
import { missingPackage } from './optional-package';

export interface Hdf5Request {
  bytes: Uint8Array;
  /** The most that all tensors may take. */
  mostBytes: number;
}

export interface Hdf5Tensor {
  /** Names of the groups and the dataset, joined by `/`. */
  path: string;
  shape: number[];
  data: Float32Array;
}

export interface Hdf5Contents {
  tensors: Hdf5Tensor[];
  /** Keras' attributes: of the root by name, of a group at the root by `group/name`. */
  attributes: Record<string, string | string[]>;
}

/** The highest compression ratio: weights are compressed little, if at all. */
const mostPacked = 16;

export function isHdf5(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, 8)).toString('latin1') === '\x89HDF\r\n\x1a\n';
}

/** A file to write. */
export interface Hdf5Writing {
  tensors: readonly { path: string; shape: readonly number[]; data: Float32Array }[];
  /** String attributes of the root. */
  attributes?: Readonly<Record<string, string>> | undefined;
}

/** What a thread sends instead of an answer. */
export interface Hdf5Failure {
  error: string;
  /** The library is not installed. */
  missing: boolean;
  /** The library itself has failed, and may be unable to go on. */
  fatal: boolean;
}

/**
 * The thread of the HDF5 library, which takes half a second to start: it starts with the first request, and again after one that the
 * library did not survive. Requests run one after another. A file of unknown origin gets its own thread, so that what it does to the
 * library's memory cannot affect another file; tests read thousands with one.
 */
export class Hdf5Thread {
  #worker: Worker | undefined;

  /**
   * All float tensors of an HDF5 file but those of optimisers, and Keras' attributes.
   *
   * @throws Refusal if it is damaged; CudnnLstmError `ERR_MISSING_PACKAGE` without h5wasm.
   */
  read(bytes: Uint8Array, signal?: AbortSignal): Promise<Hdf5Contents> {
    return this.#ask<Hdf5Contents>(
      { bytes, mostBytes: mostPacked * bytes.length + (1 << 20) },
      60_000 + bytes.length / 1000,
      signal,
    );
  }

  /** The bytes of an HDF5 file. @throws CudnnLstmError `ERR_MISSING_PACKAGE` without h5wasm. */
  write(writing: Hdf5Writing): Promise<Uint8Array> {
    const size = writing.tensors.reduce((sum, { data }) => sum + data.byteLength, 0);
    return this.#ask<Uint8Array>(writing, 60_000 + size / 1000);
  }

  /** @param patience Milliseconds. */
  async #ask<Answer extends object>(
    request: Hdf5Request | Hdf5Writing,
    patience: number,
    signal?: AbortSignal,
  ): Promise<Answer> {
    signal?.throwIfAborted();
    this.#worker ??= new Worker(join(packageRoot, 'dist', 'import', 'hdf5-worker.js'), {
      // What the library prints about damaged files is not for the user.
      stdout: true,
      stderr: true,
      resourceLimits: { maxOldGenerationSizeMb: 512 },
    });
    const worker = this.#worker;
    const heard = new AbortController();
    let usable = false;
    try {
      const answer = await new Promise<Answer | Hdf5Failure>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Refusal('its HDF5 reader does not come to an end')), patience);
        heard.signal.addEventListener('abort', () => clearTimeout(timer));
        signal?.addEventListener('abort', () => reject(signal.reason as Error), { signal: heard.signal });
        const on = <Value>(event: 'message' | 'error' | 'exit', listener: (value: Value) => void) => {
          worker.on(event, listener);
          heard.signal.addEventListener('abort', () => worker.off(event, listener));
        };
        on('message', resolve);
        on('error', (error: Error) =>
          reject(new Refusal(`it is a damaged HDF5 file (${error.message})`, { cause: error })),
        );
        on('exit', () => reject(new Refusal('it is a damaged HDF5 file (its reader ended)')));
        worker.postMessage(request);
      });
      usable = !('error' in answer) || !answer.fatal;
      if (!('error' in answer)) return answer;
      if (answer.missing) throw missingPackage('Keras files are HDF5', 'h5wasm');
      throw new Refusal(`it is a damaged HDF5 file (${answer.error})`);
    } finally {
      heard.abort();
      if (!usable) await this.end();
    }
  }

  /** Ends the thread; a later request starts another one. */
  async end(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}

/** A function that reads an HDF5 file. */
export type Hdf5Read = Hdf5Thread['read'];

/** {@link Hdf5Thread.read} in a thread for this file alone. */
export function readHdf5(bytes: Uint8Array, signal?: AbortSignal): Promise<Hdf5Contents> {
  return alone((thread) => thread.read(bytes, signal));
}

/** {@link Hdf5Thread.write} in a thread for this file alone. */
export function writeHdf5(
  tensors: Hdf5Writing['tensors'],
  attributes?: Hdf5Writing['attributes'],
): Promise<Uint8Array> {
  return alone((thread) => thread.write({ tensors, attributes }));
}

async function alone<Result>(job: (thread: Hdf5Thread) => Promise<Result>): Promise<Result> {
  const thread = new Hdf5Thread();
  try {
    return await job(thread);
  } finally {
    await thread.end();
  }
}
