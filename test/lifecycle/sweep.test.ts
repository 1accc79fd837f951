/** Sweeps through the command: run, stopped and resumed, halved, shared by several processes, and with trials that fail. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SweepReport, TrialResult } from '../../lib/sweep/results';
import { itWhole, node, whenSaid, whole } from '../fixtures/child';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sweep-'));
  writeFileSync(
    join(folder, 'tale.txt'),
    'The hare ran far; the fox sat down.\nThe end of it was no end.\n'.repeat(30),
  );
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const fixed = { batchSize: 2, seqLength: 10, hidden: 8, layers: 1, sampleLength: 0, device: 'cpu' };
function write(content: object): string {
  const path = join(folder, 'sweep.json');
  writeFileSync(path, JSON.stringify({ corpus: join(folder, 'tale.txt'), ...content }));
  return path;
}
const sweep = (args: string[], options: Parameters<typeof node>[2] = {}) =>
  node('cli/main.js', ['sweep', ...args, '--out', join(folder, 'out')], options);
const report = () => JSON.parse(readFileSync(join(folder, 'out', 'sweep.json'), 'utf8')) as SweepReport;
const losses = () => Object.fromEntries(report().trials.map(({ name, loss }) => [name, loss]));

test('every trial is trained, and the best is named by its validation loss', async () => {
  const path = write({ options: { ...fixed, epochs: 2 }, grid: { learningRate: [0.0001, 0.02] }, seeds: [1, 2] });
  const { code, stdout, stderr } = await sweep([path, '--jobs', '2']);
  expect([code, stderr.split('\n').at(-2)]).toEqual([0, expect.stringContaining('sample from it:')]);
  const { trials, best } = report();
  expect(trials.map(({ state, epoch, validated }) => [state, epoch, validated])).toEqual(
    Array(4).fill(['finished', 2, true]),
  );
  expect(best).toMatch(/learningRate=0\.02/);
  const lowest = Math.min(...trials.map(({ loss }) => loss as number));
  expect(trials.find(({ name }) => name === best)?.loss).toBe(lowest);
  expect(stdout.split('\n')[0]).toMatch(/^trial +learningRate +seed +validation loss/);
  expect(stdout.split('\n')[1]).toContain(lowest.toFixed(4));
  expect(readFileSync(join(folder, 'out', 'sweep.md'), 'utf8')).toContain(`| ${lowest.toFixed(4)} |`);
  expect(readFileSync(join(folder, 'out', 'sweep.html'), 'utf8')).toContain('"best":true');

  // Again: there is nothing left to do.
  const before = losses();
  const again = await sweep([path, '--json']);
  expect([again.code, again.stderr.includes('begins'), losses()]).toEqual([0, false, before]);
});

test('what was stopped goes on, and comes out as if it had not been', async () => {
  const path = write({ options: { ...fixed, hidden: undefined, epochs: 40 }, grid: { hidden: [8, 9] } });
  let seen = '';
  const stopped = await sweep([path, '--jobs', '2'], {
    onStart: (child) => {
      const look = setInterval(() => {
        const text = (() => {
          try {
            return readFileSync(join(folder, 'out', '1-hidden=8', 'metrics.jsonl'), 'utf8');
          } catch {
            return '';
          }
        })();
        if (!text.includes('"type":"epoch"')) return;
        clearInterval(look);
        seen = text;
        child.kill('SIGTERM');
      }, 5);
      child.on('close', () => clearInterval(look));
    },
  });
  expect([stopped.code, seen]).toEqual([143, expect.stringContaining('epoch')]);
  expect(report().trials.map(({ state }) => state)).toContain('partial');
  expect((await sweep([path])).code).toBe(0);
  const resumed = losses();
  rmSync(join(folder, 'out'), { recursive: true });
  expect((await sweep([path])).code).toBe(0);
  expect(losses()).toEqual(resumed);
});

describe('halving', () => {
  const rates = whole ? [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 2e-2, 3e-2, 4e-2, 5e-2] : [1e-6, 1e-3, 3e-2];
  const path = () => write({ options: { ...fixed, epochs: rates.length }, grid: { learningRate: rates } });
  /**
   * All but one pause at the end of one epoch, of nine two at that of three; the curves of all of them tell which, whether or not the sweep
   * was stopped on the way. Returns the states.
   */
  function expectHalved(): Record<string, string> {
    const { trials, best } = report();
    const of = (state: string) => trials.filter((trial) => trial.state === state);
    expect([of('finished').length, of('pruned').length]).toEqual([1, rates.length - 1]);
    expect(of('finished')[0]?.name).toBe(best);
    const paused = [...Array((rates.length * 2) / 3).fill(1), ...Array(rates.length / 3 - 1).fill(3)];
    expect(
      of('pruned')
        .map(({ epoch }) => epoch)
        .sort(),
    ).toEqual(paused);
    const standing = (racing: typeof trials, epochs: number) => {
      const lowest = ({ curve }: TrialResult) => Math.min(...curve.map(([at, loss]) => (at <= epochs ? loss : 99)));
      return [...racing].sort((a, b) => lowest(a) - lowest(b));
    };
    const third = standing(trials, 1).slice(0, rates.length / 3);
    expect(third.filter(({ epoch }) => epoch >= 3)).toHaveLength(rates.length / 3);
    expect(standing(third, 3)[0]?.name).toBe(best);
    return Object.fromEntries(trials.map(({ name, state }) => [name, state]));
  }

  const halve = async () => {
    expect((await sweep([path(), '--halving', '--jobs', '2'])).code).toBe(0);
    return expectHalved();
  };

  test('takes only the best third on', async () => void (await halve()));

  itWhole('takes all on where it is left out later', async () => {
    await halve();
    expect((await sweep([path(), '--jobs', '2'])).code).toBe(0);
    const all = report().trials.map(({ state, epoch }) => [state, epoch]);
    expect(all).toEqual(Array(9).fill(['finished', 9]));
  });

  itWhole('comes out the same wherever it was stopped', async () => {
    const unbroken = await halve();
    rmSync(join(folder, 'out'), { recursive: true });
    const pruned = () => report().trials.filter(({ state }) => state === 'pruned').length;
    /** Stops it as a training begins, depending on how many have begun in this invocation. */
    const stopAt = async (wanted: (begun: number) => boolean) => {
      let begun = 0;
      const met = (seen: string) => {
        const before = begun;
        begun = seen.split(': begins').length - 1;
        return begun > before && wanted(begun);
      };
      const stopped = await sweep([path(), '--halving', '--jobs', '1'], {
        onStart: (child) => whenSaid(child.stderr, met, () => child.kill('SIGTERM')),
      });
      expect(stopped.code).toBe(143);
    };
    // Stopped in the second heat; then, from there, in the last.
    await stopAt((begun) => begun >= 11);
    cpSync(join(folder, 'out'), join(folder, 'stopped'), { recursive: true });
    expect(await halve()).toEqual(unbroken);
    rmSync(join(folder, 'out'), { recursive: true });
    renameSync(join(folder, 'stopped'), join(folder, 'out'));
    await stopAt(() => pruned() === 8);
    expect(await halve()).toEqual(unbroken);
  });
});

test('a trial that fails is said, and the others are run', async () => {
  const path = write({ options: { ...fixed, seqLength: undefined, epochs: 1 }, grid: { seqLength: [10, 1500] } });
  const { code, stderr } = await sweep([path]);
  expect([code, stderr]).toEqual([0, expect.stringContaining('2-seqLength=1500: failed: ')]);
  const [good, bad] = report().trials;
  expect([good?.state, bad?.state, bad?.problem]).toEqual(['finished', 'failed', expect.stringMatching(/short/)]);
  // Another file is another sweep.
  const other = await sweep([write({ options: { ...fixed, epochs: 1 }, seeds: [1] })]);
  expect([other.code, other.stderr.trim().split('\n').at(-1)]).toEqual([
    3,
    expect.stringMatching(/another sweep; take another --out/),
  ]);
});

test('a trial that is killed is one that failed, and says by what', async () => {
  const killed = join(folder, 'killed.js');
  writeFileSync(killed, "if (process.argv[2] === 'train') process.kill(process.pid, 'SIGKILL');");
  const env = { ...process.env, NODE_OPTIONS: `--require ${killed}` };
  const { code, stderr } = await sweep([write({ options: { ...fixed, epochs: 1 }, seeds: [1, 2] })], { env });
  expect([code, report().trials.map(({ state, problem }) => [state, problem])]).toEqual([
    1,
    Array(2).fill(['failed', 'it was ended by SIGKILL']),
  ]);
  expect(stderr).toContain('every trial failed; the first: it was ended by SIGKILL');
});

itWhole('several processes share the trials, as a launcher says', async () => {
  const path = write({ options: { ...fixed, epochs: 1 }, seeds: [1, 2, 3] });
  const env = (rank: number) => ({ ...process.env, OMPI_COMM_WORLD_RANK: String(rank), OMPI_COMM_WORLD_SIZE: '2' });
  const both = await Promise.all([0, 1].map((rank) => sweep([path], { env: env(rank) })));
  expect(both.map(({ code }) => code)).toEqual([0, 0]);
  expect(both.map(({ stderr }) => stderr.match(/begins/g)?.length)).toEqual([2, 1]);
  expect((await sweep([path, '--json'])).code).toBe(0);
  expect(report().trials.map(({ state }) => state)).toEqual(Array(3).fill('finished'));
  expect(readdirSync(join(folder, 'out')).filter((name) => /^\d/.test(name))).toHaveLength(3);
  const halved = await sweep([path, '--halving'], { env: env(0) });
  expect([halved.code, halved.stderr]).toEqual([2, expect.stringContaining('run it in one process')]);
});

test('the trials of a file are listed without being run', async () => {
  const { code, stdout } = await sweep([write({ options: fixed, seeds: [7, 8] }), '--dry-run']);
  expect([code, stdout]).toEqual([0, '1-seed=7\n2-seed=8\n']);
});
