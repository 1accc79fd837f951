/**
 * What every command shares: exit codes, one-line errors, suggestions for mistyped options, signals, and a quiet end when the reader
 * of its output goes away.
 */
import { isatty } from 'node:tty';
import { type Command, CommanderError, Option } from 'commander';
import { removeUnfinished } from '../checkpoint/disk';
import type { DeviceName, DeviceRequest } from '../device/choose';
import { loadNative, type WeightForm, weightForms } from '../device/native';
import { CudnnLstmError, DataError, DiskError, exitCodes, UsageError } from '../errors';
import { harmless, harmlessText } from '../harmless';
import { orOutOfMemory } from '../memory';
import { nearest, optionSynonyms } from '../nearest';
import { asCommand } from '../wording';

/** Where a command writes; the default is the process's own streams. Data goes to `stdout`, everything else to `stderr`. */
export interface CommandIo {
  stdout: NodeJS.WritableStream;
  stderr: NodeJS.WritableStream;
}

/** The process's own streams. */
export const processIo: CommandIo = { stdout: process.stdout, stderr: process.stderr };

/** The signals that end a command gracefully, and the exit code of each. */
const endingSignals = {
  SIGHUP: exitCodes.hungUp,
  SIGINT: exitCodes.interrupted,
  SIGUSR2: exitCodes.warned, // A batch system's warning that time is nearly up, if it is asked to send one.
  SIGTERM: exitCodes.terminated,
} as const;
export const endingSignalNames = Object.keys(endingSignals) as (keyof typeof endingSignals)[];

/**
 * A command was ended by SIGHUP, as when its terminal is closed (exit 129), SIGINT (130), SIGUSR2 (140) or SIGTERM (143). Reported by
 * its exit code alone.
 */
export class InterruptedError extends CudnnLstmError {
  constructor(signal: keyof typeof endingSignals) {
    super('ERR_INTERRUPTED', `Interrupted by ${signal}.`, endingSignals[signal]);
  }
}

/** A command was ended because the reader of its output, as in `… | head`, has read enough. Not a failure, and not reported. */
export class OutputClosedError extends CudnnLstmError {
  constructor(options?: ErrorOptions) {
    super('ERR_OUTPUT_CLOSED', 'The reader of the output went away.', exitCodes.ok, options);
  }
}

/** Help or version was asked for and has been printed: not a failure. */
class PrintedError extends Error {}

/**
 * Runs a command as the main program: sets `process.exitCode` to what it returns, or reports what it throws.
 *
 * @param main The command; it gets the arguments after the script's name and resolves to an exit code.
 */
export async function runCommand(main: (argv: string[]) => Promise<number>): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      if (!endsInGoodOrder) process.exit(reportError(outputError(error)));
    });
  }
  process.on('uncaughtException', (error) => process.exit(reportError(error)));
  try {
    process.exitCode = await asCommand(() => main(process.argv.slice(2)));
  } catch (error) {
    const code = reportError(error);
    if (code === exitCodes.hungUp && hasTerminal) exitAtOnce(code);
    process.exitCode = code;
  }
}

/**
 * Writes one line about what was thrown to stderr (and the stack if DEBUG is set) and returns its exit code. Operating system errors
 * that reached a command untranslated are sorted into data (exit 3) and disk (5).
 */
export function reportError(given: unknown, stderr: NodeJS.WritableStream = process.stderr): number {
  const thrown = firstOf(given);
  const error = thrown instanceof CommanderError ? usageErrorOf(thrown) : thrown;
  if (error instanceof PrintedError) return exitCodes.ok;
  const known = asPackageError(error);
  if (known instanceof InterruptedError || known instanceof OutputClosedError) return known.exitCode;
  const message = known?.message ?? `Unexpected error: ${messageOf(error)} (set DEBUG=1 to see where)`;
  // The advice on a missing addon is a list, and this package's own text.
  stderr.write(`${known?.code === 'ERR_NATIVE_MISSING' ? harmlessText(message) : harmless(message)}\n`);
  if (process.env.DEBUG) {
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
      stderr.write(`${harmlessText(String(cause.stack))}\n`);
  }
  return known?.exitCode ?? exitCodes.runtime;
}

/**
 * Parses `argv` (without the interpreter and the script) with a commander command. Help and version are printed to stdout and end the
 * command with exit code 0. The usage line names the package's bin, `cudnn-lstm NAME`.
 *
 * @throws UsageError on anything commander refuses; for an unknown option it names the one that was probably meant.
 */
export function parseArguments<T extends Command>(command: T, argv: readonly string[]): T {
  command
    .name(`cudnn-lstm ${command.name()}`)
    .configureHelp({ helpWidth: Math.min(process.stdout.columns || 80, 100), minWidthToWrap: 12 })
    .helpOption('-h, --help', 'print this help')
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({ writeErr: () => {} });
  try {
    return command.parse([...argv], { from: 'user' });
  } catch (error) {
    throw error instanceof CommanderError ? usageErrorOf(error, command) : error;
  }
}

/** A commander error as this package reports it; the nearest option is looked up in `command`, where known. */
export function usageErrorOf(error: CommanderError, command?: Command): Error {
  if (
    error.code === 'commander.helpDisplayed' ||
    error.code === 'commander.version' ||
    error.code === 'commander.help'
  ) {
    return new PrintedError();
  }
  let message = error.message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  const [, chosen, choices] = /argument '([^']*)' is invalid\. Allowed choices are (.*)$/.exec(message) ?? [];
  if (chosen !== undefined && choices !== undefined) {
    const near = nearest(chosen, choices.split(', '));
    if (near !== undefined) message += `; did you mean ${near}?`;
  }
  const unknown = error.code === 'commander.unknownOption' ? /'(--?[^']*)'/.exec(message)?.[1] : undefined;
  if (unknown !== undefined && command) {
    const name = unknown.replace(/=.*$/, '');
    const near = nearest(name, optionNames(command), optionSynonyms);
    if (near !== undefined) message += `; did you mean ${near}?`;
  }
  return new UsageError(`${capitalize(message)} (--help lists what there is)${message.endsWith('?') ? '' : '.'}`, {
    cause: error,
  });
}

function optionNames(command: Command): string[] {
  const help = new Option('--help');
  return [...command.options, help].flatMap((option) => (option.long ? [option.long] : []));
}

/** An abort signal raised by the signals that end a command and by lost output; see {@link abortOnSignals}. */
export interface SignalScope extends Disposable {
  readonly signal: AbortSignal;
}

/** Determined at the start: a terminal that is gone no longer counts as one. */
const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));

/** Milliseconds that an immediate exit may take to be a graceful one. */
const exitPatience = 300;

/** Ends the process without waiting for an unresponsive disk or for a thread, as `process.exit()` alone would. */
function exitAtOnce(code: number): never {
  removeUnfinished();
  try {
    // Node aborts (SIGABRT, a core file) if it cannot restore the modes of a terminal that is gone.
    loadNative().exitWithin(code, code === exitCodes.hungUp && hasTerminal ? 0 : exitPatience);
  } catch {
    // Without the addon it ends as soon as Node lets it.
  }
  process.exit(code);
}

/** Milliseconds by which a signal may lag behind the broken pipe that it caused. */
export const signalDelay = 20;

/** Set once a command of this process handles the loss of its output itself. */
let endsInGoodOrder = false;

/**
 * Turns the first SIGHUP, SIGINT, SIGUSR2 or SIGTERM into an abort with an {@link InterruptedError}, so that a command can end
 * gracefully; a second one ends the process at once. Output that cannot be written is an abort too, with an {@link OutputClosedError}
 * if its reader went away, of which other programs are told by SIGPIPE. Dispose it to restore the default handling of signals.
 */
export function abortOnSignals(io: CommandIo): SignalScope {
  endsInGoodOrder = true;
  const controller = new AbortController();
  let signalled = false;
  const listen = () => {
    for (const name of endingSignalNames) process.on(name, onSignal);
  };
  const listenNoMore = () => {
    for (const name of endingSignalNames) process.off(name, onSignal);
  };
  const onSignal = (name: NodeJS.Signals) => {
    const reason = new InterruptedError(name as keyof typeof endingSignals);
    if (signalled) {
      listenNoMore();
      exitAtOnce(reason.exitCode);
    }
    signalled = true;
    controller.abort(reason);
  };
  const onError = (error: Error) => {
    const reason = outputError(error);
    const abort = () => controller.abort(reason);
    // Ctrl-C in `train | tee` reaches both, and often the broken pipe is noticed before the signal; so is a terminal that is gone.
    // On a busy machine the delay may pass before Node has looked for signals once, which it does between a timer and an immediate.
    if (reason instanceof OutputClosedError) setTimeout(() => setImmediate(abort), signalDelay);
    else abort();
  };
  const streams = new Set([io.stdout, io.stderr]);
  listen();
  for (const stream of streams) stream.on('error', onError);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      listenNoMore();
      for (const stream of streams) stream.off('error', onError);
    },
  };
}

/**
 * Writes to a stream and waits while its buffer is full, so that a slow reader does not make memory grow. A reader that went away is
 * no error here: {@link abortOnSignals} reports it, and there an earlier signal takes precedence.
 */
export async function writeAndDrain(stream: NodeJS.WritableStream, text: string | Uint8Array): Promise<void> {
  if (stream.write(text)) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (done: () => void) => {
      stream.off('drain', onDrain);
      stream.off('error', onError);
      stream.off('close', onDrain);
      done();
    };
    const onDrain = () => settle(resolve);
    const onError = (error: Error) => {
      const reason = outputError(error);
      settle(reason instanceof OutputClosedError ? resolve : () => reject(reason));
    };
    stream.on('drain', onDrain);
    stream.on('error', onError);
    stream.on('close', onDrain);
  });
}

/**
 * Parses an option's value as a number for commander: `.option('--top-k <n>', '…', numberOption('--top-k', { integer: true }))`. The
 * library checks its range.
 *
 * @throws UsageError if it is not a number, or not a whole one where `integer` is set.
 */
export function numberOption(name: string, options: { integer?: boolean } = {}): (value: string) => number {
  return (value) => {
    const parsed = value.trim() === '' ? Number.NaN : Number(value);
    if (!Number.isFinite(parsed) || (options.integer && !Number.isSafeInteger(parsed))) {
      throw new UsageError(`${name} takes ${options.integer ? 'a whole number' : 'a number'}, not '${value}'.`);
    }
    return parsed;
  };
}

/** Adds the options for where a command runs, shared by several commands. */
export function addDeviceOptions(
  command: Command,
  // Without this option commander would default check to true, and the environment would not count.
  checkOption = new Option('--check').hideHelp(),
): Command {
  return command
    .addOption(
      new Option('--device <name>', 'auto, cpu, cuda or cuda:N (default: $CUDNN_LSTM_DEVICE, else auto)').helpGroup(
        'Machine:',
      ),
    )
    .addOption(
      new Option('--threads <n>', 'CPU threads (default: $CUDNN_LSTM_THREADS, else one per core)')
        .argParser(numberOption('--threads', { integer: true }))
        .helpGroup('Machine:'),
    )
    .addOption(checkOption)
    .addOption(new Option('--no-check', 'use a GPU without first comparing it with the CPU').helpGroup('Machine:'));
}

/** The same plus how the weights are kept, for commands that do not train. */
export function addModelOptions(command: Command): Command {
  return addDeviceOptions(
    command.addOption(
      new Option(
        '--weights <form>',
        'hold the matrices in 16 or 8 bits per weight: faster for one or two texts on a CPU, slightly less exact (default: as in the checkpoint)',
      )
        .choices(weightForms)
        .helpGroup('Machine:'),
    ),
  );
}

/** The values of the options of {@link addModelOptions}. */
export interface ModelCommandOptions extends DeviceOptions {
  weights?: WeightForm;
}

/** The values of the options of {@link addDeviceOptions}. */
export interface DeviceOptions {
  device?: DeviceName;
  threads?: number;
  check?: boolean;
}

/** The request to the library, with environment variables in place of options that are not given. */
export function deviceRequest({ device, threads, check }: DeviceOptions): DeviceRequest {
  return { device, threads, check, env: process.env };
}

/** Collects an option that may be given several times. */
export function repeatable(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** A stream's error as a command reports it: anything but a reader that went away is a failure, mostly of the disk. */
function outputError(error: Error): Error {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'EPIPE') return new OutputClosedError({ cause: error });
  return diskCodes.has(code) ? new DiskError(`cannot write the output: ${message}`, { cause: error }) : error;
}

const diskCodes = new Set(['ENOSPC', 'EROFS', 'EDQUOT', 'EFBIG', 'EIO']);
const dataCodes = new Set(['ENOENT', 'EACCES', 'EPERM', 'EISDIR', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG']);

/** The exit code of an error. */
export function exitCodeOf(error: unknown): number {
  return asPackageError(firstOf(error))?.exitCode ?? exitCodes.runtime;
}

/** The first error: `using` wraps it if disposing of something fails after it. */
function firstOf(error: unknown): unknown {
  let first = error;
  while (first instanceof Error && first.name === 'SuppressedError' && 'suppressed' in first) first = first.suppressed;
  return first;
}

function asPackageError(error: unknown): CudnnLstmError | undefined {
  if (error instanceof CudnnLstmError) return error;
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (syscall === 'uv_cwd')
    return new DataError(`the current directory cannot be read (${code}), as one that was removed: change to another`, {
      cause: error,
    });
  if (code !== undefined && diskCodes.has(code)) return new DiskError(messageOf(error), { cause: error });
  if (code !== undefined && dataCodes.has(code)) return new DataError(messageOf(error), { cause: error });
  const other = orOutOfMemory(error);
  return other instanceof CudnnLstmError ? other : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.split('\n')[0] || error.name : String(error);
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
