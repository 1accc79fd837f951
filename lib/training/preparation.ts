/** From a request to a trainer that is ready to run: configuration, corpus, model, run directory, checkpoint. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { basename, isAbsolute, join, resolve } from 'node:path';
import { type Checks, callbackOf, flagOf, optionsOf, pathOf, recordOf, show, signalOf } from '../arguments';
import {
  type Checkpoint,
  type CheckpointMetadata,
  checkTrainable,
  loadCheckpoint,
  type ModelShape,
  vocabularyOf,
} from '../checkpoint/checkpoint';
import { makeDirectory, toDiskError } from '../checkpoint/disk';
import { hasKnownLines, mostKnownLines, saveKnownLines } from '../checkpoint/known-lines';
import { holdsRun, lookAt, RunDirectory } from '../checkpoint/run-directory';
import { unusable } from '../checkpoint/unusable';
import { type Corpus, type CorpusInput, type CorpusOptions, isList, openCorpus } from '../corpus/corpus';
import { checkEncoding } from '../corpus/decode';
import { KnownLines } from '../corpus/known-lines';
import { corpusName } from '../corpus/names';
import { readWeighted } from '../corpus/weighted';
import type { DeviceName, DeviceRequest } from '../device/choose';
import { loadNative } from '../device/native';
import { takeAll, takeAllQuietly } from '../endings';
import { CheckpointError, DataError, UsageError } from '../errors';
import { kindOf } from '../files';
import { LanguageModel, nativeOf } from '../model';
import type { Ranks } from '../ranks/ranks';
import { pathWord } from '../shell';
import { packageVersion } from '../version';
import { checkPlannable, isToBePlanned, planConfiguration } from './best-measure';
import {
  type Configuration,
  readConfigurationFile,
  readRecordedCorpus,
  recordedOptions,
  resolveConfiguration,
  type TextKey,
} from './configuration';
import { type Division, divideCorpus } from './division';
import type { TrainingEvent } from './events';
import { type Base, checkFrozen, growParameters, openBase, optionsOfBase, scalarCannotGrow } from './fine-tuning';
import type { TrainingOptions } from './options';
import { ranksOf, trainable } from './parts';
import { compareRanks, describeParts, type Identity } from './same';
import { checkShares } from './shares';
import { Trainer } from './trainer';

/**
 * What to train, on what, and where it is written.
 *
 * @category Training
 */
export interface TrainingRequest extends Pick<DeviceRequest, 'nativeBinding' | 'onNote'> {
  /**
   * The text: `{ text }`, an async iterable of its pieces, or a list of files, directories, globs, `-` (standard input) and `alice`, where
   * `'a.txt:2'` is a text that an epoch has twice; an empty list counts as none.
   *
   * @default what the configuration file or the resumed run names, else the tale that comes with the package
   */
  readonly corpus?: CorpusInput | undefined;
  /**
   * Options as a program gives them, by name.
   *
   * @default none
   */
  readonly options?: Partial<TrainingOptions> | undefined;
  /**
   * Options as a command line gives them, as text.
   *
   * @default none
   */
  readonly flags?: Readonly<Record<string, string | boolean>> | undefined;
  /**
   * Variables that stand for options: `CUDNN_LSTM_HIDDEN`.
   *
   * @default none
   */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /**
   * A JSON file of options, such as a run's config.json; below those given here.
   *
   * @default none
   */
  readonly configFile?: string | undefined;
  /**
   * Continues a run: its directory, or `true` for the one that `out` names, else the newest one in `runs/`.
   *
   * @default false
   */
  readonly resume?: string | boolean | undefined;
  /**
   * Fine-tuning: begins with the weights of this checkpoint, or of this run's best one, with a new optimiser and schedule. Its
   * vocabulary grows by what the text has besides; layers, sizes, coding and normalisation are the model's.
   *
   * @default fresh weights
   */
  readonly from?: string | undefined;
  /**
   * With `from`: a text, mostly the one that the model was trained on, of which every step has some sequences (`keepShare`), so that
   * the model does not forget it.
   *
   * @default none
   */
  readonly keep?: CorpusInput | undefined;
  /**
   * A text to validate on, in place of a share of the corpus: all of it, read with the corpus' symbols. Characters that these lack are
   * left out, or are the unknown symbol where there is one.
   *
   * @default what the configuration file or the resumed run names, else none
   */
  readonly validationFile?: CorpusInput | undefined;
  /**
   * `false`: without a directory, and of a resumed run nothing is changed, so that nothing is written. It is what `planTraining` of
   * `cudnn-lstm/advanced` takes for a dry run.
   *
   * @default true
   */
  readonly save?: boolean | undefined;
  /** Ends the training after the step in progress, with everything saved; the iterator then throws its reason. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The ranks of a job that a launcher has started, which train the model together: see `joinRanks` of `cudnn-lstm/advanced`. All ask
   * for the same.
   *
   * @default this process alone
   */
  readonly ranks?: Ranks | undefined;
}

/** A run being resumed. The directory is locked until the run is closed. */
interface ResumedRun {
  readonly directory: string;
  /** Absent where another rank of the job has it. */
  readonly run?: RunDirectory | undefined;
  readonly path: string;
  readonly checkpoint: Checkpoint;
}

/** A configuration, and the run to resume. */
export interface ConfiguredTraining extends AsyncDisposable {
  readonly configuration: Configuration;
  readonly resumed: ResumedRun | undefined;
  /** The model to begin with. */
  readonly base: Base | undefined;
}

/** Resolves the configuration; a run to resume is opened, because its checkpoint fixes some of the options. */
export async function configureTraining(request: TrainingRequest): Promise<ConfiguredTraining> {
  const { ranks } = request;
  const { layers, configuration } = await together(ranks, 'options', async () => {
    const { flags, options, env, configFile, signal } = request;
    const file = configFile === undefined ? undefined : await readConfigurationFile(configFile, signal);
    const layers = { flags, options, env, file };
    const configuration = checkTogether(resolveConfiguration(layers), request);
    checkEncoding(configuration.options.encoding);
    return { layers, configuration };
  });
  if (request.resume === undefined || request.resume === false) {
    const none = { resumed: undefined, [Symbol.asyncDispose]: async () => {} };
    return await together(ranks, 'options', async () => {
      const from = request.from ?? configuration.from;
      if (from === undefined) {
        refuseWithoutBase(request, configuration);
        checkPlannable(configuration, false, ranks !== undefined);
        return { configuration, base: undefined, ...none };
      }
      const base = await openBase(from);
      const given = { ...layers, base: { name: base.path, ...optionsOfBase(base.metadata) } };
      const tuned = checkTogether(resolveConfiguration(given), request);
      checkPlannable(tuned, true, ranks !== undefined);
      checkFrozen(tuned.options);
      return { configuration: tuned, base, ...none };
    });
  }
  if (request.from !== undefined) {
    throw new UsageError(
      '--from begins a new run with the weights of a checkpoint, and --resume continues a run: give one of them.',
    );
  }
  const { resume } = request;
  let own: ResumedRun | undefined;
  try {
    const shared = await share(ranks, 'resume', async () => {
      own = await openResumedRun(resume, configuration);
      const { run: _, ...read } = own;
      return read;
    });
    const resumed: ResumedRun = own ?? shared;
    const { path, checkpoint } = resumed;
    const recorded = { name: path, values: checkpoint.metadata.configuration };
    return {
      configuration: await together(ranks, 'options', () =>
        checkTogether(resolveConfiguration({ ...layers, checkpoint: recorded }), request),
      ),
      resumed,
      base: undefined,
      [Symbol.asyncDispose]: async () => resumed.run?.close(),
    };
  } catch (error) {
    await takeAllQuietly([() => own?.run?.close()]);
    throw error;
  }
}

/**
 * The configuration, without a share to hold out where there is a validation text.
 *
 * @throws UsageError for options that do not go together.
 */
function checkTogether(configuration: Configuration, request: TrainingRequest): Configuration {
  const { options, sources } = configuration;
  if (options.bytes) {
    const changing = [
      ...(options.lowercase ? (['lowercase'] as const) : []),
      ...(options.normalize === 'none' ? [] : (['normalize'] as const)),
      ...(/^utf-?8$/i.test(options.encoding) ? [] : (['encoding'] as const)),
      ...(options.lines ? (['lines'] as const) : []),
      ...(options.minCount > 1 ? (['minCount'] as const) : []),
    ];
    for (const other of changing) {
      throw new UsageError(
        `${sources.bytes}: bytes are taken as they are, and ${sources[other]} asks for something else: leave one of them out.`,
      );
    }
  }
  if (options.lines && options.target === 'last') {
    throw new UsageError(
      `${sources.lines}: single lines are trained on with --target every, and ${sources.target} says last: leave one of them out.`,
    );
  }
  if ((request.validationFile ?? configuration.validationFile) === undefined) return configuration;
  for (const name of ['validation', 'validationPlaces'] as const) {
    const given = !/^(?:default|preset \w+(?:-\w+)*|checkpoint)$/.test(sources[name]);
    if (!given || options[name] === 0) continue;
    throw new UsageError(
      `${sources[name]}: it holds a part of the corpus out, and --validation-file names another text to validate on: leave one of them out.`,
    );
  }
  return {
    ...configuration,
    options: { ...options, validation: 0 },
    sources: { ...sources, validation: '--validation-file' },
  };
}

function refuseWithoutBase(request: TrainingRequest, { options, sources, keep }: Configuration): void {
  const problem =
    options.freeze > 0
      ? `${sources.freeze}: fresh weights would stay as they are`
      : (request.keep ?? keep) !== undefined
        ? '--keep keeps what a model knows already'
        : undefined;
  if (problem !== undefined) throw new UsageError(`${problem}; name the model to begin with: --from CHECKPOINT.`);
}

/** Does a job, on all ranks where there are several; if it fails on one, it fails on all. */
function together<T>(ranks: Ranks | undefined, kind: string, job: () => T | Promise<T>): T | Promise<T> {
  return ranks ? ranks.together(kind, job) : job();
}

/** Does a job, on rank 0 alone where there are several; all get what comes of it. */
function share<T>(ranks: Ranks | undefined, kind: string, job: () => T | Promise<T>): T | Promise<T> {
  return ranks ? ranks.share(kind, job) : job();
}

async function openResumedRun(
  resume: string | true,
  { options: { out, lock }, sources }: Configuration,
): Promise<ResumedRun> {
  const directory = resume === true ? (out ?? (await newestRun('runs'))) : resume;
  if (out !== undefined && resolve(out) !== resolve(directory)) {
    throw new UsageError(
      `${sources.out}: a resumed run stays in its directory, ${directory}, so ${out} is impossible; leave it out, or resume a copy.`,
    );
  }
  const found = await lookAt(directory);
  if (!found) throw new CheckpointError(`There is no run to resume at ${directory}.`);
  if (!found.isDirectory()) {
    throw new UsageError(
      `--resume takes a run's directory, and ${directory} is a file (give the CORPUS before --resume).`,
    );
  }
  const run = await RunDirectory.open(directory, { create: false, lock });
  try {
    const path = await run.newest();
    if (path === undefined) {
      throw new CheckpointError(`${directory} holds no whole checkpoint to resume from; begin anew in another --out.`);
    }
    const checkpoint = await loadCheckpoint(path);
    checkTrainable(path, checkpoint.metadata);
    checkRecorded(path, checkpoint.metadata);
    return { directory, run, path, checkpoint };
  } catch (error) {
    await takeAllQuietly([() => run.close()]);
    throw error;
  }
}

/**
 * A resumed run takes its options from what its checkpoint has recorded, so that must be what the model says.
 *
 * @throws CheckpointError if it is not.
 */
function checkRecorded(path: string, metadata: CheckpointMetadata): void {
  const { configuration, training } = metadata;
  const said = {
    ...optionsOfBase(metadata).values,
    ...(training ? { batchSize: training.batch, seed: training.seed } : {}),
  };
  for (const [name, is] of Object.entries(said)) {
    const recorded = configuration[name];
    if (recorded === undefined || recorded === is) continue;
    throw unusable(path, `its configuration has ${name} ${show(recorded)}, and its model was trained with ${show(is)}`);
  }
}

/** The run in `root` that was written to last; other directories, such as a reproduction's, are none. */
async function newestRun(root: string): Promise<string> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  let newest: { path: string; time: number } | undefined;
  for (const entry of entries) {
    const path = join(root, entry.name);
    // A run with something wrong is one too: what, is said when it is opened.
    if (!entry.isDirectory() || !(await holdsRun(path).catch(() => true))) continue;
    const time = (await stat(path)).mtimeMs;
    if (!newest || time > newest.time) newest = { path, time };
  }
  if (newest) return newest.path;
  throw new CheckpointError(`There is no run to resume in ${resolve(root)}; say which: --resume DIR.`);
}

/** The trainer of a training: for this package's own modules. */
export let trainerOf: (training: Training) => Trainer;

/**
 * A training that is ready to run: it trains while it is iterated over, `for await (const event of training) …`. Its model can generate
 * and score meanwhile, and afterwards.
 *
 * It ends with an 'end' event. Leaving the loop early, or an abort, finishes the step in progress and saves the last checkpoint first;
 * after an abort the iterator throws the signal's reason. It throws TrainingError if a loss or gradient is not finite, or the loss
 * explodes (checkpoints stay as they were), and DiskError if a checkpoint cannot be written.
 *
 * @category Training
 */
export class Training implements AsyncIterable<TrainingEvent>, AsyncDisposable {
  /** Every option with its value, and where that came from. */
  readonly configuration: Configuration;
  /** The text that is trained on, as ids. */
  readonly corpus: Corpus;
  readonly model: LanguageModel;
  /** Where checkpoints and metrics go; undefined if nothing is written. */
  readonly run: RunDirectory | undefined;
  readonly #trainer: Trainer;
  /** Texts beside the corpus that are open as long as it. */
  readonly #beside: readonly Corpus[];

  static {
    trainerOf = (training) => training.#trainer;
  }

  /** @internal Made by {@link train} and {@link openTraining}. */
  constructor(
    { configuration, corpus, model, run }: Pick<Training, 'configuration' | 'corpus' | 'model' | 'run'>,
    trainer: Trainer,
    beside: readonly Corpus[] = [],
  ) {
    this.configuration = configuration;
    this.corpus = corpus;
    this.model = model;
    this.run = run;
    this.#trainer = trainer;
    this.#beside = beside;
  }

  /** Optimiser steps of the whole run. */
  get totalSteps(): number {
    return this.#trainer.totalSteps;
  }

  /** Optimiser steps done, those before a resumption included. */
  get stepsDone(): number {
    return this.#trainer.stepsDone;
  }

  /** Trains. */
  [Symbol.asyncIterator](): AsyncGenerator<TrainingEvent, void, undefined> {
    return this.#trainer[Symbol.asyncIterator]();
  }

  /** Frees the model, closes the corpus, unlocks the run's directory. */
  async dispose(): Promise<void> {
    await takeAll([
      () => this.model.dispose(),
      () => this.corpus.close(),
      ...this.#beside.map((text) => () => text.close()),
      () => this.run?.close(),
    ]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

const requestChecks: Checks<TrainingRequest> = {
  // Looked at where it is read.
  corpus: (_, value) => value as CorpusInput,
  options: recordOf,
  // What they hold is looked at with the options.
  flags: (what, value) => recordOf(what, value) as Record<string, string | boolean>,
  env: (what, value) => recordOf(what, value) as NodeJS.ProcessEnv,
  configFile: pathOf,
  resume: (what, value) => (typeof value === 'boolean' ? value : pathOf(what, value)),
  from: pathOf,
  keep: (_, value) => value as CorpusInput,
  validationFile: (_, value) => value as CorpusInput,
  save: flagOf,
  signal: signalOf,
  nativeBinding: pathOf,
  onNote: callbackOf,
  ranks: ranksOf,
};

/**
 * Opens everything that training needs and checks that it fits together; nothing is trained before the result is iterated over.
 *
 * @throws UsageError, DataError, CheckpointError, DeviceError, OutOfMemoryError or DiskError, each with one line that says what
 * is wrong and what to do.
 * @category Training
 */
export async function openTraining(given: TrainingRequest = {}): Promise<Training> {
  const request = optionsOf<TrainingRequest>('request', given, requestChecks, 'openTraining');
  if (request.nativeBinding !== undefined) loadNative(request.nativeBinding);
  const configured = await configureTraining(request);
  const { resumed, base } = configured;
  let { configuration } = configured;
  let { options } = configuration;
  const { ranks } = request;
  const dry = request.save === false;
  const undo: (() => unknown)[] = [() => configured[Symbol.asyncDispose]()];
  try {
    const { corpus: asked } = request;
    const given = isList(asked) && asked.length === 0 ? undefined : asked;
    const recorded = async () => configuration.corpus ?? (resumed ? recordedSources(resumed) : []);
    const input = given === undefined ? await share(ranks, 'sources', recorded) : given;
    const paths: readonly string[] | undefined = isList(input) ? input : undefined;
    const recordedBeside = (key: 'keep' | 'validationFile', sha256: string | undefined) => async () =>
      configuration[key] ?? (resumed && sha256 !== undefined ? recordedSources(resumed, key) : undefined);
    const { keptSha256, validationSha256 } = resumed?.checkpoint.metadata.training ?? {};
    const keep = request.keep ?? (await share(ranks, 'sources', recordedBeside('keep', keptSha256)));
    const validationFile =
      request.validationFile ?? (await share(ranks, 'sources', recordedBeside('validationFile', validationSha256)));
    const nccl = ranks && (await agreeOnNccl(ranks, options.device, request.onNote));
    const { corpus, kept, validation, division, model, newSymbols } = await together(ranks, 'model', async () => {
      if (ranks) {
        checkShares(options.batchSize, ranks.size);
        if (readsInput(input) || readsInput(keep) || readsInput(validationFile))
          throw new UsageError(
            'Standard input reaches rank 0 alone: give the text as a file that every rank can read, in place of -.',
          );
      }
      const reading = readingOptions(options, resumed, base, request.signal);
      const corpus = await openCorpus(input, { ...reading, weights: true });
      undo.push(() => corpus.close());
      const openBeside = async (text: CorpusInput | undefined) => {
        if (text === undefined) return undefined;
        const opened = await openCorpus(text, { ...reading, vocabulary: corpus.vocabulary, unknown: 'skip' });
        undo.push(() => opened.close());
        return opened;
      };
      const kept = await openBeside(keep);
      const validation = await openBeside(validationFile);
      if (validation === undefined)
        options = { ...options, validationPlaces: placesOf(options, corpus, resumed !== undefined) };
      if (!resumed && isToBePlanned(configuration)) {
        checkVocabulary(corpus);
        const create = (sized: TrainingOptions) => createModel(corpus, sized, request, undefined, undefined, undefined);
        const planned = await planConfiguration({ ...configuration, options }, corpus, create, request.signal);
        configuration = planned.configuration;
        options = configuration.options;
        for (const line of planned.lines) request.onNote?.(line);
      }
      const division = await divideChecked({ corpus, kept, validation }, options, resumed);
      const newSymbols = base ? corpus.vocabulary.symbols.slice(base.vocabulary.size) : [];
      if (base?.metadata.model.input === 'scalar' && newSymbols.length > 0)
        throw scalarCannotGrow(base.path, newSymbols);
      const model = await createModel(corpus, options, request, base, resumed?.checkpoint.metadata, nccl);
      undo.push(() => model.dispose());
      return { corpus, kept, validation, division, model, newSymbols };
    });
    if (ranks)
      await compareRanks(ranks, identityOf({ corpus, kept, validation }, options, model.device), nativeOf(model));
    let run: RunDirectory | undefined;
    if (!dry && !resumed) {
      await share(ranks, 'directory', async () => {
        const opened = await createRun(options.out ?? (await newDirectory(paths ?? corpus.sources)), options.lock);
        undo.push(() => opened.close());
        run = opened;
      });
    }
    const writable = dry ? undefined : (run ?? resumed?.run);
    const trainer = await together(ranks, 'trainer', async () => {
      const made = new Trainer({
        model: trainable(model),
        corpus,
        options,
        division,
        ...(writable ? { run: writable } : {}),
        ...(resumed ? { resume: resumed } : {}),
        ...(base ? { from: { checkpoint: base.path, newSymbols } } : {}),
        kept,
        validation,
        signal: request.signal,
        ranks,
      });
      await made.restore();
      if (writable && corpus.lines) await keepKnownLines(writable.path, corpus, request.signal);
      await writable?.writeConfiguration({
        ...recordedOptions(options),
        ...(paths ? { corpus: paths.map(absolute) } : {}),
        ...(keep !== undefined && isList(keep) ? { keep: keep.map(absolute) } : {}),
        ...(validationFile !== undefined && isList(validationFile)
          ? { validationFile: validationFile.map(absolute) }
          : {}),
        ...(base ? { from: resolve(base.path) } : {}),
      });
      return made;
    });
    const beside = [kept, validation].filter((text) => text !== undefined);
    return new Training({ configuration, corpus, model, run: run ?? resumed?.run }, trainer, beside);
  } catch (error) {
    await takeAllQuietly(undo.reverse());
    throw error;
  }
}

/** A run of a version that knew no places, when it is resumed, has its validation text at the end. */
function placesOf(
  { validationPlaces, lines }: TrainingOptions,
  { sources }: Corpus,
  resumed: boolean,
): number | undefined {
  if (lines) return undefined;
  return validationPlaces ?? (sources.length > 1 && !resumed ? 10 : 1);
}

/** How the texts of a run are read. */
function readingOptions(
  { lowercase, normalize, encoding, gutenberg, lines, bytes, minCount }: TrainingOptions,
  resumed: ResumedRun | undefined,
  base: Base | undefined,
  signal: AbortSignal | undefined,
): CorpusOptions {
  const { lineBreaks, byteOrderMark } = (resumed?.checkpoint ?? base)?.metadata.normalization ?? {};
  return {
    lowercase,
    normalize,
    lineBreaks,
    byteOrderMark,
    encoding,
    gutenberg,
    lines,
    bytes,
    minCount,
    ...(base ? { vocabulary: base.vocabulary, unknown: 'add' } : {}),
    // What the model does not know is in another text than its own: that is the error to report, see divideChecked.
    ...(resumed ? { vocabulary: vocabularyOf(resumed.checkpoint.metadata), unknown: 'skip' } : {}),
    ...(signal ? { signal } : {}),
  };
}

/**
 * The corpus of a run, where nobody names it anew: what the config.json of its directory says, never its checkpoint. Of the places
 * named there only files and directories are read: whoever wrote it may not be the one who resumes the run.
 *
 * @throws DataError that says how to name the text, if it does not say which it is, or that is not where it was.
 */
async function recordedSources(
  { directory, checkpoint }: ResumedRun,
  key: TextKey = 'corpus',
): Promise<readonly string[]> {
  const does = { corpus: 'was trained on', keep: 'keeps', validationFile: 'is validated on' }[key];
  const what = `the run in ${directory} ${does}`;
  const resume = `--resume ${pathWord(directory)}`;
  const option = key === 'keep' ? '--keep' : '--validation-file';
  const command = (file: string) =>
    key === 'corpus' ? `train ${file} ${resume}` : `train ${resume} ${option} ${file}`;
  const remedy = (place: string) => `name ${place}: ${command('FILE')}`;
  const recorded = await readRecordedCorpus(join(directory, 'config.json'), key).catch((error: unknown) => {
    if (!(error instanceof DataError)) throw error;
    const { name } = key === 'corpus' ? (checkpoint.metadata.corpus ?? {}) : {};
    const text = `the text that ${what}${name === undefined ? '' : ` (${name})`}`;
    throw new DataError(`${error.message}, so where ${text} lies is not known; ${remedy('its place')}`, {
      cause: error,
    });
  });
  for (const { name: source } of recorded.map(readWeighted)) {
    if (source === '-') {
      throw new DataError(
        `standard input, which ${what}, is another now; give it again, ${command('-')}, or ${remedy('a file')}`,
      );
    }
    const found = await lookAt(source);
    if (found === undefined && isAbsolute(source)) {
      throw new DataError(`${source} is not there, which ${what}; ${remedy('its new place')}`);
    }
    if (found && !found.isFile() && !found.isDirectory()) {
      throw new DataError(`${source}, which ${what}, is ${kindOf(found)}, not a file; ${remedy('its place')}`);
    }
  }
  return recorded;
}

/** The texts of a run. */
interface Texts {
  readonly corpus: Corpus;
  readonly kept: Corpus | undefined;
  readonly validation: Corpus | undefined;
}

/** Divides the texts, after everything that can be wrong with them has been looked at: before a device is asked for memory. */
async function divideChecked(
  { corpus, kept, validation }: Texts,
  options: TrainingOptions,
  resumed: ResumedRun | undefined,
): Promise<Division> {
  const { training, corpus: recorded } = resumed?.checkpoint.metadata ?? {};
  if (training && (training.corpusSha256 !== corpus.sha256 || training.corpusLength !== corpus.length)) {
    throw new DataError(
      `The corpus is not the one that ${resumed?.path} was trained on (${recorded ? `${recorded.name}, ` : ''}${training.corpusLength.toLocaleString('en')} characters ` +
        `then, ${corpus.length.toLocaleString('en')} now, or others): give that corpus, or start a new run without --resume.`,
    );
  }
  if (training && JSON.stringify(training.corpusParts) !== JSON.stringify(corpus.parts)) {
    const before = training.corpusParts ?? [{ length: corpus.length, weight: 1 }];
    throw new DataError(
      `The texts have other weights than ${resumed?.path} was trained with (${describeParts(before)}): give those, or start a new run without ` +
        '--resume.',
    );
  }
  if (training && training.keptSha256 !== kept?.sha256) {
    throw new DataError(
      training.keptSha256 === undefined
        ? `${resumed?.path} was trained without a text to keep: leave --keep out, or begin a new run --from it.`
        : `The text to keep is not the one that ${resumed?.path} keeps: give that one with --keep, or start a new run.`,
    );
  }
  if (training && training.validationSha256 !== validation?.sha256) {
    throw new DataError(
      training.validationSha256 === undefined
        ? `${resumed?.path} was trained without a validation text of its own: leave --validation-file out, or start a new run.`
        : `The validation text is not the one of ${resumed?.path}: give that one with --validation-file, or start a new run.`,
    );
  }
  checkVocabulary(corpus);
  return await divideCorpus(corpus, options, { kept, validation });
}

function checkVocabulary({ vocabulary }: Corpus): void {
  if (vocabulary.size >= 2) return;
  throw new DataError(
    `The corpus has ${vocabulary.size} distinct symbol(s), so there is nothing to learn; give a text with at least two.`,
  );
}

/** What must be the same on all ranks. */
function identityOf({ corpus, kept, validation }: Texts, options: TrainingOptions, device: string): Identity {
  const text = ({ sha256, length, parts }: Corpus) => ({ sha256, length, ...(parts ? { parts } : {}) });
  return {
    device,
    corpus: text(corpus),
    kept: kept && text(kept),
    validation: validation && text(validation),
    options,
    instructionSet: loadNative().cpuInfo().isa,
    version: packageVersion,
  };
}

function createModel(
  corpus: Corpus,
  options: TrainingOptions,
  { onNote, signal, ranks }: TrainingRequest,
  base: Base | undefined,
  resumed: CheckpointMetadata | undefined,
  nccl: boolean | undefined,
): Promise<LanguageModel> {
  const shape: ModelShape = {
    // What no option says of a model that was there before.
    ...(resumed ?? base?.metadata)?.model,
    vocabulary: corpus.vocabulary.size,
    layers: options.layers,
    hidden: options.hidden,
    input: options.input,
    embedding: options.input === 'embedding' ? options.embeddingSize : 0,
    dropout: options.dropout,
    ...(corpus.lines ? { resetId: corpus.lines.breakId } : {}),
  };
  return LanguageModel.create(shape, corpus.vocabulary, {
    device: deviceOf(options.device, ranks),
    threads: options.threads ?? ranks?.threads,
    check: options.check,
    onNote,
    signal,
    precision: options.precision,
    algorithm: options.algorithm,
    chosenAlgorithm: resumed?.training?.chosenAlgorithm,
    nccl,
    ...(base
      ? {
          parameters: growParameters(
            { ...base.metadata.model, vocabulary: base.vocabulary.size },
            base.parameters,
            corpus.vocabulary.size,
          ),
        }
      : {}),
    seed: options.seed,
    normalization: corpus.normalization,
    target: options.target,
    seqLength: options.seqLength,
    batchSize: options.batchSize,
    corpus: { name: corpusName(corpus.sources), sha256: corpus.sha256 },
    configuration: recordedOptions(options),
  });
}

/**
 * Whether ranks on GPUs sum their gradients by NCCL: where all have it, and the same. They go by way of the host's memory otherwise, which
 * is said.
 */
async function agreeOnNccl(
  ranks: Ranks,
  device: string,
  onNote: ((line: string) => void) | undefined,
): Promise<boolean> {
  if (ranks.gpu !== undefined) return true;
  if (device === 'auto' || device === 'cpu') return false;
  const info = await loadNative()
    .cudaInfo()
    .catch(() => undefined);
  const mine = {
    version: info?.nccl?.version ?? '',
    why: info?.searched.filter((line) => line.startsWith('NCCL')).join('; ') || 'this build of the addon has no NCCL',
  };
  const all = await ranks.gatherJson<typeof mine>('nccl', mine);
  const without = all.findIndex(({ version }) => version === '');
  const other = all.findIndex(({ version }) => version !== all[0]?.version);
  if (without < 0 && other < 0) return true;
  const reason =
    without >= 0
      ? `${ranks.name(without)} cannot use NCCL (${all[without]?.why})`
      : `${ranks.name(0)} has NCCL ${all[0]?.version}, and ${ranks.name(other)} ${all[other]?.version}`;
  onNote?.(`ranks: gradients are summed by way of the host's memory: ${reason}`);
  return false;
}

/**
 * What a process computes on. Several ranks take the CPU, or a GPU each: GPUs are not taken unasked, since no job has run on several yet.
 */
export function deviceOf(device: string, ranks: Ranks | undefined): DeviceName {
  if (!ranks) return device as DeviceName;
  if (ranks.gpu !== undefined) {
    if (device === 'auto' || device === 'cuda' || device === `cuda:${ranks.gpu}`) return `cuda:${ranks.gpu}`;
    throw new UsageError(
      device === 'cpu'
        ? `NCCL has brought these ranks together, which have a GPU each; on CPUs MPI does: mpirun -n ${ranks.size} node_modules/.bin/cudnn-lstm train … --device cpu.`
        : `Several ranks take a GPU each, by their number on the machine: --device cuda, not ${device}.`,
    );
  }
  if (device === 'auto' || device === 'cpu') return 'cpu';
  if (device === 'cuda') return `cuda:${ranks.localRank}`;
  throw new UsageError(`Several ranks take a GPU each, by their number on the machine: --device cuda, not ${device}.`);
}

/** So that the model, wherever it goes with its directory, can write lines that its corpus does not hold. */
async function keepKnownLines(
  directory: string,
  { lines, vocabulary, sha256, notes }: Corpus,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (lines === undefined || (await hasKnownLines(directory))) return;
  if (lines.count > mostKnownLines) {
    notes.push(
      `more than ${mostKnownLines.toLocaleString('en')} lines: none are kept for sample --novel, which takes --not-in FILE then`,
    );
    return;
  }
  const texts = function* () {
    for (let line = 0; line < lines.count; line++) yield vocabulary.decode(lines.read(line));
  };
  await saveKnownLines(directory, await KnownLines.of(texts(), signal), sha256);
}

/** A damaged checkpoint, or a best one alone, is somebody's work too: a new run would soon delete it. */
async function createRun(directory: string, lock: boolean): Promise<RunDirectory> {
  const run = await RunDirectory.open(directory, { create: true, lock });
  let held: boolean;
  try {
    held = await holdsRun(directory);
  } catch (error) {
    await takeAllQuietly([() => run.close()]);
    throw error;
  }
  if (!held) return run;
  await takeAllQuietly([() => run.close()]);
  throw new UsageError(
    `${directory} already holds a run: resume it with --resume ${pathWord(directory)}, or choose another --out.`,
  );
}

/**
 * Makes runs/<name of the first source>-<date and time, local>; of several runs that begin in the same second, the later ones
 * get a number.
 */
async function newDirectory(sources: readonly string[]): Promise<string> {
  const name = directoryName(sources);
  await makeDirectory('runs');
  for (let number = 1; ; number++) {
    const directory = join('runs', number === 1 ? name : `${name}-${number}`);
    try {
      await mkdir(directory);
      return directory;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw toDiskError(error, `make ${directory}`);
    }
  }
}

function directoryName(sources: readonly string[]): string {
  const { name: source } = readWeighted(sources[0] ?? 'bundled');
  const first = source === '-' ? 'stdin' : basename(source);
  const plain = first
    .replace(/\.[^.]*$/, '')
    .normalize('NFC')
    .replace(/[^\p{L}\p{M}\p{N}_]+/gu, '-');
  const name = [...plain.replace(/^-+|-+$/g, '')].slice(0, 60).join('') || 'corpus';
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, '0');
  const date = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `${name}-${date}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}

/** So that a run can be resumed from another working directory. */
function absolute(source: string): string {
  const { name } = readWeighted(source);
  return name !== '-' && existsSync(name) ? resolve(name) + source.slice(name.length) : source;
}

/** Whether standard input is among what is to be read. */
function readsInput(input: CorpusInput | undefined): boolean {
  return input !== undefined && isList(input) && input.some((source) => readWeighted(source).name === '-');
}
