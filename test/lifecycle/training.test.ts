/** Training that is aborted or cannot continue: it leaves the result of a whole step, and can be resumed. */

import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCheckpoint, saveCheckpoint } from '../../lib/checkpoint/checkpoint';
import { canonicalLayout } from '../../lib/checkpoint/layout';
import { nativeOf } from '../../lib/model';
import { openTraining } from '../../lib/training/preparation';
import { itWhole, node } from '../fixtures/child';

let folder: string;
let corpus: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'training-'));
  corpus = join(folder, 'corpus.txt');
  await writeFile(corpus, 'a sheep and a goat went over the hill and far away\n'.repeat(400));
});
afterEach(() => rm(folder, { recursive: true }));

const small = {
  hidden: 48,
  layers: 1,
  batchSize: 4,
  seqLength: 20,
  sampleLength: 0,
  patience: 0,
  device: 'cpu',
  threads: 2,
};

describe('an abort', () => {
  it('in the middle of a step that takes seconds ends it at once, and nothing of it is applied', async () => {
    const controller = new AbortController();
    const out = join(folder, 'run');
    // 0.15 TFLOP: seconds on all but the fastest cores.
    const slow = { ...small, hidden: 512, layers: 2, batchSize: 16, seqLength: 500, validation: 0, out };
    await using training = await openTraining({ corpus: [corpus], options: slow, signal: controller.signal });
    const native = nativeOf(training.model);
    const before = Buffer.from(native.read('parameters').buffer);
    const iterate = async () => {
      for await (const event of training) {
        if (event.type !== 'start') continue;
        setTimeout(() => controller.abort(new Error('enough')), 150);
      }
    };
    await expect(iterate()).rejects.toThrow('enough');
    expect(native.stepCount).toBe(0); // A step that was waited for would count.
    expect(Buffer.from(native.read('parameters').buffer).equals(before)).toBe(true);
    // The initial checkpoint, so that the run can be resumed.
    expect((await readdir(out)).filter((name) => name.endsWith('.safetensors'))).toEqual([
      'checkpoint-00000000.safetensors',
    ]);
  });

  it('at any moment leaves the model at a whole step: resumed, it ends with the bits of a run without aborts', async () => {
    const options = { ...small, hidden: 32, epochs: 3 };
    const result = async (out: string) => {
      const { parameters, secondMoments, metadata } = await loadCheckpoint(
        join(out, (await readFile(join(out, 'latest'), 'utf8')).trim()),
      );
      const hash = createHash('sha256')
        .update(parameters)
        .update(secondMoments as Float32Array);
      return { hash: hash.digest('hex'), step: metadata.step, loss: metadata.loss };
    };
    const [whole, cut] = [join(folder, 'whole'), join(folder, 'cut')];
    {
      await using training = await openTraining({ corpus: [corpus], options: { ...options, out: whole } });
      for await (const _ of training);
    }
    let aborts = 0;
    for (let finished = false; !finished; ) {
      const begun = await result(cut).catch(() => undefined);
      const controller = new AbortController();
      const request = begun ? { resume: cut } : { corpus: [corpus], options: { ...options, out: cut } };
      await using training = await openTraining({ ...request, signal: controller.signal });
      try {
        for await (const event of training) {
          if (event.type === 'step' && aborts < 6) {
            // At any moment during the following calls.
            setTimeout(() => controller.abort(new Error('enough')), Math.random() * 30);
          }
        }
        finished = true;
      } catch (error) {
        expect((error as Error).message).toBe('enough');
        aborts++;
        const { parameters, metadata } = await loadCheckpoint(
          join(cut, (await readFile(join(cut, 'latest'), 'utf8')).trim()),
        );
        // The model holds what was saved, at the step that it counts.
        expect(metadata.training?.stepCount).toBe(nativeOf(training.model).stepCount);
        expect(parameters).toEqual(nativeOf(training.model).read('parameters'));
      }
    }
    expect(aborts).toBeGreaterThan(0);
    expect(await result(cut)).toEqual(await result(whole));
  });
});

describe('a run whose numbers go wrong', () => {
  const argv = ['--hidden', '16', '--layers', '1', '--batch-size', '4', '--seq-length', '20', '--sample-length', '0'];
  const cpu = ['--device', 'cpu', '--threads', '1'];

  /** Makes a healthy run of two epochs; returns its directory and its contents. */
  async function healthyRun() {
    const out = join(folder, 'run');
    expect(await node('train.js', [corpus, ...argv, ...cpu, '--epochs', '2', '--out', out])).toMatchObject({ code: 0 });
    const contents = async () => {
      const names = (await readdir(out)).filter((name) => !['metrics.jsonl', 'config.json'].includes(name)).sort();
      return Promise.all(names.map(async (name) => [name, (await readFile(join(out, name))).toString('base64')]));
    };
    return { out, contents };
  }

  it('stops when the loss explodes, with step and norm, exit 1, and every checkpoint as it was', async () => {
    const { out, contents } = await healthyRun();
    const before = await contents();
    expect(before.map(([name]) => name)).toEqual(expect.arrayContaining(['best', 'latest']));
    const wild = ['--resume', out, '--epochs', '9', '--learning-rate', '10', '--clip', '0', ...cpu];
    const { code, signal, stderr } = await node('train.js', wild);
    expect({ code, signal }).toEqual({ code: 1, signal: null });
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(
      /^Training stopped at step \d+ \(epoch 3\): the loss exploded \(loss \d[\d.e+]*, gradient norm \d[\d.e+]*\); .*--learning-rate/,
    );
    expect(await contents()).toEqual(before);
    // It can then be resumed at a better rate.
    expect(await node('train.js', ['--resume', out, '--epochs', '3', ...cpu])).toMatchObject({ code: 0 });
  });

  itWhole('stops when the loss is not a number', async () => {
    const { out, contents } = await healthyRun();
    const latest = join(out, (await readFile(join(out, 'latest'), 'utf8')).trim());
    const checkpoint = await loadCheckpoint(latest);
    const layout = canonicalLayout({ ...checkpoint.metadata.model, vocabulary: checkpoint.metadata.vocabulary.length });
    // Finite, so that it is a checkpoint; products with it are not.
    const { offset, size } = layout.find(({ name }) => name === 'output.weight') as (typeof layout)[number];
    for (let i = 0; i < size; i++) checkpoint.parameters[offset + i] = i % 2 === 0 ? 3e38 : -3e38;
    await saveCheckpoint(latest, checkpoint, layout);
    const before = await contents();
    const { code, stderr } = await node('train.js', ['--resume', out, '--epochs', '9', ...cpu]);
    expect(code).toBe(1);
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(
      /^Training stopped at step \d+ \(epoch 3\): a value is not finite, and the step was not applied \(loss (NaN|Infinity), gradient norm \S+\)/,
    );
    expect(await contents()).toEqual(before);
  });
});
