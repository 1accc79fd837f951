import type { Checkpoint, CheckpointMetadata } from '../../../lib/checkpoint/checkpoint';
import type { Vocabulary } from '../../../lib/corpus/vocabulary';
import { queued } from '../../../lib/device/queue';
import { divideCorpus } from '../../../lib/training/division';
import type { EndEvent, EpochEvent, TrainingEvent, ValidationEvent } from '../../../lib/training/events';
import type { TrainingOptions } from '../../../lib/training/options';
import { presetOptions } from '../../../lib/training/presets';
import { Trainer } from '../../../lib/training/trainer';
import { arrayIds } from '../../fixtures/array-ids';
import { FakeTrainingModel } from '../../fixtures/fake-training-model';
import { MemoryRun } from '../../fixtures/memory-run';

const symbols = ['\n', ...'abcdefgh'];
const vocabulary = {
  symbols,
  size: symbols.length,
  idOf: (symbol: string) => (symbols.includes(symbol) ? symbols.indexOf(symbol) : undefined),
  decode: (ids: Iterable<number>) => [...ids].map((id) => symbols[id]).join(''),
} as unknown as Vocabulary;

const ids = Array.from({ length: 400 }, (_, i) => (i * i + (i >> 3)) % symbols.length);
const corpus = { ids: arrayIds(ids), length: ids.length, sha256: 'abc', sources: ['test'], notes: [] };

const small: TrainingOptions = {
  ...presetOptions('fast'),
  epochs: 4,
  batchSize: 3,
  seqLength: 5,
  warmup: 7,
  learningRate: 3e-3,
  patience: 0,
  saveEvery: 0,
  sampleLength: 12,
};

async function make(
  options: TrainingOptions,
  native = new FakeTrainingModel(symbols.length),
  checkpoint?: Checkpoint,
  signal?: AbortSignal,
) {
  const run = new MemoryRun();
  const metadata = { format: 'cudnn-lstm', formatVersion: 1, epoch: 0, step: 0 } as unknown as CheckpointMetadata;
  const trainer = new Trainer({
    model: { native: queued(native), vocabulary, metadata, deviceReason: 'a test' },
    corpus,
    options,
    division: await divideCorpus(corpus, options),
    run,
    ...(checkpoint ? { resume: { path: 'memory/last', checkpoint } } : {}),
    signal,
  });
  return { trainer, native, run };
}

async function collect(trainer: Trainer): Promise<TrainingEvent[]> {
  const events: TrainingEvent[] = [];
  for await (const event of trainer) events.push(event);
  return events;
}

const epochsOf = (events: TrainingEvent[]) => events.filter((event): event is EpochEvent => event.type === 'epoch');
const validationsOf = (events: TrainingEvent[]) =>
  events.filter((event): event is ValidationEvent => event.type === 'validation');
const endOf = (events: TrainingEvent[]) => events.at(-1) as EndEvent;

describe('a whole run', () => {
  it('tells a start, steps, epochs with checkpoints and samples, and an end', async () => {
    const { trainer, native, run } = await make(small);
    const events = await collect(trainer);
    expect(events[0]).toMatchObject({
      type: 'start',
      stepsPerEpoch: 24,
      trainingCharacters: 360,
      validationCharacters: 40,
    });
    expect(native.stepCount).toBe(96);
    expect(epochsOf(events).map(({ epoch, totalSteps }) => [epoch, totalSteps])).toEqual([
      [1, 24],
      [2, 48],
      [3, 72],
      [4, 96],
    ]);
    expect(events.filter(({ type }) => type === 'sample')).toHaveLength(4);
    expect(endOf(events)).toMatchObject({ type: 'end', reason: 'finished', epoch: 4, totalSteps: 96 });
    // In a run this short, the metrics have everything but the steps and the last checkpoints.
    expect(run.metrics.map(({ type }) => type).filter((type) => type !== 'checkpoint')).toEqual([
      'start',
      ...Array(4).fill(['epoch', 'sample']).flat(),
      'end',
    ]);
    const steps = events.filter(({ type }) => type === 'step');
    expect(steps.length).toBeLessThan(96); // Several steps share a call.
    for (const event of steps)
      expect(event).toMatchObject({ charactersPerSecond: expect.any(Number), learningRate: expect.any(Number) });
  });

  it('cuts the ids of the next call while the device works on this one', async () => {
    let busy = false;
    class Working extends FakeTrainingModel {
      override async trainSteps(call: Parameters<FakeTrainingModel['trainSteps']>[0]): Promise<never> {
        busy = true;
        await new Promise((resolve) => setImmediate(resolve));
        return super.trainSteps(call).finally(() => {
          busy = false;
        });
      }
    }
    const reads = { busy: 0, idle: 0 };
    const source = arrayIds(ids);
    const watched = {
      ...corpus,
      ids: {
        length: source.length,
        bytesPerId: source.bytesPerId,
        close: () => {},
        read: (start: number, count: number) => {
          reads[busy ? 'busy' : 'idle']++;
          return source.read(start, count);
        },
      },
    };
    const metadata = { format: 'cudnn-lstm', formatVersion: 1 } as unknown as CheckpointMetadata;
    const native = queued(new Working(symbols.length, 10)); // A few steps a call.
    const options = { ...small, epochs: 1, validation: 0, sampleLength: 0 };
    const trainer = new Trainer({
      model: { native, vocabulary, metadata, deviceReason: 'a test' },
      corpus: watched,
      options,
      division: await divideCorpus(watched, options),
    });
    await collect(trainer);
    // Only the ids of the first call are cut while the device is idle.
    expect(reads.busy).toBeGreaterThan(4 * reads.idle);
  });

  it('can be resumed when it is killed as it saves its first best checkpoint', async () => {
    const expected = epochsOf(await collect((await make(small)).trainer)).map((event) => event.loss);
    const killed = await make(small);
    killed.run.saveBest = () => Promise.reject(new Error('killed'));
    await expect(collect(killed.trainer)).rejects.toThrow('killed');
    expect(killed.run.last).toBeDefined();
    const resumed = await make(small, undefined, killed.run.last);
    expect(epochsOf(await collect(resumed.trainer)).map((event) => event.loss)).toEqual(expected);
  });

  it("records the GPU's use with each epoch and at the end, and nothing where there is none", async () => {
    const gpu = { name: 'Fake', gpuPercent: 50, memoryPercent: 20, memoryUsedBytes: 3, memoryTotalBytes: 9 };
    for (const gpuUsage of [async () => gpu, async () => null, undefined]) {
      const run = new MemoryRun();
      const metadata = { format: 'cudnn-lstm', formatVersion: 1 } as unknown as CheckpointMetadata;
      const native = queued(new FakeTrainingModel(symbols.length));
      const trainer = new Trainer({
        model: { native, vocabulary, metadata, deviceReason: 'a test', ...(gpuUsage ? { gpuUsage } : {}) },
        corpus,
        options: small,
        division: await divideCorpus(corpus, small),
        run,
      });
      const events = await collect(trainer);
      const expected = gpuUsage && (await gpuUsage()) ? gpu : undefined;
      expect(epochsOf(events).map((event) => event.gpu)).toEqual(Array(4).fill(expected));
      const recorded = run.metrics.filter(({ type }) => type === 'epoch') as unknown as EpochEvent[];
      expect(recorded.map((event) => event.gpu)).toEqual(Array(4).fill(expected));
      expect(endOf(events)).toMatchObject({ device: native.description, secondsPerEpoch: expect.any(Number) });
      expect(endOf(events).gpu).toEqual(expected);
    }
  });

  it('gives each step its own learning rate, and each epoch fresh state', async () => {
    const { trainer, native } = await make({ ...small, learningRate: 0.01, warmup: 10, schedule: 'constant' });
    await collect(trainer);
    const rates = native.trainCalls.flatMap((call) => [...call.learningRates]);
    expect(rates.slice(0, 10)).toEqual(Array.from({ length: 10 }, (_, i) => (0.01 * (i + 1)) / 10));
    expect(new Set(rates.slice(9))).toEqual(new Set([0.01]));
    expect(native.trainCalls.every((call) => call.carryState && call.target === 'every' && call.clip === 5)).toBe(true);
  });

  it("names the best the reference's way, chosen by the training loss where there is no validation text", async () => {
    const { trainer, native, run } = await make({
      ...presetOptions('proj-basic'),
      epochs: 3,
      seqLength: 20,
      sampleLength: 5,
    });
    native.lossAt = (step) => ({ loss: step < 6 ? 2.5 : step < 12 ? 1.25 : 2, norm: 1 });
    const events = await collect(trainer);
    expect(trainer.batches.stepsPerEpoch).toBe(6);
    expect([...run.best.keys()]).toEqual([
      'weights-improvement-1-2.5000-bigger-epochs-3.safetensors',
      'weights-improvement-2-1.2500-bigger-epochs-3.safetensors',
    ]);
    expect(endOf(events).best).toMatchObject({ epoch: 2, loss: 1.25 });
    expect(epochsOf(events).map(({ best }) => best)).toEqual([true, true, false]);
    expect(native.trainCalls.at(-1)?.batch).toBe(380 - 5 * 64);
    expect(run.best.get('weights-improvement-2-1.2500-bigger-epochs-3.safetensors')?.metadata).toMatchObject({
      epoch: 2,
      step: 12,
      loss: 1.25,
    });
  });

  it('weighs the last, smaller batch by its size, as Keras does', async () => {
    const { trainer, native } = await make({
      ...presetOptions('proj-basic'),
      epochs: 1,
      seqLength: 20,
      sampleLength: 0,
    });
    native.lossAt = (step) => ({ loss: step === 5 ? 10 : 1, norm: 1 });
    const [epoch] = epochsOf(await collect(trainer));
    expect(epoch?.loss).toBeCloseTo((320 * 1 + 60 * 10) / 380, 12);
  });

  it('chooses the best by the validation loss where there is validation text, and stops early', async () => {
    const { trainer, native, run } = await make({ ...small, epochs: 50, patience: 3, sampleLength: 0 });
    const offsets = [5, 3, 1, 2, 4, 2, 0];
    native.validationOffset = () => offsets[Math.floor((native.stepCount - 1) / 24)] ?? 0;
    const events = await collect(trainer);
    expect(endOf(events)).toMatchObject({ reason: 'early-stopping', epoch: 6, best: { epoch: 3 } });
    const third = epochsOf(events)[2];
    expect([...run.best.keys()].at(-1)).toBe(`weights-improvement-3-${third?.validationLoss?.toFixed(4)}.safetensors`);
  });

  it('scores the validation text every few epochs and at the end', async () => {
    const { trainer } = await make({ ...small, epochs: 5, validationEvery: 3, sampleLength: 0 });
    const scored = epochsOf(await collect(trainer)).map((event) => event.validationLoss !== undefined);
    expect(scored).toEqual([false, false, true, false, true]);
  });

  it('scores the validation text in mid-epoch where that is counted in steps, and trains as it would without', async () => {
    const plain = await make({ ...small, sampleLength: 0 });
    await collect(plain.trainer);
    for (const every of [1, 7, 10, 24, 1000]) {
      const { trainer, native, run } = await make({ ...small, validationEvery: `${every}steps`, sampleLength: 0 });
      const events = await collect(trainer);
      const scored = events
        .filter(
          (event) => event.type === 'validation' || (event.type === 'epoch' && event.validationLoss !== undefined),
        )
        .map((event) => (event as ValidationEvent).totalSteps);
      const due = Array.from({ length: 96 }, (_, i) => i + 1).filter((step) => step % every === 0 || step === 96);
      expect(scored).toEqual(due);
      expect(native.read('parameters')).toEqual(plain.native.read('parameters'));
      for (const event of validationsOf(events)) {
        expect(event).toMatchObject({ type: 'validation', epochs: 4, stepsPerEpoch: 24, loss: expect.any(Number) });
        expect(event.totalSteps).toBe((event.epoch - 1) * 24 + event.step);
      }
      expect(run.metrics.filter(({ type }) => type === 'validation')).toEqual(validationsOf(events));
    }
  });

  it('keeps a best checkpoint of mid-epoch, and stops there when none has come for a while', async () => {
    const { trainer, native, run } = await make({
      ...small,
      epochs: 50,
      patience: 3,
      validationEvery: '10steps',
      sampleLength: 0,
    });
    native.validationOffset = () => (native.stepCount <= 30 ? 5 - native.stepCount / 10 : 9);
    const events = await collect(trainer);
    const best = { epoch: 2, step: 30 };
    expect(endOf(events)).toMatchObject({ reason: 'early-stopping', epoch: 2, totalSteps: 60, best });
    const file = [...run.best.keys()].at(-1) as string;
    expect(run.best.get(file)?.metadata).toMatchObject({
      epoch: 1,
      step: 30,
      validationLoss: endOf(events).best?.loss,
    });
    expect(run.last?.metadata.training?.best).toMatchObject({ ...best, file });
    // Resumed with the same patience it remains stopped; without patience it continues.
    const again = await collect((await make({ ...small, epochs: 50, patience: 3 }, undefined, run.last)).trainer);
    expect(endOf(again)).toMatchObject({ reason: 'early-stopping', newSteps: 0 });
    const more = await collect((await make({ ...small, epochs: 5, patience: 0 }, undefined, run.last)).trainer);
    expect(endOf(more)).toMatchObject({ reason: 'finished', newSteps: 60 });
  });

  it('can be iterated over once', async () => {
    const { trainer } = await make({ ...small, epochs: 1 });
    await collect(trainer);
    await expect(collect(trainer)).rejects.toThrow('has run already');
  });
});

describe.each([
  ['every', 1],
  ['last', 1],
  ['every', '9steps'],
] as const)('a run that is cut and resumed, target %s, scored every %s', (target, validationEvery) => {
  const options: TrainingOptions = { ...small, target, sampleLength: 0, patience: 0, validationEvery };

  async function unbroken() {
    const { trainer, native, run } = await make(options);
    const events = await collect(trainer);
    return { native, run, events, total: trainer.totalSteps };
  }

  it('is bit for bit the run that was not', async () => {
    const whole = await unbroken();
    const points = [1, 5, 23, 24, 25, 31, 48, 66, whole.total - 1];
    for (const point of points) {
      const controller = new AbortController();
      const first = await make(options, undefined, undefined, controller.signal);
      first.native.lossAt = aborting(first.native, controller, point);
      await expect(collect(first.trainer)).rejects.toThrow('cut');
      expect(first.run.last?.metadata.training?.stepCount).toBeLessThanOrEqual(point + 40);

      const second = await make(options, new FakeTrainingModel(symbols.length), first.run.last);
      const events = await collect(second.trainer);
      for (const slot of ['parameters', 'firstMoments', 'secondMoments'] as const) {
        expect(second.native.read(slot)).toEqual(whole.native.read(slot));
      }
      expect(second.native.stepCount).toBe(whole.native.stepCount);
      const clockless = ({ loss, validationLoss, gradientNorm, epoch, best }: EpochEvent) => ({
        loss,
        validationLoss,
        gradientNorm,
        epoch,
        best,
      });
      const later = epochsOf(events).map(clockless);
      expect(later).toEqual(
        epochsOf(whole.events)
          .map(clockless)
          .slice(4 - later.length),
      );
      expect(second.run.last?.metadata.training?.best).toEqual(whole.run.last?.metadata.training?.best);
      expect(second.run.last?.metadata.training?.extra.scoresSinceBest).toEqual(
        whole.run.last?.metadata.training?.extra.scoresSinceBest,
      );
    }
  });

  it('can be cut again and again, by leaving the loop too', async () => {
    const whole = await unbroken();
    let checkpoint: Checkpoint | undefined;
    let native = new FakeTrainingModel(symbols.length);
    for (let cut = 0; cut < 200; cut++) {
      const { trainer, run } = await make(options, native, checkpoint);
      let steps = 0;
      let ended = false;
      for await (const event of trainer) {
        ended = event.type === 'end';
        if (event.type !== 'start' && ++steps === 1 + (cut % 3)) break;
      }
      checkpoint = run.last ?? checkpoint;
      if (ended) break;
      native = new FakeTrainingModel(symbols.length);
    }
    const { run } = await make(options, native, checkpoint);
    expect(run.last).toBeUndefined();
    expect(checkpoint?.parameters).toEqual(whole.native.read('parameters'));
    expect(checkpoint?.metadata.training?.best).toEqual(whole.run.last?.metadata.training?.best);
  });

  function aborting(
    native: FakeTrainingModel,
    controller: AbortController,
    point: number,
  ): FakeTrainingModel['lossAt'] {
    const usual = native.lossAt;
    return (step) => {
      if (step === point) controller.abort(new Error('cut'));
      return usual(step);
    };
  }
});

describe('interruptions', () => {
  afterEach(() => jest.restoreAllMocks());

  /** Makes each step take exactly 10 ms and everything else no time, so that where the time is up does not depend on the machine. */
  function passTime(native: FakeTrainingModel): void {
    let now = 0;
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    native.lossAt = () => {
      now += 10;
      return { loss: 2.5, norm: 1 };
    };
  }

  it('an abort in validation leaves the end of the epoch to the resumed run', async () => {
    const controller = new AbortController();
    const { trainer, native, run } = await make(small, undefined, undefined, controller.signal);
    native.validationOffset = () => {
      controller.abort(new Error('cut'));
      return 0;
    };
    await expect(collect(trainer)).rejects.toThrow('cut');
    expect(run.last?.metadata.training).toMatchObject({ epoch: 0, batchInEpoch: 24, stepCount: 24 });
    const second = await make(small, undefined, run.last);
    const events = await collect(second.trainer);
    expect(epochsOf(events)).toHaveLength(4);
    expect(second.native.stepCount).toBe(96);
  });

  it('an abort before the start trains nothing', async () => {
    const { trainer, native, run } = await make(small, undefined, undefined, AbortSignal.abort(new Error('never')));
    await expect(collect(trainer)).rejects.toThrow('never');
    expect(native.trainCalls).toHaveLength(0);
    // Even so, it can be resumed.
    expect(epochsOf(await collect((await make(small, undefined, run.last)).trainer))).toHaveLength(4);
  });

  it('ends when the time is up, with a checkpoint and a sample, and no error', async () => {
    const { trainer, run } = await make(
      { ...small, epochs: 10_000, maxTime: 0.15 },
      new FakeTrainingModel(symbols.length, 2),
    );
    const events = await collect(trainer);
    expect(endOf(events).reason).toBe('max-time');
    expect(epochsOf(events).length).toBeLessThan(10_000);
    expect(run.last?.metadata.training?.stepCount).toBe(endOf(events).totalSteps);
  });

  it('has a loss, a score and a best checkpoint though the time is up within the first epoch', async () => {
    const { trainer, native, run } = await make({ ...small, epochs: 3, maxTime: 0.1 });
    passTime(native);
    const events = await collect(trainer);
    const [score] = validationsOf(events);
    const steps = native.stepCount;
    expect(steps).toBeLessThan(24);
    expect(score).toMatchObject({ epoch: 1, step: steps, loss: 2.5, best: true });
    const { validationLoss } = score as ValidationEvent;
    expect(endOf(events)).toMatchObject({
      reason: 'max-time',
      epoch: 0,
      newSteps: steps,
      loss: 2.5,
      validationLoss,
      best: { epoch: 1, step: steps, loss: validationLoss },
    });
    expect(run.metrics.filter(({ type }) => type === 'step').at(-1)).toMatchObject({
      totalSteps: steps,
      epochLoss: 2.5,
    });
    expect([...run.best.values()].map(({ metadata }) => metadata)).toMatchObject([
      { epoch: 0, step: steps, validationLoss },
    ]);
    // What `info` shows of the last checkpoint.
    expect(run.last?.metadata).toMatchObject({ epoch: 0, step: steps, loss: 2.5, validationLoss });
  });

  it('lets the schedule end when its time does, over interruptions too', async () => {
    const options: TrainingOptions = {
      ...small,
      epochs: 10_000,
      warmup: 0,
      schedule: 'cosine',
      learningRate: 0.1,
      scheduleTime: 10,
      sampleLength: 0,
    };
    const runFrom = async (changed: Partial<TrainingOptions>, last?: Checkpoint) => {
      const { trainer, native, run } = await make({ ...options, ...changed }, undefined, last);
      passTime(native);
      return { events: await collect(trainer), last: run.last };
    };
    const first = await runFrom({ maxTime: 4 });
    expect(endOf(first.events)).toMatchObject({ reason: 'max-time' });
    const second = await runFrom({}, first.last);
    const { reason, elapsedSeconds } = endOf(second.events);
    expect(reason).toBe('schedule-time');
    expect(elapsedSeconds).toBeGreaterThanOrEqual(10);
    expect(elapsedSeconds).toBeLessThan(10.1);
    const events = [...first.events, ...second.events];
    const rates = events.flatMap((event) => (event.type === 'step' ? [event.learningRate] : []));
    expect(rates).toEqual([...rates].sort((a, b) => b - a));
    expect(rates[0]).toBeCloseTo(0.1, 4);
    expect(rates.at(-1)).toBeLessThan(1e-5);
    expect(epochsOf(events).every(({ learningRate }) => rates.includes(learningRate))).toBe(true);
    const etas = second.events.flatMap((event) => (event.type === 'step' ? [event.etaSeconds] : []));
    expect(Math.max(...etas)).toBeLessThanOrEqual(6);
    // No time is left for a third.
    const third = await runFrom({}, second.last);
    expect(endOf(third.events)).toMatchObject({ reason: 'schedule-time', newSteps: 0 });
  });

  it('does not count the score of a run whose time is up towards its patience', async () => {
    const options = { ...small, epochs: 3, maxTime: 0.1, patience: 1 };
    const cut = await make(options);
    passTime(cut.native);
    await collect(cut.trainer);
    const worse = cut.run.last as Checkpoint;
    (worse.metadata.training as { best: { loss: number } }).best.loss = 0;
    const again = await make({ ...options, maxTime: 0.05 }, undefined, worse);
    passTime(again.native);
    const events = await collect(again.trainer);
    expect(validationsOf(events)).toMatchObject([{ best: false }]);
    expect(again.run.last?.metadata.training?.extra.scoresSinceBest).toBe(0);
  });

  it('scores again what an abort cut short', async () => {
    const options: TrainingOptions = { ...small, validationEvery: '10steps', sampleLength: 0 };
    const controller = new AbortController();
    const first = await make(options, undefined, undefined, controller.signal);
    first.native.validationOffset = () => {
      controller.abort(new Error('cut'));
      return 0;
    };
    await expect(collect(first.trainer)).rejects.toThrow('cut');
    expect(first.run.last?.metadata.training).toMatchObject({ stepCount: 10 });
    expect(first.run.last?.metadata.training?.best).toBeUndefined();
    const events = await collect((await make(options, undefined, first.run.last)).trainer);
    expect(validationsOf(events)[0]).toMatchObject({ totalSteps: 10, best: true });
  });

  it('saves in mid-epoch as often as asked', async () => {
    const { trainer, run } = await make(
      { ...small, epochs: 1, saveEvery: 0.001 },
      new FakeTrainingModel(symbols.length, 4),
    );
    await collect(trainer);
    expect(run.lastCount).toBeGreaterThan(2);
  });

  it('a finished run has nothing left to do, and can be extended', async () => {
    const first = await make(small);
    await collect(first.trainer);
    const again = await collect((await make(small, undefined, first.run.last)).trainer);
    expect(again.map(({ type }) => type)).toEqual(['start', 'end']);
    const extended = await make({ ...small, epochs: 6 }, undefined, first.run.last);
    expect(epochsOf(await collect(extended.trainer)).map(({ epoch }) => epoch)).toEqual([5, 6]);
  });

  it('a checkpoint without training state cannot be resumed', async () => {
    const { trainer, run } = await make({ ...small, epochs: 1 });
    await collect(trainer);
    const best = [...run.best.values()][0] as Checkpoint;
    await expect(make(small, undefined, best)).rejects.toThrow(
      'memory/last cannot be resumed: it holds no training state',
    );
  });
});

describe('divergence', () => {
  it.each([
    [
      { loss: Number.NaN, norm: Number.NaN },
      /^Training stopped at step 31 \(epoch 2\): a value is not finite, and the step was not applied \(loss NaN, gradient norm NaN\)/,
    ],
    [{ loss: 2, norm: Number.POSITIVE_INFINITY }, /step 31 \(epoch 2\).*loss 2\.000, gradient norm Infinity/],
    [
      { loss: 1e5, norm: 7 },
      /step 31 \(epoch 2\): the loss exploded \(loss 1\.000e\+5, gradient norm 7\.000\); lower `learningRate` \(0\.003\); the checkpoints in memory are as they were\.$/,
    ],
  ])('%p stops with the step and the norm, and saves nothing', async (bad, message) => {
    const { trainer, native, run } = await make(small);
    native.lossAt = (step) => (step === 30 ? bad : { loss: 2, norm: 1 });
    await expect(collect(trainer)).rejects.toMatchObject({
      code: 'ERR_TRAINING',
      exitCode: 1,
      message: expect.stringMatching(message),
    });
    expect(run.last?.metadata.training?.stepCount).toBe(24);
  });

  it('promises no checkpoints in the first epoch, which has saved none', async () => {
    const { trainer, native } = await make(small);
    native.lossAt = (step) => ({ loss: step === 3 ? Number.NaN : 2, norm: 1 });
    await expect(collect(trainer)).rejects.toThrow(/^Training stopped at step 4 .* lower `learningRate` \(0\.003\)\.$/);
  });
});
