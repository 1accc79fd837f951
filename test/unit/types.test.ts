/**
 * Checks the types of the library, its tests and the page, as `npm run test:types` does: in CI, beside the other tests, by TypeScript 7,
 * which takes a quarter of the time. The build itself uses TypeScript 6, whose API the documentation and the rolled-up types need.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import { itWhole, run } from '../fixtures/child';

for (const name of ['tsconfig.test.json', 'tsconfig.page.json']) {
  itWhole(name, async () => {
    const compilers = ['typescript-7', 'typescript'].map((each) =>
      join(packageRoot, 'node_modules', each, 'bin', 'tsc'),
    );
    const compiler = compilers.find(existsSync) as string;
    const { code, stdout, stderr } = await run(
      process.execPath,
      [compiler, '--noEmit', '-p', join(packageRoot, name)],
      {
        cwd: packageRoot,
      },
    );
    expect([code, stdout, stderr]).toEqual([0, '', '']);
  });
}
