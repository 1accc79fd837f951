/** Long loops of JavaScript that give way, so that the event loop's lag stays small. */
import { setImmediate } from 'node:timers/promises';

/** The most that a loop runs before it gives way, in milliseconds: far below the 20 ms that the package promises. */
const slice = 5;

/** `if (breather.due()) await breather.rest();` in the loop: cheap while nothing is due. */
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
