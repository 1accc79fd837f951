/** The types of the library, its tests and the page, as `npm run test:types` checks them: here beside the other tests. */
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import { run } from '../fixtures/child';

it.each(['tsconfig.test.json', 'tsconfig.page.json'])('%s', async (name) => {
  const argv = [require.resolve('typescript/bin/tsc'), '--noEmit', '-p', join(packageRoot, name)];
  const { code, stdout } = await run(process.execPath, argv, { cwd: packageRoot });
  expect([code, stdout]).toEqual([0, '']);
});
