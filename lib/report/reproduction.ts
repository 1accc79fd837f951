/**
 * The reference's three runs repeated: preset `proj-basic`, one directory per run, each resumed where it left off; or one training for all
 * of them, since the recipe's rate is constant and its number of epochs is not part of it. A run is evaluated when its training has ended
 * or its time is up.
 */
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { type Corpus, openCorpus } from '../corpus/corpus';
import type { DeviceName, DeviceRequest } from '../device/choose';
import type { GpuUsage } from '../device/native';
import { OptionError, UsageError } from '../errors';
import type { TrainingEvent } from '../training/events';
import type { TrainingOptions } from '../training/options';
import { packageVersion } from '../version';
import { type EvaluationListener, evaluateRun } from './evaluation';
import { type EpochProgress, type EpochRecord, type RunRecord, readEpochs, readRunRecord } from './run-record';
import { checkIdentity, keepRun, type PlannedRun, trainRun } from './run-training';

export interface ReproductionOptions extends EvaluationListener {
  /** As for `train`; default `alice`. Read once for every run, so not standard input. */
  corpus?: readonly string[] | undefined;
  /** The runs, by number of epochs; default 50, 100, 200. */
  runs?: readonly number[] | undefined;
  /** Where the runs' directories are. */
  out: string;
  /** Seconds after which this invocation trains no more, over all runs. 0: no training at all, only the report. */
  maxTime?: number | undefined;
  /**
   * A run of E epochs trains with seed + E, so that no run is the beginning of another (the reference's three were not), and none depends
   * on which others are asked for. Default 0. With `shared` it is the training's seed.
   */
  seed?: number | undefined;
  /** Trains once, for the most epochs of the runs: each run is a beginning of that training. Default false. */
  shared?: boolean | undefined;
  device?: DeviceName | undefined;
  threads?: number | undefined;
  /** See {@link DeviceRequest.check}. */
  check?: boolean | undefined;
  /** The window protocol takes every nth window. Default: every one for a finished run, every 50th for an unfinished one. */
  scoreEvery?: number | undefined;
  /** Sizes other than the recipe's, to try out the machinery. */
  overrides?: Partial<TrainingOptions> | undefined;
  signal?: AbortSignal | undefined;
  /** Called with the events of a run's trainer. */
  onEvent?: ((epochs: number, event: TrainingEvent) => void | Promise<void>) | undefined;
  /** Called with the report so far after each run, and at last with the one that is returned. */
  onReport?: ((report: Reproduction) => void | Promise<void>) | undefined;
}

export interface RunReport {
  /** The number asked for. */
  epochs: number;
  seed: number;
  /** passed: part of a shared training that had gone further before the run was asked for; its checkpoint was not kept. */
  state: 'finished' | 'partial' | 'not begun' | 'passed';
  records: EpochRecord[];
  /** The epoch in progress, if the run was stopped in one. */
  progress?: EpochProgress;
  best?: EpochRecord;
  record?: RunRecord;
  gpu?: GpuUsage;
}

export interface Reproduction {
  /** Whether epochs or measures are missing. */
  partial: boolean;
  /** ISO 8601. */
  date: string;
  version: string;
  /** The machine that made this report; the device that computed is in each run's record. */
  machine: { cpu: string; processors: number; memoryBytes: number; platform: string; node: string };
  corpus: { sources: readonly string[]; characters: number; symbols: number; sha256: string };
  /** Whatever differed from the recipe. */
  overrides: Record<string, unknown>;
  /** Whether one training served all runs. */
  shared: boolean;
  runs: RunReport[];
}

export const defaultRuns = [50, 100, 200];
const mostEpochs = 1_000_000;
/** The distance between the scored windows of an unfinished run: scoring it takes seconds. */
const partialStride = 50;

/**
 * Trains what is left to train and measures it.
 *
 * An abort ends the training in good order and returns what there is; the caller checks the signal.
 *
 * @throws UsageError, DataError, CheckpointError, DeviceError, TrainingError or DiskError, as training does.
 */
export async function reproduce(options: ReproductionOptions): Promise<Reproduction> {
  const sources = options.corpus?.length ? options.corpus : ['alice'];
  if (sources.includes('-')) throw new UsageError('reproduce reads its corpus more than once: give a file, not -.');
  checkOptions(options);
  const began = performance.now();
  const timeLeft = () =>
    options.maxTime === undefined ? undefined : options.maxTime - (performance.now() - began) / 1000;
  const corpus = await openCorpus(sources, { lowercase: true, ...(options.signal ? { signal: options.signal } : {}) });
  try {
    const asked = options.runs ?? defaultRuns;
    const inOrder = options.shared ? [...asked].sort((a, b) => a - b) : asked;
    const runs = inOrder.map((epochs) => plan(options, epochs, sources, corpus));
    for (const run of runs) {
      await checkIdentity(run);
      await keepRun(run);
    }
    const publish = async () => {
      const report = await describe(options, runs, corpus);
      await options.onReport?.(report);
      return report;
    };
    for (const run of runs) {
      const seconds = timeLeft();
      if (options.signal?.aborted || (seconds !== undefined && seconds <= 0)) break;
      try {
        await trainRun(run, seconds, (event) => options.onEvent?.(run.epochs, event));
        await keepRun(run);
        if ((await stateOf(run)) === 'finished') await evaluateRun(kept(run), corpus, options.scoreEvery ?? 1, options);
      } catch (error) {
        if (!options.signal?.aborted || error !== options.signal.reason) throw error;
      } finally {
        await publish();
      }
    }
    for (const run of runs) {
      const state = await stateOf(run);
      if (state === 'finished') await evaluateRun(kept(run), corpus, options.scoreEvery ?? 1, options);
      else if (state === 'partial') await evaluateRun(run, corpus, options.scoreEvery ?? partialStride, options);
    }
    return await publish();
  } finally {
    corpus.close();
  }
}

function checkOptions({ runs = defaultRuns, seed = 0, scoreEvery = 1 }: ReproductionOptions): void {
  for (const epochs of runs) {
    if (!Number.isSafeInteger(epochs) || epochs < 1 || epochs > mostEpochs) {
      throw new OptionError('runs', `takes numbers of epochs, such as 50,100,200, not ${epochs}.`);
    }
  }
  if (runs.length === 0 || new Set(runs).size !== runs.length) {
    throw new OptionError('runs', 'takes at least one number of epochs, each once.');
  }
  if (!Number.isSafeInteger(seed + mostEpochs) || seed < 0) {
    throw new OptionError('seed', `must be a whole number from 0 to 2^52, not ${seed}.`);
  }
  if (!Number.isSafeInteger(scoreEvery) || scoreEvery < 1) {
    throw new OptionError('scoreEvery', `must be a whole number from 1, not ${scoreEvery}.`);
  }
}

function plan(options: ReproductionOptions, epochs: number, sources: readonly string[], corpus: Corpus): PlannedRun {
  const { out, seed = 0, shared = false, overrides = {}, device, threads, check, onNote, signal } = options;
  const directory = join(out, shared ? 'shared' : `epochs-${epochs}`);
  return {
    epochs,
    directory,
    kept: shared ? join(directory, `epochs-${epochs}`) : directory,
    sources,
    identity: {
      seed: shared ? seed : seed + epochs,
      corpusSha256: corpus.sha256,
      overrides: JSON.stringify(overrides),
    },
    overrides,
    device,
    threads,
    check,
    onNote,
    signal,
  };
}

/** The run in the directory that keeps its result from when it ended. */
function kept(run: PlannedRun): PlannedRun {
  return { ...run, directory: run.kept };
}

async function stateOf({ directory, kept, epochs }: PlannedRun): Promise<RunReport['state']> {
  const { epochs: records } = await readEpochs(directory);
  if (records.length > epochs && kept !== directory && !(await readRunRecord(kept))) return 'passed';
  if (records.length >= epochs) return 'finished';
  return records.length > 0 || (await readRunRecord(directory)) ? 'partial' : 'not begun';
}

async function describe(
  options: ReproductionOptions,
  runs: readonly PlannedRun[],
  corpus: Corpus,
): Promise<Reproduction> {
  const reports = await Promise.all(runs.map(describeRun));
  return {
    partial: reports.some(
      ({ state, record }) => state !== 'passed' && (state !== 'finished' || !record?.evaluation?.windows),
    ),
    date: new Date().toISOString(),
    version: packageVersion,
    machine: {
      cpu: cpus()[0]?.model.trim() || 'unknown',
      processors: cpus().length,
      memoryBytes: totalmem(),
      platform: `${process.platform} ${process.arch}`,
      node: process.version,
    },
    corpus: {
      sources: corpus.sources,
      characters: corpus.length,
      symbols: corpus.vocabulary.size,
      sha256: corpus.sha256,
    },
    overrides: { ...options.overrides },
    shared: options.shared ?? false,
    runs: reports,
  };
}

async function describeRun(run: PlannedRun): Promise<RunReport> {
  const { epochs: records, gpu, progress } = await readEpochs(run.directory, run.epochs);
  const state = await stateOf(run);
  const record = await recordOf(run, state);
  const best = records.reduce<EpochRecord | undefined>(
    (least, each) => (least === undefined || each.loss < least.loss ? each : least),
    undefined,
  );
  return {
    epochs: run.epochs,
    seed: run.identity.seed,
    state,
    records,
    ...(best ? { best } : {}),
    ...(record ? { record } : {}),
    ...(gpu ? { gpu } : {}),
    ...(progress && state === 'partial' ? { progress } : {}),
  };
}

async function recordOf({ directory, kept }: PlannedRun, state: RunReport['state']): Promise<RunRecord | undefined> {
  const record = await readRunRecord(state === 'finished' ? kept : directory);
  if (state !== 'passed' || record === undefined) return record;
  const { evaluation: _, ...ofTraining } = record; // What was measured since belongs to later epochs.
  return ofTraining;
}
