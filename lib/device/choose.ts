/** Chooses the device that a model runs on, and gives a one-line reason. */
import { type Checks, callbackOf, flagOf, optionsOf, pathOf, recordOf, show, signalOf } from '../arguments';
import { DeviceError, UsageError } from '../errors';
import { fromNative, loadNative, type NativeAddon } from './native';
import { chooseThreads } from './threads';

export { chooseThreads, type ThreadChoice } from './threads';

import { plural } from '../numbers';
import { option, subject } from '../wording';

/**
 * A device as a user names it: `'auto'` takes a GPU if one can be used, else the CPU; `'cuda:1'` is the second GPU.
 *
 * @category Devices and this machine
 */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;

/**
 * A request for a device.
 *
 * @category Devices and this machine
 */
export interface DeviceRequest {
  /**
   * `'auto'`, `'cpu'`, `'cuda'`, or a GPU by its number, `'cuda:1'`.
   *
   * @default 'auto'
   */
  device?: DeviceName | undefined;
  /**
   * CPU threads, 1 to 1,024; see {@link chooseThreads}.
   *
   * @default one for each CPU that the process may use
   */
  threads?: number | undefined;
  /**
   * Path of the addon's binary, for bundles and unusual locations; read when a process first loads the addon.
   *
   * @default the environment's CUDNN_LSTM_NATIVE_BINDING, else the one that was built or that ships with the package
   */
  nativeBinding?: string | undefined;
  /**
   * Folder searched first for NVIDIA's libraries.
   *
   * @default the environment's CUDNN_LSTM_LIBRARY_PATH, else the usual places
   */
  libraryPath?: string | undefined;
  /**
   * Compare a GPU with the CPU in a child process before its first use with this driver, cuDNN, card and package build; a passed check is
   * remembered in the user's cache directory. {@link chooseDevice} alone does not check; models do.
   *
   * @default true
   */
  check?: boolean | undefined;
  /** Called with lines about the self-check: one when it begins, one or two when it has ended. */
  onNote?: ((line: string) => void) | undefined;
  /** Ends the self-check or the initialisation of new weights; its abort reason is thrown. */
  signal?: AbortSignal | undefined;
  /**
   * Environment variables that supply what is not given: CUDNN_LSTM_DEVICE, CUDNN_LSTM_THREADS and CUDNN_LSTM_CHECK. Pass `process.env`
   * to use the shell's, as the commands do.
   *
   * @default none
   */
  env?: NodeJS.ProcessEnv | undefined;
}

/**
 * The chosen device.
 *
 * @category Devices and this machine
 */
export interface DeviceChoice {
  device: 'cpu' | 'cuda';
  /** The GPU's number; 0 on the CPU. */
  ordinal: number;
  /** CPU threads of the CPU backend; a GPU model uses them only for sampling and reading corpora. */
  threads: number;
  libraryPath?: string;
  /** Whether the choice was left to `auto`. */
  automatic: boolean;
  /** One line: what was chosen and why. */
  reason: string;
}

/**
 * Chooses the device: the requested one, else CUDNN_LSTM_DEVICE in its `env`, else `auto`.
 *
 * @throws UsageError if the name is not one of `auto`, `cpu`, `cuda`, `cuda:N`.
 * @throws DeviceError if a GPU was asked for by name and cannot be used; the message says why.
 * @category Devices and this machine
 */
export async function chooseDevice(request: DeviceRequest = {}): Promise<DeviceChoice> {
  return chooseDeviceFor(request, undefined);
}

/**
 * {@link chooseDevice} for a model.
 *
 * @param cpuOnly Why only the CPU will do, for a model that a GPU cannot compute.
 * @param load The addon; for tests.
 */
export async function chooseDeviceFor(
  what: DeviceRequest,
  cpuOnly: string | undefined,
  load?: () => Pick<NativeAddon, 'cpuInfo' | 'cudaInfo'>,
): Promise<DeviceChoice> {
  const request = checkDeviceRequest(what);
  const { env = {} } = request;
  const addon = load ?? (() => loadNative(request.nativeBinding));
  const fromEnv = request.device === undefined && env.CUDNN_LSTM_DEVICE ? env.CUDNN_LSTM_DEVICE : undefined;
  const name = parseDevice(
    request.device ?? fromEnv ?? 'auto',
    fromEnv === undefined ? subject('device') : 'CUDNN_LSTM_DEVICE',
  );
  const asked = fromEnv === undefined ? 'asked for' : 'CUDNN_LSTM_DEVICE asks for it';
  const threads = chooseThreads(request.threads, env);
  const library = request.libraryPath ? { libraryPath: request.libraryPath } : {};
  const automatic = name.kind === 'auto';
  const cpu = (why: string) => ({ ...chosenCpu(request, why, addon), automatic });
  if (name.kind === 'cpu') return cpu(asked);
  if (cpuOnly !== undefined) {
    if (name.kind === 'auto') return cpu(cpuOnly);
    throw new DeviceError(`device '${name.text}' cannot be used: ${cpuOnly}; ${option({ device: 'cpu' })} works.`);
  }

  const info = await addon()
    .cudaInfo(library)
    .catch((error: unknown) => {
      throw fromNative(error);
    });
  if (name.kind === 'auto' && !info.available)
    return cpu(`no GPU: ${info.compiled ? info.reason : 'built without CUDA'}`);
  if (!info.available) {
    const looked = info.searched.length > 0 ? ` Looked for: ${info.searched.join('; ')}.` : '';
    throw new DeviceError(
      `device '${name.text}' cannot be used: ${info.reason}.${looked} It takes NVIDIA's driver, cuDNN 9 and cuBLAS (docs/gpu.md); ${option({ device: 'cpu' })} works.`,
    );
  }
  // Without a number, the first usable GPU: older ones that this build has no kernels for are not listed.
  const gpu = name.ordinal === undefined ? info.devices[0] : info.devices.find((d) => d.ordinal === name.ordinal);
  if (!gpu) {
    const present = info.devices.map((device) => `cuda:${device.ordinal}`).join(', ') || 'no GPU';
    throw new DeviceError(`device '${name.text}' is not there: found ${present}.`);
  }
  const cudnn = info.cudnn ? `, cuDNN ${info.cudnn.version}` : '';
  return {
    device: 'cuda',
    ordinal: gpu.ordinal,
    threads: threads.threads,
    ...library,
    automatic,
    reason: `${gpu.name}, cuda:${gpu.ordinal}${cudnn} (${name.kind === 'auto' ? 'a usable GPU was found' : asked})`,
  };
}

/** The CPU, whatever was requested; `why` ends the reason. */
export function chosenCpu(
  request: DeviceRequest,
  why: string,
  addon: () => Pick<NativeAddon, 'cpuInfo'> = () => loadNative(request.nativeBinding),
): DeviceChoice {
  const { threads } = chooseThreads(request.threads, request.env);
  const { isa } = addon().cpuInfo();
  return {
    device: 'cpu',
    ordinal: 0,
    threads,
    automatic: true,
    reason: `CPU, ${isaNames[isa] ?? isa}, ${plural(threads, 'thread')} (${why})`,
  };
}

/** Instruction sets by their usual names. */
const isaNames: Readonly<Record<string, string>> = {
  avx2: 'AVX2',
  avx512: 'AVX-512',
  avx512bf16: 'AVX-512 with BF16',
  neon: 'NEON',
  baseline: 'no vector extensions',
};

interface ParsedDevice {
  kind: 'auto' | 'cpu' | 'cuda';
  ordinal?: number;
  text: string;
}

export const deviceChecks: Checks<DeviceRequest> = {
  device: (_, value) => value as DeviceName, // See parseDevice.
  threads: (_, value) => value as number, // See chooseThreads.
  nativeBinding: pathOf,
  libraryPath: (what, value) => (value === '' ? value : pathOf(what, value)),
  check: flagOf,
  onNote: callbackOf,
  signal: signalOf,
  env: (what, value) => recordOf(what, value) as NodeJS.ProcessEnv,
};

/** @throws UsageError for a property of the wrong type. */
export function checkDeviceRequest(request: DeviceRequest): DeviceRequest {
  return optionsOf<DeviceRequest>('options', request, deviceChecks);
}

function parseDevice(text: unknown, what: string): ParsedDevice {
  if (text === 'auto' || text === 'cpu') return { kind: text, text };
  const match = typeof text === 'string' ? /^cuda(?::(\d{1,4}))?$/.exec(text) : null;
  if (match && typeof text === 'string')
    return { kind: 'cuda', ...(match[1] === undefined ? {} : { ordinal: Number(match[1]) }), text };
  throw new UsageError(`${what} must be auto, cpu, cuda or cuda:N (the Nth GPU, from 0), not ${show(text)}.`);
}
