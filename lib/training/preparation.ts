/** Turns a request into a trainer that is ready to run: configuration, corpus, model, run directory, checkpoint. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type CheckpointMetadata, type ModelShape, vocabularyOf } from '../checkpoint/checkpoint';
import type { RunDirectory } from '../checkpoint/run-directory';
import { type Corpus, type CorpusInput, type CorpusOptions, isList, openCorpus } from '../corpus/corpus';
import { corpusName } from '../corpus/names';
import { readWeighted } from '../corpus/weighted';
import { loadNative } from '../device/native';
import { takeAllQuietly } from '../endings';
import { UsageError } from '../errors';
import { LanguageModel, nativeOf } from '../model';
import { share, together } from '../ranks/ranks';
import { packageVersion } from '../version';
import { isToBePlanned, planConfiguration } from './best-measure';
import { type Configuration, namingOf, placedError, placeOf, recordedOptions } from './configuration';
import { configureTraining } from './configuring';
import { divideCorpus } from './division';
import { type Base, growParameters, scalarCannotGrow } from './fine-tuning';
import { checkNewRun, createRun, keepKnownLines, newDirectory } from './new-run';
import type { TrainingOptions } from './options';
import { trainable } from './parts';
import { agreeOnNccl, deviceOf } from './rank-devices';
import { readRequest, type TrainingRequest } from './request';
import { checkTexts, type ResumedRun, recordedSources, type Texts } from './resuming';
import { compareRanks, type Identity } from './same';
import { checkShares } from './shares';
import { Trainer } from './trainer';
import { Training } from './training';

/**
 * Opens everything that training needs and checks that it fits together. Training starts only when the result is iterated over.
 *
 * @throws UsageError, DataError, CheckpointError, DeviceError, OutOfMemoryError or DiskError, each with one line that says what
 * is wrong and what to do.
 * @category Training
 */
export async function openTraining(given: TrainingRequest = {}): Promise<Training> {
  const request = readRequest(given);
  if (request.nativeBinding !== undefined) loadNative(request.nativeBinding);
  const configured = await configureTraining(request);
  const { resumed, base } = configured;
  let { configuration } = configured;
  let { options } = configuration;
  const { ranks } = request;
  const dry = request.save === false;
  const undo: (() => unknown)[] = [() => configured[Symbol.asyncDispose]()];
  try {
    const { out } = options;
    if (dry && !resumed && out !== undefined) await share(ranks, 'directory', () => checkNewRun(out));
    const named = await nameTexts(request, configuration, resumed);
    const nccl = ranks && (await agreeOnNccl(ranks, options.device, request.onNote));
    const naming = namingOf(configuration, request);
    const { corpus, kept, validation, division, model, newSymbols } = await together(ranks, 'model', async () => {
      if (ranks) {
        checkShares(options.batchSize, ranks.size, naming);
        if (Object.values(named).some(readsInput))
          throw new UsageError(
            'Standard input reaches rank 0 alone: give the text as a file that every rank can read, in place of -.',
          );
      }
      const reading = readingOptions(options, resumed, base, request.signal);
      const corpus = await openCorpus(named.corpus, { ...reading, weights: true });
      undo.push(() => corpus.close());
      const openBeside = async (text: CorpusInput | undefined) => {
        if (text === undefined) return undefined;
        const opened = await openCorpus(text, { ...reading, vocabulary: corpus.vocabulary, unknown: 'skip' });
        undo.push(() => opened.close());
        return opened;
      };
      const kept = await openBeside(named.keep);
      const validation = await openBeside(named.validationFile);
      if (validation === undefined)
        options = { ...options, validationPlaces: placesOf(options, corpus, resumed !== undefined) };
      if (!resumed && isToBePlanned(configuration)) {
        const create = (sized: TrainingOptions) => createModel(corpus, sized, request, undefined, undefined, undefined);
        const planned = await planConfiguration({ ...configuration, options }, corpus, create, naming, request.signal);
        configuration = planned.configuration;
        options = configuration.options;
        for (const line of planned.lines) request.onNote?.(line);
      }
      // Find whatever is wrong with the texts before allocating memory on a device.
      if (resumed) checkTexts(resumed, { corpus, kept, validation }, (name) => placeOf(name, configuration, request));
      const division = await divideCorpus(corpus, { ...options, named: naming }, { kept, validation });
      const newSymbols = base ? corpus.vocabulary.symbols.slice(base.vocabulary.size) : [];
      if (base?.metadata.model.input === 'scalar' && newSymbols.length > 0)
        throw scalarCannotGrow(base.path, newSymbols, placeOf('from', configuration, request));
      const model = await createModel(corpus, options, request, base, resumed?.checkpoint.metadata, nccl);
      undo.push(() => model.dispose());
      return { corpus, kept, validation, division, model, newSymbols };
    });
    if (ranks)
      await compareRanks(ranks, identityOf({ corpus, kept, validation }, options, model.device), nativeOf(model));
    let run: RunDirectory | undefined;
    if (!dry && !resumed) {
      await share(ranks, 'directory', async () => {
        const opened = await createRun(
          options.out ?? (await newDirectory(isList(named.corpus) ? named.corpus : corpus.sources)),
          options.lock,
        );
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
        ...recordedTexts(named),
        ...(base ? { from: resolve(base.path) } : {}),
      });
      return made;
    });
    const beside = [kept, validation].filter((text) => text !== undefined);
    return new Training({ configuration, corpus, model, run: run ?? resumed?.run }, trainer, beside);
  } catch (error) {
    await takeAllQuietly(undo.reverse());
    throw placedError(error, configuration, request);
  }
}

/** The texts of a training run, as names or as the texts themselves. */
interface NamedTexts {
  readonly corpus: CorpusInput;
  readonly keep: CorpusInput | undefined;
  readonly validationFile: CorpusInput | undefined;
}

/** The texts named by the request, else by the configuration file, else those recorded by the resumed run. */
async function nameTexts(
  { corpus: asked, keep, validationFile, ranks }: TrainingRequest,
  configuration: Configuration,
  resumed: ResumedRun | undefined,
): Promise<NamedTexts> {
  const given = isList(asked) && asked.length === 0 ? undefined : asked;
  const { keptSha256, validationSha256 } = resumed?.checkpoint.metadata.training ?? {};
  const recorded = async () => configuration.corpus ?? (resumed ? recordedSources(resumed) : []);
  const recordedBeside = (key: 'keep' | 'validationFile', sha256: string | undefined) => async () =>
    configuration[key] ?? (resumed && sha256 !== undefined ? recordedSources(resumed, key) : undefined);
  return {
    corpus: given ?? (await share(ranks, 'sources', recorded)),
    keep: keep ?? (await share(ranks, 'sources', recordedBeside('keep', keptSha256))),
    validationFile:
      validationFile ?? (await share(ranks, 'sources', recordedBeside('validationFile', validationSha256))),
  };
}

/** The names for config.json, made absolute so that a run can be resumed from another working directory. */
function recordedTexts(named: NamedTexts): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(named).flatMap(([key, text]): [string, string[]][] =>
      isList(text) ? [[key, text.map(absolute)]] : [],
    ),
  );
}

/** A resumed run from a version without `validationPlaces` has its validation text at the end. */
function placesOf(
  { validationPlaces, lines }: TrainingOptions,
  { sources }: Corpus,
  resumed: boolean,
): number | undefined {
  if (lines) return undefined;
  return validationPlaces ?? (sources.length > 1 && !resumed ? 10 : 1);
}

/** How to read the texts of a run. */
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
    // Unknown symbols mean that this is not the run's text; checkTexts reports that error.
    ...(resumed ? { vocabulary: vocabularyOf(resumed.checkpoint.metadata), unknown: 'skip' } : {}),
    ...(signal ? { signal } : {}),
  };
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
    // The parts of an existing model's shape that no option sets.
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

function absolute(source: string): string {
  const { name } = readWeighted(source);
  return name !== '-' && existsSync(name) ? resolve(name) + source.slice(name.length) : source;
}

/** Whether the input includes standard input. */
function readsInput(input: CorpusInput | undefined): boolean {
  return input !== undefined && isList(input) && input.some((source) => readWeighted(source).name === '-');
}
