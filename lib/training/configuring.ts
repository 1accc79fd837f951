/** Turns a request into a configuration: options from every source, the run to resume or the base model, and checks across options. */
import { checkEncoding } from '../corpus/decode';
import { takeAllQuietly } from '../endings';
import { UsageError } from '../errors';
import { share, together } from '../ranks/ranks';
import { option, subject } from '../wording';
import { checkPlannable } from './best-measure';
import { type Configuration, placeOf, readConfigurationFile, resolveConfiguration } from './configuration';
import { type Base, checkFrozen, openBase, optionsOfBase } from './fine-tuning';
import type { OptionName } from './options';
import type { TrainingRequest } from './request';
import { openResumedRun, type ResumedRun } from './resuming';

/** A configuration, and the run to resume or the base model. */
export interface ConfiguredTraining extends AsyncDisposable {
  readonly configuration: Configuration;
  readonly resumed: ResumedRun | undefined;
  /** The model to start from. */
  readonly base: Base | undefined;
}

/** Resolves the configuration. A run to resume is opened, since its checkpoint fixes some of the options. */
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
        checkPlannable(configuration, request, false);
        return { configuration, base: undefined, ...none };
      }
      const base = await openBase(from);
      const place = placeOf('from', configuration, request);
      const given = { ...layers, base: { name: base.path, place, ...optionsOfBase(base.metadata) } };
      const tuned = checkTogether(resolveConfiguration(given), request);
      checkPlannable(tuned, request, true);
      checkFrozen(tuned.options, placeOf('freeze', tuned, request));
      return { configuration: tuned, base, ...none };
    });
  }
  if (request.from !== undefined) {
    throw new UsageError(
      `${option('from')} begins a new run with the weights of a checkpoint, and ${option('resume')} continues a run: give one of them.`,
    );
  }
  const { resume } = request;
  let own: ResumedRun | undefined;
  try {
    const shared = await share(ranks, 'resume', async () => {
      own = await openResumedRun(resume, configuration, request);
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
 * Returns the configuration, with no share held out if there is a validation text.
 *
 * @throws UsageError for incompatible options.
 */
function checkTogether(configuration: Configuration, request: TrainingRequest): Configuration {
  const { options, sources } = configuration;
  const place = (name: OptionName | 'validationFile') => placeOf(name, configuration, request);
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
        `${place('bytes')}: bytes are taken as they are, and ${place(other)} asks for something else: leave one of them out.`,
      );
    }
  }
  if (options.lines && options.target === 'last') {
    throw new UsageError(
      `${place('lines')}: single lines are trained on with ${option({ target: 'every' })}, and ${place('target')} says last: leave one of them out.`,
    );
  }
  if ((request.validationFile ?? configuration.validationFile) === undefined) return configuration;
  const inFile = request.validationFile === undefined ? request.configFile : undefined;
  for (const name of ['validation', 'validationPlaces'] as const) {
    const given = !/^(?:default|preset \w+(?:-\w+)*|checkpoint)$/.test(sources[name]);
    if (!given || options[name] === 0) continue;
    throw new UsageError(
      `${place(name)}: it holds a part of the corpus out, and ${place('validationFile')} names another text to validate on: leave one of them out.`,
    );
  }
  return {
    ...configuration,
    options: { ...options, validation: 0 },
    sources: { ...sources, validation: inFile ?? subject('validationFile') },
  };
}

function refuseWithoutBase(request: TrainingRequest, configuration: Configuration): void {
  const { options, keep } = configuration;
  const place = (name: 'freeze' | 'keep') => placeOf(name, configuration, request);
  const problem =
    options.freeze > 0
      ? `${place('freeze')}: fresh weights would stay as they are`
      : (request.keep ?? keep) !== undefined
        ? `${place('keep')} keeps what a model knows already`
        : undefined;
  if (problem === undefined) return;
  throw new UsageError(`${problem}; name the model to begin with: ${option({ from: 'CHECKPOINT' })}.`);
}
