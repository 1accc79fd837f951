/** Decides how many steps go to the device in one call. */

/**
 * The longest that a call should take, in milliseconds. A call costs some 50 µs, so short steps share one; but after an abort it runs on
 * to the end of its step, and the process cannot exit before it.
 */
const targetMilliseconds = 40;
const mostSteps = 512;
/** The most ids in one call, which bounds the copying (4 bytes each). */
const mostIds = 1 << 20;

/** Learns from the calls how long a step takes. The results do not depend on how steps are grouped into calls. */
export class Pacer {
  #perStep: number | undefined;
  #count = 1;
  readonly #limit: number;

  /** @param idsPerStep (T + 1)·B. */
  constructor(idsPerStep: number) {
    this.#limit = Math.max(1, Math.min(mostSteps, Math.floor(mostIds / idsPerStep)));
  }

  /** Steps in the next call. */
  get count(): number {
    return this.#count;
  }

  /** Recent mean milliseconds per step; undefined before the first call. */
  get millisecondsPerStep(): number | undefined {
    return this.#perStep;
  }

  /** Records how long a call of `steps` steps took. */
  record(steps: number, milliseconds: number): void {
    const measured = milliseconds / steps;
    this.#perStep = this.#perStep === undefined ? measured : 0.7 * this.#perStep + 0.3 * measured;
    // Grows at most fourfold per call: the first ones include one-time work of the device.
    const fitting = Math.floor(targetMilliseconds / Math.max(this.#perStep, 1e-3));
    this.#count = Math.max(1, Math.min(this.#limit, fitting, this.#count * 4));
  }
}
