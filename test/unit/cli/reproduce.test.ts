/**
 * The `reproduce` command. With the unchanged recipe, a step takes a sixth of a second and the texts of a report half a minute: the test
 * that runs it is interrupted before the texts.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reproduceCommand } from '../../../lib/cli/reproduce';
import { asCommand } from '../../../lib/wording';
import { itWhole, node, whenSaid } from '../../fixtures/child';
import { sinks } from '../../fixtures/sink';

let place: string;
let corpus: string;

beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), 'cudnn-lstm-reproduce-'));
  corpus = join(place, 'text.txt');
  await writeFile(corpus, 'The cat sat on the mat, and the dog saw the cat. '.repeat(12));
});
afterAll(() => rm(place, { recursive: true, force: true }));

const small = { hidden: 8 };

async function reproduce(...argv: string[]) {
  const io = sinks();
  const code = await asCommand(() => reproduceCommand(argv, io, small));
  return { code, stdout: io.stdout.text, stderr: io.stderr.text };
}

const reportOf = async (out: string) => JSON.parse(await readFile(join(out, 'report.json'), 'utf8'));

itWhole('writes the three forms of a partial report when the time is up', async () => {
  const out = join(place, 'timed');
  let now = 0; // Time passes with each look at the clock, however fast the machine is.
  const clock = jest.spyOn(performance, 'now').mockImplementation(() => (now += 0.1));
  const { code, stdout, stderr } = await reproduce(corpus, '--runs', '1000000', '--max-time', '1s', '--out', out);
  clock.mockRestore();
  expect(code).toBe(0);
  expect(stdout.trim().split('\n')).toEqual(['REPORT.md', 'report.html', 'report.json'].map((name) => join(out, name)));
  expect(stderr).toMatch(/^--- 1,000,000 epochs ---\n/);
  expect(await reportOf(out)).toMatchObject({
    partial: true,
    overrides: small,
    runs: [{ epochs: 1_000_000, seed: 1_000_000 }],
  });
  expect(await readFile(join(out, 'REPORT.md'), 'utf8')).toMatch(/^# The Keras reference, reproduced \(partial\)/);
  expect(await readFile(join(out, 'report.html'), 'utf8')).toContain(
    '<h1>The Keras reference, reproduced (partial)</h1>',
  );
});

it('trains nothing with --max-time 0, and prints the report with --json', async () => {
  const out = join(place, 'nothing');
  const { code, stdout } = await reproduce(corpus, '--max-time', '0', '--out', out, '--json');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toEqual(await reportOf(out));
  expect(JSON.parse(stdout).runs).toMatchObject([50, 100, 200].map((epochs) => ({ epochs, state: 'not begun' })));
  expect((await readdir(out)).sort()).toEqual(['REPORT.md', 'report.html', 'report.json']);
});

it('saves on SIGINT, reports what there is, exits with 130, and continues from there', async () => {
  const out = join(place, 'interrupted');
  const short = join(place, 'short.txt');
  await writeFile(short, 'The cat sat on the mat, and the dog saw the cat. '.repeat(3)); // One step per epoch.
  const states: number[] = [];
  for (const round of [1, 2]) {
    const ended = await node('cli/main.js', ['reproduce', short, '--runs', '1000000', '--out', out], {
      onStart: (child) => {
        const passed = (seen: string) => seen.includes(`epoch ${round + 1}/1000000`);
        whenSaid(child.stderr, passed, () => child.kill('SIGINT'));
      },
    });
    expect({ ...ended, stdout: '', stderr: '' }).toEqual({ code: 130, signal: null, stdout: '', stderr: '' });
    expect(ended.stderr.includes('resumed: ')).toBe(round === 2);
    expect(ended.stdout).toContain(join(out, 'REPORT.md'));
    const report = await reportOf(out);
    expect(report).toMatchObject({ partial: true, runs: [{ state: 'partial' }] });
    states.push(report.runs[0].records.length);
    expect(await readFile(join(out, 'REPORT.md'), 'utf8')).toContain(
      `## epochs = 1000000 (partial: ${states.at(-1)} of 1,000,000 epochs)`,
    );
    expect(existsSync(join(out, 'epochs-1000000', 'lock'))).toBe(false);
  }
  expect(states[0]).toBeGreaterThanOrEqual(2);
  expect(states[1]).toBeGreaterThanOrEqual(states[0] as number);
});

it.each([
  [['--runs=a'], 2, /--runs takes numbers of epochs/],
  [['--runs=3,3'], 2, /each once/],
  [['--max-time=soon'], 2, /--max-time takes a time/],
  [['--seed=x'], 2, /--seed takes a whole number/],
  [['--score-every=0'], 2, /--score-every must be a whole number from 1/],
  [['--run=3'], 2, /did you mean --runs/],
])('refuses %s', async (flags, exitCode, message) => {
  const refused = reproduce(corpus, ...flags, '--out', join(place, 'refused'));
  await expect(refused).rejects.toMatchObject({ exitCode, message: expect.stringMatching(message) });
});
