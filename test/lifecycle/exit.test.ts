/** process.exit() in the middle of a step: the exit code is kept, nothing waits for the step, nothing crashes. */
import { join } from 'node:path';
import { long, run } from '../fixtures/child';

const program = join(__dirname, 'programs', 'exit.js');

async function exitOnce(kind: 'short' | 'long'): Promise<void> {
  const { code, signal, stdout, stderr } = await run(process.execPath, [program, kind]);
  const ended = Date.now();
  expect({ code, signal, stderr }).toEqual({ code: 7, signal: null, stderr: '' });
  expect(ended - Number(stdout)).toBeLessThan(2000);
}

/** Two at a time. */
async function repeat(count: number, kind: 'short' | 'long'): Promise<void> {
  let left = count;
  const series = async () => {
    while (left-- > 0) await exitOnce(kind);
  };
  await Promise.all([series(), series()]);
}

const short = long ? 170 : 17;
it(`${short} times between and in short calls`, () => repeat(short, 'short'), 600_000);

const slow = long ? 30 : 3;
it(`${slow} times in a step that takes seconds`, () => repeat(slow, 'long'), 600_000);
