/**
 * The seed's three runs done again: preset `proj-basic`, one run directory a row, each gone on with where it was. What a run is
 * worth is measured when its training ends or its time is up.
 */
import { existsSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { basename, join } from 'node:path';
import { RunDirectory, resolveCheckpoint } from '../checkpoint/run-directory';
import { type Corpus, openCorpus } from '../corpus/corpus';
import type { DeviceName } from '../device';
import { CheckpointError, UsageError } from '../errors';
import { LanguageModel } from '../model';
import type { GpuUsage } from '../native';
import { chooseThreads } from '../threads';
import type { TrainingEvent } from '../training/events';
import { keyedInteger } from '../training/keyed-random';
import type { TrainingOptions } from '../training/options';
import { openTraining } from '../training/preparation';
import { packageVersion } from '../version';
import { measureQuality } from './quality';
import {
  type EpochRecord,
  type Evaluation,
  type RunRecord,
  readEpochs,
  readRunRecord,
  type SampleRecord,
  writeRunRecord,
} from './run-record';

export interface ReproductionOptions {
  /** As for `train`; default `alice`. Read once for every row, so not standard input. */
  corpus?: readonly string[] | undefined;
  /** The rows, in epochs; default 50, 100, 200. */
  runs?: readonly number[] | undefined;
  /** Where the rows' directories lie. */
  out: string;
  /** Seconds of training, over all rows, in this invocation. */
  maxTime?: number | undefined;
  /** Row k trains with seed + k: the seed's three runs were three runs, not one continued. Default 1. */
  seed?: number | undefined;
  device?: DeviceName | undefined;
  threads?: number | undefined;
  /** The window protocol takes every nth window. Default: every one for a finished row, every 50th for an unfinished one. */
  scoreEvery?: number | undefined;
  /** Other sizes than the recipe's, for a trial of the machinery. */
  overrides?: Partial<TrainingOptions> | undefined;
  signal?: AbortSignal | undefined;
  /** Hears what a row's trainer tells. */
  onEvent?: ((epochs: number, event: TrainingEvent) => void | Promise<void>) | undefined;
  /** Hears one line when something else begins. */
  onNote?: ((line: string) => void) | undefined;
}

export interface RunReport {
  /** Asked for. */
  epochs: number;
  seed: number;
  state: 'finished' | 'partial' | 'not begun';
  records: EpochRecord[];
  best?: EpochRecord;
  record?: RunRecord;
  gpu?: GpuUsage;
}

export interface Reproduction {
  partial: boolean;
  /** ISO 8601. */
  date: string;
  version: string;
  machine: { cpu: string; threads: number; memoryBytes: number; platform: string; node: string };
  corpus: { sources: readonly string[]; characters: number; symbols: number; sha256: string };
  /** Whatever was not the recipe's. */
  overrides: Record<string, unknown>;
  runs: RunReport[];
}

export const defaultRuns = [50, 100, 200];
const sampleLength = 1000;

/**
 * Trains what is left to train and measures it.
 *
 * An abort ends the training in good order and returns what there is; whoever aborted looks at the signal.
 *
 * @throws UsageError, DataError, CheckpointError, DeviceError or DiskError, as training does.
 */
export async function reproduce(o: ReproductionOptions): Promise<Reproduction> {
  const sources = o.corpus?.length ? o.corpus : ['alice'];
  if (sources.includes('-')) throw new UsageError('reproduce reads its corpus more than once: give a file, not -.');
  const runs = checkRuns(o.runs ?? defaultRuns);
  const began = performance.now();
  const left = () => (o.maxTime === undefined ? undefined : o.maxTime - (performance.now() - began) / 1000);
  const corpus = await openCorpus(sources, { lowercase: true, ...(o.signal ? { signal: o.signal } : {}) });
  try {
    for (const [row, epochs] of runs.entries()) {
      const time = left();
      if (o.signal?.aborted || (time !== undefined && time <= 0)) break;
      await trainRow(o, sources, row, epochs, time);
    }
    const reports: RunReport[] = [];
    for (const [row, epochs] of runs.entries()) reports.push(await reportRow(o, corpus, row, epochs));
    return {
      partial: reports.some((report) => report.state !== 'finished'),
      date: new Date().toISOString(),
      version: packageVersion,
      machine: describeMachine(reports),
      corpus: {
        sources: corpus.sources,
        characters: corpus.length,
        symbols: corpus.vocabulary.size,
        sha256: corpus.sha256,
      },
      overrides: { ...o.overrides },
      runs: reports,
    };
  } finally {
    corpus.close();
  }
}

function checkRuns(runs: readonly number[]): readonly number[] {
  for (const epochs of runs) {
    if (!Number.isSafeInteger(epochs) || epochs < 1 || epochs > 1_000_000) {
      throw new UsageError(`--runs takes numbers of epochs, such as 50,100,200, not ${epochs}.`);
    }
  }
  if (runs.length === 0 || new Set(runs).size !== runs.length) {
    throw new UsageError('--runs takes at least one number of epochs, each once.');
  }
  return runs;
}

function directoryOf(out: string, epochs: number): string {
  return join(out, `epochs-${epochs}`);
}

/** What may be set from outside; anything else in the environment would make it another recipe. */
function permittedEnvironment(): NodeJS.ProcessEnv {
  const names = ['CUDNN_LSTM_DEVICE', 'CUDNN_LSTM_THREADS', 'CUDNN_LSTM_PRECISION'];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
}

async function trainRow(
  o: ReproductionOptions,
  sources: readonly string[],
  row: number,
  epochs: number,
  seconds: number | undefined,
): Promise<void> {
  const directory = directoryOf(o.out, epochs);
  const { epochs: done } = await readEpochs(directory);
  if (done.length >= epochs) return;
  const resume = await holdsCheckpoint(directory);
  const before = await readRunRecord(directory);
  const cpu = process.cpuUsage();
  const began = performance.now();
  await using training = await openTraining({
    corpus: sources,
    options: {
      preset: 'proj-basic',
      ...o.overrides,
      epochs,
      seed: (o.seed ?? 1) + row,
      out: directory,
      sampleLength: 0,
      ...(o.device === undefined ? {} : { device: o.device }),
      ...(o.threads === undefined ? {} : { threads: o.threads }),
      ...(seconds === undefined ? {} : { maxTime: seconds }),
    },
    env: permittedEnvironment(),
    ...(resume ? { resume: directory } : {}),
    signal: o.signal,
  });
  const { trainer, model, configuration } = training;
  let device = model.native.description;
  try {
    for await (const event of training) {
      if (event.type === 'end') device = event.device;
      await o.onEvent?.(epochs, event);
    }
  } catch (error) {
    if (!o.signal?.aborted || error !== o.signal.reason) throw error;
  } finally {
    const { user, system } = process.cpuUsage(cpu);
    await writeRunRecord(directory, {
      ...before,
      device,
      parameters: model.native.parameterCount,
      stepsPerEpoch: trainer.batches.stepsPerEpoch,
      cpuSeconds: (before?.cpuSeconds ?? 0) + (user + system) / 1e6,
      wallSeconds: (before?.wallSeconds ?? 0) + (performance.now() - began) / 1000,
      threads: chooseThreads(configuration.options.threads).threads,
      peakBytes: Math.max(before?.peakBytes ?? 0, process.resourceUsage().maxRSS * 1024),
    });
  }
}

async function holdsCheckpoint(directory: string): Promise<boolean> {
  if (!existsSync(directory)) return false;
  await using run = await RunDirectory.open(directory, { create: false });
  return (await run.newest()) !== undefined;
}

async function reportRow(o: ReproductionOptions, corpus: Corpus, row: number, epochs: number): Promise<RunReport> {
  const directory = directoryOf(o.out, epochs);
  const seed = (o.seed ?? 1) + row;
  const { epochs: records, gpu } = await readEpochs(directory);
  const record = await readRunRecord(directory);
  const best = records.reduce<EpochRecord | undefined>(
    (least, each) => (least === undefined || each.loss < least.loss ? each : least),
    undefined,
  );
  const finished = records.length >= epochs;
  const evaluated =
    record && best && !o.signal?.aborted ? await evaluateRow(o, corpus, directory, record, finished, seed) : record;
  return {
    epochs,
    seed,
    state: finished ? 'finished' : record ? 'partial' : 'not begun',
    records,
    ...(best ? { best } : {}),
    ...(evaluated ? { record: evaluated } : {}),
    ...(gpu ? { gpu } : {}),
  };
}

/** Samples from the best checkpoint and scores it, unless that was done before. */
async function evaluateRow(
  o: ReproductionOptions,
  corpus: Corpus,
  directory: string,
  record: RunRecord,
  finished: boolean,
  seed: number,
): Promise<RunRecord> {
  const path = await resolveCheckpoint(directory).catch((error) => {
    if (error instanceof CheckpointError) return undefined;
    throw error;
  });
  if (path === undefined) return record;
  const stride = o.scoreEvery ?? (finished ? 1 : 50);
  const known = record.evaluation?.checkpoint === basename(path) ? record.evaluation : undefined;
  if (known?.windows !== undefined && known.windows.stride <= stride) return record;
  using model = await LanguageModel.load(path, { device: o.device, threads: o.threads });
  try {
    const evaluation = known ?? (await samplesOf(o, corpus, model, basename(path), seed));
    const sampled = { ...record, evaluation };
    await writeRunRecord(directory, sampled);
    o.onNote?.(`scoring ${path} by the window protocol${stride > 1 ? `, every ${stride}th window` : ''}`);
    const window = model.metadata.seqLength;
    const score = await model.scoreWindows(corpus.ids, { window, stride, signal: o.signal });
    const scored = {
      ...sampled,
      evaluation: {
        ...evaluation,
        windows: {
          stride,
          count: score.windows,
          lossWithDropout: score.dropoutOn.loss,
          loss: score.dropoutOff.loss,
        },
      },
    };
    await writeRunRecord(directory, scored);
    return scored;
  } catch (error) {
    if (!o.signal?.aborted) throw error;
    return (await readRunRecord(directory)) ?? record;
  }
}

/** What the model writes after a window of the corpus that its seed decides, each character from the window before it. */
async function samplesOf(
  o: ReproductionOptions,
  corpus: Corpus,
  model: LanguageModel,
  checkpoint: string,
  seed: number,
): Promise<Evaluation> {
  o.onNote?.(`sampling from ${checkpoint}`);
  const { seqLength } = model.metadata;
  const start = keyedInteger(corpus.length - seqLength, 'reproduction', seed);
  const seedText = model.vocabulary.decode(corpus.ids.read(start, seqLength));
  const text = model.vocabulary.decode(corpus.ids.read(0, corpus.length));
  const write = async (temperature: number): Promise<SampleRecord> => {
    let written = '';
    const settings = { prompt: seedText, length: sampleLength, window: seqLength, temperature, seed };
    for await (const piece of model.generate({ ...settings, signal: o.signal })) written += piece;
    const { knownWords, longestCopy, loop } = measureQuality(written, text);
    return {
      text: written,
      quality: {
        knownWords: Number.isFinite(knownWords) ? knownWords : null,
        longestCopy: longestCopy.characters,
        ...(loop ? { loop: loop.text } : {}),
      },
    };
  };
  return { checkpoint, seedText, greedy: await write(0), sampled: await write(0.8) };
}

function describeMachine(runs: readonly RunReport[]): Reproduction['machine'] {
  return {
    cpu: cpus()[0]?.model.trim() || 'unknown',
    threads: runs.find((run) => run.record)?.record?.threads ?? 0,
    memoryBytes: totalmem(),
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
  };
}
