/**
 * Training on single lines: each starts from zero state, and its beginning and end are learned. A line is stored as the end-of-line
 * symbol, at which the model resets its state (`resetId`), followed by its characters; so lines follow one another in the streams of
 * a batch without padding.
 *
 * Shapes: B batch, T steps, N lines, S streams.
 */
import { Breather } from '../breather';
import type { CorpusPart } from '../corpus/corpus';
import type { LineIndex } from '../corpus/lines';
import type { Target } from '../device/native';
import { DataError } from '../errors';
import { grouped, plural } from '../numbers';
import { evaluateUntil } from '../scoring/score';
import { option } from '../wording';
import type { BatchCut, BatchSource } from './batches';
import { KeyedPermutation } from './keyed-random';
import type { TrainingOptions } from './options';
import { shareOf } from './shares';
import { changes, type Named, type Split } from './sizes';
import type { Evaluator, PartialScore, Place } from './validation';
import { WeightedLines } from './weights';

/** The lines for training and the held-out ones, in ascending order; the split counts characters, including the ends of lines. */
export interface DividedLines {
  readonly training: Uint32Array;
  readonly validation: Uint32Array;
  readonly split: Split;
}

/** Ids that a stream skips before yielding the thread: about a millisecond. */
const passedAtOnce = 1 << 16;

/**
 * Holds out a share of the lines, from all over the text, since lists are often sorted. Which ones depends only on the number of lines,
 * not on the seed, so that runs are comparable.
 *
 * @throws DataError if there are no lines, or none would be held out.
 */
export async function divideLines(
  lines: LineIndex,
  share: number,
  { named = option }: Named = {},
): Promise<DividedLines> {
  const { count } = lines;
  const held = Math.floor(count * share);
  if (count === 0) throw new DataError('The corpus has no line that is not empty: give lines to train on.');
  if (share > 0 && held === 0) {
    throw new DataError(
      `The corpus has ${plural(count, 'line')}, of which ${named({ validation: share })} leaves none to ` +
        `validate on; give more lines, or ${option({ validation: 0 })}.`,
    );
  }
  const breather = new Breather();
  const isHeld = new Uint8Array(count);
  const order = new KeyedPermutation(count, 'held-out lines');
  for (let i = 0; i < held; i++) {
    isHeld[order.at(i)] = 1;
    if (breather.due()) await breather.rest();
  }
  const training = new Uint32Array(count - held);
  const validation = new Uint32Array(held);
  // Includes the ends of lines.
  const split = { training: 0, validation: 0 };
  for (let line = 0, kept = 0; line < count; line++) {
    const characters = lines.lengthOf(line) + 1;
    if (isHeld[line] === 1) {
      validation[line - kept] = line;
      split.validation += characters;
    } else {
      training[kept++] = line;
      split.training += characters;
    }
    if (breather.due()) await breather.rest();
  }
  return { training, validation, split };
}

/** Lines in a given order as one endless stream of ids: the first follows the last. */
class LineStream {
  readonly #lines: LineIndex;
  readonly #lineAt: (place: number) => number;
  readonly #count: number;
  #place: number;
  /** Offset of the next symbol in the line; 0 is the end-of-line symbol before it. */
  #offset = 0;

  /** @param lineAt The line at each of `count` places. */
  constructor(lines: LineIndex, count: number, lineAt: (place: number) => number, place: number) {
    this.#lines = lines;
    this.#count = count;
    this.#lineAt = lineAt;
    this.#place = place % count;
  }

  /** Copies the next `count` ids to `out`; without it they are skipped. */
  take(count: number, out?: Int32Array): void {
    for (let done = 0; done < count; ) {
      const line = this.#lineAt(this.#place);
      const length = this.#lines.lengthOf(line) + 1;
      const taken = Math.min(count - done, length - this.#offset);
      if (out) this.#copy(line, taken, out, done);
      done += taken;
      this.#offset += taken;
      if (this.#offset < length) return;
      this.#offset = 0;
      this.#place = (this.#place + 1) % this.#count;
    }
  }

  /** The next id. */
  get next(): number {
    if (this.#offset === 0) return this.#lines.breakId;
    return this.#lines.read(this.#lineAt(this.#place), this.#offset - 1, 1)[0] as number;
  }

  #copy(line: number, count: number, out: Int32Array, at: number): void {
    const first = this.#offset === 0 ? 1 : 0;
    if (first === 1) out[at] = this.#lines.breakId;
    if (count > first) out.set(this.#lines.read(line, this.#offset + first - 1, count - first), at + first);
  }
}

type LineOptions = Pick<TrainingOptions, 'batchSize' | 'seqLength' | 'seed'> & Named;

/**
 * The batches of the training lines, reshuffled each epoch. The shuffled lines form a ring that is cut into B streams of equal length,
 * each starting with a line; the few characters that are left over, or come twice, differ from epoch to epoch. A line may span steps:
 * its state is carried.
 */
export class LineBatches implements BatchSource {
  readonly target: Target = 'every';
  readonly carryState = true;
  readonly stepsPerEpoch: number;
  readonly targetsPerEpoch: number;
  readonly charactersPerEpoch: number;
  readonly #lines: LineIndex;
  readonly #linesOf: (epoch: number) => Uint32Array;
  readonly #batch: number;
  readonly #steps: number;
  readonly #seed: number;
  /** The streams of the epoch cut last, and the step they are at. */
  #at: { epoch: number; step: number; streams: LineStream[] } | undefined;

  /**
   * @param parts The parts of the text and their weights, if these differ.
   * @throws DataError if there are too few lines for B and T; the message names sizes that fit.
   */
  constructor(
    lines: LineIndex,
    { training, split }: DividedLines,
    options: LineOptions,
    parts?: readonly CorpusPart[],
  ) {
    const { batchSize, seqLength, seed } = options;
    const weighted = parts && new WeightedLines(parts, lines, training, seed);
    const characters = weighted?.characters ?? split.training;
    this.#lines = lines;
    this.#linesOf = (epoch) => weighted?.linesOf(epoch) ?? training;
    this.#batch = batchSize;
    this.#steps = seqLength;
    this.#seed = seed;
    this.stepsPerEpoch = Math.floor(characters / (batchSize * seqLength));
    if (this.stepsPerEpoch === 0) throw tooFew(characters, options);
    this.targetsPerEpoch = this.stepsPerEpoch * batchSize * seqLength;
    this.charactersPerEpoch = this.targetsPerEpoch;
  }

  async cut(epoch: number, step: number, most: number): Promise<BatchCut> {
    const [T, B] = [this.#steps, this.#batch];
    const count = Math.min(most, this.stepsPerEpoch - step);
    const streams = await this.#seek(epoch, step);
    const ids = new Int32Array(count * (T + 1) * B);
    const row = new Int32Array(count * T + 1);
    const breather = new Breather();
    for (let b = 0; b < B; b++) {
      const stream = streams[b] as LineStream;
      stream.take(count * T, row);
      row[count * T] = stream.next;
      for (let k = 0; k < count; k++) {
        for (let t = 0, at = k * (T + 1) * B + b; t <= T; t++, at += B) ids[at] = row[k * T + t] as number;
        if (breather.due()) await breather.rest();
      }
    }
    this.#at = { epoch, step: step + count, streams };
    return { ids, count, batch: B, targetsPerStep: B * T };
  }

  /** The streams at the start of a step. */
  async #seek(epoch: number, step: number): Promise<LineStream[]> {
    const at = this.#at;
    // Until the cut is complete, the streams are elsewhere.
    this.#at = undefined;
    if (at?.epoch === epoch && at.step === step) return at.streams;
    const streams = await this.#begin(epoch);
    const breather = new Breather();
    for (const stream of streams) {
      for (let left = step * this.#steps; left > 0; left -= passedAtOnce) {
        stream.take(Math.min(left, passedAtOnce));
        if (breather.due()) await breather.rest();
      }
    }
    return streams;
  }

  /** Stream b starts with the first line that starts at or after b times the stream length. */
  async #begin(epoch: number): Promise<LineStream[]> {
    const training = this.#linesOf(epoch);
    const { length } = training;
    const order = new KeyedPermutation(length, 'lines', this.#seed, epoch);
    const lineAt = (place: number) => training[order.at(place)] as number;
    const each = this.stepsPerEpoch * this.#steps;
    const streams: LineStream[] = [];
    const breather = new Breather();
    for (let place = 0, passed = 0; streams.length < this.#batch; place++) {
      while (streams.length < this.#batch && passed >= streams.length * each) {
        streams.push(new LineStream(this.#lines, length, lineAt, place));
      }
      passed += this.#lines.lengthOf(lineAt(place % length)) + 1;
      if (breather.due()) await breather.rest();
    }
    return streams;
  }
}

function tooFew(characters: number, options: LineOptions): DataError {
  const { batchSize, seqLength, named = option } = options;
  // Suggest fewer sequences, then shorter ones, until an epoch has a few steps.
  let batch = batchSize;
  while (batch > 1 && 8 * batch * seqLength > characters) batch = Math.floor(batch / 2);
  const steps = batch > 1 ? seqLength : Math.max(1, Math.min(seqLength, Math.floor(characters / 8)));
  return new DataError(
    `The lines are too few: ${grouped(characters)} characters to train on, with an end for each line, and ` +
      `${named({ batchSize })} times ${named({ seqLength })} takes ${grouped(batchSize * seqLength)}; give more lines, or ` +
      `${option(changes({ batchSize: batch, seqLength: steps }, options))}.`,
  );
}

/**
 * Scores lines, each from zero state: every character counts once, including the first and the end of the line. They are cut into S
 * streams of whole lines, S = min(64, ⌊characters / 4T⌋) and at least 1, so the result does not depend on the training batch size.
 *
 * @throws The signal's reason when it is aborted.
 */
export async function scoreHeldOutLines(
  native: Evaluator,
  lines: LineIndex,
  { validation, split: { validation: characters } }: DividedLines,
  T: number,
  place: Place,
  signal?: AbortSignal,
): Promise<PartialScore> {
  const most = Math.max(1, Math.min(64, Math.floor(characters / (4 * T))));
  const lineAt = (place: number) => validation[place] as number;
  const breather = new Breather();
  const all: { stream: LineStream; length: number }[] = [];
  for (let at = 0, passed = 0, begun = 0; at < validation.length; ) {
    const first = at;
    do {
      passed += lines.lengthOf(lineAt(at++)) + 1;
      if (breather.due()) await breather.rest();
    } while (at < validation.length && passed < ((all.length + 1) * characters) / most);
    all.push({ stream: new LineStream(lines, validation.length, lineAt, first), length: passed - begun });
    begun = passed;
  }
  const share = shareOf(all.length, place);
  const streams = all.slice(share.first, share.last);
  const S = streams.length;
  const longest = streams.reduce((length, stream) => Math.max(length, stream.length), 0);
  let nats = 0;
  native.resetEvaluationState();
  for (let from = 0; from < longest; from += T) {
    const steps = Math.min(T, longest - from);
    const ids = new Int32Array((steps + 1) * S);
    const row = new Int32Array(steps + 1);
    for (const [s, { stream }] of streams.entries()) {
      // A shorter stream runs on into other lines, which do not count.
      stream.take(steps, row);
      row[steps] = stream.next;
      for (let t = 0; t <= steps; t++) ids[t * S + s] = row[t] as number;
      if (breather.due()) await breather.rest();
    }
    const call = { ids, steps, batch: S, target: 'every', carryState: true, dropout: false } as const;
    const losses = await evaluateUntil(native, signal, call);
    for (const [s, { length }] of streams.entries()) {
      for (let t = 0; t < Math.min(steps, length - from); t++) nats += losses[t * S + s] as number;
    }
  }
  return { nats, characters };
}
