/** What V8 has compiled is kept for the next command, where Node can do it, and no command fails for it. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import * as nodeModule from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageVersion } from '../../../lib/version';
import { compiled, node, run } from '../../fixtures/child';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'compile-cache-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const can = 'enableCompileCache' in nodeModule;
const kept = () => {
  const place = join(folder, 'cudnn-lstm', 'compiled');
  return existsSync(place) ? readdirSync(place, { recursive: true }).length : 0;
};
const env = (more: NodeJS.ProcessEnv = {}) => ({ ...process.env, XDG_CACHE_HOME: folder, ...more });

it('is kept in the cache folder, by the commands alone', async () => {
  const version = { code: 0, signal: null, stdout: `${packageVersion}\n`, stderr: '' };
  const without = env({ NODE_DISABLE_COMPILE_CACHE: '1' });
  expect(await node('cli/main.js', ['--version'], { env: without })).toEqual(version);
  const load = `require(${JSON.stringify(compiled('cli/main.js'))})`;
  expect((await run(process.execPath, ['-e', load], { env: env() })).code).toBe(0);
  expect(kept()).toBe(0);
  expect(await node('cli/main.js', ['--version'], { env: env() })).toEqual(version);
  expect(kept() > 0).toBe(can);
});

it('a cache folder that is a file, or that another version has filled with something else, harms nothing', async () => {
  mkdirSync(join(folder, 'cudnn-lstm'));
  writeFileSync(join(folder, 'cudnn-lstm', 'compiled'), 'a file');
  expect(await node('cli/main.js', ['--version'], { env: env() })).toMatchObject({ code: 0, stderr: '' });
  rmSync(join(folder, 'cudnn-lstm', 'compiled'));
  await node('cli/main.js', ['--version'], { env: env() });
  const files = can ? readdirSync(join(folder, 'cudnn-lstm'), { recursive: true, withFileTypes: true }) : [];
  for (const file of files) if (file.isFile()) writeFileSync(join(file.parentPath, file.name), 'no code of any engine');
  expect(await node('cli/main.js', ['--version'], { env: env() })).toMatchObject({ code: 0, stderr: '' });
});
