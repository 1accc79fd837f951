/**
 * What is known about one run of a reproduction: the epochs in its metrics.jsonl, and record.json next to it, which keeps what training
 * does not write down. Neither is trusted: what does not fit is ignored.
 */
import { join } from 'node:path';
import { writeFileAtomically } from '../checkpoint/disk';
import type { GpuUsage } from '../device/native';
import { DataError } from '../errors';
import { FileProblem, linesOf, readSmallFile } from '../files';
import * as z from '../zod-parts';

/** One epoch of a run. */
export interface EpochRecord {
  epoch: number;
  /** Mean training loss, dropout on, in nats per character. */
  loss: number;
  /** Time in training steps. */
  seconds: number;
  /** Time since the run began. */
  elapsedSeconds: number;
}

/** Where a run stands in an incomplete epoch. */
export interface EpochProgress {
  /** The epoch in progress, from 1. */
  epoch: number;
  /** Steps done of `stepsPerEpoch`. */
  step: number;
  stepsPerEpoch: number;
  /** Mean training loss of these, dropout on, in nats per character. */
  loss: number;
}

/** What a run's metrics.jsonl says about it. */
export interface RecordedEpochs {
  epochs: EpochRecord[];
  gpu?: GpuUsage;
  progress?: EpochProgress;
}

const number = z.number().finite();
const gpuUsage = z.object({
  name: z.string(),
  gpuPercent: number,
  memoryPercent: number,
  memoryUsedBytes: number,
  memoryTotalBytes: number,
});

const epochLine = z.object({
  type: z.literal('epoch'),
  epoch: z.number().int().positive(),
  loss: number,
  seconds: number,
  elapsedSeconds: number,
  gpu: gpuUsage.optional().catch(undefined),
});

const stepLine = z.object({
  type: z.literal('step'),
  epoch: z.number().int().positive(),
  step: z.number().int().positive(),
  stepsPerEpoch: z.number().int().positive(),
  epochLoss: number,
});

const quality = z.object({
  knownWords: number.nullable(),
  longestCopy: number,
  loop: z.string().optional(),
});

const sample = z.object({ text: z.string(), quality });

const evaluation = z.object({
  /** File name of the checkpoint that was evaluated. */
  checkpoint: z.string(),
  prompt: z.string(),
  greedy: sample,
  /** At temperature 0.8. */
  sampled: sample,
  /** The window protocol: every `stride`th window. */
  windows: z.object({ stride: number, count: number, lossWithDropout: number, loss: number }).optional(),
});

export type Evaluation = z.output<typeof evaluation>;
export type SampleRecord = z.output<typeof sample>;

/** The most bytes that are read back: a week of a run's metrics is a hundredth of that. */
const metricsLimit = 256 << 20;
const recordLimit = 1 << 20;

/** What identifies a run; the rest is the recipe's. */
const identity = z.object({
  /** Seeds its initial weights, dropout, order and samples. */
  seed: number,
  corpusSha256: z.string(),
  /** Sizes other than the recipe's, as JSON. */
  overrides: z.string(),
});

export type RunIdentity = z.output<typeof identity>;

const runRecord = z.object({
  identity,
  /** The device that computed, as the backend describes itself. */
  device: z.string(),
  parameters: number,
  stepsPerEpoch: number,
  /** Summed over the invocations that trained: processor seconds, and wall-clock seconds. */
  cpuSeconds: number,
  wallSeconds: number,
  threads: number,
  /** Largest resident set of the process. */
  peakBytes: number,
  evaluation: evaluation.optional(),
});

export type RunRecord = z.output<typeof runRecord>;

/**
 * The epochs of a run up to the `last`th, in order, and the GPU's use over them: mean percentages, the largest memory. An epoch that was
 * trained again after a crash counts as it was last trained.
 */
export async function readEpochs(directory: string, last = Number.POSITIVE_INFINITY): Promise<RecordedEpochs> {
  const found = new Map<number, z.output<typeof epochLine>>();
  let step: z.output<typeof stepLine> | undefined;
  try {
    for await (const line of linesOf(join(directory, 'metrics.jsonl'), metricsLimit)) {
      const value = parseJson(line);
      const { data } = epochLine.safeParse(value);
      if (data && data.epoch <= last) found.set(data.epoch, data);
      step = stepLine.safeParse(value).data ?? step;
    }
  } catch (error) {
    if (!(error instanceof FileProblem)) throw error;
    if (error.kind !== 'missing') throw new DataError(`${error.message}; remove it`, { cause: error });
  }
  const lines = [...found.values()].sort((a, b) => a.epoch - b.epoch);
  const epochs = lines.map(({ epoch, loss, seconds, elapsedSeconds }) => ({ epoch, loss, seconds, elapsedSeconds }));
  const gpu = meanUsage(lines.flatMap((line) => line.gpu ?? []));
  const complete = epochs.at(-1)?.epoch ?? 0;
  const begun = step !== undefined && step.epoch > complete && step.epoch <= last;
  return {
    epochs,
    ...(gpu ? { gpu } : {}),
    ...(step && begun
      ? { progress: { epoch: step.epoch, step: step.step, stepsPerEpoch: step.stepsPerEpoch, loss: step.epochLoss } }
      : {}),
  };
}

function meanUsage(usages: readonly GpuUsage[]): GpuUsage | undefined {
  const last = usages.at(-1);
  if (last === undefined) return undefined;
  const mean = (of: (usage: GpuUsage) => number) => usages.reduce((sum, each) => sum + of(each), 0) / usages.length;
  return {
    ...last,
    gpuPercent: mean((usage) => usage.gpuPercent),
    memoryPercent: mean((usage) => usage.memoryPercent),
    memoryUsedBytes: usages.reduce((most, usage) => Math.max(most, usage.memoryUsedBytes), 0),
  };
}

/** The record of a run; undefined if there is none that can be read. */
export async function readRunRecord(directory: string): Promise<RunRecord | undefined> {
  const bytes = await readSmallFile(recordPath(directory), recordLimit).catch((error: unknown) => {
    if (error instanceof FileProblem) return undefined;
    throw error;
  });
  return bytes && runRecord.safeParse(parseJson(bytes.toString())).data;
}

/** Replaces the record of a run atomically. */
export async function writeRunRecord(directory: string, record: RunRecord): Promise<void> {
  await writeFileAtomically(recordPath(directory), [Buffer.from(`${JSON.stringify(record, null, 2)}\n`)]);
}

function recordPath(directory: string): string {
  return join(directory, 'record.json');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
