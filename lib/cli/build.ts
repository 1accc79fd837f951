/** `build`: compiles the native addon from the sources that the package carries, where no prebuilt binary fits. */
import { spawn } from 'node:child_process';
import { Command } from 'commander';
import { packageRoot } from '../device/native';
import { CudnnLstmError, exitCodes } from '../errors';
import { type CommandIo, parseArguments, processIo } from './command';

/** The command; see `build --help`. */
export async function buildCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = new Command('build').description(
    'Build the native addon from source; needs cmake and a C++ compiler. What the compiler says goes to stderr.',
  );
  parseArguments(command, argv);
  const cmakeJs = require.resolve('cmake-js/bin/cmake-js');
  const args = [cmakeJs, 'compile', '--directory', packageRoot];
  const child = spawn(process.execPath, args, { cwd: packageRoot, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.on('data', (chunk: Buffer) => io.stderr.write(chunk));
  child.stderr.on('data', (chunk: Buffer) => io.stderr.write(chunk));
  const code = await new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
  if (code !== 0) {
    throw new CudnnLstmError(
      'ERR_BUILD',
      `The native addon could not be built (cmake-js ended with ${code ?? 'a signal'}): see above; cmake 3.20 and a C++17 compiler are needed.`,
      exitCodes.runtime,
    );
  }
  io.stdout.write(`Built ${packageRoot}/build/Release/cudnn_lstm.node\n`);
  return exitCodes.ok;
}
