/**
 * Text from a model, as a stream. The drawing itself runs in native chunks (native/core/sampler.h); this file decides how long
 * they are, carries the state from one to the next, and turns ids into text.
 *
 * Shapes: S streams, L layers, H hidden.
 */
import { Breather } from '../breather';
import type { Vocabulary } from '../corpus/vocabulary';
import type { NativeSamplingOptions } from '../device/native';
import { type QueuedModel, stoppedError } from '../device/queue';
import { DataError } from '../errors';
import { grouped } from '../numbers';
import { type Constraint, type ConstraintMaker, inBoth } from './constraints';
import type { GenerationPlan, ResolvedSampling } from './options';
import { column, concatenate, repeatColumns } from './rows';
import { TextEnd } from './stop';

/**
 * A piece of one of several texts that are drawn together.
 *
 * @category Generating
 */
export interface GeneratedPiece {
  /** Index of the text, from 0. */
  stream: number;
  text: string;
  /** For a model of bytes, the raw bytes. `text` is then the UTF-8 text that they complete, with U+FFFD for invalid bytes. */
  bytes?: Uint8Array;
  /** Set on the last piece of a text: whether the length ended it, or a stop string, a count of lines or sentences, or
   * the pattern. */
  finished?: 'length' | 'stop';
}

/** Where drawing begins when it continues what was read before. */
export interface DrawingStart {
  /** The ids to feed first or, with a window, those that it is cut from. */
  prompt: Int32Array;
  /** The ids before the prompt, for the repetition penalty to look back on. */
  history: Int32Array;
  /** [L, 2, 1, H], the state before the prompt; absent: zero state. */
  state: Float32Array | undefined;
  /** H. */
  hidden: number;
  /** Number of ids drawn before. */
  position: number;
}

/** One generation, with everything resolved. */
export interface Generation extends GenerationPlan {
  /** Ids before the first one drawn, at least one, or a function that returns them. The same for every stream. */
  prompt: Int32Array | (() => Promise<Int32Array>);
  sampling: ResolvedSampling;
  /** What was read before the prompt. */
  begin?: Omit<DrawingStart, 'prompt'> | undefined;
  /** Random stream of the first text; the others use those that follow. Default 0. */
  firstStream?: number | undefined;
  /** Constrains how each text may continue; it is then drawn character by character. */
  constraint?: ConstraintMaker | undefined;
  signal?: AbortSignal | undefined;
}

/** A chunk is at most this many draws, and as many as fit into about this many milliseconds. */
const maxChunk = 64;
const chunkMilliseconds = 40;
/** Prompts are fed in pieces of this many ids, so that an abort need not wait for all of a long one. */
const promptPiece = 512;

/**
 * Draws `generation.streams` texts at once. The first chunk is one draw, for a short wait; later ones grow to 64. What is
 * drawn does not depend on the chunks. No piece splits a code point.
 *
 * @throws The signal's reason when it is aborted; nothing is drawn after that.
 */
export async function* generatePieces(
  native: Pick<QueuedModel, 'sample'>,
  vocabulary: Vocabulary,
  generation: Generation,
): AsyncGenerator<GeneratedPiece, void, undefined> {
  const { streams, length, signal } = generation;
  const texts = Array.from({ length: streams }, () => new TextEnd(generation));
  const running = new Set(texts.keys());
  signal?.throwIfAborted();
  const { prompt } = generation;
  const ids = typeof prompt === 'function' ? await prompt() : prompt;
  const drawer = new Drawer(native, generation, ids, writable(vocabulary));
  await drawer.feedPrompt();
  for (const stream of drawer.overAlready()) {
    running.delete(stream);
    drawer.end(stream);
    yield { stream, text: '', finished: 'stop' };
  }
  let chunk = 1;
  for (let drawn = 0; drawn < length && running.size > 0; ) {
    const count = Math.min(chunk, length - drawn);
    const started = performance.now();
    const ids = await drawer.draw(count);
    signal?.throwIfAborted();
    const perDraw = (performance.now() - started) / count;
    if (!generation.constraint)
      chunk = Math.max(1, Math.min(maxChunk, chunk * 4, Math.floor(chunkMilliseconds / perDraw)));
    drawn += count;
    for (const stream of running) {
      const text = texts[stream] as TextEnd;
      const end = drawer.ends[stream];
      const piece = text.push(end === 'before' ? '' : vocabulary.decode(column(ids, stream, streams)));
      if (piece.stopped || end) {
        running.delete(stream);
        drawer.end(stream);
        yield { stream, text: piece.stopped ? piece.text : piece.text + text.end(), finished: 'stop' };
      } else if (drawn >= length) {
        yield { stream, text: piece.text + text.end(), finished: 'length' };
      } else if (piece.text !== '') {
        yield { stream, text: piece.text };
      }
      signal?.throwIfAborted();
    }
  }
  if (length === 0) for (const stream of running) yield { stream, text: '', finished: 'length' };
}

/** The symbol that a text without a prompt follows: a line break, else a space, else the first symbol. */
export function startId(vocabulary: Vocabulary): number {
  return vocabulary.idOf('\n') ?? vocabulary.idOf(' ') ?? 0;
}

/**
 * The ids of a prompt, or of a text to score, with what they follow: a model of single lines begins a line at the symbol that ends one,
 * which may already be there.
 */
export function fromBeginning(ids: Int32Array, vocabulary: Vocabulary, resetId: number | undefined): Int32Array {
  if (resetId !== undefined && ids[0] !== resetId) return concatenate(Int32Array.of(resetId), ids);
  return ids.length > 0 ? ids : Int32Array.of(startId(vocabulary));
}

/** All symbols but the unknown one, which is never written; empty if there is no unknown symbol: all may be written. */
export function writable({ size, unknownId }: Pick<Vocabulary, 'size' | 'unknownId'>): { allowed?: Int32Array } {
  if (unknownId === undefined || size === 1) return {};
  return { allowed: Int32Array.from({ length: size - 1 }, (_, i) => (i < unknownId ? i : i + 1)) };
}

/** Keeps what a chunk needs from those before it. */
class Drawer {
  readonly #native: Pick<QueuedModel, 'sample'>;
  readonly #generation: Generation;
  readonly #streams: number;
  /** The part of the prompt that has yet to be fed. */
  #pending: Int32Array;
  /** Rows [n, S] that the next call feeds, or cuts its window from. */
  #ids: Int32Array;
  /** Rows [m, S] before those, for the repetition penalty. */
  #history = new Int32Array(0);
  #state: Float32Array | undefined;
  #position = 0;
  readonly #written: { allowed?: Int32Array };
  readonly #constraints: Constraint[] | undefined;
  /** The constraints are queried for what may be thousands of texts. */
  readonly #breather = new Breather();
  /** Per stream, how the last id drawn ends its text. */
  readonly ends: ('before' | 'after' | undefined)[] = [];

  constructor(
    native: Pick<QueuedModel, 'sample'>,
    generation: Generation,
    prompt: Int32Array,
    written: { allowed?: Int32Array },
  ) {
    this.#written = written;
    this.#native = native;
    this.#generation = generation;
    this.#streams = generation.streams;
    const { constraint } = generation;
    this.#constraints = constraint && Array.from({ length: generation.streams }, constraint);
    this.#ids = new Int32Array(0);
    this.#pending = prompt;
    const { window, sampling, begin, streams } = generation;
    if (begin) {
      this.#position = begin.position;
      this.#state = begin.state && repeatRows(begin.state, begin.hidden, streams);
      this.#remember(repeatColumns(begin.history, streams));
    }
    if (window === 0) return;
    // Only the end of the prompt is looked at.
    const first = Math.max(0, prompt.length - window - (sampling.repetitionPenalty === 1 ? 0 : sampling.penaltyWindow));
    this.#ids = repeatColumns(prompt.subarray(first), generation.streams);
    this.#pending = new Int32Array(0);
    this.#split(window);
  }

  /** If the state is carried, feeds all but the last piece of the prompt; a window needs no feeding. */
  async feedPrompt(): Promise<void> {
    while (this.#pending.length > promptPiece) {
      this.#ids = this.#take(promptPiece);
      await this.#call(1); // The draw is discarded: only the state after the piece matters.
      this.#remember(this.#ids);
      this.#generation.signal?.throwIfAborted();
    }
    if (this.#pending.length > 0) this.#ids = this.#take(this.#pending.length);
  }

  #take(count: number): Int32Array {
    const rows = repeatColumns(this.#pending.subarray(0, count), this.#streams);
    this.#pending = this.#pending.subarray(count);
    return rows;
  }

  /** Draws `count` ids per stream: [count, S]. */
  async draw(count: number): Promise<Int32Array> {
    const drawn = await this.#call(count);
    for (const [i, id] of (this.#constraints ? drawn : []).entries()) {
      this.ends[i % this.#streams] = this.#constraints?.[i % this.#streams]?.push(id);
      if (this.#breather.due()) await this.#breather.rest();
    }
    const all = concatenate(this.#ids, drawn);
    this.#ids = all;
    this.#split(Math.max(1, this.#generation.window));
    this.#position += count;
    return drawn;
  }

  async #call(count: number): Promise<Int32Array> {
    const { window, signal } = this.#generation;
    const result = await this.#native.sample(
      {
        sampling: await this.#sampling(),
        ids: this.#ids,
        streams: this.#streams,
        count,
        window,
        ...(this.#state && window === 0 ? { state: this.#state } : {}),
      },
      signal,
    );
    if (result.ids.length < count * this.#streams) throw stoppedError('generation');
    this.#state = result.state;
    return result.ids;
  }

  /** One object for all streams if they differ only in their random stream; otherwise, as when the penalty looks back, one for each. */
  async #sampling(): Promise<NativeSamplingOptions | NativeSamplingOptions[]> {
    const { sampling, firstStream = 0 } = this.#generation;
    const common = { ...sampling, ...this.#written, stream: firstStream, position: this.#position };
    if (this.#history.length === 0 && !this.#constraints) return common;
    const rules: NativeSamplingOptions[] = [];
    for (let stream = 0; stream < this.#streams; stream++) {
      rules.push({
        ...common,
        stream: firstStream + stream,
        ...(this.#history.length > 0 ? { history: column(this.#history, stream, this.#streams) } : {}),
        ...this.#allowed(stream),
      });
      if (this.#breather.due()) await this.#breather.rest();
    }
    return rules;
  }

  /** Marks a text as over: what is drawn for it is ignored. */
  end(stream: number): void {
    if (this.#constraints) this.#constraints[stream] = { allowed: () => undefined, push: () => undefined };
  }

  /** The streams whose text is over before anything is drawn. */
  overAlready(): number[] {
    return (this.#constraints ?? []).flatMap(({ ended }, stream) => (ended ? [stream] : []));
  }

  #allowed(stream: number): { allowed?: Int32Array } {
    const asked = this.#constraints?.[stream]?.allowed();
    const written = this.#written.allowed;
    const allowed = asked && written ? inBoth(asked, written) : asked;
    if (allowed?.length === 0) {
      throw new DataError(
        `after ${grouped(this.#position)} characters nothing is left that may be written; allow more`,
      );
    }
    return allowed ? { allowed } : {};
  }

  /** Keeps the last `rows` rows to be fed, and remembers those before them. */
  #split(rows: number): void {
    const cut = Math.max(0, this.#ids.length - rows * this.#streams);
    this.#remember(this.#ids.subarray(0, cut));
    this.#ids = this.#ids.slice(cut);
  }

  #remember(rows: Int32Array): void {
    const { repetitionPenalty, penaltyWindow } = this.#generation.sampling;
    if (repetitionPenalty === 1) return;
    const all = concatenate(this.#history, rows);
    this.#history = all.slice(Math.max(0, all.length - penaltyWindow * this.#streams));
  }
}

/** Rows of `length` values, each repeated once per stream. */
function repeatRows(values: Float32Array, length: number, streams: number): Float32Array {
  const all = new Float32Array(values.length * streams);
  for (let from = 0; from < values.length; from += length) {
    const row = values.subarray(from, from + length);
    for (let stream = 0; stream < streams; stream++) all.set(row, from * streams + stream * length);
  }
  return all;
}
