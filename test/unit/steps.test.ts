/** scripts/steps.sh, which runs the steps of CI side by side. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import { canRun, itWhere, run } from '../fixtures/child';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'steps-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const itRuns = itWhere(canRun('bash', ['-c', 'declare -A map']), 'there is no bash 4 or newer');

/** Runs steps on this many cores; returns the lines that are printed, without the seconds. */
async function steps(cores: number, ...lines: string[]): Promise<{ code: number | null; said: string[] }> {
  const script = ['cd "$1"', '. "$0"', ...lines, `run_steps logs ${cores}`, 'report_steps'].join('\n');
  const argv = ['-euo', 'pipefail', '-c', script, join(packageRoot, 'scripts', 'steps.sh'), folder];
  const { code, stdout, stderr } = await run('bash', argv);
  expect(stderr).toBe('');
  const said = stdout
    .split('\n')
    .map((line) => line.replace(/^(?:(--) +\d+ s| +[\d-]+ +[\d-]+) {2}/, '$1 ').replace(/ after \d.*/, ''))
    .filter((line) => line !== '' && !line.includes('all of it'));
  return { code, said };
}

itRuns('each begins when what it needs has passed, the first named first, and prints when it ends', async () => {
  const { code, said } = await steps(
    1,
    'last() { cat made; }; first() { echo made >made; }; other() { echo of the other; }',
    "step last 'the last' first",
    "step first 'the first'",
    "step other 'another'",
  );
  expect(code).toBe(0);
  expect(said).toEqual([
    '-- begins: the first',
    '== the first: passed',
    '-- begins: the last',
    '== the last: passed',
    'made',
    '-- begins: another',
    '== another: passed',
    'of the other',
    ' seconds  processor',
    ' the last',
    ' the first',
    ' another',
  ]);
});

itRuns('as many run at once as there are cores, and what waits for a network beside them', async () => {
  // Each waits for the other, so that they would not end if run one after the other.
  const meet = 'meet() { touch "$1"; until [[ -e $2 ]]; do sleep 0.02; done; }';
  const two = ['a() { meet a b; }; b() { meet b a; }', "step a 'the a'"];
  expect((await steps(2, meet, ...two, "step b 'the b'")).code).toBe(0);
  rmSync(folder, { recursive: true });
  folder = mkdtempSync(join(tmpdir(), 'steps-'));
  expect((await steps(1, meet, ...two, "beside b 'the b'")).code).toBe(0);
});

itRuns('of some that are chosen, those are run that they need', async () => {
  const { code, said } = await steps(
    1,
    'one() { :; }; two() { :; }; three() { :; }',
    "step one 'the one' two",
    "step two 'the two'",
    "step three 'the three' one",
    'choose_steps one',
  );
  expect([code, said.filter((line) => line.startsWith(' the'))]).toEqual([0, [' the one', ' the two']]);
});

itRuns('one that fails fails all: the rest is run but for what needs it, and it is printed last', async () => {
  const { code, said } = await steps(
    1,
    'bad() { echo before; false; echo never; }; good() { echo good; }; after() { echo after; }',
    "step later 'later still' after",
    "step bad 'the bad'",
    "step after 'after it' bad",
    "step good 'the good'",
  );
  expect(code).toBe(1);
  expect(said).toEqual([
    '-- begins: the bad',
    '== the bad: FAILED',
    'before',
    'It ended with 1.',
    '-- begins: the good',
    '== the good: passed',
    'good',
    ' seconds  processor',
    " later still: not run, since 'after' did not pass",
    ' the bad: FAILED',
    " after it: not run, since 'bad' did not pass",
    ' the good',
    '== FAILED: the bad',
    'before',
  ]);
});
