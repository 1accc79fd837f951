/**
 * Several models as one: at each place the weighted mean of their probabilities, over the symbols that all of them know. Each model's
 * probabilities are taken over those symbols, so that they sum to 1.
 *
 * Shapes: n rows, S streams, V symbols of the mixture, L layers and H hidden of a model. A mixture's state is [1, 2, S, sum of L H]: all
 * models' h, then all models' c.
 */
import {
  loadNative,
  type NativeEvaluateCall,
  type NativeSampleCall,
  type NativeSampleResult,
  type NativeSamplingOptions,
} from '../device/native';
import { type QueuedModel, SerialQueue, stoppedError } from '../device/queue';
import { CudnnLstmError, exitCodes, UsageError } from '../errors';
import { likeliest } from '../scoring/inspect';
import { column } from './rows';

/** A model of a mixture. */
export interface MixedModel {
  native: QueuedModel;
  /** Weight in the mixture; those of all models sum to 1. */
  share: number;
  /** [V]: this model's ids of the mixture's symbols. */
  ids: Int32Array;
  vocabulary: number;
  layers: number;
  hidden: number;
}

/** The most logits that a call to a model returns, unless a single row has more. */
const logitsPerCall = 1 << 18;

/** The mixture's logits for rows [n, S], and the states after the last row. */
interface Read {
  /** [n, S, V], or [S, V] for the last row alone. */
  logits: Float32Array;
  /** Per row, by how much the logits exceed the logarithms of the probabilities. */
  shifts: Float64Array;
  /** One per model, [L, 2, S, H]. */
  states: Float32Array[];
}

/**
 * A model that mixes others, with the calls of a model on a device; it has no weights of its own to read, write or train. It uses the
 * models but does not dispose of them.
 */
export class Mixture implements QueuedModel {
  readonly #models: readonly MixedModel[];
  readonly #symbols: number;
  readonly #evaluations = new SerialQueue();
  #evaluation: { batch: number; states: Float32Array[] } | undefined;
  #disposed = false;
  readonly parameters = [];
  readonly stepCount = 0;

  constructor(models: readonly MixedModel[]) {
    this.#models = models;
    this.#symbols = (models[0] as MixedModel).ids.length;
  }

  get parameterCount(): number {
    return this.#sum((native) => native.parameterCount);
  }

  get hostBytes(): number {
    return this.#sum((native) => native.hostBytes);
  }

  get deviceBytes(): number {
    return this.#sum((native) => native.deviceBytes);
  }

  get description(): string {
    return this.#models
      .map(({ native, share }) => `${share.toFixed(2)} of a model on ${native.description}`)
      .join(', ');
  }

  async sample(call: NativeSampleCall, signal?: AbortSignal): Promise<NativeSampleResult> {
    const { streams, count, window = 0, sampling, rivals = 0 } = call;
    const V = this.#symbols;
    const drawn = new Int32Array(count * streams);
    const wanted = call.logProbabilities || rivals > 0;
    const told = {
      logProbabilities: new Float32Array(wanted ? count * streams : 0),
      rivals: new Int32Array(count * streams * rivals),
      rivalLogProbabilities: new Float32Array(count * streams * rivals),
    };
    let states = call.state && window === 0 ? this.#split(call.state, streams) : undefined;
    // The call's ids, then those drawn; a window and the penalty look back on both.
    const seen = new Int32Array(call.ids.length + drawn.length);
    seen.set(call.ids);
    for (let draw = 0; draw < count; draw++) {
      const end = call.ids.length + draw * streams;
      const from = window > 0 ? Math.max(0, end - window * streams) : draw === 0 ? 0 : end - streams;
      const read = await this.#read(seen.subarray(from, end), streams, window > 0 ? undefined : states, 'last', signal);
      states = read.states;
      const rules = Array.from({ length: streams }, (_, stream) =>
        rulesAt(sampling, stream, draw, seen.subarray(0, end), streams),
      );
      const ids = loadNative().draw({ logits: read.logits, streams, sampling: rules });
      drawn.set(ids, draw * streams);
      seen.set(ids, end);
      for (let stream = 0; wanted && stream < streams; stream++) {
        const row = read.logits.subarray(stream * V, (stream + 1) * V);
        const shift = read.shifts[stream] as number;
        const at = draw * streams + stream;
        told.logProbabilities[at] = (row[ids[stream] as number] as number) - shift;
        for (const [rank, id] of (rivals > 0 ? likeliest(row, rivals) : []).entries()) {
          told.rivals[at * rivals + rank] = id;
          told.rivalLogProbabilities[at * rivals + rank] = (row[id] as number) - shift;
        }
      }
    }
    const state = this.#join(states ?? this.#zero(streams), streams);
    return { ids: drawn, state, ...(wanted ? told : {}) };
  }

  async logits(
    call: { ids: Int32Array; streams: number; state?: Float32Array },
    signal?: AbortSignal,
  ): Promise<Float32Array> {
    const states = call.state && this.#split(call.state, call.streams);
    return (await this.#read(call.ids, call.streams, states, 'all', signal)).logits;
  }

  async evaluate(call: NativeEvaluateCall, signal?: AbortSignal): Promise<Float32Array> {
    const { ids, steps, batch, target, carryState, dropout } = call;
    if (dropout) throw new UsageError('A mixture is scored with dropout off: score its models one by one.');
    const before = carryState && this.#evaluation?.batch === batch ? this.#evaluation.states : undefined;
    const read = await this.#read(ids.subarray(0, steps * batch), batch, before, 'all', signal);
    if (carryState) this.#evaluation = { batch, states: read.states };
    const nats = Float32Array.from(
      { length: steps * batch },
      (_, i) => (read.shifts[i] as number) - (read.logits[i * this.#symbols + (ids[batch + i] as number)] as number),
    );
    return target === 'last' ? nats.slice((steps - 1) * batch) : nats;
  }

  resetEvaluationState(): void {
    this.#evaluation = undefined;
  }

  evaluationSequence<T>(job: () => Promise<T>): Promise<T> {
    return this.#evaluations.run(job);
  }

  async whenIdle<T>(job: (model: QueuedModel) => T | Promise<T>): Promise<T> {
    return job(this);
  }

  resetTrainingState(): void {}

  stop(): void {
    for (const { native } of this.#models) native.stop();
  }

  dispose(): void {
    this.#disposed = true;
  }

  async initialize(): Promise<void> {
    refuseWeights();
  }

  async trainSteps(): Promise<never> {
    return refuseWeights();
  }

  read(): never {
    return refuseWeights();
  }

  write(): never {
    return refuseWeights();
  }

  #sum(of: (native: QueuedModel) => number): number {
    return [...new Set(this.#models.map(({ native }) => native))].reduce((sum, native) => sum + of(native), 0);
  }

  /** Feeds rows [n, S] to all models, each in pieces. */
  async #read(
    ids: Int32Array,
    streams: number,
    states: readonly Float32Array[] | undefined,
    rows: 'all' | 'last',
    signal: AbortSignal | undefined,
  ): Promise<Read> {
    const V = this.#symbols;
    const count = ids.length / streams;
    const largest = Math.max(...this.#models.map(({ vocabulary }) => vocabulary));
    const perCall = Math.max(1, Math.floor(logitsPerCall / (largest * streams)));
    const told = (rows === 'all' ? count : 1) * streams;
    const all = new Float32Array(told * V);
    const shifts = new Float64Array(told);
    let after = states;
    for (let from = 0; from < count; from += perCall) {
      const piece = ids.subarray(from * streams, Math.min(count, from + perCall) * streams);
      if (this.#disposed) throw disposedError();
      const read = await Promise.all(this.#models.map((model, i) => feed(model, piece, streams, after?.[i], signal)));
      signal?.throwIfAborted();
      after = read.map(({ state }) => state);
      const logits = read.map((each) => each.logits);
      const [first, to] = rows === 'all' ? [0, from * streams] : [piece.length - streams, 0];
      if (rows === 'last' && from + perCall < count) continue;
      for (let i = first; i < piece.length; i++) {
        const at = to + i - first;
        shifts[at] = this.#mix(logits, i, all.subarray(at * V, (at + 1) * V));
      }
    }
    return { logits: all, shifts, states: [...(after as readonly Float32Array[])] };
  }

  /**
   * The mixture's logits [V] from row `at` of each model's. They exceed the logarithms of the probabilities by the mean of what the models'
   * logits do, so that the repetition penalty, a rule on logits, sees those of a single model unchanged.
   *
   * @returns That mean.
   */
  #mix(logits: readonly Float32Array[], at: number, to: Float32Array): number {
    const models = this.#models.map(({ ids, share, vocabulary }, m) => {
      const row = (logits[m] as Float32Array).subarray(at * vocabulary);
      const total = logOfSum(row, ids);
      return { row, ids, share, total, shift: Math.log(share) - total };
    });
    const mean = models.reduce((sum, { share, total }) => sum + share * total, 0);
    const terms = new Float64Array(models.length);
    for (let v = 0; v < to.length; v++) {
      let largest = Number.NEGATIVE_INFINITY;
      for (const [m, { row, ids, shift }] of models.entries()) {
        terms[m] = (row[ids[v] as number] as number) + shift;
        largest = Math.max(largest, terms[m] as number);
      }
      let sum = 0;
      for (const term of terms) sum += Math.exp(term - largest);
      to[v] = mean + largest + Math.log(sum);
    }
    return mean;
  }

  #zero(streams: number): Float32Array[] {
    return this.#models.map(({ layers, hidden }) => new Float32Array(layers * 2 * streams * hidden));
  }

  #split(state: Float32Array, streams: number): Float32Array[] {
    const states = this.#zero(streams);
    this.#eachRow(streams, (model, own, whole, hidden) => {
      (states[model] as Float32Array).set(state.subarray(whole, whole + hidden), own);
    });
    return states;
  }

  #join(states: readonly Float32Array[], streams: number): Float32Array {
    const state = new Float32Array(states.reduce((sum, { length }) => sum + length, 0));
    this.#eachRow(streams, (model, own, whole, hidden) => {
      state.set((states[model] as Float32Array).subarray(own, own + hidden), whole);
    });
    return state;
  }

  /** Where each model's rows of H values lie, in its own state and in the mixture's. */
  #eachRow(streams: number, visit: (model: number, own: number, whole: number, hidden: number) => void): void {
    const width = this.#models.reduce((sum, { layers, hidden }) => sum + layers * hidden, 0);
    let before = 0;
    for (const [model, { layers, hidden }] of this.#models.entries()) {
      for (let layer = 0; layer < layers; layer++, before += hidden) {
        for (const part of [0, 1]) {
          for (let stream = 0; stream < streams; stream++) {
            const own = ((2 * layer + part) * streams + stream) * hidden;
            visit(model, own, (part * streams + stream) * width + before, hidden);
          }
        }
      }
    }
  }
}

/** A model's logits [n, S, its V] for the mixture's ids [n, S], and the state after them. */
async function feed(
  { native, ids: names, vocabulary }: MixedModel,
  ids: Int32Array,
  streams: number,
  state: Float32Array | undefined,
  signal: AbortSignal | undefined,
): Promise<{ logits: Float32Array; state: Float32Array }> {
  const own = ids.map((id) => names[id] as number);
  return native.whenIdle(async (model) => {
    const logits = await model.logits({ ids: own, streams, ...(state ? { state } : {}) });
    if (logits.length < ids.length * vocabulary) throw stoppedError('call of a mixture');
    return { logits, state: model.read('streamState') };
  }, signal);
}

/** Logarithm of the sum of the exponentials of a row's values at `ids`. */
function logOfSum(row: Float32Array, ids: Int32Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (const id of ids) largest = Math.max(largest, row[id] as number);
  let sum = 0;
  for (const id of ids) sum += Math.exp((row[id] as number) - largest);
  return largest + Math.log(sum);
}

/** The rules of one draw of a stream. @param seen [n, S]. */
function rulesAt(
  sampling: NativeSampleCall['sampling'],
  stream: number,
  draw: number,
  seen: Int32Array,
  streams: number,
): NativeSamplingOptions {
  const one = Array.isArray(sampling) ? undefined : (sampling as NativeSamplingOptions);
  const options = one
    ? { ...one, stream: (one.stream ?? 0) + stream }
    : ((sampling as readonly NativeSamplingOptions[])[stream] as NativeSamplingOptions);
  const { history, ...rules } = { ...options, position: (options.position ?? 0) + draw };
  const { repetitionPenalty = 1, penaltyWindow = 64 } = rules;
  if (repetitionPenalty === 1 || penaltyWindow === 0) return rules;
  const recent = column(seen.subarray(-penaltyWindow * streams), stream, streams);
  const before = history?.subarray(Math.max(0, history.length + recent.length - penaltyWindow)) ?? [];
  return { ...rules, history: Int32Array.of(...before, ...recent) };
}

function refuseWeights(): never {
  throw new UsageError('A mixture has no weights of its own: save, train and export the models that it is made of.');
}

function disposedError(): CudnnLstmError {
  return new CudnnLstmError('ERR_DISPOSED', 'The mixture was disposed of.', exitCodes.runtime);
}
