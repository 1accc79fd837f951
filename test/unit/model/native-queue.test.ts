import { queued } from '../../../lib/native-queue';
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

  it('goes on after a call that failed, and gives the failure the package’s class', async () => {
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
});
