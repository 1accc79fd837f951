/** The results of a sweep's trials, read from their directories, so that a stopped sweep knows what it has done. */
import { join } from 'node:path';
import { writeFileAtomically } from '../checkpoint/disk';
import { DataError } from '../errors';
import { FileProblem, linesOf, readSmallFile } from '../files';
import { eventOf, type TrainingEvent } from '../training/events';
import { option } from '../wording';
import type { SweepPlan, Trial } from './plan';

/** A trial's state. `pruned`: stopped early because others did better. */
export type TrialState = 'waiting' | 'partial' | 'finished' | 'pruned' | 'failed';

export interface TrialResult {
  name: string;
  varied: Readonly<Record<string, unknown>>;
  state: TrialState;
  /** Epochs trained, and epochs requested. */
  epoch: number;
  epochs: number;
  /** The best loss, in nats per character: on the validation text if there is one, else in training. */
  loss?: number;
  bestEpoch?: number;
  validated: boolean;
  seconds: number;
  /** [epoch, loss] of each epoch. */
  curve: [epoch: number, loss: number][];
  /** Why it failed. */
  problem?: string;
}

/** A file in a trial's directory: the last line that a failed training printed. */
export const problemName = 'problem.txt';
const problemLimit = 1 << 16;
const metricsLimit = 256 << 20;

/** A trial's result from its metrics; with `epochs`, as it stood after that many. */
export async function readResult(
  directory: string,
  trial: Trial,
  epochs = Number.POSITIVE_INFINITY,
): Promise<TrialResult> {
  const result: TrialResult = {
    name: trial.name,
    varied: trial.varied,
    state: 'waiting',
    epoch: 0,
    epochs: trial.epochs,
    validated: false,
    seconds: 0,
    curve: [],
  };
  const losses = new Map<number, { loss?: number; validation?: number }>();
  try {
    for await (const line of linesOf(join(directory, trial.name, 'metrics.jsonl'), metricsLimit)) {
      const event = eventOf(line);
      if (!(event && 'epoch' in event && event.epoch > epochs)) take(result, losses, event);
    }
  } catch (error) {
    if (!(error instanceof FileProblem)) throw error;
    if (error.kind !== 'missing') throw new DataError(`${error.message}; remove it`, { cause: error });
  }
  if (result.state !== 'finished') {
    const problem = await readSmallFile(join(directory, trial.name, problemName), problemLimit).catch(() => undefined);
    if (problem) Object.assign(result, { state: 'failed', problem: problem.toString().trim() });
  }
  result.validated = [...losses.values()].some(({ validation }) => validation !== undefined);
  for (const [epoch, { loss, validation }] of [...losses].sort(([a], [b]) => a - b)) {
    const counted = result.validated ? validation : loss;
    if (counted === undefined) continue;
    result.curve.push([epoch, counted]);
    if (result.loss !== undefined && counted >= result.loss) continue;
    result.loss = counted;
    result.bestEpoch = epoch;
  }
  return result;
}

function take(
  result: TrialResult,
  losses: Map<number, { loss?: number; validation?: number }>,
  event: TrainingEvent | undefined,
): void {
  if (event?.type === 'start') result.state = 'partial';
  if (event?.type === 'epoch') {
    const { epoch, loss, validationLoss, elapsedSeconds } = event;
    losses.set(epoch, { loss, ...(validationLoss === undefined ? {} : { validation: validationLoss }) });
    result.epoch = epoch;
    result.seconds = elapsedSeconds;
  }
  if (event?.type === 'validation') {
    const { validation } = losses.get(event.epoch) ?? {};
    if (validation === undefined) losses.set(event.epoch, { loss: event.loss, validation: event.validationLoss });
  }
  if (event?.type === 'end') {
    result.seconds = event.elapsedSeconds;
    result.state = event.reason === 'aborted' ? 'partial' : 'finished';
  }
}

/** The content of sweep.json. */
export interface SweepReport {
  corpus: readonly string[];
  trials: TrialResult[];
  /** Name of the best trial; null while none has a loss. */
  best: string | null;
}

export function reportOf(plan: SweepPlan, trials: TrialResult[]): SweepReport {
  const [best] = ranked(trials);
  return { corpus: plan.corpus, trials, best: best?.loss === undefined ? null : best.name };
}

/** Trials, best first; those without a loss come last, in their order. */
export function ranked(trials: readonly TrialResult[]): TrialResult[] {
  const infinite = Number.POSITIVE_INFINITY;
  return [...trials].sort((a, b) => (a.loss ?? infinite) - (b.loss ?? infinite) || 0);
}

const reportName = 'sweep.json';
const reportLimit = 256 << 20;

export async function writeReport(directory: string, report: SweepReport): Promise<void> {
  await writeFileAtomically(join(directory, reportName), [Buffer.from(`${JSON.stringify(report, null, 1)}\n`)]);
}

/** @throws DataError if the directory holds another sweep. */
export async function checkEarlier(directory: string, plan: SweepPlan): Promise<void> {
  const path = join(directory, reportName);
  let content: Buffer;
  try {
    content = await readSmallFile(path, reportLimit);
  } catch (error) {
    if (error instanceof FileProblem && error.kind === 'missing') return;
    throw error instanceof FileProblem ? new DataError(`${error.message}; remove it`, { cause: error }) : error;
  }
  let earlier: SweepReport;
  try {
    earlier = JSON.parse(content.toString()) as SweepReport;
    if (!Array.isArray(earlier.trials)) throw new Error('it has no trials');
  } catch (error) {
    throw new DataError(`${path} is not a sweep's report (${(error as Error).message}); remove it`, { cause: error });
  }
  const same =
    JSON.stringify(earlier.trials.map(({ name }) => name)) === JSON.stringify(plan.trials.map(({ name }) => name));
  if (!same) throw new DataError(`${directory} holds another sweep; take another ${option('out')}`);
}
