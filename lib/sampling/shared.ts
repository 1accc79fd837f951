/**
 * Many texts on one model, started and ended at any time: those drawn at the same moment share native calls, and each is what it would be
 * alone, since a stream's bits do not depend on the other streams (on a GPU: up to rounding).
 *
 * Shapes: S streams, L layers, H hidden, V vocabulary.
 */
import type { NativeModel, NativeSamplingOptions } from '../device/native';
import { type QueuedModel, stoppedError } from '../device/queue';
import { PrefixCache, prefixKeys } from './prefix-cache';
import { column, concatenate, interleave } from './rows';

/** Texts that continue one prompt. */
export interface SharedRequest {
  /** At least one id; the texts follow it. */
  prompt: Int32Array;
  /** Ids to draw for each text. */
  length: number;
  /** 0: the state is carried. n > 0: each id is drawn from the n before it. */
  window: number;
  /** The rules of each text, with seed and stream. */
  sampling: readonly NativeSamplingOptions[];
  /** Gives log-probabilities, and this many rivals for each draw. */
  rivals?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** The next ids of a text. */
export interface Drawn {
  ids: Int32Array;
  /** [n], if asked for: natural logarithms of the model's own probabilities, before any rule. */
  logProbabilities?: Float32Array;
  /** [n, rivals], the likeliest first. */
  rivals?: Int32Array;
  rivalLogProbabilities?: Float32Array;
}

/** How a {@link SharedSampler} divides the device's time. */
export interface SharedSamplerOptions {
  /** The shape of a state, [L, 2, 1, H]. */
  layers: number;
  hidden: number;
  /** Bytes of prompts' states to keep. Default 64 MiB. */
  prefixBytes?: number | undefined;
  /** The most texts that one call draws. Default 64. */
  mostStreams?: number | undefined;
}

/** One call draws for about this many milliseconds, so that a new request waits no longer. */
const chunkMilliseconds = 12;
const maxChunk = 64;
/** Prompts are fed in pieces of at most this many ids, alternating with draws; for a large model in half, a quarter, ... of that. */
const longestPiece = 128;
const shortestPiece = 8;
/** How many ids a text is drawn ahead of its reader. */
const mostAhead = 256;

/** Draws the texts of many requests side by side. */
export class SharedSampler {
  readonly #native: Pick<QueuedModel, 'sample'>;
  readonly #layers: number;
  readonly #hidden: number;
  readonly #mostStreams: number;
  readonly #prefixes: PrefixCache;
  readonly #prompts = new Set<Prompt>();
  /** Least recently drawn first. */
  readonly #streams = new Set<Stream>();
  #running = false;
  #asked = false;
  #perDraw = chunkMilliseconds;
  /** Milliseconds per prompt id, as last measured. */
  #perFed = 0;
  #fedIds = 0;
  #drawnIds = 0;
  #drawCalls = 0;
  /** The call in progress and the streams it serves: nobody waits for it once all of them have ended. */
  #call: { streams: readonly Stream[]; controller: AbortController } | undefined;

  constructor(native: Pick<QueuedModel, 'sample'>, options: SharedSamplerOptions) {
    this.#native = native;
    this.#layers = options.layers;
    this.#hidden = options.hidden;
    this.#mostStreams = options.mostStreams ?? 64;
    this.#prefixes = new PrefixCache(options.prefixBytes ?? 64 * 2 ** 20);
  }

  /** Texts being drawn, or waiting for their prompt to be fed. */
  get active(): number {
    let count = 0;
    for (const stream of this.#streams) if (!stream.ended) count++;
    for (const { streams } of this.#prompts) for (const stream of streams) if (!stream.ended) count++;
    return count;
  }

  /** Prompt ids that were computed, without those of cached prefixes. */
  get fedIds(): number {
    return this.#fedIds;
  }

  /** Ids drawn for texts. */
  get drawnIds(): number {
    return this.#drawnIds;
  }

  /** Native calls that drew them; each served one or more texts. */
  get drawCalls(): number {
    return this.#drawCalls;
  }

  /**
   * Starts the texts of a request, one iterator each. A text is drawn only a little ahead of its reader; it ends at its length, with
   * `return()`, or on the signal, whose reason is thrown.
   */
  open(request: SharedRequest): AsyncGenerator<Drawn, void, undefined>[] {
    const streams = request.sampling.map((sampling) => new Stream(request, sampling, () => this.#wake()));
    const abort = () => {
      for (const stream of streams) stream.fail(request.signal?.reason);
    };
    if (request.signal?.aborted) abort();
    else request.signal?.addEventListener('abort', abort, { once: true });
    let open = streams.length;
    const closed = () => {
      if (--open === 0) request.signal?.removeEventListener('abort', abort);
    };
    this.#prompts.add(new Prompt(request, streams, this.#pieceLength()));
    this.#start();
    return streams.map((stream) => stream.read(closed));
  }

  /** Called when a text has ended or its reader has moved on. */
  #wake(): void {
    if (this.#call?.streams.every((stream) => stream.ended)) this.#call.controller.abort();
    this.#start();
  }

  /** How many ids are fed in about the time of a chunk. Always a power of two, so that the pieces of two prompts end at the same places. */
  #pieceLength(): number {
    let length = longestPiece;
    while (length > shortestPiece && length * this.#perFed > chunkMilliseconds) length /= 2;
    return length;
  }

  /** A call for the streams, abandoned as soon as none of them is read any more. */
  async #sample(
    streams: readonly Stream[],
    call: Parameters<QueuedModel['sample']>[0],
  ): ReturnType<QueuedModel['sample']> {
    const controller = new AbortController();
    this.#call = { streams, controller };
    try {
      return await this.#native.sample(call, controller.signal);
    } finally {
      this.#call = undefined;
    }
  }

  #start(): void {
    this.#asked = true;
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    // A request made while a round finds nothing to do gets another round.
    while (this.#asked) {
      this.#asked = false;
      while ((await this.#feed()) || (await this.#draw()));
    }
    this.#running = false;
  }

  /** Feeds prompt pieces in turn for as long as one call draws, then draws once. */
  async #feed(): Promise<boolean> {
    if (this.#prompts.size === 0) return false;
    const began = performance.now();
    for (const prompt of [...this.#prompts]) {
      prompt.streams = prompt.streams.filter((stream) => !stream.ended);
      if (prompt.streams.length > 0) await this.#feedPiece(prompt);
      // Moves it behind the others, or drops it.
      this.#prompts.delete(prompt);
      if (prompt.streams.length === 0) continue;
      if (!prompt.fed) this.#prompts.add(prompt);
      else for (const stream of prompt.streams) this.#streams.add(stream.begin(prompt));
      if (performance.now() - began > chunkMilliseconds) break;
    }
    await this.#draw();
    return true;
  }

  async #feedPiece(prompt: Prompt): Promise<void> {
    prompt.takeKnown(this.#prefixes);
    const piece = prompt.piece();
    if (piece.length === 0) return;
    try {
      // The draw is discarded: only the state after the piece matters.
      const began = performance.now();
      const { ids, state } = await this.#sample(prompt.streams, {
        sampling: {},
        ids: piece,
        streams: 1,
        count: 1,
        ...(prompt.state ? { state: prompt.state } : {}),
      });
      if (ids.length < 1) throw stoppedError('generation');
      this.#perFed = (performance.now() - began) / piece.length;
      prompt.advance(state, this.#prefixes);
      this.#fedIds += piece.length;
    } catch (error) {
      for (const stream of prompt.streams) stream.fail(error);
    }
  }

  /** One call for the texts that are being read and share the shape of the one that has waited longest. */
  async #draw(): Promise<boolean> {
    const group: Stream[] = [];
    for (const stream of this.#streams) {
      if (stream.ended) this.#streams.delete(stream);
      else if (stream.ready && group.length < this.#mostStreams && (group[0]?.goesWith(stream) ?? true))
        group.push(stream);
    }
    const [first] = group;
    if (first === undefined) return false;
    for (const stream of group) {
      this.#streams.delete(stream);
      this.#streams.add(stream);
    }
    const most = Math.max(...group.map((stream) => stream.wanted));
    const isNew = group.some((stream) => stream.position === 0);
    const count = isNew ? 1 : Math.max(1, Math.min(maxChunk, most, Math.floor(chunkMilliseconds / this.#perDraw)));
    const rivals = Math.max(...group.map((stream) => stream.rivals ?? -1));
    const began = performance.now();
    try {
      const result = await this.#sample(group, {
        sampling: group.map((stream) => stream.rules()),
        ids: interleave(group.map((stream) => stream.rows)),
        streams: group.length,
        count,
        window: first.window,
        ...(first.window === 0 && first.state ? { state: this.#gather(group) } : {}),
        ...(rivals >= 0 ? { logProbabilities: true, rivals } : {}),
      });
      if (result.ids.length < count * group.length) throw stoppedError('generation');
      this.#perDraw = (performance.now() - began) / count;
      this.#drawnIds += count * group.length;
      this.#drawCalls++;
      const states = first.window === 0 ? this.#scatter(result.state, group.length) : [];
      group.forEach((stream, s) => {
        stream.take(drawnOf(result, s, group.length, count, Math.max(0, rivals)), states[s]);
      });
    } catch (error) {
      for (const stream of group) stream.fail(error);
    }
    return true;
  }

  /** States [L, 2, 1, H] as one [L, 2, S, H]. */
  #gather(group: readonly Stream[]): Float32Array {
    const hidden = this.#hidden;
    const all = new Float32Array(this.#layers * 2 * group.length * hidden);
    group.forEach((stream, s) => {
      for (let row = 0; row < this.#layers * 2; row++) {
        all.set(
          (stream.state as Float32Array).subarray(row * hidden, (row + 1) * hidden),
          (row * group.length + s) * hidden,
        );
      }
    });
    return all;
  }

  #scatter(all: Float32Array, streams: number): Float32Array[] {
    const hidden = this.#hidden;
    return Array.from({ length: streams }, (_, s) => {
      const state = new Float32Array(this.#layers * 2 * hidden);
      for (let row = 0; row < this.#layers * 2; row++) {
        const from = (row * streams + s) * hidden;
        state.set(all.subarray(from, from + hidden), row * hidden);
      }
      return state;
    });
  }
}

/** A prompt being fed to the model, and the texts that wait for it. */
class Prompt {
  readonly ids: Int32Array;
  streams: Stream[];
  /** After `#ends[#done - 1]` ids; absent: zero state. */
  state: Float32Array | undefined;
  /** Where its pieces end; the last id is fed by the first draw. */
  readonly #ends: number[] = [];
  readonly #keys: string[];
  #done = 0;

  constructor(request: SharedRequest, streams: Stream[], pieceLength: number) {
    this.ids = request.prompt;
    this.streams = streams;
    // A window is rerun for every draw, so there is nothing to feed beforehand.
    const end = request.window > 0 ? 0 : request.prompt.length - 1;
    for (let at = 0; at < end; at += pieceLength) this.#ends.push(Math.min(at + pieceLength, end));
    this.#keys = prefixKeys(this.ids, this.#ends);
  }

  get fed(): boolean {
    return this.#done === this.#ends.length;
  }

  /** Starts from the longest prefix whose state is cached. */
  takeKnown(prefixes: PrefixCache): void {
    for (let i = this.#ends.length; i > this.#done; i--) {
      const state = prefixes.get(this.#keys[i - 1] as string);
      if (state === undefined) continue;
      this.state = state;
      this.#done = i;
    }
  }

  /** The ids to feed next; empty once the prompt has been fed. */
  piece(): Int32Array {
    return this.ids.slice(this.#ends[this.#done - 1] ?? 0, this.#ends[this.#done] ?? 0);
  }

  /** Records that the next piece has been fed. */
  advance(state: Float32Array, prefixes: PrefixCache): void {
    prefixes.keep(this.#keys[this.#done++] as string, state);
    this.state = state;
  }
}

/** One text. */
class Stream {
  readonly window: number;
  readonly rivals: number | undefined;
  readonly #sampling: NativeSamplingOptions;
  readonly #wake: () => void;
  #length: number;
  /** What the next call feeds, or cuts its window from. */
  rows = new Int32Array(0);
  /** [L, 2, 1, H]; absent: zero state. */
  state: Float32Array | undefined;
  position = 0;
  ended = false;
  #history = new Int32Array(0);
  #queue: Drawn[] = [];
  #ahead = 0;
  #failure: { reason: unknown } | undefined;
  #heard: (() => void) | undefined;

  constructor(request: SharedRequest, sampling: NativeSamplingOptions, wake: () => void) {
    this.window = request.window;
    this.rivals = request.rivals;
    this.#sampling = sampling;
    this.#length = request.length;
    this.#wake = wake;
    this.ended = request.length === 0;
  }

  /** Whether it may be drawn further: its reader keeps up. */
  get ready(): boolean {
    return this.#ahead < mostAhead;
  }

  /** Number of ids that a call may draw for it. */
  get wanted(): number {
    return Math.min(this.#length - this.position, mostAhead);
  }

  /** Whether one call can serve both: they have the same number of rows, and both have a state or neither has. */
  goesWith(other: Stream): boolean {
    return (
      this.window === other.window &&
      this.rows.length === other.rows.length &&
      (this.state === undefined) === (other.state === undefined)
    );
  }

  /** Starts the text once its prompt has been fed. */
  begin(prompt: Prompt): this {
    this.state = prompt.state;
    this.#keep(prompt.ids);
    return this;
  }

  /** The rules for the next call, with the position in the text. */
  rules(): NativeSamplingOptions {
    return {
      ...this.#sampling,
      position: this.position,
      ...(this.#history.length > 0 ? { history: this.#history } : {}),
    };
  }

  /** Takes what a call drew for it, possibly more than it needs. */
  take(drawn: Drawn, state: Float32Array | undefined): void {
    if (this.ended) return;
    const count = Math.min(drawn.ids.length, this.#length - this.position);
    this.position += count;
    this.state = state;
    this.#keep(concatenate(this.rows, drawn.ids));
    this.#queue.push(this.#cut(drawn, count));
    this.#ahead += count;
    if (this.position >= this.#length) this.ended = true;
    this.#heard?.();
  }

  fail(reason: unknown): void {
    if (this.ended && this.#queue.length === 0 && this.#failure) return;
    this.ended = true;
    this.#failure ??= { reason };
    this.#heard?.();
    this.#wake();
  }

  /** What its reader gets; stopping early ends the text. */
  async *read(closed: () => void): AsyncGenerator<Drawn, void, undefined> {
    try {
      for (;;) {
        if (this.#failure) throw this.#failure.reason;
        const next = this.#queue.shift();
        if (next !== undefined) {
          this.#ahead -= next.ids.length;
          this.#wake();
          yield next;
        } else if (this.ended) {
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#heard = resolve;
          });
        }
      }
    } finally {
      this.ended = true;
      this.#wake(); // The next round drops it.
      closed();
    }
  }

  /** Keeps the rows that the next call needs, and remembers those before, as far as the repetition penalty looks back. */
  #keep(ids: Int32Array): void {
    const cut = Math.max(0, ids.length - Math.max(1, this.window));
    const { repetitionPenalty = 1, penaltyWindow = 64 } = this.#sampling;
    if (repetitionPenalty !== 1) {
      const all = concatenate(this.#history, ids.subarray(0, cut));
      this.#history = all.slice(Math.max(0, all.length - penaltyWindow));
    }
    this.rows = ids.slice(cut);
  }

  /** The first `count` draws, with only what this text's reader asked for. */
  #cut(drawn: Drawn, count: number): Drawn {
    const cut: Drawn = { ids: drawn.ids.subarray(0, count) };
    if (this.rivals === undefined || !drawn.logProbabilities) return cut;
    cut.logProbabilities = drawn.logProbabilities.subarray(0, count);
    if (this.rivals === 0 || !drawn.rivals || !drawn.rivalLogProbabilities) return cut;
    const each = drawn.rivals.length / drawn.ids.length;
    cut.rivals = new Int32Array(count * this.rivals);
    cut.rivalLogProbabilities = new Float32Array(count * this.rivals);
    for (let draw = 0; draw < count; draw++) {
      const from = draw * each;
      cut.rivals.set(drawn.rivals.subarray(from, from + this.rivals), draw * this.rivals);
      cut.rivalLogProbabilities.set(drawn.rivalLogProbabilities.subarray(from, from + this.rivals), draw * this.rivals);
    }
    return cut;
  }
}

/** One stream's part of a call's result. */
function drawnOf(
  result: Awaited<ReturnType<NativeModel['sample']>>,
  stream: number,
  streams: number,
  count: number,
  rivals: number,
): Drawn {
  const draws = { length: count };
  const drawn: Drawn = { ids: column(result.ids.subarray(0, count * streams), stream, streams) };
  const { logProbabilities } = result;
  if (logProbabilities) {
    drawn.logProbabilities = Float32Array.from(draws, (_, draw) => logProbabilities[draw * streams + stream] as number);
  }
  if (rivals > 0 && result.rivals && result.rivalLogProbabilities) {
    drawn.rivals = new Int32Array(count * rivals);
    drawn.rivalLogProbabilities = new Float32Array(count * rivals);
    for (let draw = 0; draw < count; draw++) {
      const from = (draw * streams + stream) * rivals;
      drawn.rivals.set(result.rivals.subarray(from, from + rivals), draw * rivals);
      drawn.rivalLogProbabilities.set(result.rivalLogProbabilities.subarray(from, from + rivals), draw * rivals);
    }
  }
  return drawn;
}
