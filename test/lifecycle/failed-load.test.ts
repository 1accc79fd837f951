/** An addon whose start fails, or whose worker is terminated during it, leaves nothing that refers to it. */
import { join } from 'node:path';
import { run } from '../fixtures/child';

it('an addon that fails to start is as if it had never been loaded, in every thread, and can be loaded again', async () => {
  const addon = require('node-gyp-build').resolve(join(__dirname, '..', '..')) as string;
  const program = join(__dirname, 'programs', 'failed-load.js');
  // glibc then overwrites memory when it is freed, so that whatever is used later is sure to be wrong.
  const { code, signal, stdout, stderr } = await run(process.execPath, [program, addon], {
    env: { ...process.env, MALLOC_PERTURB_: '165' },
  });
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  const { here, workers, last, isa } = JSON.parse(stdout) as {
    here: { name: string; message?: string }[];
    workers: { name: string; message?: string; code: number }[];
    last?: string;
    isa: string;
  };
  const failed = [
    ...['process cannot be read', 'process.on cannot be read', 'process.on throws'],
    ...['process.on throws when it has added the listener'],
  ].map((name) => ({ name, message: 'refused' }));
  const exportsTakeNothing = { name: 'the exports take nothing', message: expect.any(String) };
  expect(here).toEqual([...failed, exportsTakeNothing]);
  expect(workers).toEqual([
    ...[...failed, exportsTakeNothing].map((failure) => ({ ...failure, code: 0 })),
    { name: 'in process.on', message: 'waiting', code: 1 },
    { name: 'in process.on, when it has added the listener', message: 'waiting', code: 1 },
  ]);
  expect({ last, isa }).toEqual({ last: undefined, isa: expect.any(String) });
});
