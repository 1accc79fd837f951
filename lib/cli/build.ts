/** `build`: compiles the native addon from the packaged sources, where no prebuilt binary fits. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../device/native';
import { CudnnLstmError, DiskError, exitCodes } from '../errors';
import { type CommandIo, parseArguments, processIo } from './command';
import { pass, say } from './output';
import { findToolchain, type Toolchain } from './toolchain';

const build = join(packageRoot, 'build');
const release = join(build, 'Release');

/** The command; see `build --help`. */
export async function buildCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = new Command('build').description(
    'Build the native addon from source, with a C++ compiler: GCC 11, Clang 14, or newer. CMake and Ninja are fetched from npm ' +
      "if they are not installed. The compiler's output goes to stderr.",
  );
  parseArguments(command, argv);
  if (process.platform === 'win32') {
    throw new CudnnLstmError(
      'ERR_BUILD',
      'cannot build the native addon on Windows by this command; in a clone of the repository, with clang-cl: npx cmake-js compile -T ClangCL',
      exitCodes.runtime,
    );
  }
  requireWritable();
  const toolchain = findToolchain((line) => say(io.stderr, line));
  await buildAddon(toolchain, (chunk) => pass(io.stderr, chunk));
  say(io.stdout, `built ${join(release, 'cudnn_lstm.node')}`);
  return exitCodes.ok;
}

/** Checks, before minutes of compiling, that the result can be kept. */
function requireWritable(): void {
  try {
    mkdirSync(build, { recursive: true });
    rmSync(mkdtempSync(join(build, 'writable-')), { recursive: true });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'EROFS' ? 'the file system is read-only' : code === 'EACCES' ? 'permission denied' : code;
    throw new DiskError(
      `cannot build the native addon: cannot write to ${build} (${why}); run this as the owner of ${packageRoot}, or install the ` +
        'package in a folder of your own',
      { cause },
    );
  }
}

/** Configures from scratch and builds, as cmake-js does in a checkout, with the headers next to the compiled library. */
export async function buildAddon(
  { env, generator, compiler }: Toolchain,
  output: (chunk: Buffer) => void,
): Promise<void> {
  // CMake would refuse a cache with other settings, or from a folder that has been moved.
  rmSync(join(build, 'CMakeCache.txt'), { force: true });
  rmSync(join(build, 'CMakeFiles'), { recursive: true, force: true });
  const settings = {
    CMAKE_BUILD_TYPE: 'Release',
    CMAKE_LIBRARY_OUTPUT_DIRECTORY: release,
    CMAKE_JS_INC: join(packageRoot, 'dist', 'include'),
  };
  const definitions = Object.entries(settings).map(([name, value]) => `-D${name}=${value}`);
  await runTool(['-S', packageRoot, '-B', build, '-G', generator, ...definitions]);
  await runTool(['--build', build, '--parallel', String(availableParallelism())]);

  async function runTool(args: string[]): Promise<void> {
    const child = spawn('cmake', args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', output);
    child.stderr.on('data', output);
    const code = await new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
    if (code === 0) return;
    throw new CudnnLstmError(
      'ERR_BUILD',
      `cannot build the native addon: cmake, with the compiler ${compiler}, ended with ${code ?? 'a signal'}; see above`,
      exitCodes.runtime,
    );
  }
}
