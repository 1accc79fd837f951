/**
 * A text that its user extends: what was read stays in the model's state, so that each further character costs one step, however long the
 * text is.
 *
 * Shapes: L layers, H hidden.
 */
import { instanceOf, optionsOf, pathOf, signalOf, textOf, wholeOf } from '../arguments';
import { SafetensorsFile, writeSafetensors } from '../checkpoint/safetensors';
import type { Vocabulary } from '../corpus/vocabulary';
import { type QueuedModel, SerialQueue, stoppedError } from '../device/queue';
import { CheckpointError, CudnnLstmError, exitCodes, UsageError } from '../errors';
import { harmless } from '../harmless';
import type { Rival } from '../scoring/inspect';
import { type DrawingStart, fromBeginning, type GeneratedPiece } from './generate';
import type { GenerateOptions } from './options';
import { concatenate } from './rows';

/**
 * Options of {@link Session.draw} and {@link Session.propose}.
 *
 * @category Generating
 */
export type SessionDrawOptions = Omit<GenerateOptions, 'prompt' | 'unknown' | 'window'>;

/**
 * A text that a session proposes.
 *
 * @category Generating
 */
export interface Proposal {
  text: string;
  /** What ended it: the length, or a stop string, a count of lines or sentences, or the pattern. */
  finished: 'length' | 'stop';
}

/** What a session needs from its model. */
export interface SessionModel {
  readonly native: Pick<QueuedModel, 'sample'>;
  readonly vocabulary: Vocabulary;
  readonly layers: number;
  readonly hidden: number;
  readonly resetId: number | undefined;
  /** Number of ids that each draw looks back on; 0: the state is carried. */
  readonly window: number;
  encode(text: string, unknown: 'error' | 'skip', signal: AbortSignal | undefined): Promise<Int32Array>;
  /** @param call The method that received the options. */
  generate(
    count: number,
    options: SessionDrawOptions,
    from: DrawingStart,
    call: 'draw' | 'propose',
  ): AsyncIterable<GeneratedPiece>;
  /** A hash of weights and vocabulary. */
  identify(): Promise<string>;
}

/** Where a session stands. Immutable, so that marks and forks can share it. */
interface Place {
  /** [L, 2, 1, H], after all ids but the last; absent: zero state. */
  readonly state: Float32Array | undefined;
  /** The last ids, at least one: before the first character, the symbol that texts begin after. */
  readonly ids: Int32Array;
  /** Characters read and drawn. */
  readonly characters: number;
  readonly drawn: number;
}

/** Characters that a session remembers as text; those before them are in its state alone. */
export const mostRemembered = 65_536;
/** Ids per call, so that an abort need not wait for all of a long text. */
const idsPerCall = 512;

let placeOf: (mark: SessionMark) => Place;
let ownerOf: (mark: SessionMark) => SessionModel;

/**
 * A place in a text that a session can go back to: {@link Session.mark}.
 *
 * @category Generating
 */
export class SessionMark {
  readonly #place: Place;
  readonly #model: SessionModel;

  static {
    placeOf = (mark) => mark.#place;
    ownerOf = (mark) => mark.#model;
  }

  /** Used by sessions. */
  constructor(place: unknown, model: unknown) {
    this.#place = place as Place;
    this.#model = model as SessionModel;
  }

  /** Characters of the text up to here. */
  get length(): number {
    return this.#place.characters;
  }
}

/**
 * A text in the making: read some, look at what may come next, draw, go back, branch. Created by `LanguageModel.session`; it keeps one
 * state and the last 65,536 characters in memory. Its calls wait for one another.
 *
 * @category Generating
 */
export class Session implements Disposable {
  readonly #model: SessionModel;
  readonly #queue = new SerialQueue();
  #place: Place;
  #disposed = false;

  private constructor(model: SessionModel, place: Place) {
    this.#model = model;
    this.#place = place;
  }

  /** Used by models. */
  static begin(model: SessionModel): Session {
    const ids = fromBeginning(new Int32Array(0), model.vocabulary, model.resetId);
    return new Session(model, { state: undefined, ids, characters: 0, drawn: 0 });
  }

  /** The text, normalised as the model's corpus was; only the last 65,536 characters of a longer one. */
  get text(): string {
    const { ids, characters } = this.#at();
    return this.#model.vocabulary.decode(ids.subarray(Math.max(0, ids.length - characters)));
  }

  /** Characters of the whole text. */
  get length(): number {
    return this.#at().characters;
  }

  /**
   * Reads more text from where the session stands.
   *
   * @param options `unknown`: what to do about a character that the model does not know, by default throw an error that names it.
   * @throws DataError if it has characters that the model does not know; nothing is read then.
   */
  feed(
    text: string,
    options: { unknown?: 'error' | 'skip' | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    return this.#inTurn(async () => {
      const { unknown = 'error', signal } = optionsOf<NonNullable<typeof options>>(
        'options',
        options,
        {
          unknown: (what, value) => {
            if (value === 'error' || value === 'skip') return value;
            throw new UsageError(`${what} must be 'error' or 'skip'.`);
          },
          signal: signalOf,
        },
        'feed',
      );
      await this.#read(await this.#model.encode(textOf('text', text), unknown, signal), 0, signal);
    });
  }

  /**
   * The likeliest next characters, likeliest first, with their probabilities: the model's own, before any rule. There are 5 unless `count`
   * says otherwise; a `count` of the vocabulary's size gives all, and these sum to 1.
   */
  peek(count = 5, options: { signal?: AbortSignal | undefined } = {}): Promise<Rival[]> {
    return this.#inTurn(async () => {
      const { native, vocabulary, window } = this.#model;
      const most = Math.min(wholeOf('count', count, 1), vocabulary.size);
      const { signal } = optionsOf<{ signal?: AbortSignal | undefined }>(
        'options',
        options,
        { signal: signalOf },
        'peek',
      );
      const { prompt, state } = this.#start();
      const { rivals, rivalLogProbabilities } = await native.sample(
        {
          ...{ ids: prompt, streams: 1, count: 1, window, sampling: { greedy: true } },
          ...{ logProbabilities: true, rivals: most, ...(state ? { state } : {}) },
        },
        signal,
      );
      if (rivals?.length !== most || rivalLogProbabilities === undefined) throw stoppedError('session');
      return Array.from(rivals, (id, rank) => ({
        character: vocabulary.symbols[id] as string,
        probability: Math.exp(rivalLogProbabilities[rank] as number),
      }));
    });
  }

  /**
   * Draws a text, by default of 500 characters, and moves past it. Several calls with one seed draw what a single call draws.
   *
   * @throws As `LanguageModel.generate`; the session then stays where it was.
   */
  draw(options: SessionDrawOptions = {}): Promise<string> {
    return this.#inTurn(async () => {
      const [proposal] = await this.#propose(1, options, 'draw');
      const { text } = proposal as Proposal;
      const ids = this.#model.vocabulary.encode(text);
      await this.#read(ids, ids.length, options.signal);
      return text;
    });
  }

  /**
   * Draws several possible continuations side by side, and stays where it is: {@link Session.feed} takes one.
   *
   * @param count 1 to 4,096.
   */
  propose(count: number, options: SessionDrawOptions = {}): Promise<Proposal[]> {
    return this.#inTurn(() => this.#propose(wholeOf('count', count, 1, 4096), options, 'propose'));
  }

  /** This place, for {@link Session.rewind}. It takes as much memory as a session. */
  mark(): SessionMark {
    return new SessionMark(this.#settled('mark'), this.#model);
  }

  /**
   * Goes to a marked place, of the same session or of another one of the model.
   *
   * @throws UsageError for a mark of another model.
   */
  rewind(mark: SessionMark): void {
    this.#settled('rewind');
    instanceOf('mark', mark, SessionMark, 'what mark() gives');
    if (ownerOf(mark).native !== this.#model.native) throw new UsageError('mark is of another model.');
    this.#place = placeOf(mark);
  }

  /** Another session that starts where this one stands and goes its own way from there. */
  fork(): Session {
    return new Session(this.#model, this.#settled('fork'));
  }

  /**
   * Writes the session atomically to a safetensors file: the state, the last 65,536 characters, and a hash of the model, which itself is
   * not included. `LanguageModel.loadSession` reads it.
   *
   * @throws DiskError without space or permission.
   */
  save(path: string): Promise<void> {
    return this.#inTurn(async () => {
      pathOf('path', path);
      const { layers, hidden } = this.#model;
      const { state, ids, characters, drawn } = this.#place;
      const data = state ?? new Float32Array(layers * 2 * hidden);
      await writeSafetensors(path, [{ name: 'state', shape: [layers, 2, hidden], data }], {
        format: fileFormat,
        formatVersion: '1',
        model: await this.#model.identify(),
        characters: String(characters),
        drawn: String(drawn),
        // Whether the ids begin with the symbol that texts begin after.
        led: String(ids.length > characters ? 1 : 0),
        text: this.text,
      });
    });
  }

  /** Used by models. @throws CheckpointError if it is not a session, or one of another model. */
  static async load(model: SessionModel, path: string): Promise<Session> {
    const file = await SafetensorsFile.open(pathOf('path', path));
    try {
      return new Session(model, await readPlace(model, file));
    } finally {
      await file.close();
    }
  }

  /** Whether {@link dispose} was called. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** Releases the state. The model stays, and so do marks and forks. Idempotent; later calls fail with ERR_DISPOSED. */
  dispose(): void {
    this.#disposed = true;
    this.#place = { ...this.#place, state: undefined, ids: new Int32Array(0) };
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #at(): Place {
    if (this.#disposed) throw new CudnnLstmError('ERR_DISPOSED', 'The session was disposed of.', exitCodes.runtime);
    return this.#place;
  }

  #settled(what: string): Place {
    if (!this.#queue.idle) throw new UsageError(`${what} asks where the session is: wait for its other calls first.`);
    return this.#at();
  }

  #inTurn<T>(job: () => Promise<T>): Promise<T> {
    return this.#queue.run(() => {
      this.#at();
      return job();
    });
  }

  /** What the next call feeds, and what came before it. */
  #start(): DrawingStart {
    const { state, ids, drawn } = this.#place;
    const { window } = this.#model;
    const cut = Math.max(0, ids.length - Math.max(1, window));
    return {
      prompt: ids.slice(cut),
      history: ids.slice(0, cut),
      state: window > 0 ? undefined : state,
      hidden: this.#model.hidden,
      position: drawn,
    };
  }

  async #propose(count: number, options: SessionDrawOptions, call: 'draw' | 'propose'): Promise<Proposal[]> {
    const proposals = Array.from({ length: count }, (): Proposal => ({ text: '', finished: 'length' }));
    for await (const { stream, text, finished } of this.#model.generate(count, options, this.#start(), call)) {
      const proposal = proposals[stream] as Proposal;
      proposal.text += text;
      if (finished) proposal.finished = finished;
    }
    return proposals;
  }

  /** @param drawn How many of the ids were drawn. */
  async #read(ids: Int32Array, drawn: number, signal: AbortSignal | undefined): Promise<void> {
    if (ids.length === 0) return;
    const { native, vocabulary, resetId, window } = this.#model;
    const before = this.#place;
    // Only a drawn text follows the symbol that texts begin after: one that is read begins the text itself.
    const begins = before.characters === 0 && drawn === 0;
    const known = begins ? fromBeginning(ids, vocabulary, resetId) : concatenate(before.ids, ids);
    const unread = begins ? known : known.subarray(before.ids.length - 1);
    let { state } = begins ? { state: undefined } : before;
    const end = unread.length - 1;
    for (let from = 0; window === 0 && from < end; from += idsPerCall) {
      const fed = await native.sample(
        {
          ...{ ids: unread.slice(from, Math.min(end, from + idsPerCall)), streams: 1, count: 1 },
          ...{ sampling: { greedy: true }, ...(state ? { state } : {}) },
        },
        signal,
      );
      if (fed.ids.length < 1) throw stoppedError('session');
      state = fed.state;
    }
    this.#at();
    this.#place = {
      state,
      ids: known.slice(Math.max(0, known.length - mostRemembered)),
      characters: before.characters + ids.length,
      drawn: before.drawn + drawn,
    };
  }
}

const fileFormat = 'cudnn-lstm session';

async function readPlace(model: SessionModel, file: SafetensorsFile): Promise<Place> {
  const { layers, hidden, vocabulary, resetId, window } = model;
  const refuse = (problem: string): never => {
    throw new CheckpointError(harmless(`${file.path} is not a usable session: ${problem}`));
  };
  const { format, formatVersion, characters, drawn, led, text = '', ...others } = file.metadata;
  if (format !== fileFormat) refuse('it is a safetensors file, but not of a session');
  if (formatVersion !== '1') refuse('it has another format version than 1, which this package reads: update it');
  if (others.model !== (await model.identify()))
    refuse(
      'it is of another model, or of the same one before it was trained further: load the model that it was saved with',
    );
  const shape = [layers, 2, hidden];
  if (
    file.names.join() !== 'state' ||
    String(file.shapeOf('state')) !== String(shape) ||
    file.typeOf('state') !== 'F32'
  )
    refuse(`it does not hold a state of the shape [${shape.join(', ')}], and that alone`);
  const state = new Float32Array(layers * 2 * hidden);
  await file.readAll(() => (values, index) => state.set(values, index));
  const [read = 0, made = 0, before = 0] = [characters, drawn, led].map((digits) => {
    return /^\d{1,15}$/.test(digits ?? '') ? Number(digits) : refuse('it does not say how long its text is');
  });
  if ([...text].some((symbol) => vocabulary.idOf(symbol) === undefined))
    refuse('its text has characters that the model does not know');
  const ids = vocabulary.encode(text);
  if (ids.length !== Math.min(read, mostRemembered) || made > read || before > 1 || (before === 0 && read === 0))
    refuse('its text is not as long as it says');
  const start = fromBeginning(new Int32Array(0), vocabulary, resetId);
  return {
    state: window > 0 || read === 0 ? undefined : state,
    ids: before === 1 ? concatenate(start, ids) : ids,
    characters: read,
    drawn: made,
  };
}
