/** `reproduce`: repeats the reference's three runs and reports them in the format of its notes. */
import { join } from 'node:path';
import { Command } from 'commander';
import { makeDirectory, writeFileAtomically } from '../checkpoint/disk';
import { exitCodes, UsageError } from '../errors';
import { plural } from '../numbers';
import { renderHtml } from '../report/html';
import { renderMarkdown } from '../report/markdown';
import { defaultRuns, type Reproduction, reproduce } from '../report/reproduction';
import { parseDuration } from '../training/duration';
import type { TrainingOptions } from '../training/options';
import {
  abortOnSignals,
  addDeviceOptions,
  type CommandIo,
  type DeviceOptions,
  numberOption,
  parseArguments,
  processIo,
} from './command';
import { printJson, printLine, say } from './output';
import { ScoringProgress } from './scoring-progress';
import { createPrinter } from './training-printer';

interface ReproduceCommandOptions extends DeviceOptions {
  runs: number[];
  out: string;
  maxTime?: number;
  seed: number;
  shared?: boolean;
  scoreEvery?: number;
  json?: boolean;
}

/** The command; see `reproduce --help`. `overrides` make the recipe smaller, for tests. */
export async function reproduceCommand(
  argv: string[],
  io: CommandIo = processIo,
  overrides: Partial<TrainingOptions> = {},
): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const { json, ...options } = command.opts<ReproduceCommandOptions>();
  using interrupt = abortOnSignals(io);
  const printer = createPrinter({ ...io, stdout: io.stderr }, false);
  let scoring: ScoringProgress | undefined;
  const note = (line: string) => {
    scoring?.clear();
    scoring = undefined;
    say(io.stderr, line);
  };
  let paths: string[] = [];
  try {
    const report = await reproduce({
      ...options,
      corpus: command.args,
      overrides,
      signal: interrupt.signal,
      onNote: note,
      onScored: (done, total) => {
        scoring ??= new ScoringProgress(io.stderr);
        scoring.update(done, total);
      },
      onEvent: async (epochs, event) => {
        if (event.type === 'start') note(`--- ${plural(epochs, 'epoch')} ---`);
        await printer.print(event);
      },
      onReport: async (report) => {
        paths = await writeReport(options.out, report);
      },
    });
    if (json) await printJson(io.stdout, report);
    else for (const path of paths) await printLine(io.stdout, path);
  } finally {
    scoring?.clear();
    printer.close();
  }
  interrupt.signal.throwIfAborted();
  return exitCodes.ok;
}

/** Writes REPORT.md, report.html, and report.json, which holds what they show. */
async function writeReport(directory: string, report: Reproduction): Promise<string[]> {
  const files = {
    'REPORT.md': renderMarkdown(report),
    'report.html': await renderHtml(report),
    'report.json': `${JSON.stringify(report, null, 2)}\n`,
  };
  await makeDirectory(directory);
  const paths: string[] = [];
  for (const [name, text] of Object.entries(files)) {
    const path = join(directory, name);
    await writeFileAtomically(path, [Buffer.from(text)]);
    paths.push(path);
  }
  return paths;
}

function syntax(): Command {
  const whole = (name: string) => numberOption(name, { integer: true });
  const command = new Command('reproduce')
    .description(
      "Train with the preset proj-basic, exactly the reference's recipe, once for each of its three runs, and write REPORT.md, " +
        'report.html and report.json: its figures beside ours. The same command continues it.',
    )
    .argument('[corpus...]', "files, directories, globs or 'alice' (default: alice)")
    .option('--runs <epochs>', 'which of the runs, by their numbers of epochs', runsOption, defaultRuns)
    .option(
      '--shared',
      'train only the longest run: the learning rate is constant, so the shorter ones are its beginning',
    )
    .option('--out <directory>', 'directory of the runs and the report', join('runs', 'reproduction'))
    .option(
      '--max-time <time>',
      'stop training after this long in total and report what has been reached; 0: only report',
      durationOption,
    )
    .option('--seed <n>', 'a run of E epochs trains with seed n + E; with --shared, with n', whole('--seed'), 0)
    .option(
      '--score-every <n>',
      'score every nth window (default: each for a finished run, every 50th for another)',
      whole('--score-every'),
    )
    .option('--json', 'the report as one JSON object on stdout');
  return addDeviceOptions(command).addHelpText(
    'after',
    `
Examples:
  cudnn-lstm reproduce alice --runs 50 --max-time 8h
  cudnn-lstm reproduce alice --shared         200 epochs in place of 350
  cudnn-lstm reproduce alice --max-time 0     only the report of what there is`,
  );
}

function runsOption(value: string): number[] {
  const runs = value.split(',').map(Number);
  if (runs.some((run) => !Number.isSafeInteger(run) || run < 1)) {
    throw new UsageError(`--runs takes numbers of epochs, such as 50,100,200, not '${value}'.`);
  }
  return runs;
}

function durationOption(value: string): number {
  const seconds = parseDuration(value);
  if (seconds === undefined) throw new UsageError(`--max-time takes a time such as 90s, 15m or 1h30m, not '${value}'.`);
  return seconds;
}
