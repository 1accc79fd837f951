/** Trains one run of a reproduction, resumes it where it left off, and keeps its record. */
import { copyFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { makeDirectory, toDiskError, writeFileAtomically } from '../checkpoint/disk';
import { holdsRun, resolveCheckpoint } from '../checkpoint/run-directory';
import type { DeviceName } from '../device/choose';
import { chooseThreads } from '../device/threads';
import { UsageError } from '../errors';
import type { TrainingEvent } from '../training/events';
import type { TrainingOptions } from '../training/options';
import { openTraining } from '../training/preparation';
import { type Training, trainerOf } from '../training/training';
import { option } from '../wording';
import { type RunIdentity, type RunRecord, readEpochs, readRunRecord, writeRunRecord } from './run-record';

/** One run of a reproduction: what is trained, and where. */
export interface PlannedRun {
  readonly epochs: number;
  /** Where it trains; the same for all runs that share one training. */
  readonly directory: string;
  /** Where its best checkpoint and its record are kept once it is trained: `directory`, unless training goes on there. */
  readonly kept: string;
  readonly sources: readonly string[];
  readonly identity: RunIdentity;
  readonly overrides: Partial<TrainingOptions>;
  readonly device: DeviceName | undefined;
  readonly threads: number | undefined;
  readonly check: boolean | undefined;
  readonly onNote: ((line: string) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** The environment variables that may be set from outside; any other would make it a different recipe. */
export function permittedEnvironment(): NodeJS.ProcessEnv {
  const names = ['CUDNN_LSTM_DEVICE', 'CUDNN_LSTM_THREADS', 'CUDNN_LSTM_PRECISION', 'CUDNN_LSTM_CHECK'];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
}

/**
 * Refuses a directory that holds a different run.
 *
 * @throws UsageError
 */
export async function checkIdentity({ directory, identity }: PlannedRun): Promise<void> {
  const recorded = (await readRunRecord(directory))?.identity;
  if (recorded === undefined) return;
  const differences = [
    ...(recorded.seed === identity.seed ? [] : [`seed ${recorded.seed}, not ${identity.seed}`]),
    ...(recorded.corpusSha256 === identity.corpusSha256 ? [] : ['another corpus']),
    ...(recorded.overrides === identity.overrides ? [] : ['other sizes']),
  ];
  if (differences.length === 0) return;
  throw new UsageError(
    `${directory} holds a run with ${differences.join(' and ')}; give what it was begun with, or choose another ${option('out')}.`,
  );
}

/**
 * Trains a run to its end, or until the time is up; a finished one is left alone.
 *
 * @param seconds At most; undefined: no limit.
 * @throws As openTraining and a trainer do; after an abort the signal's reason, with everything saved.
 */
export async function trainRun(
  run: PlannedRun,
  seconds: number | undefined,
  onEvent: (event: TrainingEvent) => void | Promise<void>,
): Promise<void> {
  const { directory, epochs } = run;
  const before = await readRunRecord(directory);
  if (before && (await readEpochs(directory)).epochs.length >= epochs) return;
  const recorder = new Recorder(run, before);
  await using training = await openTraining({
    corpus: run.sources,
    options: {
      preset: 'proj-basic',
      ...run.overrides,
      epochs,
      seed: run.identity.seed,
      out: directory,
      sampleLength: 0,
      ...(run.device === undefined ? {} : { device: run.device }),
      ...(run.threads === undefined ? {} : { threads: run.threads }),
      ...(run.check === undefined ? {} : { check: run.check }),
      ...(seconds === undefined ? {} : { maxTime: seconds }),
    },
    env: permittedEnvironment(),
    ...((await holdsRun(directory)) ? { resume: directory } : {}),
    signal: run.signal,
    onNote: run.onNote,
  });
  try {
    for await (const event of training) {
      // Now and then, so that a killed process loses little of it.
      if (event.type === 'start' || event.type === 'epoch') await recorder.write(training);
      await onEvent(event);
    }
  } finally {
    await recorder.write(training);
  }
}

/**
 * Keeps the result of a trained run whose directory trains on for another: its best checkpoint, which the next best one would replace, and
 * last the record, so that an interrupted copy is done again. What is kept does not change; what training has gone past is lost.
 */
export async function keepRun({ directory, kept, epochs }: PlannedRun): Promise<void> {
  if (kept === directory || (await readRunRecord(kept))) return;
  const record = await readRunRecord(directory);
  if (!record || (await readEpochs(directory)).epochs.length !== epochs) return;
  const path = await resolveCheckpoint(directory);
  const name = basename(path);
  await makeDirectory(kept);
  try {
    await copyFile(path, join(kept, name));
  } catch (error) {
    throw toDiskError(error, `write ${join(kept, name)}`);
  }
  await writeFileAtomically(join(kept, 'best'), [Buffer.from(`${name}\n`)]);
  await writeRunRecord(kept, record);
}

/** Keeps the record up to date: what this process has used so far, added to what earlier ones used. */
class Recorder {
  readonly #cpu = process.cpuUsage();
  readonly #began = performance.now();
  readonly #run: PlannedRun;
  readonly #before: RunRecord | undefined;

  constructor(run: PlannedRun, before: RunRecord | undefined) {
    this.#run = run;
    this.#before = before;
  }

  async write(training: Training): Promise<void> {
    const { model, configuration } = training;
    const before = this.#before;
    const run = this.#run;
    const { user, system } = process.cpuUsage(this.#cpu);
    await writeRunRecord(run.directory, {
      ...before,
      identity: run.identity,
      device: model.description,
      parameters: model.parameterCount,
      stepsPerEpoch: trainerOf(training).batches.stepsPerEpoch,
      cpuSeconds: (before?.cpuSeconds ?? 0) + (user + system) / 1e6,
      wallSeconds: (before?.wallSeconds ?? 0) + (performance.now() - this.#began) / 1000,
      threads: chooseThreads(configuration.options.threads).threads,
      peakBytes: Math.max(before?.peakBytes ?? 0, process.resourceUsage().maxRSS * 1024),
    });
  }
}
