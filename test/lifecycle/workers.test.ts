/** Worker threads load the addon, train, and are terminated at any moment. */
import { join } from 'node:path';
import { long, run } from '../fixtures/child';

const count = long ? 200 : 20;

it(`${count} worker threads are terminated, one exits by itself, and the process goes on`, async () => {
  const { code, signal, stdout, stderr } = await run(
    process.execPath,
    [join(__dirname, 'programs', 'workers.js'), String(count)],
    { timeout: 550_000 },
  );
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  const { terminated, exit, step, completed } = JSON.parse(stdout) as {
    terminated: number;
    exit: { code: number; microseconds: number };
    step: number;
    completed: number;
  };
  expect(terminated).toBe(count);
  expect(exit.code).toBe(3);
  expect(exit.microseconds).toBeLessThan(step / 2); // Most of the step that it was in was not computed any more.
  expect(completed).toBe(8);
}, 600_000);
