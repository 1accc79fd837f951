/** Batches of two texts: some of the sequences in every step come from the second one. */

import { UsageError } from '../errors';
import { option } from '../wording';
import type { BatchCut, BatchSource } from './batches';

/**
 * How many of `batchSize` sequences come from the second text: at least one, and not all.
 *
 * @throws UsageError if `batchSize` is 1.
 */
export function keptSequences(batchSize: number, share: number): number {
  if (batchSize < 2)
    throw new UsageError(
      `${option('keep')} takes some of the sequences of every step: give ${option({ batchSize: 2 })} or more.`,
    );
  return Math.min(batchSize - 1, Math.max(1, Math.round(batchSize * share)));
}

/**
 * Pairs each step of an epoch of `first` with a step of `second`, which is cycled through at its own pace. Where a batch is cut depends
 * on (seed, epoch, step) alone, here too.
 */
export class MixedBatches implements BatchSource {
  readonly target: BatchSource['target'];
  readonly carryState: boolean;
  readonly stepsPerEpoch: number;
  readonly targetsPerEpoch: number;
  readonly charactersPerEpoch: number;
  readonly #first: BatchSource;
  readonly #second: BatchSource;
  readonly #seqLength: number;
  /** Full-size steps in an epoch of the second text. */
  readonly #round: number;

  /**
   * @param sequences The batch size of `second`, which has at least as many in an epoch.
   */
  constructor(first: BatchSource, second: BatchSource, sequences: number, seqLength: number) {
    this.#first = first;
    this.#second = second;
    this.#seqLength = seqLength;
    this.target = first.target;
    this.carryState = first.carryState;
    this.stepsPerEpoch = first.stepsPerEpoch;
    const each = sequences * (this.target === 'every' ? seqLength : 1);
    this.#round = this.target === 'every' ? second.stepsPerEpoch : Math.floor(second.targetsPerEpoch / each);
    this.targetsPerEpoch = first.targetsPerEpoch + this.stepsPerEpoch * each;
    this.charactersPerEpoch = first.charactersPerEpoch + this.stepsPerEpoch * sequences * seqLength;
  }

  async cut(epoch: number, step: number, most: number): Promise<BatchCut> {
    const done = epoch * this.stepsPerEpoch + step;
    const at = done % this.#round;
    const limit = Math.min(most, this.#round - at);
    const first = await this.#first.cut(epoch, step, limit);
    // Always gives the number of steps asked for: a round does not include a smaller batch at the end of an epoch.
    const second = await this.#second.cut(Math.floor(done / this.#round), at, first.count);
    const [B, K] = [first.batch, second.batch];
    const rows = this.#seqLength + 1;
    const ids = new Int32Array(first.count * rows * (B + K));
    for (let row = 0; row < first.count * rows; row++) {
      ids.set(first.ids.subarray(row * B, (row + 1) * B), row * (B + K));
      ids.set(second.ids.subarray(row * K, (row + 1) * K), row * (B + K) + B);
    }
    return { ids, count: first.count, batch: B + K, targetsPerStep: first.targetsPerStep + second.targetsPerStep };
  }
}
