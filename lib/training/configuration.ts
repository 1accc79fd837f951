/**
 * Where each option's value comes from: flag (or the library's caller) > environment > configuration file > the checkpoint
 * being resumed > preset > default.
 */

import { looking, show, textOf } from '../arguments';
import { CheckpointError, DataError, OptionError, UsageError } from '../errors';
import { FileProblem, readSmallFile, readSmallInput } from '../files';
import { levenshtein, nearest, optionSynonyms } from '../nearest';
import { flagOf, type Naming, option } from '../wording';
import { optimizers } from './optimizers';
import {
  type OptionDefinition,
  type OptionName,
  optionDefinitions,
  optionNames,
  showValue,
  type TrainingOptions,
  variableOf,
} from './options';
import { presetOptions, presets } from './presets';
import type { TrainingRequest } from './request';

/**
 * A complete configuration.
 *
 * @category Training
 */
export interface Configuration {
  readonly options: TrainingOptions;
  /** Where each value comes from: 'flag --hidden', 'CUDNN_LSTM_HIDDEN', 'my.json', 'checkpoint', 'preset fast' or 'default'. */
  readonly sources: Readonly<Record<OptionName, string>>;
  /** The corpus named in the configuration file, for when none is given as an argument. */
  readonly corpus?: readonly string[];
  /** The same for the validation text, and for fine-tuning the base model and the text to keep. */
  readonly validationFile?: readonly string[];
  readonly from?: string;
  readonly keep?: readonly string[];
}

/** Keys of a configuration file that name texts. */
export type TextKey = 'corpus' | 'keep' | 'validationFile';

/** Checked values from one source. */
interface Layer {
  readonly values: Partial<Record<OptionName, unknown>>;
  /** How an error message refers to where an option was given. */
  readonly place: (name: OptionName) => string;
  /** How `--print-config` does, if that is shorter. */
  readonly source?: string | undefined;
}

/** The contents of a configuration file or a checkpoint. */
export interface NamedValues {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface ConfigurationRequest {
  /** From the command line: text, or a boolean for a switch. */
  readonly flags?: Readonly<Record<string, string | boolean>> | undefined;
  /** From the library's caller: typed values; times may be seconds or text like '90s'. */
  readonly options?: Partial<TrainingOptions> | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly file?: NamedValues | undefined;
  /** The configuration recorded in the checkpoint being resumed. */
  readonly checkpoint?: NamedValues | undefined;
  /** The options of the base model, which of them cannot be changed, and where the model was named. */
  readonly base?: (NamedValues & { readonly fixed: readonly OptionName[]; readonly place: string }) | undefined;
}

/**
 * Combines the layers.
 *
 * @throws UsageError on an unknown key (with a suggestion of what was probably meant), a wrong type, a value out of range, or a value
 * that a resumed run cannot change. CheckpointError if the checkpoint's own record is at fault.
 */
export function resolveConfiguration(request: ConfigurationRequest): Configuration {
  const given = [
    flagLayer(request.flags ?? {}),
    typedLayer('options', request.options ?? {}, (name) => `option ${name}`),
    environmentLayer(request.env ?? {}),
    ...(request.file ? [fileLayer(request.file)] : []),
  ];
  const checkpoint = request.checkpoint && checkpointLayer(request.checkpoint);
  if (checkpoint) for (const layer of given) refuseFixed(layer, checkpoint);

  const base = request.base && baseLayer(request.base);
  if (request.base) for (const layer of given) refuseOtherModel(layer, request.base);

  const layers = [...given, ...(checkpoint ? [checkpoint] : []), ...(base ? [base] : [])];
  const preset = layers.find((layer) => layer.values.preset !== undefined)?.values.preset as
    | TrainingOptions['preset']
    | undefined;
  const options: Record<string, unknown> = { ...presetOptions(preset ?? 'fast') };
  const own = presets[preset ?? 'fast'];
  const optimizer = layers.find((layer) => layer.values.optimizer !== undefined)?.values.optimizer as
    | TrainingOptions['optimizer']
    | undefined;
  const ofOptimizer = optimizer === undefined ? {} : optimizers[optimizer].defaults;
  Object.assign(options, ofOptimizer);
  const sourceOf = (name: OptionName) =>
    name in ofOptimizer ? `optimizer ${optimizer}` : name in own ? `preset ${preset ?? 'fast'}` : 'default';
  const sources = Object.fromEntries(optionNames.map((name) => [name, sourceOf(name)])) as Record<OptionName, string>;
  for (const layer of [...layers].reverse()) {
    for (const name of optionNames) {
      if (layer.values[name] === undefined) continue;
      options[name] = layer.values[name];
      sources[name] = layer.source ?? layer.place(name);
    }
  }
  const corpus = listIn(request.file, 'corpus');
  const keep = listIn(request.file, 'keep');
  const validationFile = listIn(request.file, 'validationFile');
  const from = request.file?.values.from;
  if (from !== undefined && typeof from !== 'string') {
    throw new DataError(`from in ${request.file?.name} must be a checkpoint or a run's directory.`);
  }
  return {
    options: options as unknown as TrainingOptions,
    sources,
    ...(corpus ? { corpus } : {}),
    ...(keep ? { keep } : {}),
    ...(validationFile ? { validationFile } : {}),
    ...(from === undefined ? {} : { from }),
  };
}

/** The parts of a request that say where options and texts were given. */
type Given = Pick<TrainingRequest, 'configFile' | 'from' | 'keep' | 'validationFile'>;

/**
 * How an error message refers to where an option, a text or a model was given: its flag or its name in the API, its environment
 * variable, or its key in the configuration file.
 */
export function placeOf(
  name: OptionName | Exclude<keyof Given, 'configFile'>,
  { sources }: Pick<Configuration, 'sources'>,
  given: Given,
): string {
  const inFile = `${name} in ${given.configFile}`;
  if (name === 'from' || name === 'keep' || name === 'validationFile')
    return given[name] === undefined && given.configFile !== undefined ? inFile : option(name);
  return sources[name] === given.configFile ? inFile : sources[name];
}

/** The variable or the configuration file that gave an option, if one of them did. */
function giverOf(name: OptionName, sources: Configuration['sources'], configFile: string | undefined) {
  const source = sources[name];
  return source === variableOf(name) || source === configFile ? source : undefined;
}

/**
 * Names options with their values as whoever gave them wrote them: `CUDNN_LSTM_BATCH_SIZE=64`, `batchSize: 64 in my.json`, or as
 * {@link option} does. So does it name a value that nobody gave, which a message speaks of instead.
 */
export function namingOf(
  { options, sources }: Configuration,
  { configFile }: Pick<TrainingRequest, 'configFile'>,
): Naming {
  return (given) => {
    const named = Object.entries(given).map(([key, value]) => {
      const name = key as OptionName;
      const giver = options[name] === value ? giverOf(name, sources, configFile) : undefined;
      if (giver === undefined) return option({ [name]: value });
      return giver === configFile ? `${name}: ${value} in ${giver}` : `${giver}=${value}`;
    });
    return named.join(' ');
  };
}

/** An error about an option that a variable or a file gave names that instead of a flag that nobody wrote. */
export function placedError(error: unknown, { sources }: Configuration, given: Given): unknown {
  if (!(error instanceof OptionError) || !Object.hasOwn(sources, error.option)) return error;
  const name = error.option as OptionName;
  if (giverOf(name, sources, given.configFile) === undefined) return error;
  return new UsageError(`${placeOf(name, { sources }, given)} ${error.problem}`, { cause: error });
}

/** The options recorded in config.json and checkpoints; they can be read back as a configuration file. */
export function recordedOptions(options: TrainingOptions): Record<string, unknown> {
  const { out: _, ...kept } = options;
  return JSON.parse(JSON.stringify(kept)) as Record<string, unknown>;
}

/** Bytes; a configuration has fifty keys. */
const configurationLimit = 1 << 20;

/**
 * Reads a configuration file: one JSON object with option names as keys (`batchSize`), and optionally `corpus`.
 *
 * @throws DataError if it cannot be read or is not a JSON object.
 */
export async function readConfigurationFile(path: string, signal?: AbortSignal): Promise<NamedValues> {
  let content: string;
  try {
    content = (await readSmallInput(path, configurationLimit, signal)).toString();
  } catch (cause) {
    signal?.throwIfAborted();
    if (!(cause instanceof FileProblem)) throw cause;
    throw new DataError(`The configuration file ${cause.message}; give a JSON file, such as a run's config.json.`, {
      cause,
    });
  }
  return parseConfiguration(path, content);
}

const textNames: Readonly<Record<TextKey, string>> = {
  corpus: 'corpus',
  keep: 'text to keep',
  validationFile: 'validation text',
};

/**
 * The corpus named in the config.json of a run's directory, which a resumed run reads unless given another. Somebody else may have
 * written the file, so it is read only if it is a small regular one.
 *
 * @throws DataError if it cannot be read or names no corpus.
 */
export async function readRecordedCorpus(path: string, key: TextKey): Promise<readonly string[]> {
  let content: Buffer;
  try {
    content = await readSmallFile(path, configurationLimit);
  } catch (cause) {
    if (cause instanceof FileProblem) throw new DataError(cause.message, { cause });
    throw cause;
  }
  const corpus = listIn(parseConfiguration(path, content.toString()), key);
  if (corpus === undefined) throw new DataError(`${path} names no ${textNames[key]}`);
  return corpus;
}

function parseConfiguration(path: string, content: string): NamedValues {
  let values: unknown;
  try {
    values = JSON.parse(content);
  } catch (cause) {
    throw new DataError(`The configuration file ${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw new DataError(`The configuration file ${path} must hold one JSON object, like {"hidden": 128}.`);
  }
  return { name: path, values: values as Record<string, unknown> };
}

/** The lines of `--print-config`: option, value, source. */
export function describeConfiguration({ options, sources }: Configuration): string[] {
  const rows = optionNames.map((name) => [name, showValue(name, options[name]), sources[name]] as const);
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  return rows.map(
    ([name, value, source]) => `${name.padEnd(widths[0] ?? 0)}  ${value.padEnd(widths[1] ?? 0)}  ${source}`,
  );
}

function flagLayer(flags: Readonly<Record<string, string | boolean>>): Layer {
  const values: Partial<Record<OptionName, unknown>> = {};
  for (const [key, given] of Object.entries(flags)) {
    const name = knownName(key, `Unknown option ${key}`, flagOf);
    values[name] = typeof given === 'string' ? parse(name, given, flagOf(name)) : check(name, given, flagOf(name));
  }
  return { values, place: (name) => `flag ${flagOf(name)}` };
}

function environmentLayer(env: NodeJS.ProcessEnv): Layer {
  const values: Partial<Record<OptionName, unknown>> = {};
  const byVariable = new Map(optionNames.map((name) => [variableOf(name), name]));
  for (const [variable, given] of Object.entries(env)) {
    if (!variable.startsWith('CUDNN_LSTM_') || given === undefined || given === '') continue;
    textOf(variable, given);
    const name = byVariable.get(variable);
    if (name !== undefined) values[name] = parse(name, given, variable);
    else refuseMisspelled(variable, [...byVariable.keys()]);
  }
  return { values, place: variableOf };
}

/** Other parts of the package have their own variables, so only a name within two letters of an option's name is an error. */
function refuseMisspelled(variable: string, known: readonly string[]): void {
  const bare = (name: string) => name.slice('CUDNN_LSTM_'.length);
  const near = known.find((name) => levenshtein(bare(variable), bare(name)) <= Math.min(2, bare(variable).length / 3));
  if (near === undefined) return;
  throw new UsageError(`Unknown variable ${variable} in the environment; did you mean ${near}?`);
}

function fileLayer(file: NamedValues): Layer {
  const { corpus: _, keep: __, from: ___, validationFile: ____, ...values } = file.values;
  return typedLayer(file.name, values, (name) => `${name} in ${file.name}`, file.name);
}

function checkpointLayer({ name: path, values: recorded }: NamedValues): Layer {
  const values: Partial<Record<OptionName, unknown>> = {};
  const all: Readonly<Record<string, unknown>> = { optimizer: 'adam', ...recorded }; // Old checkpoints record none: there was only Adam.
  for (const name of optionNames) {
    if (all[name] === undefined || optionDefinitions[name].resume === 'fresh') continue;
    try {
      values[name] = check(name, all[name], name);
    } catch (cause) {
      throw new CheckpointError(`${path} cannot be resumed: in its configuration, ${(cause as Error).message}`, {
        cause,
      });
    }
  }
  return { values, place: () => 'checkpoint' };
}

function baseLayer({ name: path, values: recorded }: NamedValues): Layer {
  const values: Partial<Record<OptionName, unknown>> = {};
  for (const [name, value] of Object.entries(recorded)) {
    try {
      values[name as OptionName] = check(name as OptionName, value, name);
    } catch (cause) {
      throw new CheckpointError(`${path} cannot be trained further: its ${(cause as Error).message}`, { cause });
    }
  }
  return { values, place: () => path };
}

function typedLayer(
  where: string,
  given: Readonly<Record<string, unknown>>,
  what: (name: OptionName) => string,
  source?: string,
): Layer {
  const values: Partial<Record<OptionName, unknown>> = {};
  for (const [key, value] of Object.entries(given)) {
    const name = knownName(key, `Unknown key '${key}' in ${where}`, (near) => `'${near}'`);
    if (value !== undefined) values[name] = check(name, value, what(name));
  }
  return { values, place: what, source };
}

function knownName(key: string, problem: string, spelled: (name: OptionName) => string): OptionName {
  if (Object.hasOwn(optionDefinitions, key)) return key as OptionName;
  const near = nearest(key, optionNames, optionSynonyms) as OptionName | undefined;
  throw new UsageError(near === undefined ? `${problem}.` : `${problem}; did you mean ${spelled(near)}?`);
}

function parse(name: OptionName, given: string, place: string): unknown {
  const value = optionDefinitions[name].fromText(given);
  return value === undefined ? refuse(name, given, place) : check(name, value, place, given);
}

function check(name: OptionName, value: unknown, place: string, shown: unknown = value): unknown {
  const result = looking(place, () => optionDefinitions[name].schema.safeParse(value));
  return result.success ? result.data : refuse(name, shown, place);
}

function refuse(name: OptionName, shown: unknown, place: string): never {
  throw new UsageError(`${place} must be ${optionDefinitions[name].expects}, not ${show(shown)}.`);
}

function refuseFixed(layer: Layer, checkpoint: Layer): void {
  for (const name of optionNames) {
    const definition: OptionDefinition = optionDefinitions[name];
    const [asked, recorded] = [layer.values[name], checkpoint.values[name]];
    if (definition.resume !== 'fixed' || asked === undefined || recorded === undefined || asked === recorded) continue;
    throw new UsageError(
      `${layer.place(name)}: a resumed run stays as it was begun, with ${showValue(name, recorded)}, so ${showValue(name, asked)} is ` +
        'impossible; leave it out, or start a new run.',
    );
  }
}

function refuseOtherModel(layer: Layer, base: NonNullable<ConfigurationRequest['base']>): void {
  for (const name of base.fixed) {
    const [asked, given] = [layer.values[name], base.values[name]];
    if (asked === undefined || asked === given) continue;
    throw new UsageError(
      `${layer.place(name)}: the model of ${base.name} was begun with ${showValue(name, given)}, so ${showValue(name, asked)} is ` +
        `impossible; leave it out, or begin a new model without ${base.place}.`,
    );
  }
}

function listIn(named: NamedValues | undefined, key: TextKey): readonly string[] | undefined {
  const list = named?.values[key];
  if (list === undefined) return undefined;
  if (Array.isArray(list) && list.every((source) => typeof source === 'string')) return list;
  throw new DataError(`${key} in ${named?.name} must be a list of files, such as ["book.txt"].`);
}
