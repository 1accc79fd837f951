/**
 * A native model takes one call at a time and refuses a second. This wrapper gives it a queue, so that generating while a trainer runs,
 * or scoring two texts at once, waits instead of failing; it also turns its errors into the package's own.
 */
import { CudnnLstmError, exitCodes } from '../errors';
import {
  fromNative,
  type NativeEvaluateCall,
  type NativeModel,
  type NativeSampleCall,
  type NativeSampleResult,
} from './native';

/** Runs asynchronous jobs one after another, in the order given. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();
  #pending = 0;

  /** Whether no job is running or waiting. */
  get idle(): boolean {
    return this.#pending === 0;
  }

  /** Runs `job` when every job before it has settled; settles as `job` does. */
  run<T>(job: () => T | Promise<T>): Promise<T> {
    this.#pending++;
    const result = this.#last.then(async () => {
      try {
        return await job();
      } finally {
        this.#pending--;
      }
    });
    this.#last = result.catch(() => {}); // A failed job is its caller's business; the next one runs.
    return result;
  }
}

/** A native model whose calls are queued. Those that take an abort signal end in mid-call when it is aborted, and throw its reason. */
export interface QueuedModel extends NativeModel {
  initialize(signal?: AbortSignal): Promise<void>;
  evaluate(call: NativeEvaluateCall, signal?: AbortSignal): Promise<Float32Array>;
  sample(call: NativeSampleCall, signal?: AbortSignal): Promise<NativeSampleResult>;
  logits(call: { ids: Int32Array; streams: number; state?: Float32Array }, signal?: AbortSignal): Promise<Float32Array>;
  /**
   * Runs `job` between two calls, when the model may be read and written, whatever else is queued; no call runs until `job` has settled.
   * With a signal, the calls that `job` makes end when it is aborted.
   */
  whenIdle<T>(job: (model: NativeModel) => T | Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Runs a sequence of calls that share the evaluation state, once all earlier sequences have ended. Do not nest them. */
  evaluationSequence<T>(job: () => Promise<T>): Promise<T>;
}

/**
 * The same model with its asynchronous calls queued. Resets are queued too. The other synchronous calls act at once, as the addon defines
 * them: reading and writing fail with ERR_BUSY in mid-call (see {@link QueuedModel.whenIdle}), `stop()` ends the running call,
 * `dispose()` frees the model when that call has ended and makes every waiting one fail with ERR_DISPOSED.
 */
export function queued(model: NativeModel): QueuedModel {
  const queue = new SerialQueue();
  const evaluations = new SerialQueue();
  const call = <T>(job: () => T | Promise<T>): Promise<T> => queue.run(job).catch(rethrow);
  /** `stop()` ends whatever call is running, so the signal is listened to only while this one is. */
  const stoppable = <T>(job: () => T | Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
    queue.run(async () => {
      signal?.throwIfAborted();
      const stop = () => model.stop();
      signal?.addEventListener('abort', stop);
      try {
        return await job();
      } catch (error) {
        throw signal?.aborted ? signal.reason : fromNative(error);
      } finally {
        signal?.removeEventListener('abort', stop);
        signal?.throwIfAborted();
      }
    });
  const now = <T>(job: () => T): T => {
    try {
      return job();
    } catch (error) {
      return rethrow(error);
    }
  };
  const inTurn = (job: () => void): void => {
    if (queue.idle) now(job);
    else void queue.run(job).catch(() => {}); // The model can only have been disposed of, which the next call will say.
  };
  return {
    get parameterCount() {
      return now(() => model.parameterCount);
    },
    get parameters() {
      return now(() => model.parameters);
    },
    get description() {
      return now(() => model.description);
    },
    get chosenAlgorithm() {
      return now(() => model.chosenAlgorithm);
    },
    get hostBytes() {
      return now(() => model.hostBytes);
    },
    get deviceBytes() {
      return now(() => model.deviceBytes);
    },
    get stepCount() {
      return now(() => model.stepCount);
    },
    set stepCount(value) {
      now(() => {
        model.stepCount = value;
      });
    },
    initialize: (signal) => stoppable(() => model.initialize(), signal),
    trainSteps: (args) => call(() => model.trainSteps(args)),
    evaluate: (args, signal) => stoppable(() => model.evaluate(args), signal),
    resetEvaluationState: () => inTurn(() => model.resetEvaluationState()),
    resetTrainingState: () => inTurn(() => model.resetTrainingState()),
    sample: (args, signal) => stoppable(() => model.sample(args), signal),
    logits: (args, signal) => stoppable(() => model.logits(args), signal),
    read: (slot, offset, count) => now(() => model.read(slot, offset, count)),
    write: (slot, values, offset) => now(() => model.write(slot, values, offset)),
    whenIdle: (job, signal) => stoppable(() => job(model), signal),
    evaluationSequence: (job) => evaluations.run(job),
    stop: () => model.stop(),
    dispose: () => model.dispose(),
  };
}

/** The error of a call that ended early because the model was stopped or disposed of in the middle of it. */
export function stoppedError(what: string): CudnnLstmError {
  return new CudnnLstmError(
    'ERR_STOPPED',
    `The ${what} ended early: the model was stopped or disposed of in the middle of it.`,
    exitCodes.runtime,
  );
}

function rethrow(error: unknown): never {
  throw fromNative(error);
}
