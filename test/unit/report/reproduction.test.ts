import { existsSync } from 'node:fs';
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Reproduction, type ReproductionOptions, reproduce } from '../../../lib/report/reproduction';
import { planTraining } from '../../../lib/training/plan';
import { openTraining } from '../../../lib/training/preparation';
import { trainerOf } from '../../../lib/training/training';
import { compiled, eachWhole, itWhere, itWhole, run } from '../../fixtures/child';

let place: string;
let corpus: string;

beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), 'cudnn-lstm-reproduction-'));
  corpus = join(place, 'text.txt');
  await writeFile(corpus, 'The cat sat on the mat, and the dog saw the cat. '.repeat(12));
});

afterAll(() => rm(place, { recursive: true, force: true }));

const tiny = { hidden: 4, seqLength: 8, batchSize: 16 };

function options(name: string, changed: Partial<ReproductionOptions> = {}): ReproductionOptions {
  return { corpus: [corpus], runs: [4, 2], out: join(place, name), overrides: tiny, threads: 1, ...changed };
}

describe('reproduce', () => {
  it('trains every row, measures it, and does neither again', async () => {
    const first = await reproduce(options('whole'));
    expect(first.partial).toBe(false);
    expect(first.runs.map(({ epochs, seed, state, records }) => [epochs, seed, state, records.length])).toEqual([
      [4, 4, 'finished', 4],
      [2, 2, 'finished', 2],
    ]);
    for (const run of first.runs) {
      const { evaluation, threads } = run.record ?? {};
      expect(threads).toBe(1);
      expect(evaluation?.checkpoint).toMatch(
        new RegExp(
          `^weights-improvement-${run.best?.epoch}-${run.best?.loss.toFixed(4)}-bigger-epochs-${run.epochs}\\.`,
        ),
      );
      expect(evaluation?.prompt).toHaveLength(8);
      expect(evaluation?.greedy.text).toHaveLength(1000);
      expect(evaluation?.windows?.stride).toBe(1);
      expect(evaluation?.windows?.lossWithDropout).toBeGreaterThan(0);
    }
    const events: string[] = [];
    const again = await reproduce(
      options('whole', { onEvent: (_, { type }) => void events.push(type), onNote: (note) => events.push(note) }),
    );
    expect(events).toEqual([]);
    expect(again.runs).toEqual(first.runs);
  });

  it('continues where it was stopped, with the same losses as if it never had been', async () => {
    const controller = new AbortController();
    const stopped = await reproduce(
      options('stopped', {
        signal: controller.signal,
        onEvent: (_, event) => {
          if (event.type === 'epoch' && event.epoch === 2) controller.abort();
        },
      }),
    );
    expect(stopped.partial).toBe(true);
    expect(stopped.runs.map((run) => run.state)).toEqual(['partial', 'not begun']);
    // A line cut off by a crash.
    await appendFile(join(place, 'stopped', 'epochs-4', 'metrics.jsonl'), '{"type":"epoch","epoch":3,"lo');
    const resumed = await reproduce(options('stopped'));
    const unbroken = await reproduce(options('unbroken'));
    const losses = (report: typeof resumed) => report.runs.map((run) => run.records.map((each) => each.loss));
    expect(losses(resumed)).toEqual(losses(unbroken));
    expect(resumed.runs[0]?.record?.evaluation).toEqual(unbroken.runs[0]?.record?.evaluation);
  });

  itWhole('is killed at any point and continues as if it never had been', async () => {
    const given = { ...options('killed'), runs: [6] };
    // By itself: on a busy machine it could be done before a test has seen that it has begun.
    const script = `
      let epochs = 0;
      const kill = () => process.kill(process.pid, 'SIGKILL');
      const onEvent = (_, { type }) => { if (type === 'epoch' && ++epochs === 2) setTimeout(kill, 5 * Math.random()); };
      require(process.argv[1]).reproduce({ ...${JSON.stringify(given)}, onEvent })`;
    const { signal } = await run(process.execPath, ['-e', script, compiled('report/reproduction.js')]);
    expect(signal).toBe('SIGKILL');
    const before = await reproduce({ ...given, maxTime: 0 });
    expect(before.partial).toBe(true);
    expect(before.runs[0]?.record?.wallSeconds).toBeGreaterThan(0);
    expect(before.runs[0]?.records.length).toBeLessThan(6);
    const resumed = await reproduce(given);
    const unbroken = await reproduce({ ...given, out: join(place, 'not-killed') });
    const losses = ({ runs }: Reproduction) => runs[0]?.records.map(({ loss }) => loss);
    expect(losses(resumed)).toEqual(losses(unbroken));
    expect(resumed.runs[0]?.record?.evaluation).toEqual(unbroken.runs[0]?.record?.evaluation);
  });

  it('stops when the time is up and says what is missing', async () => {
    const report = await reproduce(options('timed', { runs: [1_000_000, 3], maxTime: 0.5 }));
    expect(report.partial).toBe(true);
    expect(report.runs.map((run) => run.state)).toEqual(['partial', 'not begun']);
    expect(report.runs[0]?.record?.evaluation?.windows?.stride).toBe(50);
  });

  it('measures every run as it ends, and reports it before the next', async () => {
    const seen: string[] = [];
    const last = await reproduce(
      options('reports', {
        runs: [2, 1],
        onReport: ({ runs, partial }) => {
          const measured = runs.map((run) => `${run.state}${run.record?.evaluation?.windows ? ', measured' : ''}`);
          seen.push(`${measured.join(' | ')}${partial ? ' (partial)' : ''}`);
        },
      }),
    );
    expect(seen).toEqual([
      'finished, measured | not begun (partial)',
      'finished, measured | finished, measured',
      'finished, measured | finished, measured',
    ]);
    expect(last.partial).toBe(false);
  });

  it('is partial while a trained run is not measured, and measures it the next time', async () => {
    const controller = new AbortController();
    const onNote = (note: string) => note.startsWith('scoring') && controller.abort();
    const unmeasured = await reproduce(options('unmeasured', { runs: [1], signal: controller.signal, onNote }));
    expect(unmeasured.partial).toBe(true);
    expect(unmeasured.runs[0]).toMatchObject({ state: 'finished', record: { evaluation: { greedy: {} } } });
    const notes: string[] = [];
    const measured = await reproduce(options('unmeasured', { runs: [1], onNote: (note) => notes.push(note) }));
    expect(measured.partial).toBe(false);
    expect(notes).toEqual([expect.stringMatching(/^scoring .*, every window$/)]);
    expect(measured.runs[0]?.record?.evaluation).toMatchObject(unmeasured.runs[0]?.record?.evaluation ?? {});
  });

  it('scores at another stride when asked for a closer one, and only then', async () => {
    const strides: (number | undefined)[] = [];
    for (const scoreEvery of [7, 9, undefined, 7]) {
      const { runs } = await reproduce(options('strides', { runs: [1], scoreEvery }));
      strides.push(runs[0]?.record?.evaluation?.windows?.stride);
    }
    expect(strides).toEqual([7, 7, 1, 1]);
  });

  it('does the same run whatever others are asked for with it', async () => {
    const losses = (report: Reproduction) =>
      report.runs.find(({ epochs }) => epochs === 2)?.records.map(({ loss }) => loss);
    const alone = await reproduce(options('alone', { runs: [2] }));
    expect(losses(alone)).toEqual(losses(await reproduce(options('whole'))));
    const both = await reproduce(options('alone', { runs: [3, 2] }));
    expect(losses(both)).toEqual(losses(alone));
    // Nor does a run repeat the beginning of another: each has its own seed.
    expect(both.runs[0]?.records[0]?.loss).not.toBe(both.runs[1]?.records[0]?.loss);
  });

  describe('with one training for all rows', () => {
    const losses = ({ runs }: Reproduction) => runs.map(({ records }) => records.map(({ loss }) => loss));
    const measures = ({ runs }: Reproduction) => runs.map(({ record }) => record?.evaluation);

    it('reports the same rows as trainings of their own with its seed', async () => {
      const shared = await reproduce(options('shared', { shared: true, runs: [4, 2, 3], seed: 7 }));
      expect(shared).toMatchObject({ partial: false, shared: true });
      expect(shared.runs.map(({ epochs, seed, state }) => [epochs, seed, state])).toEqual([
        [2, 7, 'finished'],
        [3, 7, 'finished'],
        [4, 7, 'finished'],
      ]);
      for (const row of shared.runs) {
        // This makes its seed 7: a run of E epochs trains with seed + E.
        const own = await reproduce(options(`own-${row.epochs}`, { runs: [row.epochs], seed: 7 - row.epochs }));
        expect(losses(own)).toEqual([row.records.map(({ loss }) => loss)]);
        expect(own.runs[0]?.best?.epoch).toBe(row.best?.epoch);
        const { checkpoint, ...measured } = row.record?.evaluation ?? {};
        expect(own.runs[0]?.record?.evaluation).toMatchObject(measured);
        expect(checkpoint).toMatch(new RegExp(`^weights-improvement-${row.best?.epoch}-`));
        expect(existsSync(join(place, 'shared', 'shared', `epochs-${row.epochs}`, String(checkpoint)))).toBe(true);
      }
      const events: string[] = [];
      const again = await reproduce(
        options('shared', { shared: true, runs: [2, 3, 4], seed: 7, onEvent: (_, { type }) => void events.push(type) }),
      );
      expect(events).toEqual([]);
      expect(again.runs).toEqual(shared.runs);
    });

    eachWhole(
      it,
      [[1], [2], [3]] as const,
      (i) => i === 1,
    )('continues where it was stopped in epoch %d, with the same rows', async (epoch) => {
      const controller = new AbortController();
      const stopped = await reproduce(
        options(`shared-${epoch}`, {
          shared: true,
          runs: [2, 4],
          signal: controller.signal,
          onEvent: (_, event) => {
            if (event.type === 'epoch' && event.epoch === epoch) controller.abort();
          },
        }),
      );
      expect(stopped.partial).toBe(true);
      expect(stopped.runs.map(({ state }) => state)).toEqual([epoch < 2 ? 'partial' : 'finished', 'partial']);
      const resumed = await reproduce(options(`shared-${epoch}`, { shared: true, runs: [2, 4] }));
      const unbroken = await reproduce(options('shared-unbroken', { shared: true, runs: [2, 4] }));
      expect(losses(resumed)).toEqual(losses(unbroken));
      expect(measures(resumed)).toEqual(measures(unbroken));
      expect(resumed.partial).toBe(false);
    });

    it('says of a row that training had passed that its checkpoint was not kept', async () => {
      await reproduce(options('passed', { shared: true, runs: [4] }));
      const { partial, runs } = await reproduce(options('passed', { shared: true, runs: [2, 4] }));
      expect(partial).toBe(false);
      expect(runs.map(({ state, records }) => [state, records.length])).toEqual([
        ['passed', 2],
        ['finished', 4],
      ]);
      expect(runs[0]?.record?.evaluation).toBeUndefined();
      expect(runs[1]?.record?.evaluation?.windows?.stride).toBe(1);
    });

    it('refuses to continue with another seed', async () => {
      await reproduce(options('shared-mine', { shared: true, runs: [1] }));
      await expect(reproduce(options('shared-mine', { shared: true, runs: [2], seed: 3 }))).rejects.toMatchObject({
        exitCode: 2,
        message: expect.stringContaining('shared holds a run with seed 0, not 3; give what it was begun with'),
      });
    });
  });

  it('tells how far an epoch is that was stopped in its middle', async () => {
    const controller = new AbortController();
    const long = join(place, 'long.txt');
    await writeFile(long, 'The cat sat on the mat, and the dog saw the cat. '.repeat(400));
    const { runs } = await reproduce(
      options('middle', {
        corpus: [long],
        runs: [1],
        signal: controller.signal,
        onEvent: (_, { type }) => void (type === 'step' && controller.abort()),
      }),
    );
    const { state, records, progress } = runs[0] ?? {};
    expect({ state, records }).toEqual({ state: 'partial', records: [] });
    expect(progress).toMatchObject({ epoch: 1, stepsPerEpoch: expect.any(Number), loss: expect.any(Number) });
    expect(progress?.step).toBeLessThan(progress?.stepsPerEpoch ?? 0);
  });

  it('refuses to continue a run of another seed, corpus or size', async () => {
    const other = join(place, 'other.txt');
    await writeFile(other, 'Another text about another cat. '.repeat(20));
    await reproduce(options('mine', { runs: [1] }));
    for (const [checked, what] of [
      [{ seed: 5 }, 'seed 1, not 6'],
      [{ corpus: [other] }, 'another corpus'],
      [{ overrides: { ...tiny, hidden: 5 } }, 'other sizes'],
    ] as const) {
      await expect(reproduce(options('mine', { runs: [1], ...checked }))).rejects.toMatchObject({
        exitCode: 2,
        message: expect.stringContaining(`epochs-1 holds a run with ${what}; give what it was begun with`),
      });
    }
  });

  it('takes a record that is damaged for none, and makes it anew', async () => {
    const first = await reproduce(options('damaged', { runs: [2] }));
    await writeFile(join(place, 'damaged', 'epochs-2', 'record.json'), '{"identity":');
    const again = await reproduce(options('damaged', { runs: [2] }));
    expect(again.runs[0]?.records).toEqual(first.runs[0]?.records);
    expect(again.runs[0]?.record?.evaluation).toEqual(first.runs[0]?.record?.evaluation);
  });

  it.each([
    ['no runs', { runs: [] }, /at least one/],
    ['a run twice', { runs: [3, 3] }, /each once/],
    ['half an epoch', { runs: [0.5] }, /not 0.5/],
    ['half a stride', { scoreEvery: 0.5 }, /^scoreEvery must be/],
    ['a negative seed', { seed: -1 }, /^seed must be/],
    ['standard input', { corpus: ['-'] }, /more than once/],
  ])('refuses %s', async (_, changed, message) => {
    await expect(reproduce(options('refused', changed))).rejects.toThrow(message);
  });
});

// The exact recipe, on the reference's own text, where that is available.
const { CUDNN_LSTM_CORPORA: corpora } = process.env;
const wonderland = join(corpora ?? 'none', 'wonderland.txt');
itWhere(
  corpora !== undefined && existsSync(wonderland),
  'CUDNN_LSTM_CORPORA names no folder with the wonderland.txt of the reference',
)("preset proj-basic is the reference's recipe", async () => {
  await using training = await openTraining({
    corpus: [wonderland],
    options: { preset: 'proj-basic', threads: 2 },
    env: {},
    save: false,
  });
  expect(training.corpus.length).toBe(144_424);
  expect(training.corpus.vocabulary.size).toBe(47);
  expect(training.model.parameterCount).toBe(801_583);
  expect(trainerOf(training).batches.stepsPerEpoch).toBe(2256);
  const plan = await planTraining(training);
  expect(plan).toMatchObject({ epochs: 50, stepsPerEpoch: 2256, parameters: 801_583 });
  expect(training.configuration.options).toMatchObject({
    layers: 2,
    hidden: 256,
    dropout: 0.2,
    target: 'last',
    input: 'scalar',
    seqLength: 100,
    batchSize: 64,
    learningRate: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
    schedule: 'constant',
    warmup: 0,
    clip: 0,
    validation: 0,
    patience: 0,
    lowercase: true,
    checkpointName: 'weights-improvement-{epoch}-{loss}-bigger-epochs-{epochs}',
  });
});
