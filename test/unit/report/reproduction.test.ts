import { existsSync } from 'node:fs';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ReproductionOptions, reproduce } from '../../../lib/report/reproduction';
import { reproduceCommand } from '../../../lib/reproduce';
import { planTraining } from '../../../lib/training/plan';
import { openTraining } from '../../../lib/training/preparation';

let place: string;
let corpus: string;

beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), 'cudnn-lstm-reproduction-'));
  corpus = join(place, 'text.txt');
  await writeFile(corpus, 'The cat sat on the mat, and the dog saw the cat. '.repeat(12));
});

afterAll(() => rm(place, { recursive: true, force: true }));

const tiny = { hidden: 4, seqLength: 8, batchSize: 16 };

function options(name: string, o: Partial<ReproductionOptions> = {}): ReproductionOptions {
  return { corpus: [corpus], runs: [4, 2], out: join(place, name), overrides: tiny, threads: 1, ...o };
}

describe('reproduce', () => {
  it('trains every row, measures it, and does neither again', async () => {
    const first = await reproduce(options('whole'));
    expect(first.partial).toBe(false);
    expect(first.runs.map(({ epochs, seed, state, records }) => [epochs, seed, state, records.length])).toEqual([
      [4, 1, 'finished', 4],
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
      expect(evaluation?.seedText).toHaveLength(8);
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

  it('goes on where it was stopped, with the same losses as if it never had been', async () => {
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

  it('stops when the time is up and says what is missing', async () => {
    const report = await reproduce(options('timed', { runs: [1_000_000, 3], maxTime: 0.5 }));
    expect(report.partial).toBe(true);
    expect(report.runs.map((run) => run.state)).toEqual(['partial', 'not begun']);
    expect(report.runs[0]?.record?.evaluation?.windows?.stride).toBe(50);
  });

  it.each([
    ['no runs', { runs: [] }, /at least one/],
    ['a run twice', { runs: [3, 3] }, /each once/],
    ['half an epoch', { runs: [0.5] }, /not 0.5/],
    ['standard input', { corpus: ['-'] }, /more than once/],
  ])('refuses %s', async (_, o, message) => {
    await expect(reproduce(options('refused', o))).rejects.toThrow(message);
  });
});

describe('the command', () => {
  const io = () => {
    const written = { stdout: '', stderr: '' };
    const stream = (name: 'stdout' | 'stderr') => {
      const write = (text: string) => {
        written[name] += text;
        return true;
      };
      return { write } as unknown as NodeJS.WritableStream;
    };
    return { written, io: { stdout: stream('stdout'), stderr: stream('stderr') } };
  };

  it('writes the three forms of the report', async () => {
    const out = join(place, 'command');
    const { written, io: streams } = io();
    const status = await reproduceCommand([corpus, '--runs', '7', '--max-time', '0.2s', '--out', out], streams);
    expect(status).toBe(0);
    expect(written.stdout.trim().split('\n')).toEqual(
      ['REPORT.md', 'report.html', 'report.json'].map((name) => join(out, name)),
    );
    const report = JSON.parse(await readFile(join(out, 'report.json'), 'utf8'));
    expect(report).toMatchObject({ partial: true, overrides: {}, runs: [{ epochs: 7 }] });
    expect(await readFile(join(out, 'REPORT.md'), 'utf8')).toMatch(/^# proj-basic, reproduced \(partial\)/);
  });

  it.each([['--runs=a'], ['--max-time=soon'], ['--seed=x']])('refuses %s', async (flag) => {
    await expect(reproduceCommand([corpus, flag], io().io)).rejects.toMatchObject({ exitCode: 2 });
  });
});

// The recipe to the letter, on the seed's own text.
const wonderland = join(__dirname, '../../../../shared/corpora/wonderland.txt');
const there = existsSync(wonderland);
(there ? it : it.skip)(
  `preset proj-basic is the seed's recipe${there ? '' : ' (skipped: no ../shared/corpora/wonderland.txt)'}`,
  async () => {
    await using training = await openTraining(
      { corpus: [wonderland], options: { preset: 'proj-basic', threads: 2 }, env: {} },
      true,
    );
    expect(training.corpus.length).toBe(144_424);
    expect(training.corpus.vocabulary.size).toBe(47);
    expect(training.model.native.parameterCount).toBe(801_583);
    expect(training.trainer.batches.stepsPerEpoch).toBe(2256);
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
  },
);
