/** Lets long JavaScript loops yield, so that the event loop's lag stays small. */
import { setImmediate } from 'node:timers/promises';

/** Milliseconds that a loop may run before it yields: far below the 20 ms that the package promises. */
const slice = 5;

/** Used in a loop as `if (breather.due()) await breather.rest();`: cheap while no rest is due. */
export class Breather {
  #since = performance.now();

  due(): boolean {
    return performance.now() - this.#since > slice;
  }

  async rest(): Promise<void> {
    await setImmediate();
    this.#since = performance.now();
  }
}
