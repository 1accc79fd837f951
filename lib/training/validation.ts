/**
 * Scores the validation text: the tail of the corpus, or a separate text. The result depends on the model, the text and T alone, not on
 * the training batch size, so runs can be compared.
 *
 * Shapes: V characters of the tail, T steps (the sequence length), S streams.
 */

import { Breather } from '../breather';
import type { IdSource } from '../corpus/ids';
import type { QueuedModel } from '../device/queue';
import type { Ranks } from '../ranks/ranks';
import { evaluateUntil } from '../scoring/score';
import type { TrainingOptions } from './options';
import { shareOf } from './shares';
import { divide, type Named, type SizeOptions, type Split, tooShort } from './sizes';

/**
 * Splits off the tail.
 *
 * @throws DataError if the corpus is too short to hold out the requested tail and train on the rest; the message names sizes that fit.
 */
export function splitCorpus(length: number, options: SizeOptions & Named): Split {
  const split = divide(length, options);
  if (split === undefined) throw tooShort(length, options);
  return split;
}

export type Evaluator = Pick<QueuedModel, 'evaluate' | 'resetEvaluationState' | 'evaluationSequence'>;

/** A score: mean nats per character over the held-out text, dropout off. */
export interface ValidationScore {
  readonly loss: number;
  readonly characters: number;
}

/** A rank's place, which determines its share. A single process has all of it: rank 0 of 1. */
export type Place = Pick<Ranks, 'rank' | 'size'>;

/** The nats of a rank's share, and the characters of all shares. */
export interface PartialScore {
  readonly nats: number;
  readonly characters: number;
}

/** Thrown by all ranks that score together if one of them was aborted. */
export const abortedElsewhere = new Error('a rank was aborted');

/**
 * Scores on all ranks, if there are several, each scoring its share.
 *
 * @throws The signal's reason when it is aborted; with `ranks`, {@link abortedElsewhere} on all of them.
 */
export async function scoreTogether(
  native: Pick<QueuedModel, 'evaluationSequence'>,
  signal: AbortSignal | undefined,
  ranks: Ranks | undefined,
  scoreShare: (place: Place) => Promise<PartialScore>,
): Promise<ValidationScore> {
  const share = () => native.evaluationSequence(() => scoreShare(ranks ?? { rank: 0, size: 1 }));
  if (!ranks) {
    const { nats, characters } = await share();
    return { loss: nats / characters, characters };
  }
  const mine = await share().catch((error: unknown) => {
    if (!signal?.aborted) throw error;
    return undefined;
  });
  const all = await ranks.gatherNumbers('validation', mine ? [mine.nats, mine.characters] : [0, 0]);
  if (!mine || all.some(([, characters]) => characters === 0)) throw abortedElsewhere;
  const nats = all.reduce((sum, [part]) => sum + (part as number), 0); // In the order of the ranks.
  return { loss: nats / mine.characters, characters: mine.characters };
}

/**
 * Scores a share of the tail.
 *
 * Target every: the tail is cut into S contiguous streams whose lengths differ by at most one, S = min(64, ⌊V / 4T⌋) and at least
 * 1. Each starts from zero state T characters before its first one (the first stream at the end of the training text); these T are
 * fed but not counted, then the state is carried. So each of the V characters counts once, with at least T before it.
 *
 * Target last: each counted character is predicted from the T before it, from zero state; all V of them up to 4,096, above that every
 * ⌈V / 4,096⌉th.
 *
 * Uses the model's evaluation state, not the training state: see {@link scoreTogether}.
 *
 * @throws The signal's reason when it is aborted.
 */
export function scoreValidation(
  native: Evaluator,
  ids: IdSource,
  split: Split,
  options: Pick<TrainingOptions, 'target' | 'seqLength'>,
  place: Place,
  signal?: AbortSignal,
): Promise<PartialScore> {
  const { target, seqLength } = options;
  if (target === 'last') return scoreWindows(native, ids, split, seqLength, place, signal);
  return scoreStreams(native, ids, streamsOfTail(split, seqLength), seqLength, place, signal);
}

/**
 * Scores a share of a separate text, as `score` does: its first character, or the first T for target last, has nothing before it and is
 * not counted. The first stream starts from zero state at the beginning of the text, the others as in a tail.
 *
 * @param ids Must be longer than the uncounted beginning.
 * @throws The signal's reason when it is aborted.
 */
export function scoreWholeText(
  native: Evaluator,
  ids: IdSource,
  options: Pick<TrainingOptions, 'target' | 'seqLength'>,
  place: Place,
  signal?: AbortSignal,
): Promise<PartialScore> {
  const { target, seqLength } = options;
  if (target === 'last') {
    const split = { training: seqLength, validation: ids.length - seqLength };
    return scoreWindows(native, ids, split, seqLength, place, signal);
  }
  return scoreStreams(native, ids, streamsOfWhole(ids.length, seqLength), seqLength, place, signal);
}

/** The targets of a stream: `length` characters starting at `begin`, of which the first `uncounted` do not count. */
interface Stream {
  readonly begin: number;
  readonly length: number;
  readonly uncounted: number;
}

const streamCount = (V: number, T: number) => Math.max(1, Math.min(64, Math.floor(V / (4 * T))));

function streamsOfTail({ training, validation: V }: Split, T: number): Stream[] {
  const S = streamCount(V, T);
  const starts = Array.from({ length: S + 1 }, (_, s) => training + Math.floor((s * V) / S));
  return starts.slice(1).map((end, s) => {
    const begin = (starts[s] as number) - T;
    return { begin, length: end - begin, uncounted: T };
  });
}

/** The streams of a separate text: as long as one another, give or take one character; the first has nothing before it to warm up on, so more of its characters count. */
function streamsOfWhole(length: number, T: number): Stream[] {
  const V = length - 1;
  const S = streamCount(V, T);
  const steps = Array.from({ length: S + 1 }, (_, s) => Math.floor((s * (V + (S - 1) * T)) / S));
  return steps.slice(1).map((end, s) => {
    const begun = steps[s] as number;
    return { begin: begun + 1 - s * T, length: end - begun, uncounted: s === 0 ? 0 : T };
  });
}

async function scoreStreams(
  native: Evaluator,
  ids: IdSource,
  all: readonly Stream[],
  T: number,
  place: Place,
  signal?: AbortSignal,
): Promise<PartialScore> {
  const characters = all.reduce((sum, { length, uncounted }) => sum + length - uncounted, 0);
  const longest = Math.max(...all.map(({ length }) => length));
  const share = shareOf(all.length, place);
  const streams = all.slice(share.first, share.last);
  const width = streams.length;
  if (width === 0) return { nats: 0, characters };
  const breather = new Breather();
  let nats = 0;
  native.resetEvaluationState();
  // Step p of a stream predicts its character p from the one before it.
  for (let from = 0; from < longest; from += T) {
    const steps = Math.min(T, longest - from);
    const batch = new Int32Array((steps + 1) * width);
    for (const [s, { begin, length }] of streams.entries()) {
      const first = begin + from - 1;
      // The character before the warm-up may be before the text, and shorter streams end a step early: both read id 0, not counted.
      const low = Math.max(0, first);
      const row = ids.read(low, Math.max(0, Math.min(first + steps + 1, begin + length) - low));
      for (let i = 0; i < row.length; i++) batch[(low - first + i) * width + s] = row[i] as number;
      if (breather.due()) await breather.rest();
    }
    const losses = await evaluateUntil(native, signal, {
      ids: batch,
      steps,
      batch: width,
      target: 'every',
      carryState: true,
      dropout: false,
    });
    for (const [s, { length, uncounted }] of streams.entries()) {
      const counted = Math.min(steps, length - from);
      for (let t = Math.max(0, uncounted - from); t < counted; t++) nats += losses[t * width + s] as number;
    }
  }
  return { nats, characters };
}

async function scoreWindows(
  native: Evaluator,
  ids: IdSource,
  split: Split,
  T: number,
  { rank, size }: Place,
  signal?: AbortSignal,
): Promise<PartialScore> {
  const stride = Math.ceil(split.validation / 4096);
  const total = Math.ceil(split.validation / stride);
  const breather = new Breather();
  let nats = 0;
  for (let from = 64 * rank; from < total; from += 64 * size) {
    const batch = Math.min(64, total - from);
    const matrix = new Int32Array((T + 1) * batch);
    for (let b = 0; b < batch; b++) {
      const window = ids.read(split.training + (from + b) * stride - T, T + 1);
      for (let row = 0; row <= T; row++) matrix[row * batch + b] = window[row] as number;
      if (breather.due()) await breather.rest();
    }
    const losses = await evaluateUntil(native, signal, {
      ids: matrix,
      steps: T,
      batch,
      target: 'last',
      carryState: false,
      dropout: false,
    });
    for (let b = 0; b < batch; b++) nats += losses[b] as number;
  }
  return { nats, characters: total };
}
