/** What this machine offers and which backend would run on it: the facts behind `cudnn-lstm info` and a benchmark's header. */
import { cpus, freemem, totalmem } from 'node:os';
import { UsageError } from '../errors';
import { packageVersion } from '../version';
import { checkDevice, rememberedOf } from './check';
import type { CheckReport } from './check-record';
import { checkDeviceRequest, chooseDevice, chooseThreads, chosenCpu, type DeviceRequest } from './choose';
import { loadNative, type NativeCpuInfo, type NativeCudaInfo } from './native';

/**
 * The facts about a machine that matter here.
 *
 * @category Devices and this machine
 */
export interface MachineInfo {
  package: { version: string };
  node: { version: string; platform: string; architecture: string };
  cpu: { model: string; count: number; threads: number; threadsReason: string };
  memory: { totalBytes: number; freeBytes: number };
  /** The addon: which kernels run, and which of NVIDIA's components were found where. Absent if it could not be loaded. */
  native?: { cpu: NativeCpuInfo; cuda: NativeCudaInfo };
  /** The device that a model would run on, or why none can. */
  device: { chosen: string | null; reason: string };
  /** The self-check of the chosen GPU: run now, or recorded earlier. Absent if there is neither. */
  check?: CheckReport;
}

/**
 * Inspects this machine. The result says what is unavailable.
 *
 * @param options With `check: true`, the GPU's self-check is run even if one is recorded.
 * @throws UsageError for an impossible device or number of threads.
 * @category Devices and this machine
 */
export async function inspectMachine(options: DeviceRequest = {}): Promise<MachineInfo> {
  const request = checkDeviceRequest(options);
  const processors = cpus();
  const threads = chooseThreads(request.threads, request.env);
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
    const { libraryPath } = request;
    info.native = {
      cpu: addon.cpuInfo(),
      cuda: await addon.cudaInfo({ ...(libraryPath ? { libraryPath } : {}), openLibraries: true }),
    };
    const choice = await chooseDevice(request);
    info.device = {
      chosen: choice.device === 'cuda' ? `cuda:${choice.ordinal}` : 'cpu',
      reason: choice.reason,
    };
    if (choice.device === 'cpu') return info;
    const report = request.check
      ? await checkDevice(choice, request, { always: true })
      : await rememberedOf(choice, request);
    if (!report) return info;
    info.check = report;
    if (report.passed) return info;
    const why = `the GPU failed its self-check: ${report.summary}`;
    info.device = choice.automatic
      ? { chosen: 'cpu', reason: chosenCpu(request, why).reason }
      : { chosen: null, reason: why };
  } catch (error) {
    if (error instanceof UsageError || request.signal?.aborted) throw error;
    info.device.reason = (error as Error).message;
  }
  return info;
}
