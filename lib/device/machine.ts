/** What this machine offers and which backend would run on it: the facts behind `cudnn-lstm info` and a benchmark's header. */
import { cpus, freemem, totalmem } from 'node:os';
import { UsageError } from '../errors';
import { packageVersion } from '../version';
import { chooseDevice, chooseThreads, type DeviceRequest } from './choose';
import { loadNative, type NativeCpuInfo, type NativeCudaInfo } from './native';

/** A machine, as far as it matters here. */
export interface MachineInfo {
  package: { version: string };
  node: { version: string; platform: string; architecture: string };
  cpu: { model: string; count: number; threads: number; threadsReason: string };
  memory: { totalBytes: number; freeBytes: number };
  /** The addon: which kernels run, and what of NVIDIA's was found where. Absent if it could not be loaded. */
  native?: { cpu: NativeCpuInfo; cuda: NativeCudaInfo };
  /** What a model would run on, or why none can. */
  device: { chosen: string | null; reason: string };
}

/**
 * Looks at this machine. What cannot be had is said in the answer.
 *
 * @throws UsageError on a device or number of threads that there cannot be.
 */
export async function inspectMachine(request: DeviceRequest = {}): Promise<MachineInfo> {
  const processors = cpus();
  const threads = chooseThreads(request.threads);
  const info: MachineInfo = {
    package: { version: packageVersion },
    node: { version: process.version, platform: process.platform, architecture: process.arch },
    cpu: {
      model: processors[0]?.model.trim() || 'unknown',
      count: processors.length,
      threads: threads.threads,
      threadsReason: threads.reason,
    },
    memory: { totalBytes: totalmem(), freeBytes: freemem() },
    device: { chosen: null, reason: '' },
  };
  try {
    const addon = loadNative(request.nativeBinding);
    const libraryPath = request.libraryPath ?? process.env.CUDNN_LSTM_LIBRARY_PATH;
    info.native = {
      cpu: addon.cpuInfo(),
      cuda: await addon.cudaInfo({ ...(libraryPath ? { libraryPath } : {}), openLibraries: true }),
    };
    const choice = await chooseDevice(request);
    info.device = {
      chosen: choice.device === 'cuda' ? `cuda:${choice.ordinal}` : 'cpu',
      reason: choice.reason,
    };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    info.device.reason = (error as Error).message;
  }
  return info;
}
