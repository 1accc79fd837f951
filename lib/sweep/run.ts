/**
 * Runs the trials of a sweep, several at once, each a training in its own process and directory; stopped trainings are resumed. With
 * successive halving (Jamieson and Talwalkar 2016), the best third of the trials continues after a ninth of its epochs, and the best
 * third of those after a third.
 */
import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory, writeFileAtomically } from '../checkpoint/disk';
import { holdsRun } from '../checkpoint/run-directory';
import { packageRoot } from '../device/native';
import { TrainingError } from '../errors';
import { type OptionName, variableOf } from '../training/options';
import { pauseVariable } from './pause';
import type { SweepPlan, Trial } from './plan';
import {
  checkEarlier,
  problemName,
  ranked,
  readResult,
  reportOf,
  type SweepReport,
  type TrialResult,
  writeReport,
} from './results';

export interface SweepRunOptions {
  /** Directory for the trials' directories and sweep.json. */
  readonly out: string;
  /** Number of trainings at once. */
  readonly jobs: number;
  /** CPU threads per training. */
  readonly threads: number;
  readonly device?: string | undefined;
  /** Stop trials early if others leave them behind. */
  readonly halving?: boolean | undefined;
  /** This process's place among several that share the work, as under mpirun. */
  readonly rank?: { readonly rank: number; readonly size: number } | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with a line when a trial begins and when it ends. */
  readonly onNote?: ((line: string) => void) | undefined;
}

/** Shares of a trial's epochs after which it is compared with the others. */
const halvingShares = [1 / 9, 1 / 3];
const keptShare = 1 / 3;

/** Runs what has not been run yet. The report is written after every trial. */
export async function runSweep(plan: SweepPlan, options: SweepRunOptions): Promise<SweepReport> {
  await makeDirectory(options.out);
  await checkEarlier(options.out, plan);
  const sweep = new Sweep(plan, options);
  await sweep.update();
  try {
    for (const share of options.halving ? halvingShares : []) {
      await sweep.runTo(share);
      await sweep.prune(share);
    }
    await sweep.runTo(1);
  } finally {
    await sweep.update();
  }
  return sweep.report;
}

class Sweep {
  readonly #plan: SweepPlan;
  readonly #options: SweepRunOptions;
  readonly #pruned = new Set<string>();
  readonly #tried = new Set<string>();
  report: SweepReport;

  constructor(plan: SweepPlan, options: SweepRunOptions) {
    this.#plan = plan;
    this.#options = options;
    this.report = reportOf(plan, []);
  }

  /** Rereads all results and writes the report. */
  async update(): Promise<void> {
    const trials = await Promise.all(
      this.#plan.trials.map(async (trial) => {
        const result = await readResult(this.#options.out, trial);
        const isPruned = this.#pruned.has(trial.name) && result.state === 'partial';
        return isPruned ? { ...result, state: 'pruned' as const } : result;
      }),
    );
    this.report = reportOf(this.#plan, trials);
    await writeReport(this.#options.out, this.report);
  }

  /** Trains every trial that is still in the race up to a share of its epochs. */
  async runTo(share: number): Promise<void> {
    const { jobs, rank, signal } = this.#options;
    const waiting = this.#plan.trials.filter((trial, i) => {
      if ((rank && i % rank.size !== rank.rank) || this.#pruned.has(trial.name)) return false;
      const { state, epoch } = this.report.trials[i] as TrialResult;
      // Failed trials are tried again, once per invocation.
      if (state === 'failed') return !this.#tried.has(trial.name);
      return (state === 'waiting' || state === 'partial') && (share === 1 || epoch < this.#goal(trial, share));
    });
    const work = waiting.values();
    const workers = Array.from({ length: Math.min(jobs, waiting.length) }, async () => {
      for (const trial of work) {
        signal?.throwIfAborted();
        await this.#run(trial, this.#goal(trial, share));
        await this.update();
      }
    });
    const ended = await Promise.allSettled(workers);
    for (const each of ended) if (each.status === 'rejected') throw each.reason;
  }

  /**
   * Keeps only the best third. Each trial counts as it stood at the goal: one that went further in an earlier invocation gains no
   * advantage, and a continued sweep gets the result that it would have had without the interruption.
   */
  async prune(share: number): Promise<void> {
    const racing = this.#plan.trials.filter(({ name }) => !this.#pruned.has(name));
    const then = await Promise.all(
      racing.map((trial) => readResult(this.#options.out, trial, this.#goal(trial, share))),
    );
    const standing = ranked(then.filter(({ loss, state }) => loss !== undefined && state !== 'failed'));
    for (const { name } of standing.slice(Math.max(1, Math.ceil(standing.length * keptShare)))) this.#pruned.add(name);
    await this.update();
  }

  #goal(trial: Trial, share: number): number {
    return Math.max(1, Math.ceil(trial.epochs * share));
  }

  async #run(trial: Trial, goal: number): Promise<void> {
    const { out, onNote } = this.#options;
    const directory = join(out, trial.name);
    onNote?.(`${trial.name}: begins`);
    this.#tried.add(trial.name);
    const problem = join(directory, problemName);
    await rm(problem, { force: true });
    const { code, ended, said } = await this.#train(trial, directory, goal);
    this.#options.signal?.throwIfAborted();
    const result = await readResult(out, trial);
    // Anything but its end, or its pause at the goal, is a failure.
    if (code !== 0 && !(code === 143 && result.epoch >= goal)) {
      const line = said || ended;
      await writeFileAtomically(problem, [Buffer.from(`${line}\n`)]);
      onNote?.(`${trial.name}: failed: ${line}`);
      return;
    }
    const loss =
      result.loss === undefined
        ? ''
        : `, ${result.validated ? 'validation' : 'training'} loss ${result.loss.toFixed(4)}`;
    onNote?.(`${trial.name}: ${result.epoch} of ${trial.epochs} epochs${loss}, ${result.seconds.toFixed(0)} s`);
  }

  /** Trains in a separate process, which ends after `goal` epochs. */
  async #train(
    trial: Trial,
    directory: string,
    goal: number,
  ): Promise<{ code: number | null; ended: string; said: string }> {
    const { threads, device, signal } = this.#options;
    const where = ['--json', ...(device === undefined ? [] : ['--device', device])];
    const some = 'threads' in trial.options ? [] : ['--threads', String(threads)];
    let args: string[];
    if (await holdsRun(directory)) {
      args = ['--resume', directory, ...where, ...some];
    } else {
      await makeDirectory(directory);
      const file = join(directory, 'trial.json');
      await writeFileAtomically(file, [Buffer.from(`${JSON.stringify(trial.options, null, 2)}\n`)]);
      args = [...this.#plan.corpus, '--config', file, '--out', directory, ...where, ...some];
    }
    const main = join(packageRoot, 'dist', 'cli', 'main.js');
    const child = spawn(process.execPath, [main, 'train', ...args], {
      env: environmentFor(trial, goal),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const stop = () => child.kill('SIGTERM');
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop(); // Aborted while its directory was being prepared.
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = `${said}${text}`.slice(-2000);
    });
    try {
      const [exit, name] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
        child.on('error', reject);
        child.on('close', (...how) => resolve(how));
      });
      return {
        code: name === 'SIGTERM' ? 143 : exit,
        ended: name === null ? `it ended with exit code ${exit}` : `it was ended by ${name}`,
        said: said.trim().split('\n').at(-1) ?? '',
      };
    } catch (error) {
      throw new TrainingError(`a training could not be started: ${(error as Error).message}`, { cause: error });
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }
}

/**
 * The environment without the options that the sweep sets, over which it would take precedence. A launcher's variables are meant for this
 * process: a trial trains by itself.
 */
function environmentFor(trial: Trial, goal: number): NodeJS.ProcessEnv {
  const pause = goal < trial.epochs ? String(goal) : '';
  const env: NodeJS.ProcessEnv = { ...process.env, CUDNN_LSTM_DISTRIBUTED: 'off', [pauseVariable]: pause };
  for (const name of Object.keys(trial.options)) delete env[variableOf(name as OptionName)];
  return env;
}
