/**
 * The native addon's types and loader: the only file that knows the binary. Everything above it goes through `loadNative()`. Validation
 * and defaults belong to the callers; the addon guards only its own state.
 *
 * Shapes: B batch, T steps, H hidden, V vocabulary, L layers, S streams.
 */
import { join, resolve } from 'node:path';
import { pathOf } from '../arguments';
import { CudnnLstmError, DeviceError, exitCodes, OutOfMemoryError } from '../errors';
import { harmless } from '../harmless';
import { option } from '../wording';
import type { DrawRuleName } from './draw-rules';

/**
 * How a symbol is fed to the first layer.
 *
 * @category Devices and this machine
 */
export type InputCoding = 'scalar' | 'onehot' | 'embedding';
/**
 * The activation of the gates i, f and o: `'sigmoid'`, or a piecewise linear approximation of it: `'hard_sigmoid'`,
 * min(max(0.2 x + 0.5, 0), 1), as in Keras before 3 and TensorFlow.js, or `'hard_sigmoid_relu6'`, min(max(x + 3, 0), 6) / 6, as in
 * Keras 3.
 *
 * @category Devices and this machine
 */
export type GateActivation = 'sigmoid' | 'hard_sigmoid' | 'hard_sigmoid_relu6';
export const gateActivations = [
  'sigmoid',
  'hard_sigmoid',
  'hard_sigmoid_relu6',
] as const satisfies readonly GateActivation[];
/**
 * Where the loss is taken: at every position, or at the last one of a window.
 *
 * @category Devices and this machine
 */
export type Target = 'every' | 'last';
/**
 * The optimiser's update rule.
 *
 * @category Devices and this machine
 */
export type Optimizer = 'adam' | 'adamw' | 'sgd' | 'rmsprop';
/**
 * A GPU's arithmetic.
 *
 * @category Devices and this machine
 */
export type Precision = 'fp32' | 'tf32' | 'bf16' | 'fp16';
/** The algorithms that training can request; `'auto'` takes the fastest that agrees with `'standard'` on the first batch's shape. */
export const algorithms = ['standard', 'auto', 'persist-static', 'persist-dynamic'] as const;
/**
 * cuDNN's algorithm for training; `'auto'` measures them.
 *
 * @category Devices and this machine
 */
export type Algorithm = (typeof algorithms)[number];
/** The algorithms that `'auto'` may choose. */
export const chosenAlgorithms = ['standard', 'persist-static', 'persist-dynamic', 'persist-static-small-h'] as const;
/**
 * The cuDNN algorithm that runs.
 *
 * @category Devices and this machine
 */
export type ChosenAlgorithm = (typeof chosenAlgorithms)[number];
export type Slot = 'parameters' | 'gradients' | 'firstMoments' | 'secondMoments' | 'trainingState' | 'streamState';

/**
 * A model's architecture, as a checkpoint records it.
 *
 * @category Devices and this machine
 */
export interface ModelShape {
  /** Symbols, 1 to 65,536. */
  vocabulary: number;
  /** LSTM layers, 1 to 64. */
  layers: number;
  /** Units per layer, 1 to 65,536. */
  hidden: number;
  /** How a symbol is fed to the first layer: as one of `vocabulary` inputs, as a learned vector, or as one number, id / vocabulary. */
  input: InputCoding;
  /** Size of the learned vector; 0 unless input is 'embedding'. */
  embedding: number;
  /** Fraction of the units dropped after every layer in training, 0 to below 1. */
  dropout: number;
  /**
   * Activation of the gates. A GPU supports sigmoid only.
   *
   * @default 'sigmoid'
   */
  gateActivation?: GateActivation | undefined;
  /**
   * Id, 0 or more, of a symbol before which the state is reset to zero, in training, scoring and sampling alike: in a model of single
   * lines, the line break. A GPU cannot do this.
   *
   * @default none
   */
  resetId?: number | undefined;
}

export interface NativeModelSpec extends ModelShape {
  /** A non-negative safe integer; keys initialisation and dropout masks. */
  seed: number;
}

/**
 * How matrices are stored: `bf16` and `int8` are for sampling and scoring only.
 *
 * @category Devices and this machine
 */
export type WeightForm = 'fp32' | 'bf16' | 'int8';
export const weightForms: readonly WeightForm[] = ['fp32', 'bf16', 'int8'];

export interface NativeModelOptions {
  device: 'cpu' | 'cuda';
  /** The GPU's number. */
  ordinal?: number;
  /** The most CPU threads that a call uses. */
  threads?: number;
  /**
   * How many of these threads a call uses (ADR 14): `'adapt'`, the default, as many as are fastest at the moment; `'fixed'`, always all;
   * `'random'`, a different number for each call, for tests. Results do not depend on it. Absent: as CUDNN_LSTM_TEAM says.
   */
  team?: 'adapt' | 'fixed' | 'random';
  /** On a CPU, `bf16` applies to the multiplications of training steps; all else is in fp32. */
  precision?: Precision;
  /**
   * How the CPU stores the matrices that one or two texts at a time are multiplied by. Weights written to the model must already be
   * rounded to this form. Default `'fp32'`. A GPU keeps floats.
   */
  weights?: WeightForm;
  /** Default `'standard'`. */
  algorithm?: Algorithm;
  /** What `'auto'` chose in the run that this one continues: it is not tried again. */
  chosenAlgorithm?: ChosenAlgorithm;
  /** Whether ranks on GPUs sum their gradients by NCCL rather than through host memory; the same on all ranks. Default false. */
  nccl?: boolean;
  /** Folder searched first for NVIDIA's libraries. */
  libraryPath?: string;
}

/**
 * A tensor of the canonical layout and its position.
 *
 * @category Devices and this machine
 */
export interface NativeParameter {
  name: string;
  shape: number[];
  /** Index of the first value in the flat array of read('parameters'). */
  offset: number;
  size: number;
}

export interface NativeTrainCall {
  /** count x [T+1, B], time-major. Copied before the call returns. */
  ids: Int32Array;
  /** Optimiser steps in this call. */
  count: number;
  steps: number;
  batch: number;
  target: Target;
  carryState: boolean;
  /**
   * For a step that the ranks of a job share (see {@link NativeAddon.openMpi}): the total number of sequences. This rank has `batch` of
   * them, 0 or more, from `firstSequence` on, a multiple of 16. All ranks call, and get the same result. Absent: `batch` is all.
   */
  globalBatch?: number;
  firstSequence?: number;
  /** One per step. */
  learningRates: Float64Array;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Global-norm limit; 0 for none. */
  clip: number;
  /** The update rule; see native/core/optimizers.h. Default 'adam'. */
  optimizer?: Optimizer;
  /** Fraction of the last update that is applied again by 'sgd' and 'rmsprop'. Default 0. */
  momentum?: number;
  /** Every parameter except the biases is scaled by 1 - rate * weightDecay before the update. Default 0. */
  weightDecay?: number;
  /** This many parameters at the start of the canonical layout stay unchanged and are not part of the norm. Default 0. */
  frozen?: number;
}

export interface NativeTrainResult {
  /** Mean nats per target of each completed step, with dropout on; NaN for a step that was not applied. */
  losses: Float64Array;
  /** Global gradient norm of the parameters that are not frozen, before clipping. */
  norms: Float64Array;
  /**
   * Steps completed: less than count if stop() was called or a step's loss or norm was not finite (that step's loss and norm are at index
   * `completed`; nothing of it was applied).
   */
  completed: number;
  /** True if stop() ended the call, on this rank or on another. */
  stopped: boolean;
}

export interface NativeEvaluateCall {
  /** [T+1, B], time-major. */
  ids: Int32Array;
  steps: number;
  batch: number;
  target: Target;
  /** Continue from the evaluation state, which is separate from the training state. */
  carryState: boolean;
  /** Apply dropout masks as in training, keyed by maskStep. */
  dropout: boolean;
  maskStep?: number;
}

/** How a stream's symbols are drawn; an absent rule is off. The rules: native/core/draw_rules.h. */
export interface NativeSamplingOptions extends Partial<Record<DrawRuleName, number>> {
  /** Default false. */
  greedy?: boolean;
  /** Keys the coins: draw n of a call has the coin Philox(seed; stream, position + n). Default 0. */
  seed?: number;
  /** Stream of the coins. Default 0. If one object serves all streams of a call, this is the first stream's; the others follow. */
  stream?: number;
  /** Index of the call's first draw among the coins, so that chunked calls draw what one long call would. Default 0. */
  position?: number;
  /** Ids before the call's, on which the repetition penalty looks back. */
  history?: Int32Array;
  /** The only ids that may be drawn, in any order; all if it is empty or absent. */
  allowed?: Int32Array;
  /** Ids whose logits are shifted by {@link biases}, after the repetition penalty and before every rule. */
  biasedIds?: Int32Array;
  /** One for each of {@link biasedIds}, in nats. */
  biases?: Float32Array;
}

export interface NativeSampleCall {
  /**
   * window = 0 (state carried): ids [n, S], time-major, are fed in order from `state`, then `count` are drawn.
   * window > 0: the last `window` rows of ids are run from zero state for every draw; the window slides.
   */
  ids: Int32Array;
  streams: number;
  count: number;
  /** Default 0. */
  window?: number;
  /** [L, 2, S, H] to continue from; zero state if absent. */
  state?: Float32Array;
  /** For all streams, or one per stream. What a stream draws does not depend on the call's other streams. */
  sampling: NativeSamplingOptions | readonly NativeSamplingOptions[];
  /** Return the log-probabilities of the drawn ids. The host then draws, even for a GPU. */
  logProbabilities?: boolean;
  /** Return the n likeliest symbols of each draw, with {@link logProbabilities}; 0..V. Default 0. */
  rivals?: number;
}

export interface NativeSampleResult {
  /** [count, S], time-major. */
  ids: Int32Array;
  /** [L, 2, S, H] after the last id was *drawn* but not yet fed: to continue, pass the last row as `ids`. */
  state: Float32Array;
  /** [count, S], if requested: natural logarithms of the model's own probabilities, before any rule. */
  logProbabilities?: Float32Array;
  /** Shape [count, S, rivals]. The likeliest ids of each draw, in descending order, and their log-probabilities. */
  rivals?: Int32Array;
  rivalLogProbabilities?: Float32Array;
}

/** One model on one device. One asynchronous call at a time: a second throws ERR_BUSY. */
export interface NativeModel {
  readonly parameterCount: number;
  readonly parameters: NativeParameter[];
  readonly description: string;
  /** What `algorithm: 'auto'` chose; undefined before the first training call, and for every other algorithm. */
  readonly chosenAlgorithm?: ChosenAlgorithm | undefined;
  readonly hostBytes: number;
  readonly deviceBytes: number;
  /**
   * Glorot-uniform inputs and output, orthogonal recurrent, zero biases with forget bias 1, all from the seed. Takes seconds for a large
   * model; ended by {@link stop}, it rejects with ERR_STOPPED and leaves the weights unusable.
   */
  initialize(): Promise<void>;
  trainSteps(call: NativeTrainCall): Promise<NativeTrainResult>;
  /** Nats of each target: [T, B] or, for target 'last', [B]. */
  evaluate(call: NativeEvaluateCall): Promise<Float32Array>;
  resetEvaluationState(): void;
  resetTrainingState(): void;
  sample(call: NativeSampleCall): Promise<NativeSampleResult>;
  /** Logits [n, S, V] for ids [n, S] fed in order from `state` (zero if absent): for tests and for scoring. */
  logits(call: { ids: Int32Array; streams: number; state?: Float32Array }): Promise<Float32Array>;
  /** A copy of `count` values of the slot from `offset`; all of them by default. The states are read as a whole. */
  read(slot: Slot, offset?: number, count?: number): Float32Array;
  /** Writes the slot's values from `offset`; without it, `values` must be all of them. The states are written as a whole. */
  write(slot: Slot, values: Float32Array, offset?: number): void;
  /** Optimiser steps done, from which the next one and its dropout continue: 0 to 2^53 - 1. */
  stepCount: number;
  /** Asks the running call to end after its current step (a long step is abandoned, and nothing of it is applied). */
  stop(): void;
  /**
   * Frees everything on another thread once the running call has ended; calls of any model made after this find the memory free.
   * Idempotent; any later call throws ERR_DISPOSED.
   */
  dispose(): void;
}

/**
 * The instruction sets that the CPU backend has kernels for here.
 *
 * @category Devices and this machine
 */
export interface NativeCpuInfo {
  /** 'avx512bf16' | 'avx512' | 'avx2' | 'neon' | 'baseline': the one in use. */
  isa: string;
  supported: string[];
}

/**
 * A GPU that can be used.
 *
 * @category Devices and this machine
 */
export interface NativeCudaDevice {
  ordinal: number;
  name: string;
  memoryBytes: number;
  freeBytes: number;
  computeCapability: string;
}

/**
 * NVIDIA's driver, libraries and GPUs, as the addon found them.
 *
 * @category Devices and this machine
 */
export interface NativeCudaInfo {
  /** Built with CUDA support. */
  compiled: boolean;
  available: boolean;
  /** One line: why not, or what was found. */
  reason: string;
  driver?: string;
  cudnn?: { version: string; path: string };
  cublas?: { version: string; path: string };
  /** The library that sums between the GPUs of several ranks, if it is present and this build supports it. */
  nccl?: { version: string; path: string };
  devices: NativeCudaDevice[];
  /** Everything searched for, where, and with what result. */
  searched: string[];
}

/**
 * One GPU's load, as the driver's management library (NVML) reports it. Percentages are of its last sample period, up to a second.
 *
 * @category Devices and this machine
 */
export interface GpuUsage {
  name: string;
  /** Share of the time with a kernel running. */
  gpuPercent: number;
  /** Share of the time with memory being read or written. */
  memoryPercent: number;
  /** Memory allocated by all processes together. */
  memoryUsedBytes: number;
  memoryTotalBytes: number;
}

/** An MPI library that was found. */
export interface NativeMpiLibrary {
  /** The file that was opened: `libmpi.so.40`. */
  library: string;
  /** The binary interface it is called through: `Open MPI`, `MPICH`, which Intel's and Cray's share, or `MPI standard ABI 1.0`. */
  abi: string;
  /** The version it reports: `Open MPI v4.1.4`. */
  version: string;
}

/** A rank's place, for {@link NativeAddon.openNccl}. */
export interface NativeNcclPlace {
  rank: number;
  size: number;
  localRank: number;
  localSize: number;
  /** The GPU's number. */
  ordinal: number;
  /** Where rank 0 listens: `host:port`. */
  address: string;
}

/** This process's place among those of its job. */
export interface NativeRank extends NativeMpiLibrary {
  /** 0 to size - 1. */
  rank: number;
  size: number;
  /** Rank among the processes of this machine. */
  localRank: number;
  localSize: number;
}

export interface NativeAddon {
  createModel(spec: NativeModelSpec, options: NativeModelOptions): Promise<NativeModel>;
  cpuInfo(): NativeCpuInfo;
  /**
   * What the system currently allows this process, as calls look it up every second: CPUs by affinity, CPUs' worth of time by control
   * groups (0: no limit), and so the most threads at work. root: where /proc and /sys are found; for tests.
   */
  cpuAllowance(root?: string): { cpus: number; quota: number; threads: number };
  /** openLibraries: open cuDNN and cuBLAS for their versions even without a GPU, which takes about a second. */
  cudaInfo(options?: { libraryPath?: string; openLibraries?: boolean }): Promise<NativeCudaInfo>;
  /** How busy a GPU is now; null without CUDA, without that GPU, or without NVML. */
  gpuUsage(ordinal?: number): Promise<GpuUsage | null>;
  /** Fused multiply-adds in registers, GFLOP/s over `threads` (1..1024) in 1..60,000 ms: the ceiling that the benchmark divides by. */
  measurePeak(threads: number, milliseconds: number): Promise<number>;
  /**
   * Draws an id for each stream from the caller's logits [S, V], by the rules that {@link NativeModel.sample} applies to its first draw.
   * `history`, which is all that the repetition penalty looks back on, ends with the ids that gave the logits.
   */
  draw(call: {
    logits: Float32Array;
    streams: number;
    sampling: NativeSamplingOptions | readonly NativeSamplingOptions[];
  }): Int32Array;
  /**
   * Takes the kernel's lock on an open file. It belongs to one opening of the file, and ends when that is closed or its process dies.
   * False if another has it. Rejects with ERR_CANNOT_LOCK if the file system cannot lock.
   */
  lockFile(descriptor: number): Promise<boolean>;
  /**
   * Ends the process with that code after that many milliseconds, whatever it is doing, unless it has ended before. For an exit that must
   * not wait, as `process.exit()` does for a disk that does not respond.
   */
  exitWithin(code: number, milliseconds: number): void;
  /** Opens the first of these libraries that exists and is MPI; rejects with ERR_DEVICE_UNAVAILABLE, which gives the result for each. */
  findMpi(names: readonly string[]): Promise<NativeMpiLibrary>;
  /**
   * Joins the ranks of the job that a launcher has started: once per process, on whichever thread. All ranks must make the calls below,
   * in the same order, one at a time; each call waits for the other ranks.
   *
   * @param timeout Seconds that a call may wait for the others before the process ends with exit code 4; 0: for ever.
   */
  openMpi(names: readonly string[], timeout: number): Promise<NativeRank>;
  /** The same by NCCL alone, for ranks with a GPU each; its library is searched for as cuDNN's is. */
  openNccl(place: NativeNcclPlace, timeout: number): Promise<NativeRank>;
  /** All ranks' bytes, concatenated in rank order. All pass the same number. */
  gather(bytes: Uint8Array): Promise<Uint8Array>;
  /** Rank 0's bytes. All pass the same number. */
  broadcast(bytes: Uint8Array): Promise<Uint8Array>;
  /** Sums over the ranks, bit-identical on each. */
  sum(values: Float32Array): Promise<Float32Array>;
  /** Microseconds of each of `rounds` sums of `count` floats, after a first one that is left out. */
  measureSum(count: number, rounds: number): Promise<Float64Array>;
  /** Leaves the job once all ranks do. False if MPI does not end although their work is over. */
  leave(): Promise<boolean>;
  /** Ends all ranks, this one at once; the launcher exits with that code. */
  abort(code: number): void;
}

/** The package's root, as seen from both dist/ and lib/. */
export const packageRoot = join(__dirname, '..', '..');

let loaded: { addon: NativeAddon; path: string | undefined } | undefined;

/** The binary that was loaded, or would be. */
export function nativePath(): string {
  const named = loaded?.path ?? process.env.CUDNN_LSTM_NATIVE_BINDING;
  if (named) return resolve(named);
  return (require('node-gyp-build') as { resolve: (root: string) => string }).resolve(packageRoot);
}

/**
 * Loads the addon, once per process.
 *
 * @param path The binary; default: the environment's CUDNN_LSTM_NATIVE_BINDING, else the one that was built or that ships with the package.
 * @throws DeviceError `ERR_NATIVE_MISSING`, which says what can be done; also if another binary has been loaded before.
 */
export function loadNative(path?: string): NativeAddon {
  const wanted = path === undefined ? undefined : resolve(pathOf('nativeBinding', path));
  if (loaded) {
    if (wanted === undefined || wanted === loaded.path) return loaded.addon;
    throw new DeviceError(`nativeBinding '${harmless(wanted)}' comes too late: the native addon is loaded already`, {
      code: 'ERR_NATIVE_MISSING',
    });
  }
  const named = wanted ?? process.env.CUDNN_LSTM_NATIVE_BINDING;
  try {
    loaded = { addon: named ? openBinary(named) : loadPackaged(), path: named ? resolve(named) : undefined };
  } catch (cause) {
    const [problem] = (cause as Error).message.split('\n');
    throw new DeviceError(
      named
        ? `the native addon could not be loaded from '${harmless(named)}': ${problem}`
        : `the native addon could not be loaded for ${process.platform}-${process.arch}: ${problem}\n${remedies(problem ?? '')}`,
      { cause, code: 'ERR_NATIVE_MISSING' },
    );
  }
  return loaded.addon;
}

/** Without `require`, which a bundler would rewrite. */
function openBinary(path: string): NativeAddon {
  const holder = { exports: {} };
  process.dlopen(holder, resolve(path));
  return holder.exports as NativeAddon;
}

function loadPackaged(): NativeAddon {
  const load = require('node-gyp-build') as (root: string) => NativeAddon;
  return load(packageRoot);
}

function remedies(problem: string): string {
  const musl = problem.includes('libc=musl');
  return [
    `The package comes with a binary for Linux x64 with glibc${musl ? ', and this system has musl' : ''}. What to do:`,
    `  - build it here, which needs a C++ compiler${musl ? ' and cmake (apk add g++ cmake make)' : ''}: npx cudnn-lstm build`,
    '  - in a clone of the repository: npm install',
    '  - in a bundle: leave cudnn-lstm external, or name the binary by the option nativeBinding or CUDNN_LSTM_NATIVE_BINDING',
  ].join('\n');
}

/** An error of the addon as one of the package's classes; errors without a known code are returned unchanged. */
export function fromNative(error: unknown): unknown {
  const { code, message } = error as { code?: string; message: string };
  switch (code) {
    case 'ERR_OUT_OF_MEMORY':
      return new OutOfMemoryError(message, { cause: error });
    case 'ERR_DEVICE_UNAVAILABLE':
    case 'ERR_DEVICE_FAILED':
      // The addon does not know who reads the message.
      return new DeviceError(message.replace(/\bdevice cpu\b/, option({ device: 'cpu' })), { cause: error, code });
    case 'ERR_INVALID_ARGUMENT':
    case 'ERR_BUSY':
    case 'ERR_STOPPED':
    case 'ERR_DISPOSED':
      return new CudnnLstmError(code, message, exitCodes.runtime, { cause: error });
    default:
      return error;
  }
}
