/** Commands cache the code that V8 has compiled, where Node supports it, and never fail because of the cache. */
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

describe('a user without a home, as in a container under a number that is no user’s', () => {
  const { XDG_CACHE_HOME: _, ...without } = env();
  /** Makes `os.homedir()` fail as it does for such a user. */
  const homeless = () => {
    const program = join(folder, 'homeless.js');
    writeFileSync(
      program,
      "require('node:os').homedir = () => { throw new Error('uv_os_homedir returned ENOENT (no such file or directory)'); };",
    );
    return (...args: string[]) =>
      run(process.execPath, ['--require', program, compiled('cli/main.js'), ...args], { env: without, cwd: folder });
  };

  it('has commands that keep nothing', async () => {
    const command = homeless();
    expect(await command('--version')).toMatchObject({ code: 0, stdout: `${packageVersion}\n`, stderr: '' });
    expect(await command('info')).toMatchObject({ code: 0, stderr: '' });
    const sizes = ['--hidden', '4', '--layers', '1', '--epochs', '1', '--sample-length', '0', '--device', 'cpu'];
    writeFileSync(join(folder, 'text.txt'), 'a sheep and a goat\n'.repeat(100));
    expect(await command('train', 'text.txt', ...sizes)).toMatchObject({ code: 0 });
  });

  it('is told in one line where something must be kept', async () => {
    expect(await homeless()('train', 'alice', '--dry-run')).toMatchObject({
      code: 5,
      stderr: 'this user has no home directory to keep files in: set XDG_CACHE_HOME to a folder you may write to\n',
    });
  });
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
