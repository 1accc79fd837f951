/**
 * How well a model predicts a text: mean cross-entropy of every character given all before it, dropout off, from zero state.
 * The first character has nothing before it and is not counted.
 *
 * Shapes: T steps, B streams, N ids of the text.
 */
import { Breather } from '../breather';
import type { NativeEvaluateCall } from '../device/native';
import { type QueuedModel, stoppedError } from '../device/queue';

/**
 * The score of a text.
 *
 * @category Scoring
 */
export interface Score {
  /** `loss / ln 2`. */
  bitsPerCharacter: number;
  /** Mean nats per character. */
  loss: number;
  /** Characters counted: all of the text's but the first of each stream. */
  characters: number;
}

/**
 * An id sequence that is read piece by piece, so that a text need not be in memory (lib/corpus/ids.ts).
 *
 * @category Scoring
 */
export interface ReadableIds {
  readonly length: number;
  /** `count` ids from `start`; the result may be a view that is valid until the next read. */
  read(start: number, count: number): ArrayLike<number>;
}

/**
 * Options of every kind of scoring.
 *
 * @category Scoring
 */
export interface ScoringOptions {
  /** Ends the call, which throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Called after every call to the device with the number of characters counted so far and the total. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

type Evaluator = Pick<QueuedModel, 'evaluate' | 'resetEvaluationState'>;

/** Ids per call: enough that the call's own cost does not matter, few enough that an abort is prompt. */
const idsPerCall = 1024;

/**
 * Makes a {@link Score} from a sum of nats.
 *
 * @throws CudnnLstmError `ERR_STOPPED` if the sum is not finite: the addon leaves NaN where a call was abandoned.
 */
export function scoreOf(nats: number, characters: number): Score {
  if (!Number.isFinite(nats)) throw stoppedError('scoring');
  const loss = nats / characters;
  return { bitsPerCharacter: loss / Math.LN2, loss, characters };
}

/**
 * Scores `ids` as `streams` contiguous parts side by side, each from zero state. One stream gives the text's exact score; S streams are
 * faster (one pass over the weights serves S characters) but begin S times without context, and count S - 1 characters fewer.
 *
 * It uses the model's evaluation state: nothing else may use it before this settles.
 *
 * @param ids At least two for each stream.
 */
export async function scoreIds(
  native: Evaluator,
  ids: ReadableIds,
  streams: number,
  options: ScoringOptions = {},
): Promise<Score> {
  const parts = splitEvenly(ids.length, streams);
  const longest = Math.max(...parts.map((part) => part.length));
  const total = ids.length - streams;
  const stepsPerCall = Math.max(16, Math.ceil(idsPerCall / streams));
  native.resetEvaluationState();
  let nats = 0;
  let done = 0;
  for (let from = 0; from < longest - 1; from += stepsPerCall) {
    const steps = Math.min(stepsPerCall, longest - 1 - from);
    const batch = new Int32Array((steps + 1) * streams);
    const counted = parts.map((part, stream) => {
      // Parts differ by at most one id; the shorter ones' last row stays 0 and is not counted.
      const length = Math.min(steps + 1, part.length - from);
      const row = ids.read(part.start + from, length);
      for (let step = 0; step < length; step++) batch[step * streams + stream] = row[step] as number;
      return length - 1;
    });
    const losses = await evaluateUntil(native, options.signal, {
      ids: batch,
      steps,
      batch: streams,
      target: 'every',
      carryState: true,
      dropout: false,
    });
    counted.forEach((count, stream) => {
      for (let step = 0; step < count; step++) nats += losses[step * streams + stream] as number;
      done += count;
    });
    options.onProgress?.(done, total);
  }
  return scoreOf(nats, done);
}

const nothing = new Int32Array(0);

/**
 * Scores many short texts, each from zero state; one with fewer than two ids has nothing to predict and gives undefined. Texts of similar
 * length run side by side.
 *
 * @param lead What every text begins with, before its own ids; scored with each.
 */
export async function scoreMany(
  native: Evaluator,
  texts: readonly Int32Array[],
  options: ScoringOptions = {},
  lead: Int32Array = nothing,
): Promise<(Score | undefined)[]> {
  const scores = new Array<Score | undefined>(texts.length).fill(undefined);
  const { order, total } = await byLength(texts, lead.length);
  let done = 0;
  for (let first = 0; first < order.length; first += 32) {
    const group = order.slice(first, first + 32);
    const sums = await sumNats(
      native,
      group.map((i) => at(texts, i)),
      lead,
      options.signal,
    );
    group.forEach((i, stream) => {
      const characters = lead.length + at(texts, i).length - 1;
      scores[i] = scoreOf(sums[stream] as number, characters);
      done += characters;
    });
    options.onProgress?.(done, total);
  }
  return scores;
}

/** The texts that have something to predict, shortest first, and the number of characters to predict. */
async function byLength(texts: readonly Int32Array[], lead: number): Promise<{ order: number[]; total: number }> {
  const breather = new Breather();
  const ofLength = new Map<number, number[]>();
  let total = 0;
  for (let i = 0; i < texts.length; i++) {
    const length = lead + at(texts, i).length;
    if (length >= 2) {
      const like = ofLength.get(length);
      if (like) like.push(i);
      else ofLength.set(length, [i]);
      total += length - 1;
    }
    if (breather.due()) await breather.rest();
  }
  const order: number[] = [];
  for (const length of [...ofLength.keys()].sort((a, b) => a - b)) {
    for (const i of ofLength.get(length) as number[]) order.push(i);
    if (breather.due()) await breather.rest();
  }
  return { order, total };
}

/** The sum of the nats of each of a few texts, run in lockstep from zero state; shorter ones are padded and the padding is not counted. */
async function sumNats(
  native: Evaluator,
  texts: readonly Int32Array[],
  lead: Int32Array,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const streams = texts.length;
  const longest = lead.length + Math.max(...texts.map((text) => text.length));
  const stepsPerCall = Math.max(16, Math.ceil(idsPerCall / streams));
  const sums = new Float64Array(streams);
  native.resetEvaluationState();
  for (let from = 0; from < longest - 1; from += stepsPerCall) {
    const steps = Math.min(stepsPerCall, longest - 1 - from);
    const batch = new Int32Array((steps + 1) * streams);
    texts.forEach((text, stream) => {
      for (let step = 0; step <= steps; step++) {
        const place = from + step;
        batch[step * streams + stream] = (place < lead.length ? lead[place] : text[place - lead.length]) ?? 0;
      }
    });
    const call = { ids: batch, steps, batch: streams, target: 'every', carryState: true, dropout: false } as const;
    const losses = await evaluateUntil(native, signal, call);
    texts.forEach((text, stream) => {
      const count = Math.min(steps, lead.length + text.length - 1 - from);
      for (let step = 0; step < count; step++) {
        sums[stream] = (sums[stream] as number) + (losses[step * streams + stream] as number);
      }
    });
  }
  return sums;
}

/** Evaluates, and abandons the call when the signal is aborted. */
export async function evaluateUntil(
  native: Evaluator,
  signal: AbortSignal | undefined,
  call: NativeEvaluateCall,
): Promise<Float32Array> {
  signal?.throwIfAborted();
  const losses = await native.evaluate(call, signal);
  signal?.throwIfAborted();
  return losses;
}

/** Cuts `length` ids into `parts` contiguous parts whose lengths differ by at most one. */
function splitEvenly(length: number, parts: number): { start: number; length: number }[] {
  return Array.from({ length: parts }, (_, part) => {
    const start = Math.floor((part * length) / parts);
    return { start, length: Math.floor(((part + 1) * length) / parts) - start };
  });
}

function at(texts: readonly Int32Array[], index: number): Int32Array {
  return texts[index] as Int32Array;
}
