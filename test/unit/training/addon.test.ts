/** Training with the real addon: it learns, a resumed run is bit-equal, the event loop stays free, an abort is prompt. */
import { createHash } from 'node:crypto';
import type { Checkpoint, CheckpointMetadata } from '../../../lib/checkpoint/checkpoint';
import { MemoryIds } from '../../../lib/corpus/ids';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { loadNative, type Optimizer, type Slot } from '../../../lib/device/native';
import { queued } from '../../../lib/device/queue';
import { resolveConfiguration } from '../../../lib/training/configuration';
import { divideCorpus } from '../../../lib/training/division';
import type { EpochEvent, TrainingEvent } from '../../../lib/training/events';
import { optimizers } from '../../../lib/training/optimizers';
import type { OptionName, TrainingOptions } from '../../../lib/training/options';
import { presetOptions } from '../../../lib/training/presets';
import { Trainer } from '../../../lib/training/trainer';
import { MemoryRun } from '../../fixtures/memory-run';
import { countTurns, longestTurn } from '../../fixtures/turns';

const text = Array.from({ length: 90 }, (_, i) => `${i % 7} sheep and ${i % 5} goats went over ${i % 11} hills\n`).join(
  '',
);
const vocabulary = Vocabulary.of([text]);
const ids = new MemoryIds(Uint8Array.from(vocabulary.encode(text)));
const corpus = { ids, length: ids.length, sha256: 'abc', sources: ['sheep'], notes: [] };

const small: TrainingOptions = {
  ...presetOptions('fast'),
  epochs: 3,
  batchSize: 5,
  seqLength: 13,
  hidden: 24,
  warmup: 5,
  learningRate: 0.01,
  patience: 0,
  saveEvery: 0,
  sampleLength: 20,
};

async function make(
  options: TrainingOptions,
  given: { checkpoint?: Checkpoint | undefined; signal?: AbortSignal; threads?: number } = {},
) {
  const native = queued(
    await loadNative().createModel(
      {
        vocabulary: vocabulary.size,
        layers: options.layers,
        hidden: options.hidden,
        input: options.input,
        embedding: 0,
        dropout: options.dropout,
        seed: options.seed,
      },
      { device: 'cpu', threads: given.threads ?? 2, precision: options.precision },
    ),
  );
  await native.initialize();
  const run = new MemoryRun();
  const metadata = { format: 'cudnn-lstm', formatVersion: 1, epoch: 0, step: 0 } as unknown as CheckpointMetadata;
  const trainer = new Trainer({
    model: { native, vocabulary, metadata, deviceReason: 'a test' },
    corpus,
    options,
    division: await divideCorpus(corpus, options),
    run,
    ...(given.checkpoint ? { resume: { path: 'memory/last', checkpoint: given.checkpoint } } : {}),
    signal: given.signal,
  });
  return { trainer, native, run };
}

type Made = Awaited<ReturnType<typeof make>>;

async function collect(trainer: Trainer): Promise<TrainingEvent[]> {
  const events: TrainingEvent[] = [];
  for await (const event of trainer) events.push(event);
  return events;
}

function hash({ native }: Made): string {
  const all = createHash('sha256').update(String(native.stepCount));
  for (const slot of ['parameters', 'firstMoments', 'secondMoments'] as Slot[]) all.update(native.read(slot));
  return all.digest('hex');
}

const losses = (events: TrainingEvent[]) =>
  events.flatMap((event) =>
    event.type === 'epoch' ? [[event.epoch, event.loss, event.validationLoss, event.gradientNorm]] : [],
  );

it('learns', async () => {
  const { trainer, native } = await make({ ...small, epochs: 12 });
  const epochs = (await collect(trainer)).filter((event): event is EpochEvent => event.type === 'epoch');
  expect(epochs.at(-1)?.validationLoss).toBeLessThan(0.7 * (epochs[0]?.validationLoss as number));
  native.dispose();
});

describe.each(Object.keys(optimizers) as Optimizer[])('%s', (optimizer) => {
  const { epochs, batchSize, seqLength, hidden, warmup, patience, saveEvery } = small;
  const given = { epochs, batchSize, seqLength, hidden, warmup, patience, saveEvery, sampleLength: 0, optimizer };
  const { options, sources } = resolveConfiguration({ options: given });

  it('has its own defaults, below what is given', () => {
    for (const [name, value] of Object.entries(optimizers[optimizer].defaults)) {
      expect(options[name as OptionName]).toBe(value);
      expect(sources[name as OptionName]).toBe(`optimizer ${optimizer}`);
      const own = resolveConfiguration({ options: { ...given, [name]: (value as number) / 2 } });
      expect(own.options[name as OptionName]).toBe((value as number) / 2);
    }
  });

  it('learns, keeps its slots and no others, and resumes from them bit for bit', async () => {
    const whole = await make(options);
    const epochs = (await collect(whole.trainer)).filter((event): event is EpochEvent => event.type === 'epoch');
    expect(epochs.at(-1)?.validationLoss).toBeLessThan(0.9 * (epochs[0]?.validationLoss as number));
    const first = await make(options, { threads: 1 });
    for await (const event of first.trainer) if (event.type === 'step' && event.totalSteps >= 17) break;
    const { slots } = optimizers[optimizer];
    const all = ['firstMoments', 'secondMoments'] as const;
    const checkpoint = first.run.last as Checkpoint;
    expect(all.filter((slot) => checkpoint[slot] !== undefined)).toEqual(slots);
    for (const slot of slots) expect(checkpoint[slot]?.some((value) => value !== 0)).toBe(true);
    for (const slot of all) if (!slots.includes(slot)) expect(first.native.read(slot).every((v) => v === 0)).toBe(true);
    const second = await make(options, { checkpoint, threads: 3 });
    await collect(second.trainer);
    expect(hash(second)).toBe(hash(whole));
    for (const slot of slots) {
      const { [slot]: _, ...less } = checkpoint;
      await expect(make(options, { checkpoint: less as Checkpoint })).rejects.toThrow('it holds no training state');
    }
    for (const { native } of [whole, first, second]) native.dispose();
  });
});

describe.each([
  ['every', 'fp32'],
  ['last', 'fp32'],
  ['every', 'bf16'],
  ['last', 'bf16'],
] as const)('target %s, %s', (target, precision) => {
  const batchSize = target === 'last' ? 64 : 5;
  const options: TrainingOptions = { ...small, target, batchSize, precision, sampleLength: 0 };

  it('resumes bit for bit, and whatever the number of threads', async () => {
    const whole = await make(options);
    const wholeEvents = await collect(whole.trainer);
    for (const cut of [1, 17, 70, 110]) {
      const first = await make(options, { threads: 1 });
      for await (const event of first.trainer) if (event.type === 'step' && event.totalSteps >= cut) break;
      const second = await make(options, { checkpoint: first.run.last, threads: 3 });
      const events = await collect(second.trainer);
      expect(hash(second)).toBe(hash(whole));
      const later = losses(events);
      expect(later).toEqual(losses(wholeEvents).slice(3 - later.length));
      expect(later.length).toBeGreaterThan(0);
      first.native.dispose();
      second.native.dispose();
    }
    whole.native.dispose();
  });
});

it('keeps the event loop free, and starts nothing more after an abort', async () => {
  const controller = new AbortController();
  const { trainer, run, native } = await make(
    { ...small, hidden: 128, epochs: 10_000, sampleLength: 100 },
    { signal: controller.signal, threads: 1 }, // Leaves a core for the event loop.
  );
  const trainSteps = native.trainSteps.bind(native);
  const turnsOfCalls: number[] = [];
  const longestOfCalls: number[] = [];
  // During a call, a free event loop turns thousands of times, a blocked one once or twice. On a busy machine this thread may hardly be
  // scheduled during a short call, so there are as many calls as it takes, or 500.
  const isSeenFree = () => turnsOfCalls.slice(2).some((turns) => turns > 100);
  let before = 0;
  native.trainSteps = async (call) => {
    const turns = countTurns();
    let result: Awaited<ReturnType<typeof trainSteps>> | undefined;
    longestOfCalls.push(
      await longestTurn(async () => {
        const running = trainSteps(call);
        if (turnsOfCalls.length >= 20 && (isSeenFree() || turnsOfCalls.length === 500)) {
          before = turnsOfCalls.length;
          controller.abort(new Error('enough'));
        }
        result = await running;
      }),
    );
    turnsOfCalls.push(turns());
    return result as NonNullable<typeof result>;
  };
  await expect(collect(trainer)).rejects.toThrow('enough');
  expect(turnsOfCalls).toHaveLength(before + 1); // The call that was running was the last one.
  expect(isSeenFree()).toBe(true);
  if (process.env.LONG) {
    const sorted = turnsOfCalls.slice(2, 20).sort((a, b) => a - b);
    expect(sorted[4]).toBeGreaterThan(2);
    expect(sorted[9]).toBeGreaterThan(100);
  }
  // However busy the machine is, a call of tens of milliseconds takes hardly any processor time of this thread.
  if (process.platform === 'linux') expect(longestOfCalls.slice(2, 20).sort((a, b) => a - b)[9]).toBeLessThan(5);
  expect(run.last?.metadata.training?.stepCount).toBe(native.stepCount);
  native.dispose();
});

it('stops with the step and the norm when the numbers explode', async () => {
  const { trainer, native, run } = await make({
    ...small,
    learningRate: 10,
    clip: 0,
    warmup: 0,
    schedule: 'constant',
    epochs: 100,
  });
  await expect(collect(trainer)).rejects.toMatchObject({
    code: 'ERR_TRAINING',
    message: expect.stringMatching(/step \d+ .*loss .*gradient norm/),
  });
  expect(run.best.size).toBeLessThanOrEqual(100);
  native.dispose();
});
