/** process.exit() in the middle of a step: the exit code is kept, nothing waits for the step, nothing crashes. */
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import { long, run, share, whole } from '../fixtures/child';

const program = join(__dirname, 'programs', 'exit.js');

/** Runs the program; returns the seconds of processor time that all its threads took. */
async function exit(kind: 'short' | 'long' | 'before' | 'after'): Promise<number> {
  const script = '"$0" "$@"; code=$?; times; exit $code';
  const ended = await run('bash', ['-c', script, process.execPath, program, kind]);
  expect({ ...ended, stdout: '' }).toEqual({ code: 7, signal: null, stdout: '', stderr: '' });
  const [, children] = ended.stdout.trim().split('\n'); // User and system time: 0m1.234s 0m0.123s
  const times = [...(children ?? '').matchAll(/(\d+)m([\d.]+)s/g)].map(([, m, s]) => 60 * Number(m) + Number(s));
  expect(times).toHaveLength(2);
  return (times[0] as number) + (times[1] as number);
}

/** Two at a time. */
async function repeat(count: number, once: () => Promise<void>): Promise<void> {
  let left = count;
  const series = async () => {
    while (left-- > 0) await once();
  };
  await Promise.all([series(), series()]);
}

const each = long ? 50 : whole ? 10 : 5;
it(`${each} times by process.exit(), the end of a worker, and two Ctrl-C, whatever goes on`, async () => {
  const program = join(packageRoot, 'scripts', 'exit-times.js');
  const ended = await run(process.execPath, [program, String(each), long ? '1' : '0.3']);
  const ways = JSON.parse(ended.stdout || '{}') as Record<string, { ended: number; bySecond?: number }>;
  expect({ stderr: ended.stderr, ways: Object.keys(ways) }).toEqual({
    stderr: '',
    ways: ['process.exit', 'worker', 'two Ctrl-C'],
  });
  expect(Object.values(ways).every((way) => way.ended === each)).toBe(true);
  // Otherwise the test says nothing about the second Ctrl-C.
  expect(ways['two Ctrl-C']?.bySecond).toBeGreaterThan(0);
});

const short = long ? 170 : share(10);
it(`${short} times between and in short calls`, () => repeat(short, async () => void (await exit('short'))));

const slow = long ? 30 : whole ? 3 : 1;
it(`${slow} times in a long step, most of which is not computed any more`, async () => {
  const before = await exit('before');
  const step = (await exit('after')) - before;
  expect(step).toBeGreaterThan(0.4);
  await repeat(slow, async () => expect((await exit('long')) - before).toBeLessThan(step / 2));
});
