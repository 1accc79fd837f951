/** How many CPU threads to use: what the affinity mask and the container's CPU quota allow, unless told otherwise. */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fieldsOf, show } from '../arguments';
import { UsageError } from '../errors';
import { plural } from '../numbers';
import { subject } from '../wording';

/** The most threads that may be requested; more would be of no use and only cost memory. */
export const maxThreads = 1024;

/**
 * A number of threads and where it comes from.
 *
 * @category Devices and this machine
 */
export interface ThreadChoice {
  threads: number;
  /** E.g. `2 CPUs available`, `cgroup quota of 1.5 CPUs`, `CUDNN_LSTM_THREADS`, `asked for`. */
  reason: string;
}

/**
 * Chooses the CPU thread count: `requested`, else CUDNN_LSTM_THREADS in `env`, else the smaller of `os.availableParallelism()` (which
 * honours the affinity mask) and the cgroup's CPU quota, rounded up: two threads use 1.5 CPUs better than one.
 *
 * @throws UsageError if the number asked for is not in 1..1024.
 * @category Devices and this machine
 */
export function chooseThreads(requested?: number, env: NodeJS.ProcessEnv = {}): ThreadChoice {
  if (requested !== undefined) return { threads: checkThreads(requested, subject('threads')), reason: 'asked for' };
  const { CUDNN_LSTM_THREADS: variable } = fieldsOf<NodeJS.ProcessEnv>('env', env, ['CUDNN_LSTM_THREADS']);
  if (variable)
    return {
      threads: checkThreads(
        typeof variable === 'string' ? Number(variable) : variable,
        'CUDNN_LSTM_THREADS',
        show(variable),
      ),
      reason: 'CUDNN_LSTM_THREADS',
    };
  const available = Math.min(availableParallelism(), maxThreads);
  const quota = cgroupCpuQuota();
  if (quota !== undefined && Math.ceil(quota) < available) {
    return { threads: Math.max(1, Math.ceil(quota)), reason: `cgroup quota of ${Number(quota.toFixed(2))} CPUs` };
  }
  return { threads: available, reason: `${plural(available, 'CPU')} available` };
}

/**
 * The most threads that a model may ever use. If no number was requested, it may use more than {@link chooseThreads} finds once the
 * affinity or the quota allows more: each call uses as many as are allowed at the time (native/cpu/cpu_allowance.h).
 */
export function mostThreadsFor(requested?: number, env: NodeJS.ProcessEnv = {}): number {
  const { threads } = chooseThreads(requested, env);
  if (requested !== undefined || env.CUDNN_LSTM_THREADS) return threads;
  return Math.min(Math.max(threads, cpus().length), maxThreads);
}

/**
 * The CPU quota of this process's control group in CPUs, the tightest from its own group up to the root; undefined if there is none, or
 * no cgroups. Reads `cpu.max` (v2) and `cpu.cfs_quota_us` over `cpu.cfs_period_us` (v1). The addon reads the same
 * (native/cpu/cpu_allowance.cpp), but this function does not need it.
 *
 * @param root Where `/proc` and `/sys` are found; for tests.
 */
export function cgroupCpuQuota(root = '/'): number | undefined {
  const quotas: number[] = [];
  for (const line of (readText(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const match = /^\d+:([^:]*):(\/.*)$/.exec(line);
    if (!match) continue;
    const [, controllers = '', group = '/'] = match;
    if (controllers === '') {
      // In a container the mount may show the group as its root while /proc names the host's path: every ancestor is tried.
      for (const path of ancestors(group)) {
        const [limit, period] = (readText(join(root, 'sys/fs/cgroup', path, 'cpu.max')) ?? '').trim().split(/\s+/);
        quotas.push(Number(limit) / Number(period));
      }
    } else if (controllers.split(',').includes('cpu')) {
      for (const path of ancestors(group)) {
        for (const mount of ['cpu', 'cpu,cpuacct']) {
          const folder = join(root, 'sys/fs/cgroup', mount, path);
          const limit = Number(readText(join(folder, 'cpu.cfs_quota_us')) ?? Number.NaN);
          quotas.push(limit / Number(readText(join(folder, 'cpu.cfs_period_us')) ?? Number.NaN));
        }
      }
    }
  }
  const limits = quotas.filter((quota) => Number.isFinite(quota) && quota > 0);
  return limits.length > 0 ? Math.min(...limits) : undefined;
}

function checkThreads(value: unknown, name: string, shown?: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= maxThreads) return value;
  throw new UsageError(`${name} must be a whole number from 1 to ${maxThreads}, not ${shown ?? show(value)}.`);
}

function ancestors(path: string): string[] {
  const all = [path];
  for (let at = path; at !== '/' && at !== '.'; ) {
    at = dirname(at);
    all.push(at);
  }
  return all;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // Missing or unreadable: no limit that we could know of.
  }
}
