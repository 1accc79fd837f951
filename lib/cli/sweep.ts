/** `sweep`: trains over a grid or random draws of options, and reports which was best. */
import { basename, join } from 'node:path';
import { Command, Option } from 'commander';
import { writeFileAtomically } from '../checkpoint/disk';
import { chooseDevice, chooseThreads } from '../device/choose';
import { exitCodes, TrainingError, UsageError } from '../errors';
import { plural } from '../numbers';
import { launchOf } from '../ranks/launcher';
import { planSweep } from '../sweep/plan';
import type { SweepReport } from '../sweep/results';
import { runSweep } from '../sweep/run';
import { renderSweepHtml, renderSweepMarkdown, rowsOf, sentence, textTable } from '../sweep/table';
import { readConfigurationFile } from '../training/configuration';
import {
  abortOnSignals,
  addDeviceOptions,
  type CommandIo,
  type DeviceOptions,
  deviceRequest,
  numberOption,
  parseArguments,
  processIo,
} from './command';
import { commandLine } from './invocation';
import { columnsOf } from './layout';
import { printJson, printLine, say, sayCommand } from './output';

interface SweepCommandOptions extends DeviceOptions {
  out?: string;
  jobs?: number;
  halving?: boolean;
  json?: boolean;
  dryRun?: boolean;
}

/** The command; see `sweep --help`. */
export async function sweepCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const options = command.opts<SweepCommandOptions>();
  const path = command.args[0] as string;
  using interrupt = abortOnSignals(io);
  const { signal } = interrupt;
  const { values } = await readConfigurationFile(path, signal);
  const plan = planSweep(path, values);
  if (plan.corpus.includes('-'))
    throw new UsageError(`${path}: the corpus of a sweep is read by every trial, so it cannot be standard input.`);
  if (options.dryRun) {
    for (const { name } of plan.trials) await printLine(io.stdout, name);
    return exitCodes.ok;
  }
  const rank = launchOf(process.env);
  if (rank && options.halving)
    throw new UsageError(
      '--halving compares all trials with one another: run it in one process, not under a launcher.',
    );
  const { jobs, threads } = await share(options, plan.trials.length, rank !== undefined);
  const out = options.out ?? join('runs', basename(path).replace(/\.json$/, ''));
  say(
    io.stderr,
    `${plural(plan.trials.length, 'trial')}, ${jobs} at once with ${plural(threads, 'thread')} each, in ${out}`,
  );
  const report = await runSweep(plan, {
    out,
    jobs,
    threads,
    device: options.device,
    halving: options.halving,
    rank,
    signal,
    onNote: (line) => say(io.stderr, line),
  });
  await writeFileAtomically(join(out, 'sweep.md'), [Buffer.from(renderSweepMarkdown(report))]);
  await writeFileAtomically(join(out, 'sweep.html'), [Buffer.from(await renderSweepHtml(report))]);
  await print(report, out, options.json === true, io);
  const failed = report.trials.filter(({ state }) => state === 'failed');
  if (failed.length > 0 && failed.length === report.trials.length) {
    throw new TrainingError(`every trial failed; the first: ${failed[0]?.problem}`);
  }
  return exitCodes.ok;
}

async function print(report: SweepReport, out: string, json: boolean, io: CommandIo): Promise<void> {
  if (json) return printJson(io.stdout, report);
  for (const line of textTable(rowsOf(report), columnsOf(io.stdout))) await printLine(io.stdout, line);
  say(io.stderr, sentence(report));
  say(io.stderr, `with curves: ${join(out, 'sweep.html')}`);
  if (report.best !== null) sayCommand(io.stderr, `sample from it: ${commandLine(['sample', join(out, report.best)])}`);
}

/** One training per core on the CPU, where a small model gains little from a second thread; on a GPU one at a time. */
async function share(
  options: SweepCommandOptions,
  trials: number,
  ranked: boolean,
): Promise<{ jobs: number; threads: number }> {
  const { threads: cores } = chooseThreads(undefined, process.env);
  const { device } = await chooseDevice({ ...deviceRequest(options), check: false });
  const jobs = Math.min(options.jobs ?? (device === 'cpu' && !ranked ? cores : 1), trials);
  if (jobs < 1) throw new UsageError(`--jobs must be at least 1, not ${options.jobs}.`);
  return { jobs, threads: options.threads ?? (ranked ? 1 : Math.max(1, Math.floor(cores / jobs))) };
}

function syntax(): Command {
  const command = new Command('sweep')
    .description(
      'Train over a grid, or random draws, of any options and seeds. The same command continues a sweep that was stopped.',
    )
    .argument('<config>', 'a JSON file with corpus, options, grid or random, and seeds; see docs/sweep.md')
    .option('--out <dir>', "directory of the trials (default: runs/ and the file's name)")
    .addOption(
      new Option('--jobs <n>', 'trials at a time (default: one per core; on a GPU 1)').argParser(
        numberOption('--jobs', { integer: true }),
      ),
    )
    .option('--halving', 'after a ninth and after a third of the epochs, continue only the best third')
    .option('--dry-run', 'print the trials and exit')
    .option('--json', 'one JSON object on stdout');
  return addDeviceOptions(command).addHelpText(
    'after',
    `
Examples:
  cudnn-lstm sweep sizes.json
  cudnn-lstm sweep sizes.json --halving --jobs 4
  mpirun -n 8 node_modules/.bin/cudnn-lstm sweep sizes.json`,
  );
}
