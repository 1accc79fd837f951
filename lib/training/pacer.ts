/** How many steps go to the device in one call. */

/**
 * A call costs some 50 µs, so short steps share one; and a call cannot be interrupted between an abort and the end of its step,
 * nor a process end before it, so it should take no longer than this, in milliseconds.
 */
const targetMilliseconds = 40;
const mostSteps = 512;
/** Ids of one call, which bounds what is copied (4 bytes each). */
const mostIds = 1 << 20;

/** Learns from the calls how long a step takes. It decides about calls only: results do not depend on how steps share them. */
export class Pacer {
  #perStep: number | undefined;
  #count = 1;
  readonly #limit: number;

  /** @param idsPerStep (T + 1)·B. */
  constructor(idsPerStep: number) {
    this.#limit = Math.max(1, Math.min(mostSteps, Math.floor(mostIds / idsPerStep)));
  }

  /** Steps of the next call. */
  get count(): number {
    return this.#count;
  }

  /** Mean milliseconds of a step lately; undefined before the first call. */
  get millisecondsPerStep(): number | undefined {
    return this.#perStep;
  }

  /** Tells how long a call of `steps` steps took. */
  record(steps: number, milliseconds: number): void {
    const measured = milliseconds / steps;
    this.#perStep = this.#perStep === undefined ? measured : 0.7 * this.#perStep + 0.3 * measured;
    // Grows at most fourfold a call: the first ones include what a device does once.
    const fitting = Math.floor(targetMilliseconds / Math.max(this.#perStep, 1e-3));
    this.#count = Math.max(1, Math.min(this.#limit, fitting, this.#count * 4));
  }
}
