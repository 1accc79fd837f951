/** scripts/prepare.js, which `npm install` runs in a checkout. */
import { cp, mkdtemp, rm } from 'node:fs/promises';
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
