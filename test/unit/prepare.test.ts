/** `npm install` in a checkout, and scripts/prepare.js, which it runs. */
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import { run } from '../fixtures/child';

it('says in a line what to do where npm left out the packages of development', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'prepare-'));
  try {
    for (const name of ['scripts/prepare.js', 'package.json']) await cp(join(packageRoot, name), join(folder, name));
    const { code, stdout, stderr } = await run(process.execPath, [join(folder, 'scripts', 'prepare.js')]);
    expect(stderr).toMatch(/^cannot build cudnn-lstm: .* run: npm install --include=dev\n$/);
    expect([code, stdout]).toEqual([1, '']);
  } finally {
    await rm(folder, { recursive: true });
  }
});

it('runs no script of another package, and npm does not ask about any', async () => {
  const read = async (name: string) => JSON.parse(await readFile(join(packageRoot, name), 'utf8'));
  const { packages }: { packages: Record<string, { hasInstallScript?: boolean }> } = await read('package-lock.json');
  const names = Object.keys(packages).filter((path) => path !== '' && packages[path]?.hasInstallScript);
  expect(names.length).toBeGreaterThan(0);
  const denied = names.map((path) => [path.replace(/^.*node_modules\//, ''), false]);
  expect((await read('package.json')).allowScripts).toEqual(Object.fromEntries(denied));
});
