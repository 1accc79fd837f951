/** Clean-up: every step runs, and the first error is the one that is reported. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { RunDirectory } from '../../lib/checkpoint/run-directory';
import { exitCodeOf, reportError } from '../../lib/cli/command';
import { openCorpus } from '../../lib/corpus/corpus';
import { LineIndex } from '../../lib/corpus/lines';
import { takeAll, takeAllQuietly } from '../../lib/endings';
import { DataError, DeviceError, DiskError } from '../../lib/errors';
import { LanguageModel } from '../../lib/model';
import type { Ranks } from '../../lib/ranks/ranks';
import { configureTraining } from '../../lib/training/configuring';
import { openTraining } from '../../lib/training/preparation';
import { Trainer } from '../../lib/training/trainer';
import { sinks } from '../fixtures/sink';

let folder: string;
let corpus: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'endings-'));
  corpus = join(folder, 'text.txt');
  writeFileSync(corpus, 'The sheep and the goats went over the hill.\n'.repeat(30));
});
afterEach(() => {
  jest.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

it('takes every step in order, and throws what the first that failed has thrown', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ fails: fc.boolean(), later: fc.boolean() }), { maxLength: 8 }),
      async (plan) => {
        const taken: number[] = [];
        const steps = plan.map(({ fails, later }, i) => () => {
          taken.push(i);
          if (!fails) return undefined;
          const error = new Error(`step ${i}`);
          if (later) return Promise.reject(error);
          throw error;
        });
        const first = plan.findIndex(({ fails }) => fails);
        const ended = await takeAll(steps).then(
          () => 'all',
          (error: Error) => error.message,
        );
        expect(ended).toBe(first < 0 ? 'all' : `step ${first}`);
        expect(taken).toEqual(plan.map((_, i) => i));
        await takeAllQuietly(steps);
        expect(taken).toHaveLength(2 * plan.length);
      },
    ),
  );
});

const options = { hidden: 8, layers: 1, batchSize: 2, seqLength: 5, device: 'cpu', threads: 1 } as const;

it('a training that cannot be opened frees all that it has, whatever fails in that, and tells why it cannot be', async () => {
  const dispose = jest.spyOn(LanguageModel.prototype, 'dispose').mockImplementation(() => {
    throw new Error('not disposed of');
  });
  const close = jest.spyOn(RunDirectory.prototype, 'close');
  jest.spyOn(Trainer.prototype, 'restore').mockRejectedValue(new DataError('the first error'));
  const out = join(folder, 'run');
  await expect(openTraining({ corpus: [corpus], options: { ...options, out } })).rejects.toThrow('the first error');
  expect(dispose).toHaveBeenCalledTimes(1);
  // The directory's step runs although that of the model, before it, has failed: the lock is gone.
  expect(close).toHaveBeenCalledTimes(1);
  expect(readdirSync(out)).not.toContain('lock');
});

it('a run is not kept locked that rank 0 has opened, and that the other ranks did not hear of', async () => {
  const out = join(folder, 'run');
  const training = await openTraining({ corpus: [corpus], options: { ...options, epochs: 1, out } });
  for await (const _ of training);
  await training.dispose();
  let opened: unknown;
  const ranks = {
    together: (_: string, job: () => unknown) => job(),
    share: async (_: string, job: () => unknown) => {
      opened = await job();
      throw new DeviceError('rank 1 has ended');
    },
  } as unknown as Ranks;
  await expect(configureTraining({ resume: out, ranks })).rejects.toThrow('rank 1 has ended');
  expect(opened).toMatchObject({ directory: out });
  expect(readdirSync(out)).not.toContain('lock');
});

it('a training that is disposed of gives its directory back, though its model cannot be freed', async () => {
  const out = join(folder, 'run');
  const training = await openTraining({ corpus: [corpus], options: { ...options, out } });
  const closed = jest.spyOn(training.corpus, 'close');
  jest.spyOn(training.model, 'dispose').mockImplementation(() => {
    throw new Error('not disposed of');
  });
  expect(readdirSync(out)).toContain('lock');
  await expect(training.dispose()).rejects.toThrow('not disposed of');
  expect(closed).toHaveBeenCalledTimes(1);
  expect(readdirSync(out)).not.toContain('lock');
});

it('a text that is not opened to its end has no file open, and no folder', async () => {
  const before = new Set(readdirSync(tmpdir()).filter((name) => name.startsWith('cudnn-lstm-ids-')));
  let ids: { close(): void } | undefined;
  jest.spyOn(LineIndex, 'find').mockImplementation(async (found) => {
    ids = found as { close(): void };
    jest.spyOn(ids, 'close');
    throw new DataError('no lines');
  });
  await expect(openCorpus([corpus], { lines: true, streamAbove: 0 })).rejects.toThrow('no lines');
  expect(ids?.close).toHaveBeenCalledTimes(1);
  expect(readdirSync(tmpdir()).filter((name) => name.startsWith('cudnn-lstm-ids-') && !before.has(name))).toEqual([]);
});

it('a command tells of the first error, though something could not be disposed of after it', () => {
  // What `using` throws: one of these for each resource that could not be disposed of.
  const suppressed = (error: Error, before: Error) =>
    Object.assign(new Error('An error was suppressed during disposal.'), {
      name: 'SuppressedError',
      error,
      suppressed: before,
    });
  const first = suppressed(new Error('not disposed of'), new DiskError('the disk is full'));
  for (const error of [first, suppressed(new DataError('nor this'), first)]) {
    const { stderr } = sinks();
    expect(exitCodeOf(error)).toBe(5);
    expect(reportError(error, stderr)).toBe(5);
    expect(stderr.text).toBe('the disk is full\n');
  }
});
