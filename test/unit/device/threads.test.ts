import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cgroupCpuQuota, chooseThreads } from '../../../lib/device/threads';

describe('chooseThreads', () => {
  it('takes what is asked for, then the environment, then what there is', () => {
    expect(chooseThreads(3, { CUDNN_LSTM_THREADS: '5' })).toEqual({ threads: 3, reason: 'asked for' });
    expect(chooseThreads(undefined, { CUDNN_LSTM_THREADS: '5' })).toEqual({ threads: 5, reason: 'CUDNN_LSTM_THREADS' });
    const { threads } = chooseThreads(undefined, {});
    expect(threads).toBeGreaterThanOrEqual(1);
    expect(threads).toBeLessThanOrEqual(availableParallelism());
  });

  it.each([0, -1, 1.5, 1025, Number.NaN])('refuses %p', (threads) => {
    expect(() => chooseThreads(threads, {})).toThrow('threads must be a whole number from 1 to 1024');
  });

  it('refuses nonsense in the environment by its name', () => {
    expect(() => chooseThreads(undefined, { CUDNN_LSTM_THREADS: 'all' })).toThrow(
      "CUDNN_LSTM_THREADS must be a whole number from 1 to 1024, not 'all'.",
    );
  });
});

describe('cgroupCpuQuota', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'cgroup-'));
  });
  afterEach(() => rmSync(root, { recursive: true }));
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };

  it('is undefined without cgroups, and without a limit', () => {
    expect(cgroupCpuQuota(root)).toBeUndefined();
    write('proc/self/cgroup', '0::/\n');
    write('sys/fs/cgroup/cpu.max', 'max 100000\n');
    expect(cgroupCpuQuota(root)).toBeUndefined();
  });

  it('reads version 2, the tightest of the ancestors', () => {
    write('proc/self/cgroup', '0::/a/b\n');
    write('sys/fs/cgroup/a/b/cpu.max', '400000 100000\n');
    write('sys/fs/cgroup/a/cpu.max', '150000 100000\n');
    expect(cgroupCpuQuota(root)).toBe(1.5);
  });

  it('reads version 2 where the mount shows the own group as its root', () => {
    write('proc/self/cgroup', '0::/docker/abc\n');
    write('sys/fs/cgroup/cpu.max', '50000 100000\n');
    expect(cgroupCpuQuota(root)).toBe(0.5);
  });

  it('reads version 1', () => {
    write('proc/self/cgroup', '12:memory:/x\n4:cpu,cpuacct:/x\n');
    write('sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us', '200000\n');
    write('sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us', '100000\n');
    write('sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us', '-1\n');
    write('sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us', '100000\n');
    expect(cgroupCpuQuota(root)).toBe(2);
  });
});
