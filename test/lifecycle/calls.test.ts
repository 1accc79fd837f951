/** What a program may ask of a model while it is at work, and once it is gone. */
import { setTimeout } from 'node:timers/promises';
import { Vocabulary } from '../../lib/corpus/vocabulary';
import { loadNative, type NativeModel } from '../../lib/device/native';
import { LanguageModel, nativeOf } from '../../lib/model';
import { sampleCall } from '../fixtures/sample-call';
import { countTurns } from '../fixtures/turns';
import { createModel, devices, randomIds, trainCall } from '../parity/harness';

const spec = { vocabulary: 20, layers: 2, hidden: 64, input: 'onehot', embedding: 0 } as const;
const ids = Int32Array.of(1, 2, 3);
const evaluation = { ids, steps: 2, batch: 1, target: 'every', carryState: false, dropout: false } as const;

/** Every way to use a model; a refused call throws or rejects. */
const uses: Record<string, (model: NativeModel) => unknown> = {
  trainSteps: (model) => model.trainSteps(trainCall(ids, 2, 1)),
  evaluate: (model) => model.evaluate(evaluation),
  sample: (model) => model.sample(sampleCall(ids, 1)),
  logits: (model) => model.logits({ ids, streams: 1 }),
  read: (model) => model.read('parameters'),
  write: (model) => model.write('parameters', new Float32Array(model.parameterCount)),
  initialize: (model) => model.initialize(),
  resetEvaluationState: (model) => model.resetEvaluationState(),
  resetTrainingState: (model) => model.resetTrainingState(),
  'stepCount =': (model) => {
    model.stepCount = 1;
  },
};
const looks: Record<string, (model: NativeModel) => unknown> = {
  stepCount: (model) => model.stepCount,
  parameterCount: (model) => model.parameterCount,
  parameters: (model) => model.parameters,
  description: (model) => model.description,
  hostBytes: (model) => model.hostBytes,
  deviceBytes: (model) => model.deviceBytes,
};

const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) => Buffer.from(buffer, byteOffset, byteLength);

async function refusal(use: (model: NativeModel) => unknown, model: NativeModel): Promise<unknown> {
  try {
    await use(model);
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

/** Far more steps than anyone would wait for. */
const count = 1 << 17;
const longCall = () => trainCall(new Int32Array(count * 5 * 4), 4, 4, { count });

describe.each(devices)('$name', (device) => {
  it('refuses a second call, and everything that would disturb the first', async () => {
    const model = await createModel(spec, device);
    await model.initialize();
    const running = model.trainSteps(longCall());
    for (const [name, use] of Object.entries(uses)) {
      expect([name, await refusal(use, model)]).toEqual([name, 'ERR_BUSY']);
    }
    for (const look of Object.values(looks)) look(model);
    model.stop();
    expect((await running).stopped).toBe(true);
    for (const [name, use] of Object.entries(uses)) {
      expect([name, await refusal(use, model)]).toEqual([name, undefined]);
    }
    model.dispose();
  });

  it('refuses everything when it was disposed of', async () => {
    const model = await createModel(spec, device);
    model.dispose();
    model.dispose();
    model.stop();
    for (const [name, use] of Object.entries({ ...uses, ...looks })) {
      expect([name, await refusal(use, model)]).toEqual([name, 'ERR_DISPOSED']);
    }
  });

  it('can only be made by createModel()', async () => {
    const model = await createModel(spec, device);
    const Model = model.constructor as new () => NativeModel;
    for (const [name, use] of Object.entries({ ...uses, ...looks })) {
      expect([name, await refusal(use, new Model())]).toEqual([name, 'ERR_DISPOSED']);
    }
    model.dispose();
  });

  it('takes no step count but a whole one that a double can count', async () => {
    const model = await createModel(spec, device);
    for (const steps of [0, 1, 2 ** 53 - 1]) {
      model.stepCount = steps;
      expect(model.stepCount).toBe(steps);
    }
    for (const steps of [-1, 0.5, 2 ** 53, 1e30, Number.POSITIVE_INFINITY, Number.NaN, '3' as unknown as number]) {
      const set = (model: NativeModel) => {
        model.stepCount = steps;
      };
      expect([steps, await refusal(set, model)]).toEqual([steps, 'ERR_INVALID_ARGUMENT']);
      expect(model.stepCount).toBe(2 ** 53 - 1);
    }
    model.dispose();
  });

  it('is disposed of in the middle of a call, which ends early', async () => {
    const model = await createModel(spec, device);
    await model.initialize();
    const running = model.trainSteps(longCall());
    await setTimeout(30);
    model.dispose();
    expect(await refusal(uses.read as (model: NativeModel) => unknown, model)).toBe('ERR_DISPOSED');
    const { stopped, completed } = await running;
    expect(stopped).toBe(true);
    expect(completed).toBeLessThan(count);
  });

  it('leaves the event loop free while it is made and while it trains', async () => {
    const vocabulary = new Vocabulary([...'abcdefghij']);
    const shape = { vocabulary: 10, layers: 1, hidden: 448, input: 'onehot', embedding: 0, dropout: 0 } as const;
    const turnsOfMaking = countTurns();
    const model = await LanguageModel.create(shape, vocabulary, { device: device.device });
    expect(turnsOfMaking()).toBeGreaterThan(10);
    const turnsOfTraining = countTurns();
    await nativeOf(model).trainSteps(trainCall(randomIds(201 * 64, 10), 200, 64)); // One long step.
    expect(turnsOfTraining()).toBeGreaterThan(10);
    model.dispose();
  });
});

it('gives up every kind of call in the middle, not at its end', async () => {
  const large = { vocabulary: 20, layers: 2, hidden: 512, input: 'onehot', embedding: 0 } as const;
  const model = await createModel(large, { name: 'cpu', device: 'cpu', tolerance: 0 });
  const huge = await createModel({ ...large, hidden: 2048 }, { name: 'cpu', device: 'cpu', tolerance: 0 });
  const some = (count: number) => randomIds(count, large.vocabulary);
  const step = () => model.trainSteps(trainCall(some(401 * 16), 400, 16));
  const long = { target: 'every', carryState: false, dropout: false } as const;
  /** Each takes several times as much processor time as that step; most take minutes. */
  const calls: Record<string, () => Promise<unknown>> = {
    trainSteps: () => model.trainSteps(trainCall(some(5 * 401 * 16), 400, 16, { count: 5 })),
    'evaluate, blocks': () => model.evaluate({ ...long, ids: some(1001 * 64), steps: 1000, batch: 64 }),
    'evaluate, one sequence': () => model.evaluate({ ...long, ids: some(200_001), steps: 200_000, batch: 1 }),
    'sample, windows': () => model.sample(sampleCall(some(2000), 10_000, {}, { window: 2000 })),
    'sample, a long prompt': () => model.sample(sampleCall(some(200_000 * 3), 1, {}, { streams: 3 })),
    logits: () => model.logits({ ids: some(100_000), streams: 1 }),
    initialize: () => huge.initialize(),
  };
  const processor = (before?: NodeJS.CpuUsage) => {
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  await step(); // Allocates its memory.
  let before = process.cpuUsage();
  await step();
  const whole = processor(before);
  for (const [name, call] of Object.entries(calls)) {
    const running = call().then(
      () => 'ended',
      (error) => error.code,
    );
    await setTimeout(200);
    before = process.cpuUsage();
    (name === 'initialize' ? huge : model).stop();
    const how = await running;
    expect([name, how]).toEqual([name, name === 'initialize' ? 'ERR_STOPPED' : 'ended']);
    expect([name, processor(before) < whole]).toEqual([name, true]);
  }
  model.dispose();
  huge.dispose();
});

it('leaves no step half done, wherever a stop comes', async () => {
  const shape = { vocabulary: 20, layers: 1, hidden: 300, input: 'onehot', embedding: 0 } as const;
  const device = { name: 'cpu', device: 'cpu', threads: 2, tolerance: 0 } as const;
  const [undisturbed, stopped] = [await createModel(shape, device), await createModel(shape, device)];
  const steps = Array.from({ length: 12 }, () => randomIds(4 * 2, shape.vocabulary));
  for (const model of [undisturbed, stopped]) await model.initialize();
  for (const ids of steps) await undisturbed.trainSteps(trainCall(ids, 3, 2));
  let given = 0;
  for (const ids of steps) {
    // Most stops abandon a step or cut its update short, until one comes too late for it: every 40th at the latest.
    for (let completed = 0; completed === 0; ) {
      const running = stopped.trainSteps(trainCall(ids, 3, 2));
      for (let turns = given++ % 40; turns > 0; turns--) await new Promise(setImmediate);
      if (given % 40 === 0) await running;
      stopped.stop();
      ({ completed } = await running);
      if (given % 3 === 0) stopped.read('secondMoments');
    }
  }
  expect(given).toBeGreaterThan(steps.length);
  expect(stopped.stepCount).toBe(undisturbed.stepCount);
  for (const slot of ['parameters', 'firstMoments', 'secondMoments', 'trainingState'] as const) {
    expect([slot, Buffer.compare(bytes(stopped.read(slot)), bytes(undisturbed.read(slot)))]).toEqual([slot, 0]);
  }
  for (const model of [undisturbed, stopped]) model.dispose();
});

it('measures the peak within bounds alone', async () => {
  const measure = async (threads: number, milliseconds: number) => loadNative().measurePeak(threads, milliseconds);
  expect(await measure(1, 1)).toBeGreaterThan(0);
  for (const [threads, milliseconds] of [
    ...[0, -1, 1025, 1e9, 1.5, Number.NaN].map((wrong) => [wrong, 1] as const),
    ...[0, -1, 60_001, 1e9, 1.5, Number.NaN].map((wrong) => [1, wrong] as const),
  ]) {
    await expect(measure(threads, milliseconds)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  }
});

describe('a language model', () => {
  const vocabulary = new Vocabulary([...'abcdefghij']);
  const shape = { vocabulary: 10, layers: 1, hidden: 64, input: 'onehot', embedding: 0, dropout: 0 } as const;

  it('lets calls wait for one another, and ends them when it is disposed of', async () => {
    const model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1 });
    const drawn = await Promise.all([1, 2, 3].map(() => text(model, 200)));
    expect(new Set(drawn).size).toBe(1);
    // They take turns, one piece each; which of them runs at the dispose() is not known.
    const given = Promise.allSettled([text(model, 1 << 24), model.score('abcd'.repeat(1 << 20))]);
    await setTimeout(30);
    model.dispose();
    expect(model.disposed).toBe(true);
    for (const settled of await given) {
      const code = expect.stringMatching(/^ERR_(DISPOSED|STOPPED)$/);
      expect(settled).toMatchObject({ status: 'rejected', reason: { code } });
    }
    await expect(model.score('abc')).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(text(model, 3)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(model.save('/nowhere/model.safetensors')).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  it('gives up the call whose signal is aborted, also while it waits, and no other', async () => {
    const model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1 });
    const undisturbed = await text(model, 300);
    const reason = new Error('enough');
    const controllers = [new AbortController(), new AbortController()];
    const endless = controllers.map(({ signal }) => text(model, 1 << 24, signal));
    const scoring = new AbortController();
    const scored = model.score('abcd'.repeat(1 << 20), { signal: scoring.signal });
    const beside = text(model, 300);
    for (const controller of [...controllers, scoring]) {
      await setTimeout(20);
      controller.abort(reason);
    }
    for (const call of [...endless, scored]) await expect(call).rejects.toBe(reason);
    expect(await beside).toBe(undisturbed);
    model.dispose();
  });

  it('is not made when that is aborted in the middle', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const large = { ...shape, hidden: 3000 }; // Its weights take minutes to create.
    const made = LanguageModel.create(large, vocabulary, { device: 'cpu', threads: 1, signal: controller.signal });
    await setTimeout(100);
    const before = process.cpuUsage();
    controller.abort(reason);
    await expect(made).rejects.toBe(reason);
    const { user, system } = process.cpuUsage(before);
    expect(user + system).toBeLessThan(2e6); // Microseconds of processor time: nothing more of them was created.
  });

  async function text(model: LanguageModel, length: number, signal?: AbortSignal): Promise<string> {
    let all = '';
    for await (const piece of model.generate({ prompt: 'abc', length, seed: 5, signal })) all += piece;
    return all;
  }
});
