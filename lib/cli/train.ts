/** `train`: trains a model on a text. */
import { Command, Option } from 'commander';
import { readWeighted } from '../corpus/weighted';
import { CudnnLstmError, exitCodes, UsageError } from '../errors';
import { LanguageModel, nativeOf } from '../model';
import { distributedChoices, type JoinOptions } from '../ranks/join';
import { copyLines, findCopies, mostChecked } from '../sampling/copies';
import type { ModelServer } from '../serve/server';
import { pauseOf } from '../sweep/pause';
import { describeConfiguration } from '../training/configuration';
import { configureTraining } from '../training/configuring';
import { drawSample } from '../training/epoch-sample';
import type { EndEvent } from '../training/events';
import { type OptionDefinition, type OptionName, optionDefinitions, optionNames, showValue } from '../training/options';
import { describePlan, planTraining } from '../training/plan';
import { openTraining } from '../training/preparation';
import { presetOptions } from '../training/presets';
import { deviceOf } from '../training/rank-devices';
import { readRequest, type TrainingRequest } from '../training/request';
import { type Training, trainerOf } from '../training/training';
import { flagOf } from '../wording';
import { abortOnSignals, type CommandIo, parseArguments, processIo } from './command';
import { endWithParent, readDevices, runRanks, withoutDevices } from './devices';
import { printJson, printLine, say } from './output';
import { amongRanks, refuse } from './ranks';
import { createPrinter } from './training-printer';

/** Options that only the command has. */
interface CommandOptions {
  resume?: string | true;
  from?: string;
  keep?: string;
  validationFile?: string;
  config?: string;
  json?: boolean;
  dryRun?: boolean;
  printConfig?: boolean;
  page?: string | true;
  distributed?: JoinOptions['distributed'];
  devices?: string;
}

/** Reads the arguments, as far as possible without reading a file. */
function read(argv: string[]) {
  const command = parseArguments(syntax(), argv);
  const { keep, page, devices, ...rest } = command.opts<CommandOptions & Record<string, string | boolean>>();
  const { resume, from, validationFile, config, json, dryRun, printConfig, distributed, ...flags } = rest;
  if (devices !== undefined && flags.device !== undefined)
    throw new UsageError('--devices and --device both say what computes; give one of them.');
  return {
    ...{ corpus: command.args, resume, from, validationFile, config, json, dryRun, printConfig, distributed, flags },
    kept: keep === undefined ? undefined : readKept(keep, flags),
    port: page === undefined ? undefined : readPort(page),
    gpus: devices === undefined ? undefined : readDevices(devices),
  };
}

/** The command; see `train --help`. */
export async function trainCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  let given: ReturnType<typeof read>;
  try {
    given = read(argv);
  } catch (error) {
    return await refuse(error, io);
  }
  const { corpus, flags, resume, from, kept, validationFile, config, json, dryRun, printConfig, port, gpus } = given;
  if (gpus !== undefined) {
    const same = [require.resolve('./main'), 'train', ...withoutDevices(argv)];
    if (gpus.length > 1) return await runRanks(gpus, [...same, '--device', 'cuda']);
    flags.device = `cuda:${gpus[0]}`;
  }
  endWithParent();
  using interrupt = abortOnSignals(io);
  const request: Omit<TrainingRequest, 'ranks' | 'onNote'> = {
    corpus,
    flags: { ...flags, ...kept?.flags },
    env: process.env,
    configFile: config,
    resume,
    from,
    keep: kept?.corpus,
    validationFile: validationFile === undefined ? undefined : [validationFile],
    signal: interrupt.signal,
  };
  const trainWithPage: typeof printPlan = (...args) => train(...args, port);
  const run = printConfig ? printConfiguration : dryRun ? printPlan : trainWithPage;
  // Awaited, or the default handling of signals would be restored.
  return await amongRanks({ distributed: given.distributed }, io, (own, ranks) => {
    const onNote = (line: string) => say(own.stderr, line);
    return run({ ...request, onNote, ranks }, json === true, own);
  });
}

/** `old.txt:0.2` means `old.txt` and `--keep-share 0.2`. */
function readKept(keep: string, flags: Readonly<Record<string, unknown>>) {
  const { name, weight } = readWeighted(keep);
  if (weight !== undefined && flags.keepShare !== undefined) {
    throw new UsageError(`--keep ${keep} and --keep-share both say the share; give one of them.`);
  }
  return { corpus: [name], flags: weight === undefined ? {} : { keepShare: String(weight) } };
}

/** Milliseconds after which a message says that the corpus is being read. */
const longReading = 2000;

async function train(request: TrainingRequest, json: boolean, io: CommandIo, port?: number): Promise<number> {
  const pauseEpoch = pauseOf(process.env);
  await using training = await opened(request, io);
  const printer = createPrinter(io, json);
  await using page = new TrainingPage(port, io);
  let end: EndEvent | undefined;
  let sample: { prompt: string; text: string } | undefined;
  let copies: readonly string[] = [];
  try {
    for await (const event of training) {
      if (event.type === 'end') end = event;
      if (event.type === 'start' && request.ranks?.first !== false)
        await page.open(event.out, training.configuration.options.threads);
      await printer.print(event);
      // To its handler at once: one that is sent would arrive some steps later.
      if (event.type === 'epoch' && event.epoch >= pauseEpoch) process.emit('SIGTERM', 'SIGTERM');
    }
    if (end && !json && request.ranks?.first !== false) sample = await sampleOfBest(training, end, request, io);
    if (sample) copies = await copiesIn(training, sample.text, request.signal);
  } finally {
    printer.close();
    if (end) await printer.conclude(end, sample, copies);
  }
  return exitCodes.ok;
}

/** Characters of the longest corpus that the last sample is compared with: takes some seconds. */
const mostCompared = 50_000_000;

/** How much of a sample is in the corpus; nothing for bytes, whose sample is text that may stand for other bytes. */
async function copiesIn(training: Training, text: string, signal: AbortSignal | undefined): Promise<string[]> {
  const { corpus, model } = training;
  if (corpus.length > mostCompared || model.ofBytes) return [];
  const ids = model.vocabulary.encode(text.slice(0, mostChecked));
  return copyLines(await findCopies([ids], corpus.ids, signal), [text]);
}

/** The run's page during training: it ends with the training, and `serve` shows it again. */
class TrainingPage implements AsyncDisposable {
  readonly #port: number | undefined;
  readonly #io: CommandIo;
  #server: ModelServer | undefined;

  constructor(port: number | undefined, io: CommandIo) {
    this.#port = port;
    this.#io = io;
  }

  async open(run: string | undefined, threads: number | undefined): Promise<void> {
    if (this.#port === undefined || run === undefined) return;
    const { serveModels } = require('../serve/server') as typeof import('../serve/server');
    // The CPU: a GPU and its memory are left to the training.
    const options = { port: this.#port, device: 'cpu', threads, watch: true, grace: 0 } as const;
    this.#server = await serveModels([run], { ...options, log: (line) => say(this.#io.stderr, line) });
    say(this.#io.stderr, `page: ${this.#server.url}/`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.close();
  }
}

function readPort(page: string | true): number {
  const port = page === true ? 8080 : Number(page);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new UsageError(`--page takes a port from 0 to 65,535, not '${page}'.`);
}

async function opened(request: TrainingRequest, io: CommandIo): Promise<Training> {
  const timer = setTimeout(() => say(io.stderr, 'reading the text ...'), longReading);
  try {
    return await openTraining(request);
  } finally {
    clearTimeout(timer);
  }
}

/** A sample from the best checkpoint, twice as long as those of the epochs; undefined if there is nothing new to show. */
async function sampleOfBest(
  training: Training,
  end: EndEvent,
  { ranks, signal }: TrainingRequest,
  io: CommandIo,
): Promise<{ prompt: string; text: string } | undefined> {
  const { options, split } = trainerOf(training);
  const { best } = end;
  if (best?.path === undefined || end.newSteps === 0 || options.sampleLength === 0) return undefined;
  training.model.dispose(); // Frees its memory for the other one.
  const longer = { ...options, sampleLength: 2 * options.sampleLength };
  try {
    const { precision, check } = options;
    const device = deviceOf(options.device, ranks);
    const threads = options.threads ?? ranks?.threads;
    using model = await LanguageModel.load(best.path, { device, threads, precision, check, signal });
    return await drawSample(
      nativeOf(model),
      model.vocabulary,
      training.corpus.ids,
      split.training,
      0, // Draws of its own: the epoch's sample has already been shown.
      longer,
      signal,
    );
  } catch (error) {
    // Training is done and saved: a checkpoint that was moved, or a lack of memory, does not make it fail.
    if (signal?.aborted || !(error instanceof CudnnLstmError)) throw error;
    say(io.stderr, `no sample of the best checkpoint: ${error.message}`);
    return undefined;
  }
}

async function printConfiguration(request: TrainingRequest, json: boolean, io: CommandIo): Promise<number> {
  await using configured = await configureTraining(readRequest({ ...request, save: false }));
  const { configuration } = configured;
  const { options, sources } = configuration;
  if (json) {
    const entries = optionNames.map((name) => [name, { value: options[name] ?? null, source: sources[name] }]);
    await printJson(io.stdout, Object.fromEntries(entries));
  } else {
    for (const line of describeConfiguration(configuration)) await printLine(io.stdout, line);
  }
  return exitCodes.ok;
}

async function printPlan(request: TrainingRequest, json: boolean, io: CommandIo): Promise<number> {
  await using training = await opened({ ...request, save: false }, io);
  const plan = await planTraining(training, request.signal);
  if (json) await printJson(io.stdout, plan);
  else for (const line of describePlan(plan)) await printLine(io.stdout, line);
  return exitCodes.ok;
}

/** The options in the order in which users think of them. */
const helpGroups: Readonly<Record<string, readonly OptionName[]>> = {
  'Model:': ['preset', 'layers', 'hidden', 'input', 'embeddingSize', 'dropout', 'freeze', 'seed'],
  'Training:': ['epochs', 'batchSize', 'seqLength', 'target', 'optimizer', 'learningRate', 'schedule', 'warmup'],
  'Training, in detail:': [
    'finalLearningRate',
    'decayEvery',
    'decayFactor',
    'decayShare',
    'scheduleTime',
    'beta1',
    'beta2',
    'epsilon',
    'momentum',
    'weightDecay',
    'clip',
  ],
  'Validation and stopping:': ['validation', 'validationPlaces', 'validationEvery', 'patience', 'maxTime'],
  'Text:': ['lines', 'bytes', 'minCount', 'lowercase', 'normalize', 'encoding', 'gutenberg', 'keepShare'],
  'Output:': ['out', 'lock', 'saveEvery', 'checkpointName', 'sampleLength', 'sampleTemperature'],
  'Machine:': ['device', 'threads', 'precision', 'algorithm', 'check'],
};

function helpGroupOf(name: OptionName): string {
  return Object.keys(helpGroups).find((group) => helpGroups[group]?.includes(name)) ?? 'More:';
}

function syntax(): Command {
  const command = new Command('train')
    .description('Train a character-level LSTM on a text. Progress goes to stderr, samples to stdout.')
    .argument(
      '[corpus...]',
      "files, directories, globs, '-' for stdin, or 'alice'; a.txt:2 counts twice; without any, the tale that comes with the package",
    )
    .option('--resume [dir]', 'continue the run in this directory, else in that of --out, else the newest in runs/')
    .option('--from <checkpoint>', "fine-tune: start from the weights of a checkpoint, or of a run's best one")
    .option(
      '--keep <file[:share]>',
      'with --from: mix in this text so that the model does not forget it (default share: 0.2)',
    )
    .addOption(
      new Option(
        '--validation-file <file>',
        'validate on this text (or directory, or glob) instead of a share of the corpus',
      ).helpGroup('Validation and stopping:'),
    )
    .option('--config <file>', "read options from a JSON file, such as a run's config.json")
    .option('--page [port]', 'show the run in a browser while it trains (default port: 8080)')
    .option('--json', 'print one JSON object per line on stdout instead of progress and samples')
    .option('--dry-run', 'print the plan, with the time of a measured step, and exit')
    .addOption(
      new Option(
        '--distributed <how>',
        'how processes started by mpirun, srun or torchrun train one model together (default: $CUDNN_LSTM_DISTRIBUTED, else auto)',
      )
        .choices(distributedChoices)
        .helpGroup('Machine:'),
    )
    .addOption(
      new Option(
        '--devices <list>',
        'train on several GPUs of this machine, one process each: cuda:0,1 (--batch-size is the total)',
      ).helpGroup('Machine:'),
    )
    .option('--print-config', 'print every option, its value and where it comes from, and exit');
  const initialOptions = presetOptions('fast');
  const names = [...optionNames].sort((a, b) => groupOrder(a) - groupOrder(b));
  for (const name of names) {
    const definition: OptionDefinition = optionDefinitions[name];
    const initial = initialOptions[name] === undefined ? '' : ` (default: ${showValue(name, initialOptions[name])})`;
    const value = definition.placeholder === undefined ? '' : ` <${definition.placeholder}>`;
    const help = `${definition.help}${initial}`;
    const { helpOfNo } = definition;
    command.addOption(
      new Option(`${flagOf(name)}${value}`, help).helpGroup(helpGroupOf(name)).hideHelp(helpOfNo !== undefined),
    );
    if (value !== '') continue;
    const no = new Option(flagOf(name).replace('--', '--no-'), helpOfNo ?? `not: ${definition.help}`);
    command.addOption(no.helpGroup(helpGroupOf(name)).hideHelp(helpOfNo === undefined));
  }
  return command.addHelpText(
    'after',
    `
Examples:
  cudnn-lstm train book.txt --out runs/book
  cudnn-lstm train book.txt --max-time 10m --page
  cudnn-lstm train --resume runs/book --epochs 32
  cudnn-lstm train chapters/ --hidden 512 --dropout 0.4 --dry-run
  mpirun -n 4 node_modules/.bin/cudnn-lstm train book.txt --batch-size 128
  cudnn-lstm train letters.txt --from runs/book --keep book.txt:0.2

What is not given as a flag is taken from CUDNN_LSTM_<OPTION> in the
environment, then from --config, then from the run being resumed, then from the
preset. A run's directory gets checkpoints, metrics.jsonl and config.json.`,
  );
}

function groupOrder(name: OptionName): number {
  const group = Object.values(helpGroups).findIndex((names) => names.includes(name));
  return group < 0 ? optionNames.length : group;
}
