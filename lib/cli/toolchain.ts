/**
 * Finds what the native addon is built with: a C++ compiler, CMake, and make or Ninja. All of it is looked for before anything is
 * built, so that one line can say what is missing. CMake and Ninja are taken from npm if the system has none.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { cacheDirectory } from '../cache';
import { CudnnLstmError, exitCodes } from '../errors';

export interface Toolchain {
  generator: 'Ninja' | 'Unix Makefiles';
  /** The C++ compiler, a command or a path. */
  compiler: string;
  /** The environment to build in: its PATH has every tool, its CXX is the compiler. */
  env: NodeJS.ProcessEnv;
}

/** Releases with binaries for Linux, macOS and Windows, on x64 and arm64. */
const fromNpm = {
  cmake: { version: '4.3.1', megabytes: 97 },
  ninja: { version: '1.13.2', megabytes: 1 },
};
type NpmTool = keyof typeof fromNpm;

const oldest = { gcc: 11, clang: 14, cmake: [3, 18] as const };

/**
 * Finds the tools, and fetches CMake or Ninja with npm into the cache directory if they are missing.
 *
 * @param say Called with a line that says what is fetched, and where to.
 * @throws CudnnLstmError `ERR_BUILD` naming what is missing and how to install it.
 */
export function findToolchain(say: (line: string) => void, env: NodeJS.ProcessEnv = process.env): Toolchain {
  const found = { ...env };
  const compiler = findCompiler(env);
  found.CXX = compiler.join(' ');
  const missing: NpmTool[] = [];
  if (!isRecentCmake(env)) missing.push('cmake');
  const hasNinja = answers('ninja', env);
  if (!hasNinja && !answers('make', env)) missing.push('ninja');
  for (const tool of missing) {
    const folder = fetchTool(tool, say, env);
    found.PATH = [folder, found.PATH].filter(Boolean).join(delimiter);
  }
  const generator = hasNinja || missing.includes('ninja') ? 'Ninja' : 'Unix Makefiles';
  return { generator, compiler: compiler[0] as string, env: found };
}

function buildError(problem: string, cause?: unknown): CudnnLstmError {
  return new CudnnLstmError('ERR_BUILD', `cannot build the native addon: ${problem}`, exitCodes.runtime, { cause });
}

function run(command: string, args: string[], env: NodeJS.ProcessEnv, input = ''): SpawnSyncReturns<string> {
  return spawnSync(command, args, { encoding: 'utf8', env, input });
}

function answers(command: string, env: NodeJS.ProcessEnv): boolean {
  return run(command, ['--version'], env).status === 0;
}

function isRecentCmake(env: NodeJS.ProcessEnv): boolean {
  const { stdout } = run('cmake', ['--version'], env);
  const [, major, minor] = (/version (\d+)\.(\d+)/.exec(stdout ?? '') ?? []).map(Number);
  if (major === undefined || minor === undefined) return false;
  return major > oldest.cmake[0] || (major === oldest.cmake[0] && minor >= oldest.cmake[1]);
}

/** CXX, which may include arguments, as CMake reads it, or the first of the usual names that exists; old compilers are refused. */
function findCompiler(env: NodeJS.ProcessEnv): string[] {
  const named = env.CXX?.trim();
  const names = named ? [existsSync(named) ? [named] : named.split(/\s+/)] : [['c++'], ['g++'], ['clang++']];
  const needed = `GCC ${oldest.gcc} or Clang ${oldest.clang}`;
  for (const command of names) {
    const [program, ...args] = command as [string, ...string[]];
    const source = '__GNUC__ __clang_major__\n';
    const { error, status, stdout, stderr } = run(program, [...args, '-E', '-P', '-x', 'c++', '-'], env, source);
    if (error && status === null) continue; // not there; one that ends without reading its input has a status
    if (status !== 0) throw buildError(`the C++ compiler '${command.join(' ')}' does not work: ${firstLine(stderr)}`);
    const [gnu, clang] = stdout.trim().split(/\s+/).map(Number) as [number, number];
    const [kind, version, least] = clang > 0 ? ['Clang', clang, oldest.clang] : ['GCC', gnu, oldest.gcc];
    if (version < least) {
      throw buildError(
        `the C++ compiler '${command.join(' ')}' is ${kind} ${version}, and ${needed} or a newer one is needed; ` +
          'set CXX to name another compiler, as in CXX=g++-12',
      );
    }
    return command;
  }
  if (named) throw buildError(`there is no compiler '${named}', which the environment variable CXX names`);
  throw buildError(`no C++ compiler is installed; ${needed} or a newer one is needed (${installHint()})`);
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0] ?? '';
}

/** The command that installs a compiler on this system, if it is known. */
function installHint(): string {
  if (process.platform === 'darwin') return 'xcode-select --install';
  const managers = { 'apt-get': 'apt-get install g++', dnf: 'dnf install gcc-c++', apk: 'apk add g++' };
  for (const [command, hint] of Object.entries(managers)) if (answers(command, process.env)) return hint;
  return 'Debian and Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; Alpine: apk add g++';
}

/** The folder of a tool from npm, fetched unless the cache has it. */
function fetchTool(tool: NpmTool, say: (line: string) => void, env: NodeJS.ProcessEnv): string {
  const { version, megabytes } = fromNpm[tool];
  const spec = `${tool}-runtime-${process.platform}-${process.arch}`;
  const place = join(cacheDirectory(), `${tool}-${version}`);
  const bin = join(place, 'node_modules', spec, 'bin');
  const why = tool === 'cmake' ? `CMake ${oldest.cmake.join('.')} or newer` : 'make or Ninja';
  const advice = `${why} is needed; install it with the system's package manager`;
  if (!existsSync(bin)) {
    say(`cudnn-lstm: ${why} is not installed: taking ${tool} ${version} (${megabytes} MB) from npm into ${place}`);
    const fresh = `${place}.${process.pid}`;
    try {
      mkdirSync(fresh, { recursive: true });
      npmInstall(fresh, `${spec}@${version}`, env);
      // npm's archives lose the execute permission.
      const files = join(fresh, 'node_modules', spec, 'bin');
      for (const name of readdirSync(files)) chmodSync(join(files, name), 0o755);
      try {
        renameSync(fresh, place);
      } catch (error) {
        if (!existsSync(bin)) throw error; // else another build was faster
      }
    } catch (error) {
      throw buildError(`${advice} (npm could not bring it: ${firstLine((error as Error).message)})`, error);
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  const program = run(join(bin, tool), ['--version'], env);
  if (program.status !== 0) {
    const reason = program.error?.message ?? firstLine(program.stderr);
    throw buildError(`${advice} (the one that npm carries does not run here: ${reason})`);
  }
  return bin;
}

function npmInstall(folder: string, spec: string, env: NodeJS.ProcessEnv): void {
  const args = [
    'install',
    '--prefix',
    folder,
    '--no-global',
    '--no-save',
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
  ];
  args.push('--loglevel', 'error', spec);
  // The npm that runs this or, under another package manager, the one that came with Node.
  const running = env.npm_execpath;
  const beside = join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js');
  const script = [running?.endsWith('npm-cli.js') ? running : undefined, beside].find(
    (path) => path && existsSync(path),
  );
  const result = script ? run(process.execPath, [script, ...args], env) : run('npm', args, env);
  if (result.status !== 0)
    throw result.error ?? new Error(firstLine(result.stderr) || `it ended with ${result.status}`);
}
