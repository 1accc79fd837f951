import { subject } from './wording';

/**
 * Exit codes of every command; README.md lists them.
 *
 * @category Errors
 */
export const exitCodes = {
  ok: 0,
  runtime: 1,
  usage: 2,
  data: 3,
  device: 4,
  disk: 5,
  hungUp: 129,
  interrupted: 130,
  warned: 140,
  terminated: 143,
} as const;

/**
 * The base of every error this package throws on purpose. The message says what was wrong, where (file, byte, line, option)
 * and what to do; `code` is stable; `exitCode` is what a command ends with.
 *
 * @category Errors
 */
export class CudnnLstmError extends Error {
  readonly code: string;
  readonly exitCode: number;
  constructor(code: string, message: string, exitCode: number, options?: ErrorOptions) {
    // A message that is not a string would otherwise throw here.
    super(typeof message === 'string' ? message : `(no message, but a ${typeof message})`, options);
    this.name = new.target.name;
    this.code = code;
    this.exitCode = exitCode;
  }
}

/**
 * An impossible option or argument.
 *
 * @category Errors
 */
export class UsageError extends CudnnLstmError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_USAGE', message, exitCodes.usage, options);
  }
}

/**
 * An option out of range. The message spells it as its caller does: `topK must be …`, or in a command `--top-k must be …`.
 *
 * @category Errors
 */
export class OptionError extends UsageError {
  /**
   * @param option In camelCase.
   * @param problem What follows its name in the message.
   */
  constructor(
    readonly option: string,
    readonly problem: string,
  ) {
    super(
      (typeof option === 'string' && typeof problem === 'string' ? `${subject(option)} ${problem}` : option) as string,
    );
  }
}

/**
 * A corpus or text that cannot be used: missing, unreadable, too short, not in its encoding, or with unknown characters.
 *
 * @category Errors
 */
export class DataError extends CudnnLstmError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_DATA', message, exitCodes.data, options);
  }
}

/**
 * A checkpoint that is missing, truncated, altered, foreign, or does not fit what it is resumed with.
 *
 * @category Errors
 */
export class CheckpointError extends CudnnLstmError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_CHECKPOINT', message, exitCodes.data, options);
  }
}

/**
 * No usable device, a missing native binary, or a device call that failed.
 *
 * @category Errors
 */
export class DeviceError extends CudnnLstmError {
  constructor(message: string, options?: ErrorOptions & { code?: string }) {
    super(options?.code ?? 'ERR_DEVICE_UNAVAILABLE', message, exitCodes.device, options);
  }
}

/**
 * Host or device memory ran out.
 *
 * @category Errors
 */
export class OutOfMemoryError extends CudnnLstmError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_OUT_OF_MEMORY', message, exitCodes.device, options);
  }
}

/**
 * No space, a read-only directory, or another trainer in the same directory.
 *
 * @category Errors
 */
export class DiskError extends CudnnLstmError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_DISK', message, exitCodes.disk, options);
  }
}

/**
 * Training cannot continue: a loss or gradient that is not finite, or an explosion.
 *
 * @category Errors
 */
export class TrainingError extends CudnnLstmError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_TRAINING', message, exitCodes.runtime, options);
  }
}
