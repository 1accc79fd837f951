import { queued } from '../../../lib/device/queue';
import { FakeNativeModel } from '../../fixtures/fake-native-model';

const call = {
  ids: Int32Array.of(0, 1, 2),
  steps: 2,
  batch: 1,
  target: 'every',
  carryState: false,
  dropout: false,
} as const;

describe('queued', () => {
  it('lets calls overlap that the addon takes only one at a time', async () => {
    const fake = new FakeNativeModel(3, 5);
    await expect(Promise.all([fake.evaluate(call), fake.evaluate(call)])).rejects.toMatchObject({ code: 'ERR_BUSY' });
    const model = queued(new FakeNativeModel(3, 5));
    const losses = await Promise.all([model.evaluate(call), model.evaluate(call), model.evaluate(call)]);
    expect(losses[0]).toEqual(losses[2]);
  });

  it('runs the next call after one that failed, and gives the failure the package’s class', async () => {
    const fake = new FakeNativeModel(3);
    const model = queued(fake);
    const failed = model.trainSteps({} as never);
    await expect(failed).rejects.toThrow('does not train');
    await expect(model.evaluate(call)).resolves.toHaveLength(2);
    model.dispose();
    await expect(model.evaluate(call)).rejects.toMatchObject({
      name: 'CudnnLstmError',
      code: 'ERR_DISPOSED',
      exitCode: 1,
    });
  });

  it('lets the model be read between two calls, and resets in turn', async () => {
    const fake = new FakeNativeModel(3, 5);
    const model = queued(fake);
    const order: string[] = [];
    const carried = { ...call, carryState: true };
    const first = model.evaluate(carried).then((losses) => order.push('evaluate') && losses);
    model.resetEvaluationState(); // During a call it waits its turn.
    const second = model.evaluate(carried);
    const read = model.whenIdle((native) => order.push('read') && native.read('parameters'));
    expect(await first).toEqual(await second);
    expect(await read).toHaveLength(1);
    expect(order).toEqual(['evaluate', 'read']);
    model.resetEvaluationState(); // When idle it resets at once.
    expect(await fake.evaluate(carried)).toEqual(await first);
  });

  it('keeps sequences that share the evaluation state apart', async () => {
    const model = queued(new FakeNativeModel(3, 1));
    const carried = { ...call, carryState: true };
    const sequence = () =>
      model.evaluationSequence(async () => {
        model.resetEvaluationState();
        return [await model.evaluate(carried), await model.evaluate(carried)];
      });
    const [one, two] = await Promise.all([sequence(), sequence()]);
    expect(one).toEqual(two);
    await expect(model.evaluationSequence(async () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await sequence()).toEqual(one);
  });
});
