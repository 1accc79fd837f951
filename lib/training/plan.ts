/** The dry run: what a run would do and need, with the time per step measured. */
import { instanceOf, signalOf } from '../arguments';
import { nameSome } from '../corpus/names';
import type { InputCoding, Target } from '../device/native';
import { nativeOf } from '../model';
import { grouped, plural } from '../numbers';
import { fasterRanks, forecastRanks, type RankForecast } from '../ranks/efficiency';
import type { Ranks } from '../ranks/ranks';
import { formatDuration } from './duration';
import { measureStep } from './step-time';
import { Training, trainerOf } from './training';

/**
 * What a run would do.
 *
 * @category Training
 */
export interface TrainingPlan {
  parameters: number;
  model: { layers: number; hidden: number; input: InputCoding; dropout: number; symbols: number };
  device: string;
  deviceReason: string;
  corpus: {
    sources: readonly string[];
    characters: number;
    training: number;
    validation: number;
    /** What was left out or looked odd when reading it. */
    notes: readonly string[];
  };
  /** The validation text, if it is not part of the corpus. */
  validation?: { sources: readonly string[]; characters: number; notes: readonly string[] };
  target: Target;
  batchSize: number;
  seqLength: number;
  epochs: number;
  stepsPerEpoch: number;
  totalSteps: number;
  /** Bytes used by the model and everything a step needs. */
  memory: { hostBytes: number; deviceBytes: number };
  millisecondsPerStep: number;
  charactersPerSecond: number;
  secondsPerEpoch: number;
  /** For all epochs, or until the schedule's time is up, without validation, samples and early stopping. */
  totalSeconds: number;
  /** If several ranks train together. */
  ranks?: RanksPlan;
}

/**
 * The cost of a step on several ranks.
 *
 * @category Training
 */
export interface RanksPlan {
  count: number;
  /** The library that connects them, such as `Open MPI v4.1.4`. */
  library: string;
  /** The machine of each rank. */
  hosts: readonly string[];
  /** Measured time of summing all gradients. */
  millisecondsPerSum: number;
  /** Measured time of a step of the whole batch on one of these ranks alone. */
  millisecondsAlone: number;
  /** For 1 rank, 2 ranks, and so on: the first and the last are measured, the others estimated from them. */
  forecasts: RankForecast[];
  /** The forecast with fewer ranks whose steps would be shorter, if there is one. */
  faster?: RankForecast;
}

/**
 * Measures a few steps on the real corpus, at learning rate 0, and extrapolates. The training cannot be used to train afterwards.
 *
 * @throws The signal's reason when it is aborted; with several ranks all of them throw, once each has measured a step.
 * @category Training
 */
export async function planTraining(training: Training, signal?: AbortSignal): Promise<TrainingPlan> {
  instanceOf('training', training, Training, 'what openTraining gives');
  if (signal !== undefined) signalOf('signal', signal);
  const { model, corpus } = training;
  const { options, batches, split, totalSteps, ranks, validation } = trainerOf(training);
  const millisecondsPerStep = await measureStep(nativeOf(model), options, batches, ranks, signal);
  const rankPlan = ranks && (await planRanks(training, ranks, millisecondsPerStep, signal));
  const secondsPerEpoch = (millisecondsPerStep * batches.stepsPerEpoch) / 1000;
  return {
    parameters: model.parameterCount,
    model: {
      layers: options.layers,
      hidden: options.hidden,
      input: options.input,
      dropout: options.dropout,
      symbols: model.vocabulary.size,
    },
    device: model.description,
    deviceReason: model.deviceReason,
    corpus: {
      sources: corpus.sources,
      characters: corpus.length,
      training: split.training,
      validation: split.validation,
      notes: corpus.notes,
    },
    ...(validation
      ? { validation: { sources: validation.sources, characters: validation.length, notes: validation.notes } }
      : {}),
    target: options.target,
    batchSize: options.batchSize,
    seqLength: options.seqLength,
    epochs: options.epochs,
    stepsPerEpoch: batches.stepsPerEpoch,
    totalSteps,
    memory: model.memory,
    millisecondsPerStep,
    charactersPerSecond: batches.charactersPerEpoch / secondsPerEpoch,
    secondsPerEpoch,
    totalSeconds: Math.min(secondsPerEpoch * options.epochs, options.scheduleTime || Number.POSITIVE_INFINITY),
    ...(rankPlan ? { ranks: rankPlan } : {}),
  };
}

/** The plan as lines of text. */
export function describePlan(plan: TrainingPlan): string[] {
  const n = (value: number) => grouped(Math.round(value));
  const { model, corpus, validation, memory } = plan;
  const order =
    plan.target === 'every' ? 'loss at every position, state carried' : 'shuffled windows, loss at the last position';
  const rows: [string, string][] = [
    [
      'model',
      `${model.layers} x ${model.hidden} LSTM, ${model.input} input of ${model.symbols} symbols, dropout ${model.dropout}`,
    ],
    ['parameters', n(plan.parameters)],
    ['device', plan.deviceReason],
    ['corpus', `${nameSome(corpus.sources)}: ${n(corpus.characters)} characters`],
    ...corpus.notes.map((note): [string, string] => ['', note]),
    ...(validation
      ? [['validation', `${nameSome(validation.sources)}: ${n(validation.characters)} characters`] as [string, string]]
      : []),
    ...(validation?.notes ?? []).map((note): [string, string] => ['', note]),
    ['split', `${n(corpus.training)} to train on, ${n(corpus.validation)} to validate on`],
    ['batches', `${plan.batchSize} x ${plan.seqLength} characters per step, ${order}`],
    ['steps', `${n(plan.totalSteps)}: ${plural(Math.round(plan.epochs), 'epoch')} of ${n(plan.stepsPerEpoch)}`],
    ['memory', `${megabytes(memory.hostBytes)} on the host, ${megabytes(memory.deviceBytes)} on a GPU`],
    ['step', `${plan.millisecondsPerStep.toFixed(2)} ms measured, ${n(plan.charactersPerSecond)} characters/s`],
    ...(plan.ranks ? rankRows(plan.ranks, plan.millisecondsPerStep) : []),
    ['time', `${formatDuration(plan.secondsPerEpoch)} an epoch, ${formatDuration(plan.totalSeconds)} in all at most`],
  ];
  return rows.map(([name, value]) => `${name.padEnd(11)}${value}`);
}

/** The number of sums measured. */
const sumRounds = 20;

async function planRanks(
  training: Training,
  ranks: Ranks,
  step: number,
  signal: AbortSignal | undefined,
): Promise<RanksPlan> {
  await ranks.throwIfAborted(signal);
  const sum = (await ranks.measureSum(training.model.parameterCount, sumRounds)) / 1000;
  const smallSum = (await ranks.measureSum(1, sumRounds)) / 1000;
  const { options, batches } = trainerOf(training);
  const mine = await measureStep(nativeOf(training.model), options, batches, undefined, signal).catch(
    (error: unknown) => {
      if (!signal?.aborted) throw error;
      return 0; // The others wait for this rank to say so.
    },
  );
  const alone = Math.max(...(await ranks.gatherNumbers('step alone', [mine])).flat());
  await ranks.throwIfAborted(signal);
  const { batchSize } = options;
  const forecasts = forecastRanks({ ranks: ranks.size, batch: batchSize, step, sum, smallSum, alone });
  const faster = fasterRanks(forecasts);
  return {
    count: ranks.size,
    library: ranks.library,
    hosts: ranks.hosts,
    millisecondsPerSum: sum,
    millisecondsAlone: alone,
    forecasts,
    ...(faster ? { faster } : {}),
  };
}

function rankRows(
  { count, library, hosts, millisecondsPerSum, millisecondsAlone, forecasts, faster }: RanksPlan,
  step: number,
) {
  const ms = (value: number) => `${value.toFixed(2)} ms`;
  const { efficiency } = forecasts.at(-1) as RankForecast;
  const machines = new Set(hosts).size;
  const rows: [string, string][] = [
    [
      'ranks',
      `${count} on ${plural(machines, 'machine')} by ${library}: a sum takes ${ms(millisecondsPerSum)} of a step's ${ms(step)}, and one rank alone ` +
        `${ms(millisecondsAlone)} for a step: efficiency ${(100 * efficiency).toFixed(0)} %`,
    ],
  ];
  if (faster)
    rows.push([
      '',
      `${faster.ranks === 1 ? 'one rank' : `${faster.ranks} ranks`} would be faster: about ${ms(faster.step)} a step`,
    ]);
  return rows;
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
