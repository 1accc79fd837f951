/**
 * A native model takes one call at a time and refuses a second one. This wrapper gives it a queue, so that generating while a
 * trainer runs, or scoring two texts at once, waits instead of failing; and its errors become the package's own.
 */
import { fromNative, type NativeModel } from './native';

/** Runs asynchronous jobs one after another, in the order in which they were given. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `job` when every job before it has settled; settles as `job` does. */
  run<T>(job: () => Promise<T>): Promise<T> {
    const result = this.#last.then(job);
    this.#last = result.catch(() => {}); // A failed job is its caller's business; the queue goes on.
    return result;
  }
}

/**
 * The same model with its asynchronous calls queued. The synchronous ones act at once, as the addon defines them: `stop()` ends
 * the call that runs now, `dispose()` frees the model when that call has ended and lets every queued one fail with ERR_DISPOSED.
 */
export function queued(model: NativeModel): NativeModel {
  const queue = new SerialQueue();
  const call = <T>(job: () => Promise<T>): Promise<T> => queue.run(job).catch(rethrow);
  const now = <T>(job: () => T): T => {
    try {
      return job();
    } catch (error) {
      return rethrow(error);
    }
  };
  return {
    get parameterCount() {
      return model.parameterCount;
    },
    get parameters() {
      return model.parameters;
    },
    get description() {
      return model.description;
    },
    get hostBytes() {
      return model.hostBytes;
    },
    get deviceBytes() {
      return model.deviceBytes;
    },
    get stepCount() {
      return now(() => model.stepCount);
    },
    set stepCount(value) {
      now(() => {
        model.stepCount = value;
      });
    },
    initialize: () => now(() => model.initialize()),
    trainSteps: (args) => call(() => model.trainSteps(args)),
    evaluate: (args) => call(() => model.evaluate(args)),
    resetEvaluationState: () => now(() => model.resetEvaluationState()),
    resetTrainingState: () => now(() => model.resetTrainingState()),
    sample: (args) => call(() => model.sample(args)),
    logits: (args) => call(() => model.logits(args)),
    read: (slot) => now(() => model.read(slot)),
    write: (slot, values) => now(() => model.write(slot, values)),
    stop: () => model.stop(),
    dispose: () => model.dispose(),
  };
}

function rethrow(error: unknown): never {
  throw fromNative(error);
}
