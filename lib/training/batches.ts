/**
 * Batches, cut from the corpus's id array on demand; windows are never materialised. Where a batch is cut depends on (seed, epoch, step)
 * alone, so resuming a run takes just two numbers.
 *
 * Shapes: B batch, T steps (the sequence length), N training ids.
 */

import { Breather } from '../breather';
import type { IdSource } from '../corpus/ids';
import type { Target } from '../device/native';
import { KeyedPermutation, keyedInteger } from './keyed-random';
import type { TrainingOptions } from './options';
import { type Named, tooShort } from './sizes';

/** The steps of one call to the device. */
export interface BatchCut {
  /** `count` matrices [T+1, B], time-major: inputs are rows 0..T-1, targets rows 1..T. */
  readonly ids: Int32Array;
  readonly count: number;
  /** B in these steps. */
  readonly batch: number;
  /** Losses averaged in each of these steps. */
  readonly targetsPerStep: number;
}

/** The order of the data. */
export interface BatchSource {
  readonly target: Target;
  /** Whether a step starts from the final state of the previous one; the first step of an epoch always starts from zero. */
  readonly carryState: boolean;
  readonly stepsPerEpoch: number;
  /** Losses averaged over an epoch. */
  readonly targetsPerEpoch: number;
  /** Characters fed to the network in an epoch. */
  readonly charactersPerEpoch: number;
  /** Cuts up to `count` steps, starting at `step`; fewer at the end of the epoch, or where B changes. */
  cut(epoch: number, step: number, count: number): Promise<BatchCut>;
}

type BatchOptions = Pick<TrainingOptions, 'target' | 'batchSize' | 'seqLength' | 'seed'> & Named;

/** The ids of an epoch; every epoch has the same number. */
export type EpochIds = (epoch: number) => IdSource;

/**
 * Creates the batches of ids 0..`length`-1.
 *
 * @throws DataError if there are too few for B and T; the message names sizes that fit.
 */
export function createBatches(ids: EpochIds, length: number, options: BatchOptions): BatchSource {
  return options.target === 'every' ? new StreamBatches(ids, length, options) : new WindowBatches(ids, length, options);
}

/**
 * For a loss at every position: the text is read as a ring, in B contiguous streams of equal length, T characters per step. Each
 * epoch starts at a different place in the ring, so the borders between segments move, and so do the few leftover characters
 * (fewer than B·T). The state is carried along a stream and is zero at the start of an epoch.
 */
class StreamBatches implements BatchSource {
  readonly target = 'every';
  readonly carryState = true;
  readonly stepsPerEpoch: number;
  readonly targetsPerEpoch: number;
  readonly charactersPerEpoch: number;
  readonly #idsOf: EpochIds;
  readonly #length: number;
  readonly #batch: number;
  readonly #steps: number;
  readonly #seed: number;

  constructor(idsOf: EpochIds, length: number, options: BatchOptions) {
    const { batchSize, seqLength, seed } = options;
    this.#idsOf = idsOf;
    this.#length = length;
    this.#batch = batchSize;
    this.#steps = seqLength;
    this.#seed = seed;
    this.stepsPerEpoch = Math.floor(length / (batchSize * seqLength));
    if (this.stepsPerEpoch === 0) throw tooShort(length, { ...options, validation: 0 });
    this.targetsPerEpoch = this.stepsPerEpoch * batchSize * seqLength;
    this.charactersPerEpoch = this.targetsPerEpoch;
  }

  async cut(epoch: number, step: number, most: number): Promise<BatchCut> {
    const [T, B] = [this.#steps, this.#batch];
    const count = Math.min(most, this.stepsPerEpoch - step);
    const offset = keyedInteger(this.#length, 'streams', this.#seed, epoch);
    const source = this.#idsOf(epoch);
    const ids = new Int32Array(count * (T + 1) * B);
    const breather = new Breather();
    for (let b = 0; b < B; b++) {
      const start = offset + (b * this.stepsPerEpoch + step) * T;
      for (let k = 0; k < count; k++) {
        this.#column(source, ids, k * (T + 1) * B + b, start + k * T);
        if (breather.due()) await breather.rest();
      }
    }
    return { ids, count, batch: B, targetsPerStep: B * T };
  }

  /** Copies T + 1 ids of the ring into a column of a [T+1, B] matrix. */
  #column(source: IdSource, ids: Int32Array, at: number, start: number): void {
    const rows = this.#steps + 1;
    for (let row = 0; row < rows; ) {
      const from = (start + row) % this.#length;
      const piece = source.read(from, Math.min(rows - row, this.#length - from));
      for (let i = 0; i < piece.length; i++) ids[at + (row + i) * this.#batch] = piece[i] as number;
      row += piece.length;
    }
  }
}

/**
 * For a loss at the last position: every window of T characters and the one after it, stride 1, reshuffled each epoch, each starting
 * from zero state. The last batch of an epoch may be smaller.
 */
class WindowBatches implements BatchSource {
  readonly target = 'last';
  readonly carryState = false;
  readonly stepsPerEpoch: number;
  readonly targetsPerEpoch: number;
  readonly charactersPerEpoch: number;
  readonly #idsOf: EpochIds;
  readonly #batch: number;
  readonly #steps: number;
  readonly #seed: number;
  #order: { epoch: number; permutation: KeyedPermutation } | undefined;

  constructor(idsOf: EpochIds, length: number, options: BatchOptions) {
    const { batchSize, seqLength, seed } = options;
    this.#idsOf = idsOf;
    this.#batch = batchSize;
    this.#steps = seqLength;
    this.#seed = seed;
    const windows = length - seqLength;
    if (windows < 1) throw tooShort(length, { ...options, validation: 0 });
    this.stepsPerEpoch = Math.ceil(windows / batchSize);
    this.targetsPerEpoch = windows;
    this.charactersPerEpoch = windows * seqLength;
  }

  async cut(epoch: number, step: number, most: number): Promise<BatchCut> {
    const [T, windows] = [this.#steps, this.targetsPerEpoch];
    const whole = Math.floor(windows / this.#batch);
    const B = step < whole ? this.#batch : windows - whole * this.#batch;
    const count = step < whole ? Math.min(most, whole - step) : 1;
    const order = this.#permutation(epoch);
    const source = this.#idsOf(epoch);
    const ids = new Int32Array(count * (T + 1) * B);
    const breather = new Breather();
    for (let k = 0; k < count; k++) {
      for (let b = 0; b < B; b++) {
        const window = source.read(order.at((step + k) * this.#batch + b), T + 1);
        const at = k * (T + 1) * B + b;
        for (let row = 0; row <= T; row++) ids[at + row * B] = window[row] as number;
        if (breather.due()) await breather.rest();
      }
    }
    return { ids, count, batch: B, targetsPerStep: B };
  }

  #permutation(epoch: number): KeyedPermutation {
    if (this.#order?.epoch !== epoch) {
      this.#order = { epoch, permutation: new KeyedPermutation(this.targetsPerEpoch, 'windows', this.#seed, epoch) };
    }
    return this.#order.permutation;
  }
}
