/**
 * Divides the sequences of a batch among ranks, in whole lane blocks of 16, since half a block costs a CPU as much as a whole one.
 * Shapes: B sequences, T steps, L layers, H units.
 */
import type { NativeTrainCall } from '../device/native';
import { UsageError } from '../errors';
import { laneBlock } from '../ranks/lane-block';
import type { Ranks } from '../ranks/ranks';
import { type Naming, option } from '../wording';

/** Sequences first..last-1 of a batch. */
export interface Share {
  readonly first: number;
  readonly last: number;
}

/** A rank's share of `batch` sequences; may be empty if there are fewer blocks than ranks. */
export function shareOf(batch: number, { rank, size }: Pick<Ranks, 'rank' | 'size'>): Share {
  const blocks = Math.ceil(batch / laneBlock);
  const begin = (of: number) => Math.min(batch, Math.floor((blocks * of) / size) * laneBlock);
  return { first: begin(rank), last: begin(rank + 1) };
}

/** @throws UsageError if there are more ranks than blocks in a whole batch; the message gives the batch size needed. */
export function checkShares(batch: number, size: number, named: Naming = option): void {
  const blocks = Math.ceil(batch / laneBlock);
  if (size <= blocks) return;
  const needed = (size - 1) * laneBlock + 1;
  throw new UsageError(
    `${named({ batchSize: batch })} is too small for ${size} ranks, each of which takes whole blocks of ${laneBlock} sequences: ` +
      `${option({ batchSize: needed })} or more${blocks > 1 ? `, or ${blocks} ranks` : ', or one process'}.`,
  );
}

/** The part of a batch for a train call, all of it or a rank's share. `ids` may have any number of rows [B]. */
export function sequencesOf(
  ids: Int32Array,
  batch: number,
  ranks: Pick<Ranks, 'rank' | 'size'> | undefined,
): Pick<NativeTrainCall, 'ids' | 'batch' | 'globalBatch' | 'firstSequence'> {
  if (!ranks) return { ids, batch };
  const share = shareOf(batch, ranks);
  return {
    ids: columnsOf(ids, batch, share),
    batch: share.last - share.first,
    globalBatch: batch,
    firstSequence: share.first,
  };
}

function columnsOf(ids: Int32Array, batch: number, { first, last }: Share): Int32Array {
  const width = last - first;
  const rows = ids.length / batch;
  const columns = new Int32Array(rows * width);
  for (let row = 0; row < rows; row++) columns.set(ids.subarray(row * batch + first, row * batch + last), row * width);
  return columns;
}

/** Extracts a share of a training state [L, 2, B, H]. */
export function stateOf(state: Float32Array, batch: number, hidden: number, { first, last }: Share): Float32Array {
  const rows = state.length / (batch * hidden);
  const width = (last - first) * hidden;
  const part = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const at = row * batch * hidden;
    part.set(state.subarray(at + first * hidden, at + last * hidden), row * width);
  }
  return part;
}

/** Joins the ranks' shares into the training state [L, 2, B, H]. */
export function joinStates(parts: readonly Float32Array[], batch: number, hidden: number): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  const rows = whole.length / (batch * hidden);
  parts.forEach((part, rank) => {
    const { first, last } = shareOf(batch, { rank, size: parts.length });
    const width = (last - first) * hidden;
    for (let row = 0; row < rows; row++)
      whole.set(part.subarray(row * width, (row + 1) * width), (row * batch + first) * hidden);
  });
  return whole;
}
