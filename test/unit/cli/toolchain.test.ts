/** Finds the build tools on a PATH that holds only stand-ins: tools that are missing or too old are named, or come from npm. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findToolchain } from '../../../lib/cli/toolchain';
import { eachWhole } from '../../fixtures/child';

let place: string;
let bin: string;
let said: string[];
const cache = process.env.XDG_CACHE_HOME;

beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'toolchain-'));
  bin = join(place, 'bin');
  mkdirSync(bin);
  said = [];
  process.env.XDG_CACHE_HOME = join(place, 'cache');
});
afterEach(() => {
  rmSync(place, { recursive: true });
  if (cache === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = cache;
});

function command(name: string, script: string, folder = bin): string {
  const file = join(folder, name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}
/** A stand-in for a compiler, which is asked to expand two macros. Only Clang defines the second. */
const compiler = (name: string, gnu: number, clang: number | '__clang_major__' = '__clang_major__') =>
  command(name, `echo ${gnu} ${clang}`);
const cmake = (version: string) => command('cmake', `echo "cmake version ${version}"`);
const make = () => command('make', 'echo GNU Make 4.3');
const ninja = () => command('ninja', 'echo 1.13.2');

/** A stand-in for npm: installs `package@version` with files that are not executable. */
function npm(): string {
  const script = join(place, 'npm-cli.js');
  writeFileSync(
    script,
    `const { mkdirSync, writeFileSync } = require('node:fs');
const args = process.argv.slice(2);
const spec = args.at(-1);
const tool = spec.split('-')[0];
const bin = args[args.indexOf('--prefix') + 1] + '/node_modules/' + spec.split('@')[0] + '/bin';
mkdirSync(bin, { recursive: true });
writeFileSync(bin + '/' + tool, '#!/bin/sh\\necho ' + tool + ' version 99.0', { mode: 0o644 });`,
  );
  return script;
}
const brokenNpm = () => {
  const script = join(place, 'npm-cli.js');
  writeFileSync(script, `console.error('npm error code ENOTFOUND'); process.exit(1);`);
  return script;
};

const find = (env: NodeJS.ProcessEnv = {}) => findToolchain((line) => said.push(line), { PATH: bin, ...env });
const message = (env: NodeJS.ProcessEnv = {}): string => {
  try {
    find(env);
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_BUILD', exitCode: 1 });
    const text = (error as Error).message;
    expect(text.split('\n')).toHaveLength(1);
    return text;
  }
  throw new Error('the tools were found');
};

describe('the compiler', () => {
  beforeEach(() => {
    cmake('3.25.1');
    make();
  });

  it.each([
    [10, undefined, "'c++' is GCC 10, and GCC 11 or Clang 14"],
    [11, undefined, undefined],
    [4, 13, "'c++' is Clang 13, and GCC 11 or Clang 14"],
    [4, 14, undefined],
  ])('of GCC %p, Clang %p', (gnu, clang, problem) => {
    compiler('c++', gnu, clang);
    if (problem === undefined) expect(find()).toMatchObject({ compiler: 'c++', generator: 'Unix Makefiles' });
    else expect(message()).toContain(problem);
  });

  it('is the first of c++, g++ and clang++ that is there, or what CXX names', () => {
    compiler('clang++', 4, 19);
    expect(find()).toMatchObject({ compiler: 'clang++', env: { CXX: 'clang++' } });
    compiler('g++', 12);
    expect(find()).toMatchObject({ compiler: 'g++' });
    compiler('c++', 12);
    expect(find()).toMatchObject({ compiler: 'c++' });
    const other = compiler('a compiler', 11);
    expect(find({ CXX: other })).toMatchObject({ compiler: other, env: { CXX: other } });
    command('ccache', 'exec "$@"');
    expect(find({ CXX: 'ccache g++' })).toMatchObject({ compiler: 'ccache', env: { CXX: 'ccache g++' } });
  });

  it('is named where it is missing or does not work', () => {
    expect(message()).toMatch(/no C\+\+ compiler is installed; GCC 11 or Clang 14 or a newer one is needed \(.*\)/);
    expect(message({ CXX: 'g++-99' })).toContain("no compiler 'g++-99', which the environment variable CXX names");
    command('c++', 'echo "cannot execute cc1plus" >&2; exit 1');
    expect(message()).toContain("'c++' does not work: cannot execute cc1plus");
  });
});

describe('CMake, make and Ninja', () => {
  beforeEach(() => void compiler('c++', 12));

  it('are those of the system where they will do', () => {
    cmake('3.18.0');
    make();
    expect(find({ npm_execpath: brokenNpm() })).toMatchObject({ generator: 'Unix Makefiles' });
    ninja();
    expect(find({ npm_execpath: brokenNpm() })).toMatchObject({ generator: 'Ninja' });
    expect(said).toEqual([]);
  });

  eachWhole(
    it,
    [[undefined], ['3.17.5'], ['2.8.12']] as const,
    (i) => i === 1,
  )('come from npm for a CMake of %p, said in a line, and only once', (version) => {
    if (version) cmake(version);
    make();
    const { env, generator } = find({ npm_execpath: npm() });
    expect(generator).toBe('Unix Makefiles');
    expect(said).toEqual([
      expect.stringMatching(/^cudnn-lstm: CMake 3\.18 or newer is not installed: taking cmake .* MB\) from npm into /),
    ]);
    const [first] = env.PATH?.split(':') ?? [];
    expect(first?.startsWith(join(place, 'cache', 'cudnn-lstm', 'cmake-'))).toBe(true);
    expect(existsSync(join(first as string, 'cmake'))).toBe(true);
    find({ npm_execpath: brokenNpm() });
    expect(said).toHaveLength(1);
    expect(readdirSync(join(place, 'cache', 'cudnn-lstm'))).toHaveLength(1);
  });

  it('come from npm where neither make nor Ninja is there', () => {
    cmake('3.25.1');
    const { env, generator } = find({ npm_execpath: npm() });
    expect(generator).toBe('Ninja');
    expect(existsSync(join(env.PATH?.split(':')[0] as string, 'ninja'))).toBe(true);
    expect(said).toEqual([expect.stringContaining('make or Ninja is not installed: taking ninja')]);
  });

  it('are named, with what to do, where npm cannot bring them, and nothing is left of the attempt', () => {
    make();
    const text = message({ npm_execpath: brokenNpm() });
    expect(text).toContain("CMake 3.18 or newer is needed; install it with the system's package manager");
    expect(text).toContain('npm error code ENOTFOUND');
    expect(readdirSync(join(place, 'cache', 'cudnn-lstm'))).toEqual([]);
  });
});
