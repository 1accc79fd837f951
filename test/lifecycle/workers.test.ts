/** Worker threads load the addon, train, and are terminated at any moment. */
import { join } from 'node:path';
import { long, run, whole } from '../fixtures/child';

const count = long ? 200 : whole ? 20 : 8;

it(`${count} worker threads are terminated, also in a long step, one exits by itself, and the process keeps running`, async () => {
  const { code, signal, stdout, stderr } = await run(process.execPath, [
    join(__dirname, 'programs', 'workers.js'),
    String(count),
  ]);
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  const { terminated, ends, step, completed } = JSON.parse(stdout) as {
    terminated: number;
    ends: Record<'exit' | 'terminate', { code: number; microseconds: number }>;
    step: number;
    completed: number;
  };
  expect(terminated).toBe(count);
  expect([ends.exit.code, ends.terminate.code]).toEqual([3, 1]);
  // Most of the step in progress was not computed.
  for (const [how, { microseconds }] of Object.entries(ends))
    expect({ how, microseconds, early: microseconds < step / 2 }).toEqual({ how, microseconds, early: true });
  expect(completed).toBe(8);
});

const onLinux = process.platform === 'linux' ? it : it.skip;

onLinux('the addon stays in the process when the last worker that loaded it has ended', async () => {
  const program = join(__dirname, 'programs', 'worker-only.js');
  const addon = require('node-gyp-build').resolve(join(__dirname, '..', '..')) as string;
  const { code, signal, stdout, stderr } = await run(process.execPath, [program, addon, 'cpu']);
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  for (const times of JSON.parse(stdout) as number[]) expect(times).toBeGreaterThan(0);
});
