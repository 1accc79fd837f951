/** The dry run: what a run would do and take, with the time of a step measured. */
import { instanceOf, signalOf } from '../arguments';
import { nameSome } from '../corpus/names';
import type { InputCoding, Target } from '../device/native';
import { nativeOf } from '../model';
import { formatDuration } from './duration';
import { updateNumbers } from './optimizers';
import { Training, trainerOf } from './preparation';

/** What a run would do. */
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
    /** What reading it left out or found odd. */
    notes: readonly string[];
  };
  target: Target;
  batchSize: number;
  seqLength: number;
  epochs: number;
  stepsPerEpoch: number;
  totalSteps: number;
  /** Bytes that the model takes with everything a step needs. */
  memory: { hostBytes: number; deviceBytes: number };
  millisecondsPerStep: number;
  charactersPerSecond: number;
  secondsPerEpoch: number;
  /** Of all epochs, without validation, samples and early stopping. */
  totalSeconds: number;
}

/** How long steps are measured, in milliseconds, and at most how many steps. */
const measureMilliseconds = 500;
const measureSteps = 50;

/**
 * Measures a few steps on the real corpus, at learning rate 0, and extrapolates. The training is of no further use for training.
 *
 * @throws The signal's reason when it is aborted.
 */
export async function planTraining(training: Training, signal?: AbortSignal): Promise<TrainingPlan> {
  instanceOf('training', training, Training, 'what openTraining gives');
  if (signal !== undefined) signalOf('signal', signal);
  const { model, corpus } = training;
  const { options: o, batches, split, totalSteps } = trainerOf(training);
  const millisecondsPerStep = await measureStep(training, signal);
  const secondsPerEpoch = (millisecondsPerStep * batches.stepsPerEpoch) / 1000;
  return {
    parameters: model.parameterCount,
    model: { layers: o.layers, hidden: o.hidden, input: o.input, dropout: o.dropout, symbols: model.vocabulary.size },
    device: model.description,
    deviceReason: model.deviceReason,
    corpus: {
      sources: corpus.sources,
      characters: corpus.length,
      training: split.training,
      validation: split.validation,
      notes: corpus.notes,
    },
    target: o.target,
    batchSize: o.batchSize,
    seqLength: o.seqLength,
    epochs: o.epochs,
    stepsPerEpoch: batches.stepsPerEpoch,
    totalSteps,
    memory: model.memory,
    millisecondsPerStep,
    charactersPerSecond: batches.charactersPerEpoch / secondsPerEpoch,
    secondsPerEpoch,
    totalSeconds: secondsPerEpoch * o.epochs,
  };
}

/** The plan as lines of text. */
export function describePlan(plan: TrainingPlan): string[] {
  const n = (value: number) => Math.round(value).toLocaleString('en');
  const { model, corpus, memory } = plan;
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
    ['split', `${n(corpus.training)} to train on, ${n(corpus.validation)} to validate on`],
    ['batches', `${plan.batchSize} x ${plan.seqLength} characters a step, ${order}`],
    [
      'steps',
      `${n(plan.totalSteps)}: ${n(plan.epochs)} ${plan.epochs === 1 ? 'epoch' : 'epochs'} of ${n(plan.stepsPerEpoch)}`,
    ],
    ['memory', `${megabytes(memory.hostBytes)} on the host, ${megabytes(memory.deviceBytes)} on a GPU`],
    ['step', `${plan.millisecondsPerStep.toFixed(2)} ms measured, ${n(plan.charactersPerSecond)} characters/s`],
    ['time', `${formatDuration(plan.secondsPerEpoch)} an epoch, ${formatDuration(plan.totalSeconds)} in all at most`],
  ];
  return rows.map(([name, value]) => `${name.padEnd(11)}${value}`);
}

/** The median of single steps, the first left out: it includes what a device does once. */
async function measureStep(training: Training, signal?: AbortSignal): Promise<number> {
  const { options: o, batches } = trainerOf(training);
  const native = nativeOf(training.model);
  const times: number[] = [];
  const began = performance.now();
  for (let step = 0; step <= measureSteps && (step < 3 || performance.now() - began < measureMilliseconds); step++) {
    signal?.throwIfAborted();
    const { ids, count, batch } = await batches.cut(0, step % batches.stepsPerEpoch, 1);
    const from = performance.now();
    await native.trainSteps({
      ids,
      count,
      batch,
      steps: o.seqLength,
      target: batches.target,
      carryState: batches.carryState,
      learningRates: Float64Array.of(0),
      ...updateNumbers(o, () => native.parameters),
    });
    if (batch === o.batchSize || batches.stepsPerEpoch === 1) times.push(performance.now() - from);
  }
  const sorted = times.slice(1).sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? times[0] ?? Number.NaN;
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
