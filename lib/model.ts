/**
 * A character-level LSTM language model: its weights on a device, its vocabulary, and what can be done with them. The commands
 * are thin layers over this class and the trainer.
 */
import { createHash } from 'node:crypto';
import { instanceOf, listOf, looking, numberOf, optionsOf, show, signalOf, textOf, wholeOf } from './arguments';
import {
  CheckpointFile,
  type CheckpointMetadata,
  type CorpusRecord,
  type ModelShape,
  saveCheckpoint,
  vocabularyOf,
} from './checkpoint/checkpoint';
import { contradictionIn } from './checkpoint/contradictions';
import { canonicalLayout, checkShape, layoutSize } from './checkpoint/layout';
import { resolveCheckpoint } from './checkpoint/run-directory';
import { roundModel } from './checkpoint/weight-form';
import { fromByteString, toByteString, Utf8Reader } from './corpus/bytes';
import { type CorpusInput, openCorpus } from './corpus/corpus';
import { asItIs, encodeText, encodeTexts, pieceUnits, type TextEncoding } from './corpus/encode';
import { type Normalization, normalizeText } from './corpus/normalization';
import { TextIndex } from './corpus/text-index';
import { Vocabulary } from './corpus/vocabulary';
import { chooseCheckedDevice } from './device/check';
import type { DeviceRequest } from './device/choose';
import type { CheckSubject } from './device/comparison';
import {
  type Algorithm,
  type ChosenAlgorithm,
  fromNative,
  type GpuUsage,
  loadNative,
  type NativeAddon,
  type Precision,
  type Target,
  type WeightForm,
} from './device/native';
import { hashSlot, readSlot, writeSlot } from './device/pieces';
import { type QueuedModel, queued } from './device/queue';
import { mostThreadsFor } from './device/threads';
import { DataError, OptionError, UsageError } from './errors';
import {
  readableIds,
  readCreateOptions,
  readInspectOptions,
  readModelOptions,
  readScoreOptions,
  readWindowOptions,
} from './model-options';
import { grouped } from './numbers';
import { allOf, noCopies, onlyCharacters, within } from './sampling/constraints';
import { fromBeginning, type GeneratedPiece, type Generation, generatePieces } from './sampling/generate';
import { generateLines } from './sampling/lines';
import { checkMixable, commonVocabulary, mixtureMetadata } from './sampling/mixable';
import { Mixture } from './sampling/mixture';
import {
  checkGeneration,
  checkSamplingOptions,
  type GenerateLinesOptions,
  type GenerateOptions,
  readGenerateLinesOptions,
  readGenerateOptions,
} from './sampling/options';
import { matching, Pattern } from './sampling/pattern';
import { Session, type SessionModel } from './sampling/session';
import { checkStops } from './sampling/stop';
import { type InspectionOptions, inspectIds } from './scoring/inspect';
import { describeInspection, type Inspection } from './scoring/inspection';
import { type ReadableIds, type Score, type ScoringOptions, scoreIds, scoreMany } from './scoring/score';
import { scoreWindows, type WindowProtocolOptions, type WindowScore } from './scoring/window-protocol';
import { packageVersion } from './version';
import { option } from './wording';

/**
 * Where and how a model runs.
 *
 * @category Models
 */
export interface ModelOptions extends DeviceRequest {
  /**
   * A GPU's arithmetic. A CPU scores and samples in fp32 regardless, and trains in fp32 or `bf16`. The model's `description` says which is
   * used.
   *
   * @default 'tf32'
   */
  precision?: Precision | undefined;
  /**
   * cuDNN's algorithm for training on a GPU; where it does not apply, the standard one runs.
   *
   * @default 'standard'
   */
  algorithm?: Algorithm | undefined;
  /**
   * Keys initialisation and dropout, a whole number from 0 to 2^53 - 1.
   *
   * @default 0, or the checkpoint's
   */
  seed?: number | undefined;
  /**
   * Keeps the matrices in 16 or 8 bits per weight: faster for one or two texts at a time on a CPU, slightly less exact, and not trainable.
   *
   * @default as the checkpoint has them
   */
  weights?: WeightForm | undefined;
}

/**
 * What a new model's checkpoints record about it.
 *
 * @category Models
 */
export interface CreateOptions extends Omit<ModelOptions, 'weights'> {
  /**
   * How prompts and texts are normalised before they are encoded.
   *
   * @default `{ lowercase: false }`
   */
  normalization?: Normalization | undefined;
  /**
   * What the model is trained for, which decides how it is sampled: `every` carries the state, `last` slides a window.
   *
   * @default 'every'
   */
  target?: Target | undefined;
  /**
   * Length in characters of the windows it is trained on, 1 to 16,777,216.
   *
   * @default 100
   */
  seqLength?: number | undefined;
  /**
   * Sequences per step, 1 to 16,777,216, for the self-check of a GPU.
   *
   * @default 64
   */
  batchSize?: number | undefined;
  /**
   * What `algorithm: 'auto'` chose in the run that this model continues, so that it is not tried again.
   *
   * @default it is tried
   */
  chosenAlgorithm?: ChosenAlgorithm | undefined;
  /**
   * Whether NCCL sums the gradients of a model that ranks train with one GPU each. Must be the same on all ranks.
   *
   * @default false: they go by way of the host's memory
   */
  nccl?: boolean | undefined;
  /**
   * What the model is trained on, for the record.
   *
   * @default nothing is recorded
   */
  corpus?: CorpusRecord | undefined;
  /**
   * The effective training configuration, for the record.
   *
   * @default `{}`
   */
  configuration?: Record<string, unknown> | undefined;
  /**
   * Initial weights, in the canonical layout.
   *
   * @default fresh ones
   */
  parameters?: Float32Array | undefined;
}

/**
 * The options of {@link LanguageModel.inspect}.
 *
 * @category Scoring
 */
export interface InspectOptions extends InspectionOptions {
  /**
   * What to do about a character that the model does not know: throw an error that names it, or leave it out.
   *
   * @default 'error'
   */
  unknown?: 'error' | 'skip' | undefined;
}

/**
 * How a text is scored.
 *
 * @category Scoring
 */
export interface ScoreOptions extends ScoringOptions {
  /**
   * What to do about a character that the model does not know: throw an error that names it, or leave it out.
   *
   * @default 'error'
   */
  unknown?: 'error' | 'skip' | undefined;
  /**
   * Contiguous parts scored in parallel, 1 to 4,096. 1 is exact; with more, all parts but the first begin without context.
   *
   * @default 1
   */
  streams?: number | undefined;
}

/**
 * A model in a mixture.
 *
 * @category Models
 */
export interface MixturePart {
  /** It may be in several mixtures, and be used by itself at the same time. */
  model: LanguageModel;
  /**
   * Its weight relative to the others, above 0 to 1e6: 3 next to 1 is three quarters.
   *
   * @default 1
   */
  weight?: number | undefined;
}

interface DrawnText {
  text: string;
  finished: 'length' | 'stop';
}

/** The most characters of texts that are kept at once, to find the best of them. */
const mostKept = 1 << 22;
/** A longer prompt would not fit in a string. */
const mostPromptBytes = 2 ** 28;

/**
 * The model on its device, with its calls queued. For this package's own modules, which know what a call does to the state between calls.
 */
export let nativeOf: (model: LanguageModel) => QueuedModel;
/** For a trainer. */
export let setMetadata: (model: LanguageModel, metadata: CheckpointMetadata) => void;

/**
 * A language model on one device. Made by {@link LanguageModel.create} or {@link LanguageModel.load}, freed by
 * {@link LanguageModel.dispose} (a garbage-collected one is freed too, but later than you would like).
 *
 * Every asynchronous call waits for those before it, so calls may overlap; none blocks the event loop. Worker threads can use models if
 * each loads its own.
 *
 * @category Models
 */
export class LanguageModel implements Disposable {
  readonly #native: QueuedModel;
  #metadata: CheckpointMetadata;
  readonly vocabulary: Vocabulary;
  /** One line: which device was chosen and why. */
  readonly deviceReason: string;
  readonly device: 'cpu' | 'cuda';
  /** Which GPU; 0 on the CPU. */
  readonly ordinal: number;
  #disposed = false;
  /** The models of a mixture and the share of each in the whole. */
  #parts: readonly { model: LanguageModel; share: number }[] | undefined;

  static {
    nativeOf = (model) => model.#native;
    setMetadata = (model, metadata) => {
      model.#metadata = deepFreeze(metadata);
    };
  }

  private constructor(native: QueuedModel, vocabulary: Vocabulary, metadata: CheckpointMetadata, device: ChosenDevice) {
    this.#native = native;
    this.vocabulary = vocabulary;
    this.#metadata = deepFreeze(metadata);
    this.device = device.device;
    this.ordinal = device.ordinal;
    this.deviceReason = device.reason;
  }

  /**
   * Makes a model with fresh weights (Glorot-uniform and orthogonal, forget bias 1, all from the seed), or with given ones.
   *
   * @param given Its shape; `vocabulary` must be the vocabulary's size.
   * @throws UsageError on an impossible option; DeviceError or OutOfMemoryError if the device cannot hold it.
   */
  static async create(given: ModelShape, vocabulary: Vocabulary, options: CreateOptions = {}): Promise<LanguageModel> {
    const shape = checkShape(given);
    const checked = readCreateOptions(options);
    instanceOf('vocabulary', vocabulary, Vocabulary, 'a Vocabulary');
    if (shape.vocabulary !== vocabulary.size) {
      throw new UsageError(
        `The model's vocabulary size is ${shape.vocabulary}, but the vocabulary has ${vocabulary.size} symbols.`,
      );
    }
    const { target = 'every', seqLength = 100, batchSize = 64 } = checked;
    const subject = { shape, target, steps: seqLength, batch: batchSize };
    const { parameters } = checked;
    const needed = layoutSize(canonicalLayout(shape));
    if (parameters !== undefined && parameters.length !== needed) {
      throw new UsageError(`parameters has ${parameters.length} numbers where the model has ${needed}.`);
    }
    const { vocabulary: _, ...model } = shape;
    const metadata: CheckpointMetadata = {
      format: 'cudnn-lstm',
      formatVersion: 1,
      vocabulary: [...vocabulary.symbols],
      normalization: checked.normalization ?? { lowercase: false },
      model,
      ...(checked.corpus ? { corpus: checked.corpus } : {}),
      configuration: checked.configuration ?? {},
      target,
      seqLength,
      epoch: 0,
      step: 0,
      version: packageVersion,
    };
    // A checkpoint that contradicts itself could not be loaded.
    const contradiction = contradictionIn(metadata);
    if (contradiction !== undefined) throw new UsageError(`The model would contradict itself: ${contradiction}.`);
    const { native, device } = await createNative(subject, checked, checked.seed ?? 0, {
      initialize: parameters === undefined,
      trained: true,
    });
    if (parameters) await native.whenIdle((idle) => writeSlot(idle, 'parameters', parameters));
    return new LanguageModel(native, vocabulary, metadata, device);
  }

  /**
   * Loads a checkpoint's weights; a run's directory stands for its best checkpoint, or its last if there is no best one.
   *
   * @throws CheckpointError if it is missing, truncated, altered or not one of this package's.
   */
  static async load(pathOrDirectory: string, options: ModelOptions = {}): Promise<LanguageModel> {
    const checked = readModelOptions(options);
    const file = await CheckpointFile.open(await resolveCheckpoint(pathOrDirectory));
    try {
      const { metadata } = file;
      const vocabulary = vocabularyOf(metadata);
      const shape = { ...metadata.model, vocabulary: vocabulary.size };
      const subject = { shape, target: metadata.target, steps: metadata.seqLength, batch: 64 };
      const form = weightsOf(checked, metadata);
      const named = { ...checked, weights: form };
      const { native, device } = await createNative(subject, named, checked.seed ?? metadata.training?.seed ?? 0, {
        initialize: false,
        trained: false,
      });
      try {
        // Straight into the model, without making a second copy of it.
        await file.read((_, values, offset) => native.write('parameters', values, offset), { parametersOnly: true });
        // Weights that a file of this package already holds in this form stay as they are.
        if (form !== 'fp32') await roundModel(native, form);
      } catch (error) {
        native.dispose(); // Frees the device's memory now, not when the model is garbage-collected.
        throw error;
      }
      const { weights: _, ...others } = metadata;
      const described = form === 'fp32' ? others : { ...others, weights: form };
      return new LanguageModel(native, vocabulary, described, device);
    } finally {
      await file.close();
    }
  }

  /**
   * Combines several models into one, whose probability of a character is the weighted mean of theirs. It knows the characters that all of
   * them know, over which each model's probabilities are normalised. It generates, scores and inspects, but cannot be saved or trained. It
   * uses the models and does not dispose of them.
   *
   * @throws UsageError if they read texts differently, or only some are models of single lines, or not all are sampled with windows of one
   * length; DataError if no character is known to all.
   */
  static mix(parts: readonly MixturePart[]): LanguageModel {
    const mixed = readMixture(parts);
    const models = mixed.map(({ model }) => model);
    const first = models[0] as LanguageModel;
    const vocabulary = commonVocabulary(models);
    const ids = models.map((model) =>
      Int32Array.from(vocabulary.symbols, (symbol) => model.vocabulary.idOf(symbol) as number),
    );
    checkMixable(models);
    const whole = mixed.reduce((sum, { weight }) => sum + weight, 0);
    const native = new Mixture(
      mixed.map(({ model, weight }, i) => ({
        native: model.#native,
        share: weight / whole,
        ids: ids[i] as Int32Array,
        vocabulary: model.vocabulary.size,
        layers: model.shape.layers,
        hidden: model.shape.hidden,
      })),
    );
    const reason = [...new Set(models.map(({ deviceReason }) => deviceReason))].join('; ');
    const mixture = new LanguageModel(native, vocabulary, mixtureMetadata(models, vocabulary), {
      device: first.device,
      ordinal: first.ordinal,
      reason,
    });
    mixture.#parts = mixed.map(({ model, weight }) => ({ model, share: weight / whole }));
    return mixture;
  }

  /** How busy this model's GPU is now, including everything else that runs on it; null on a CPU and where NVML is missing. */
  async gpuUsage(): Promise<GpuUsage | null> {
    return this.device === 'cuda' ? await loadNative().gpuUsage(this.ordinal) : null;
  }

  /** What a checkpoint saved now would say about the model. Frozen; training replaces it as epoch, step and losses change. */
  get metadata(): CheckpointMetadata {
    return this.#metadata;
  }

  /** One line: the device, its threads, and the precision and algorithm actually used. */
  get description(): string {
    return this.#native.description;
  }

  /** Number of the model's parameters. */
  get parameterCount(): number {
    return this.#native.parameterCount;
  }

  /** Bytes that the model takes now, on the host and on a GPU. */
  get memory(): { hostBytes: number; deviceBytes: number } {
    return { hostBytes: this.#native.hostBytes, deviceBytes: this.#native.deviceBytes };
  }

  /** Layers, sizes, coding and dropout. */
  get shape(): ModelShape {
    return { ...this.metadata.model, vocabulary: this.vocabulary.size };
  }

  /** The window that {@link GenerateOptions.window} defaults to. */
  get defaultWindow(): number {
    return this.metadata.target === 'last' ? this.metadata.seqLength : 0;
  }

  /** Whether the model's symbols are bytes, not characters. */
  get ofBytes(): boolean {
    return this.metadata.normalization.symbols === 'bytes';
  }

  /** `text`, normalised as the corpus was; for a model of bytes, its UTF-8 bytes, with byte n as U+00nn. */
  normalize(text: string): string {
    return normalizeText(text, this.metadata.normalization);
  }

  /**
   * Continues the prompt. Returns an iterator over pieces of the generated text, without the prompt; no piece splits a code point. Options
   * are checked and the prompt is encoded before the iterator is made; a prompt above 65,536 characters or bytes is encoded when the first
   * piece is asked for, which then fails if the prompt is at fault.
   *
   * @throws UsageError on an option out of range; DataError if the prompt or a stop string has characters that the model does not know.
   */
  generate(options: GenerateOptions = {}): AsyncIterable<string> {
    return this.#generateOne(options, 'generate');
  }

  #generateOne(options: GenerateOptions, call: string): AsyncIterable<string> {
    const pieces = this.#generateMany(1, options, call);
    return (async function* () {
      for await (const piece of pieces) if (piece.text !== '') yield piece.text;
    })();
  }

  /**
   * Like {@link LanguageModel.generate}, with all pieces joined into one string.
   *
   * @throws As {@link LanguageModel.generate}; the signal's reason after an abort.
   */
  async generateText(options: GenerateOptions = {}): Promise<string> {
    let text = '';
    for await (const piece of this.#generateOne(options, 'generateText')) text += piece;
    return text;
  }

  /** Draws `count` texts at once, which is far cheaper than one after another; text k is the same whatever `count` is. */
  generateMany(count: number, options: GenerateOptions = {}): AsyncGenerator<GeneratedPiece, void, undefined> {
    return this.#generateMany(count, options, 'generateMany');
  }

  #generateMany(count: number, options: GenerateOptions, call: string) {
    const checked = readGenerateOptions(options, call);
    return this.#generate(checked, count, () => ({ prompt: this.#promptIds(checked) }));
  }

  #generate(
    checked: GenerateOptions,
    count: number,
    from: () => Pick<Generation, 'prompt' | 'begin' | 'firstStream'>,
  ): AsyncGenerator<GeneratedPiece, void, undefined> {
    const plan = checkGeneration(checked, count, this.defaultWindow);
    const sampling = checkSamplingOptions(checked);
    const stop = plan.stop.map((text) => this.normalize(text));
    checkStops(stop, this.vocabulary);
    const { only, pattern, maxCopy } = checked;
    if (this.ofBytes && (only ?? pattern) !== undefined)
      throw new UsageError('only and pattern are for models of characters, not of bytes.');
    const written = only === undefined ? undefined : onlyCharacters(this.normalize(only), this.vocabulary);
    const constraint = allOf([
      ...(written === undefined ? [] : [within(written)]),
      ...(pattern === undefined ? [] : [matching(new Pattern(pattern, this.vocabulary, written), plan.length)]),
      ...(maxCopy === undefined ? [] : [noCopies(maxCopy.index, maxCopy.length, this.vocabulary)]),
    ]);
    const pieces = generatePieces(this.#native, this.vocabulary, {
      ...plan,
      stop,
      constraint,
      ...from(),
      sampling,
      signal: checked.signal,
    });
    return this.ofBytes ? asBytes(pieces, count) : pieces;
  }

  /**
   * Draws `count` texts and returns the one that the model finds likeliest, with its bits per character, counted over prompt and text. All
   * texts are equally long unless a stop string ended them. At most 4 million characters are kept at a time; more are drawn in turns.
   *
   * @throws As {@link LanguageModel.generate}; UsageError for a length above 4,194,304; DataError if no text has a character.
   */
  async generateBest(
    count: number,
    options: GenerateOptions = {},
  ): Promise<{ text: string; bitsPerCharacter: number; finished: 'length' | 'stop' }> {
    const checked = readGenerateOptions(options, 'generateBest');
    const { prompt = '' } = checked;
    if (this.ofBytes || typeof prompt !== 'string')
      throw new UsageError('generateBest is for models of characters, not of bytes.');
    wholeOf('count', count, 1, 4096);
    const { length } = checkGeneration(checked, count, this.defaultWindow);
    if (length > mostKept)
      throw new OptionError('length', `must be at most ${grouped(mostKept)} of the best of several texts.`);
    const given = await encodeText(prompt, 'the prompt', this.#encoding(checked));
    // All at once, or as many at a time as `mostKept` allows.
    const atOnce = Math.max(1, Math.floor(mostKept / Math.max(1, length)));
    let best: (DrawnText & { bitsPerCharacter: number }) | undefined;
    for (let first = 0; first < count; first += atOnce) {
      const texts = await this.#drawWhole(Math.min(atOnce, count - first), first, checked);
      const scores = await this.#scoreAfter(given, texts, checked.signal);
      for (const [i, score] of scores.entries()) {
        if (score && score.bitsPerCharacter < (best?.bitsPerCharacter ?? Number.POSITIVE_INFINITY))
          best = { ...(texts[i] as DrawnText), bitsPerCharacter: score.bitsPerCharacter };
      }
    }
    if (best === undefined) throw new DataError('No text was written, so none is the best.');
    return best;
  }

  /** Draws whole texts, the first of them as stream `firstStream`, and returns those that are not empty. */
  async #drawWhole(count: number, firstStream: number, checked: GenerateOptions): Promise<DrawnText[]> {
    const texts = Array.from({ length: count }, (): DrawnText => ({ text: '', finished: 'length' }));
    const pieces = this.#generate(checked, count, () => ({ prompt: this.#promptIds(checked), firstStream }));
    for await (const { stream, text, finished } of pieces) {
      const drawn = texts[stream] as DrawnText;
      drawn.text += text;
      if (finished) drawn.finished = finished;
    }
    return texts.filter(({ text }) => text !== '');
  }

  /** Scores the prompt's ids followed by each text, from the beginning. */
  async #scoreAfter(
    given: Int32Array,
    texts: readonly DrawnText[],
    signal: AbortSignal | undefined,
  ): Promise<(Score | undefined)[]> {
    const { vocabulary } = this;
    const { resetId } = this.shape;
    const encoded = await encodeTexts(
      texts.map(({ text }) => text),
      (i) => `text ${i + 1}`,
      { vocabulary, normalization: asItIs, unknown: 'error', signal },
    );
    // In a model of single lines, a text without a prompt may itself begin a line.
    const alone = given.length === 0 && resetId !== undefined;
    return this.#native.evaluationSequence(() =>
      scoreMany(
        this.#native,
        alone ? encoded.map((ids) => fromBeginning(ids, vocabulary, resetId)) : encoded,
        { signal },
        alone ? given : fromBeginning(given, vocabulary, resetId),
      ),
    );
  }

  /**
   * Indexes a corpus for {@link GenerateOptions.maxCopy}, read and normalised as the model's own was. Takes five bytes per character, or
   * six if there are more than 256 symbols.
   *
   * @param corpus A corpus, as {@link train} takes it.
   * @throws DataError if it cannot be read.
   */
  async indexText(corpus: CorpusInput, options: { signal?: AbortSignal | undefined } = {}): Promise<TextIndex> {
    const { signal } = optionsOf<{ signal?: AbortSignal | undefined }>(
      'options',
      options,
      { signal: signalOf },
      'indexText',
    );
    if (this.ofBytes) throw new UsageError('indexText is for models of characters, not of bytes.');
    const { normalization } = this.metadata;
    const opened = await openCorpus(corpus, {
      vocabulary: this.vocabulary,
      unknown: 'add',
      lowercase: normalization.lowercase,
      normalize: normalization.form ?? 'none',
      lineBreaks: normalization.lineBreaks,
      byteOrderMark: normalization.byteOrderMark,
      ...(signal ? { signal } : {}),
    });
    try {
      return await TextIndex.of(opened.ids, signal);
    } finally {
      opened.close();
    }
  }

  /**
   * Writes whole, non-empty lines. Line k is the same however many are asked for.
   *
   * @throws UsageError if the model knows no line break; otherwise as {@link LanguageModel.generate}. DataError, during iteration, if
   * hardly any line drawn is wanted.
   */
  generateLines(count: number, options: GenerateLinesOptions = {}): AsyncGenerator<string, void, undefined> {
    const checked = readGenerateLinesOptions(options);
    this.#refuseBytes('write lines');
    wholeOf('count', count, 0);
    const { length, window } = checkGeneration(checked, 1, this.defaultWindow);
    if (this.vocabulary.idOf('\n') === undefined) {
      throw new UsageError('The model knows no line break, so it writes no lines.');
    }
    const { prompt: begun = '' } = checked;
    if (begun.length > pieceUnits)
      throw new OptionError('prompt', `must be the beginning of one line, at most ${grouped(pieceUnits)} characters.`);
    const before = this.#known(this.normalize(begun), checked.unknown);
    if (before.includes('\n')) throw new OptionError('prompt', 'must be the beginning of one line.');
    // Where the state is carried across lines, a line follows a line break.
    const prompt = this.#promptIds({ ...checked, prompt: this.shape.resetId === undefined ? `\n${before}` : before });
    const sampling = checkSamplingOptions(checked);
    return generateLines(this.#native, this.vocabulary, {
      count,
      length,
      window,
      prompt,
      sampling,
      before,
      known: checked.known,
      signal: checked.signal,
    });
  }

  /** A text in the making, initially empty: feed, peek, draw, propose, mark and rewind, fork, save. */
  session(): Session {
    return Session.begin(this.#sessionModel());
  }

  /**
   * Loads a saved session.
   *
   * @throws CheckpointError if the file is not a session, or is one of another model: weights and symbols must be those it was saved with.
   */
  async loadSession(path: string): Promise<Session> {
    return Session.load(this.#sessionModel(), path);
  }

  #sessionModel(): SessionModel {
    this.#refuseBytes('keep sessions');
    const { layers, hidden, resetId } = this.shape;
    return {
      native: this.#native,
      vocabulary: this.vocabulary,
      ...{ layers, hidden, resetId, window: this.defaultWindow },
      encode: (text, unknown, signal) => encodeText(text, 'the text', this.#encoding({ unknown, signal })),
      generate: (count, options, begin, call) => {
        const checked = readGenerateOptions(options, call);
        const { prompt, unknown, window } = checked;
        if ([prompt, unknown, window].some((given) => given !== undefined))
          throw new UsageError('A session continues its own text: leave prompt, unknown and window out.');
        return this.#generate(checked, count, () => ({ prompt: begin.prompt, begin }));
      },
      identify: () => this.#identify(),
    };
  }

  /** A hash of weights and symbols. */
  async #identify(): Promise<string> {
    const hash = createHash('sha256').update(JSON.stringify([this.shape, this.vocabulary.symbols]));
    if (this.#parts) {
      for (const { model, share } of this.#parts) hash.update(`${share} ${await model.#identify()}`);
      return hash.digest('hex');
    }
    await this.#native.whenIdle((native) => hashSlot(native, 'parameters', hash));
    return hash.digest('hex');
  }

  /**
   * Scores a text from zero state, without its first character; a model of single lines, which knows how a line begins, counts that one
   * too.
   *
   * @param text A string, which is normalised, or ids of this model's vocabulary.
   * @throws DataError if it has fewer than two characters per stream, or unknown ones.
   */
  async score(text: string | ReadableIds, options: ScoreOptions = {}): Promise<Score> {
    const checked = readScoreOptions(options);
    const { streams = 1 } = checked;
    const ids = await this.#idsOf(text, checked, true);
    if (ids.length < 2 * streams) {
      throw new DataError(
        `The text is too short to score: ${ids.length} character(s), and ${2 * streams} are needed${streams > 1 ? ` for ${streams} streams` : ''}.`,
      );
    }
    return this.#native.evaluationSequence(() => scoreIds(this.#native, ids, streams, checked));
  }

  /**
   * Scores each line from zero state, without its line break; undefined for a line with fewer than two characters. A model of single lines
   * scores the whole line, including its first character and its end, which counts as a character.
   */
  async scoreLines(
    lines: readonly string[],
    options: Omit<ScoreOptions, 'streams'> = {},
  ): Promise<(Score | undefined)[]> {
    const checked = readScoreOptions(options);
    this.#refuseBytes('score lines');
    const encoded = await encodeTexts(listOf('lines', lines, textOf), (i) => `line ${i + 1}`, this.#encoding(checked));
    const { resetId } = this.shape;
    const whole = resetId === undefined ? encoded : encoded.map((ids) => wholeLine(ids, resetId));
    return this.#native.evaluationSequence(() => scoreMany(this.#native, whole, checked));
  }

  /**
   * Scores the character that follows each window of a text, with dropout on and off.
   *
   * @throws DataError if the text is not longer than the window.
   */
  async scoreWindows(
    text: string | ReadableIds,
    options: WindowProtocolOptions & Pick<ScoreOptions, 'unknown'> = {},
  ): Promise<WindowScore> {
    const checked = readWindowOptions(options);
    const { window = 100, stride = 1 } = checked;
    const ids = await this.#idsOf(text, checked);
    if (ids.length <= window) {
      throw new DataError(
        `The text is too short: ${ids.length} characters, and a window of ${window} and the character after it are needed.`,
      );
    }
    const batch = checked.batch ?? (this.device === 'cuda' ? 1024 : 128);
    return this.#native.evaluationSequence(() =>
      scoreWindows(this.#native, ids, { ...checked, window, stride, batch }),
    );
  }

  /**
   * How surprised the model is at each character of a text, from zero state, and what it expected instead.
   *
   * @throws DataError if the text has characters that the model does not know.
   */
  async inspect(text: string, options: InspectOptions = {}): Promise<Inspection> {
    const checked = readInspectOptions(options, this.vocabulary.size);
    const { rivals = Math.min(5, this.vocabulary.size) } = checked;
    const ids = await encodeText(textOf('text', text), 'the text', this.#encoding(checked));
    const { resetId } = this.shape;
    const all = ids.length > 0 && resetId !== undefined ? fromBeginning(ids, this.vocabulary, resetId) : ids;
    const found = await inspectIds(this.#native, this.shape, all, { ...checked, rivals });
    return describeInspection(this.vocabulary, this.shape, all, found, rivals, all.length - ids.length);
  }

  /** Writes weights and metadata as a checkpoint, atomically. The trainer saves the moments and the training state. */
  async save(path: string): Promise<void> {
    const checkpoint = await this.#native.whenIdle(async (native) => ({
      metadata: this.metadata,
      parameters: await readSlot(native, 'parameters'),
    }));
    await saveCheckpoint(path, checkpoint, this.#native.parameters);
  }

  /** Whether {@link dispose} was called. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** Frees the device memory, at once or when the running call ends. Idempotent; waiting calls fail with ERR_DISPOSED. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #promptIds(options: GenerateOptions): Int32Array | (() => Promise<Int32Array>) {
    const { prompt = '' } = options;
    const orStart = (ids: Int32Array) => fromBeginning(ids, this.vocabulary, this.shape.resetId);
    if (typeof prompt !== 'string') {
      if (!this.ofBytes) throw new OptionError('prompt', 'must be a string: the symbols of this model are characters.');
      const { vocabulary } = this;
      const { unknown = 'error', signal } = options;
      if (prompt.length > mostPromptBytes)
        throw new OptionError('prompt', `must be at most ${grouped(mostPromptBytes)} bytes.`);
      const bytes = toByteString(prompt);
      if (bytes.length > pieceUnits) {
        return async () =>
          orStart(await encodeText(bytes, 'the prompt', { vocabulary, normalization: asItIs, unknown, signal }));
      }
      return orStart(vocabulary.encode(bytes, { unknown, what: 'the prompt' }));
    }
    if (prompt.length > pieceUnits) {
      return async () => orStart(await encodeText(prompt, 'the prompt', this.#encoding(options)));
    }
    return orStart(
      this.vocabulary.encode(this.normalize(prompt), { unknown: options.unknown ?? 'error', what: 'the prompt' }),
    );
  }

  #refuseBytes(what: string): void {
    if (this.ofBytes)
      throw new UsageError(`This is a model of bytes, which does not ${what}: it reads and writes files as they are.`);
  }

  /** The part of a normalised text that is fed to the model. */
  #known(text: string, unknown: 'error' | 'skip' | undefined): string {
    return unknown === 'skip' ? this.vocabulary.decode(this.vocabulary.encode(text, { unknown })) : text;
  }

  /** @param begins Whether the text is read from its beginning, which a model of single lines knows. */
  async #idsOf(
    text: string | ReadableIds,
    options: Pick<ScoreOptions, 'unknown' | 'signal'>,
    begins = false,
  ): Promise<ReadableIds> {
    const ids =
      typeof text !== 'string'
        ? readableIds('text', text)
        : inMemory(await encodeText(text, 'the text', this.#encoding(options)));
    const { resetId } = this.shape;
    const bare = begins && resetId !== undefined && ids.length > 0 && ids.read(0, 1)[0] !== resetId;
    return bare ? led(resetId, ids) : ids;
  }

  #encoding({ unknown, signal }: Pick<ScoreOptions, 'unknown' | 'signal'>): TextEncoding {
    const { vocabulary, metadata } = this;
    return { vocabulary, normalization: metadata.normalization, unknown: unknown ?? 'error', signal };
  }
}

/** Freezes plain data, so that nobody changes what a model's next checkpoint says. */
function deepFreeze<T extends object>(data: T): T {
  if (Object.isFrozen(data)) return data;
  Object.freeze(data);
  for (const value of Object.values(data)) if (typeof value === 'object' && value !== null) deepFreeze(value);
  return data;
}

/** Pieces of byte strings as bytes, and as the UTF-8 text that these complete. */
async function* asBytes(
  pieces: AsyncGenerator<GeneratedPiece, void, undefined>,
  count: number,
): AsyncGenerator<GeneratedPiece, void, undefined> {
  const readers = Array.from({ length: count }, () => new Utf8Reader());
  for await (const { stream, text, ...rest } of pieces) {
    const reader = readers[stream] as Utf8Reader;
    const read = reader.push(text) + (rest.finished ? reader.end() : '');
    yield { stream, text: read, bytes: new Uint8Array(fromByteString(text)), ...rest };
  }
}

/** A file's rounded weights cannot be rounded to another form. */
function weightsOf(options: ModelOptions, { weights }: CheckpointMetadata): WeightForm {
  const form = options.weights ?? weights ?? 'fp32';
  if (weights === undefined || form === 'fp32' || form === weights) return form;
  throw new UsageError(
    `the checkpoint holds ${weights} weights, of which no ${form} can be made: leave out ${option('weights')}.`,
  );
}

interface ChosenDevice {
  device: 'cpu' | 'cuda';
  ordinal: number;
  reason: string;
}

async function createNative(
  subject: CheckSubject,
  checked: ModelOptions & Pick<CreateOptions, 'chosenAlgorithm' | 'nccl'>,
  seed: number,
  { initialize, trained }: { initialize: boolean; trained: boolean },
): Promise<{ native: QueuedModel; device: ChosenDevice }> {
  const { device, ordinal, libraryPath, reason } = await chooseCheckedDevice(checked, {
    ...subject,
    precision: checked.precision,
    algorithm: checked.algorithm,
  });
  const options: Parameters<NativeAddon['createModel']>[1] = {
    device,
    ordinal,
    threads: mostThreadsFor(checked.threads, checked.env),
    // On a CPU it applies to training only.
    ...(checked.precision && (trained || device === 'cuda') ? { precision: checked.precision } : {}),
    ...(checked.algorithm ? { algorithm: checked.algorithm } : {}),
    ...(checked.weights ? { weights: checked.weights } : {}),
    ...(checked.chosenAlgorithm ? { chosenAlgorithm: checked.chosenAlgorithm } : {}),
    ...(checked.nccl ? { nccl: true } : {}),
    ...(libraryPath ? { libraryPath } : {}),
  };
  let native: QueuedModel | undefined;
  try {
    native = queued(await loadNative(checked.nativeBinding).createModel({ ...subject.shape, seed }, options));
    if (initialize) await native.initialize(checked.signal);
    return { native, device: { device, ordinal, reason } };
  } catch (error) {
    native?.dispose();
    throw checked.signal?.aborted && error === checked.signal.reason ? error : fromNative(error);
  }
}

/** @throws UsageError for an invalid mixture. */
function readMixture(parts: readonly MixturePart[]): { model: LanguageModel; weight: number }[] {
  const read = listOf(
    'parts',
    parts,
    (what, value) => {
      const { model, weight = 1 } = optionsOf<MixturePart>(
        what,
        value,
        {
          model: (name, given) => {
            if (looking(name, () => given instanceof LanguageModel)) return given as LanguageModel;
            throw new UsageError(`${name} of ${what} must be a LanguageModel, not ${show(given)}.`);
          },
          weight: (name, given) => numberOf(`${name} of ${what}`, given),
        },
        'LanguageModel.mix',
      );
      if (model === undefined) throw new UsageError(`${what} has no model.`);
      if (!(weight > 0 && weight <= 1e6)) throw new UsageError(`weight of ${what} must be above 0 and at most 1e6.`);
      return { model, weight };
    },
    64,
  );
  if (read.length === 0) throw new UsageError('parts must name at least one model.');
  return read;
}

/** A line between the symbol that precedes its first character and the one that ends it. */
function wholeLine(ids: Int32Array, resetId: number): Int32Array {
  const whole = new Int32Array(ids.length + 2).fill(resetId);
  whole.set(ids, 1);
  return whole;
}

/** `ids` with `id` before them. */
export function led(id: number, ids: ReadableIds): ReadableIds {
  return {
    length: ids.length + 1,
    read(start, count) {
      if (start > 0) return ids.read(start - 1, count);
      const all = new Int32Array(count).fill(id);
      if (count > 1) all.set(ids.read(0, count - 1), 1);
      return all;
    },
  };
}

function inMemory(ids: Int32Array): ReadableIds {
  return { length: ids.length, read: (start, count) => ids.subarray(start, start + count) };
}
