/** `train`: trains a model on a text. */
import { Command, Option } from 'commander';
import { exitCodes } from '../errors';
import { describeConfiguration } from '../training/configuration';
import { flagOf, type OptionDefinition, optionDefinitions, optionNames, showValue } from '../training/options';
import { describePlan, planTraining } from '../training/plan';
import { configureTraining, openTraining, type TrainingRequest } from '../training/preparation';
import { presetOptions } from '../training/presets';
import { abortOnSignals, type CommandIo, parseArguments, processIo, writeAndDrain } from './command';
import { createPrinter } from './training-printer';

/** Options of the command alone. */
interface CommandOptions {
  resume?: string | true;
  config?: string;
  json?: boolean;
  dryRun?: boolean;
  printConfig?: boolean;
}

/** The command; see `train --help`. */
export async function trainCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const { resume, config, json, dryRun, printConfig, ...flags } = command.opts<
    CommandOptions & Record<string, string | boolean>
  >();
  using interrupt = abortOnSignals(io);
  const request: TrainingRequest = {
    corpus: command.args,
    flags: flags as Record<string, string | boolean>,
    configFile: config,
    resume,
    signal: interrupt.signal,
  };
  const run = printConfig ? printConfiguration : dryRun ? printPlan : train;
  return await run(request, json === true, io); // Awaited, or the signals would have their default handling back.
}

async function train(request: TrainingRequest, json: boolean, io: CommandIo): Promise<number> {
  await using training = await openTraining(request);
  const printer = createPrinter(io, json);
  try {
    for await (const event of training) await printer.print(event);
  } finally {
    printer.close();
  }
  return exitCodes.ok;
}

async function printConfiguration(request: TrainingRequest, json: boolean, io: CommandIo): Promise<number> {
  await using configured = await configureTraining(request);
  const { configuration } = configured;
  const { options, sources } = configuration;
  const lines = json
    ? [
        JSON.stringify(
          Object.fromEntries(optionNames.map((k) => [k, { value: options[k] ?? null, source: sources[k] }])),
        ),
      ]
    : describeConfiguration(configuration);
  await writeAndDrain(io.stdout, `${lines.join('\n')}\n`);
  return exitCodes.ok;
}

async function printPlan(request: TrainingRequest, json: boolean, io: CommandIo): Promise<number> {
  await using training = await openTraining(request, true);
  const plan = await planTraining(training, request.signal);
  await writeAndDrain(io.stdout, `${json ? JSON.stringify(plan) : describePlan(plan).join('\n')}\n`);
  return exitCodes.ok;
}

function syntax(): Command {
  const command = new Command('train')
    .description('Train a character-level LSTM on a text. Progress goes to stderr, samples to stdout.')
    .argument('[corpus...]', "files, directories, globs, '-' or 'alice'; none: the text that the package brings")
    .option('--resume [dir]', 'go on with a run: its directory, or that of --out, or the newest one in runs/')
    .option('--config <file>', 'options from a JSON file, such as the config.json of a run')
    .option('--json', 'one JSON object a line on stdout instead of progress and samples')
    .option('--dry-run', 'print what would be done, with a measured step, and end')
    .option('--print-config', 'print every option with its value and where that comes from, and end');
  const initialOptions = presetOptions('fast');
  for (const name of optionNames) {
    const definition: OptionDefinition = optionDefinitions[name];
    const initial = initialOptions[name] === undefined ? '' : ` (default: ${showValue(name, initialOptions[name])})`;
    const value = definition.placeholder === undefined ? '' : ` <${definition.placeholder}>`;
    command.addOption(new Option(`${flagOf(name)}${value}`, `${definition.help}${initial}`));
    if (value === '')
      command.addOption(new Option(flagOf(name).replace('--', '--no-'), `not: ${definition.help}`).hideHelp());
  }
  return command.addHelpText(
    'after',
    '\nWhat is not given as a flag is taken from CUDNN_LSTM_<OPTION> in the environment, then from --config, then from the run\n' +
      'being resumed, then from the preset. A run writes checkpoints, metrics.jsonl and config.json into its directory.',
  );
}
