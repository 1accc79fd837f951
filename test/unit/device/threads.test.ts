import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { loadNative } from '../../../lib/device/native';
import { cgroupCpuQuota, chooseThreads, mostThreadsFor } from '../../../lib/device/threads';
import { makeControlGroup } from '../../fixtures/control-group';

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

it('lets a model grow to all CPUs where nobody asked for a number', () => {
  expect(mostThreadsFor(3, {})).toBe(3);
  expect(mostThreadsFor(undefined, { CUDNN_LSTM_THREADS: '5' })).toBe(5);
  expect(mostThreadsFor(undefined, {})).toBe(Math.max(cpus().length, availableParallelism()));
});

/** The quota that the library reads, or 0 if there is no limit. The addon must read the same. */
function quotaUnder(root: string): number {
  const quota = cgroupCpuQuota(root) ?? 0;
  const allowance = loadNative().cpuAllowance(root);
  expect(allowance.quota).toBe(quota);
  const rounded = quota > 0 ? Math.ceil(quota) : allowance.cpus;
  expect(allowance.threads).toBe(Math.min(allowance.cpus, rounded));
  return quota;
}

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
    expect(quotaUnder(root)).toBe(0);
    write('proc/self/cgroup', '0::/\n');
    write('sys/fs/cgroup/cpu.max', 'max 100000\n');
    expect(quotaUnder(root)).toBe(0);
  });

  it('reads version 2, the tightest of the ancestors', () => {
    write('proc/self/cgroup', '0::/a/b\n');
    write('sys/fs/cgroup/a/b/cpu.max', '400000 100000\n');
    write('sys/fs/cgroup/a/cpu.max', '150000 100000\n');
    expect(quotaUnder(root)).toBe(1.5);
  });

  it('reads version 2 where the mount shows the own group as its root', () => {
    write('proc/self/cgroup', '0::/docker/abc\n');
    write('sys/fs/cgroup/cpu.max', '50000 100000\n');
    expect(quotaUnder(root)).toBe(0.5);
  });

  it('reads version 1', () => {
    write('proc/self/cgroup', '12:memory:/x\n4:cpu,cpuacct:/x\n');
    write('sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us', '200000\n');
    write('sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us', '100000\n');
    write('sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us', '-1\n');
    write('sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us', '100000\n');
    expect(quotaUnder(root)).toBe(2);
  });

  it('takes no limit from files that say nothing of use, however long', () => {
    write('proc/self/cgroup', '0::/../../outside\n0\n:\n::::\n0::\n1:cpuset,cpuacct:/x\n');
    for (const text of [
      '',
      '\n',
      'max\n',
      'max 100000',
      '-1 100000',
      '0 100000',
      '5 0',
      '5',
      'NaN 1',
      '\u0000\u0000 \u0000',
    ]) {
      write('sys/fs/cgroup/cpu.max', text);
      expect(quotaUnder(root)).toBe(0);
    }
    write('sys/fs/cgroup/cpu.max', `${'9'.repeat(1 << 20)} 1`);
    expect(loadNative().cpuAllowance(root).quota).toBe(0);
    write('sys/fs/cgroup/cpu.max', `250000 100000${'\n'.repeat(1 << 20)}`);
    expect(quotaUnder(root)).toBe(2.5);
  });
});

const taskset = process.platform === 'linux' && cpus().length > 1 ? it : it.skip;
taskset('the team follows an affinity that changes while it runs', async () => {
  const program = join(__dirname, '..', '..', 'lifecycle', 'programs', 'affinity.js');
  const { before, narrow, after, same } = JSON.parse(execFileSync(process.execPath, [program], { encoding: 'utf8' }));
  expect(before).toEqual({ cpus: before.cpus, threads: Math.min(4, before.cpus) });
  expect(narrow).toEqual({ cpus: 1, threads: 1 });
  expect(after).toEqual(before);
  expect(same).toBe(true);
});

const group = makeControlGroup(`cudnn-lstm-test-${process.pid}`);
const limited = group && cpus().length > 1 ? it : it.skip;
afterAll(() => group?.remove());
limited(
  'the team follows a real quota that changes while it runs (skipped where no control group can be made)',
  async () => {
    const program = join(__dirname, '..', '..', 'lifecycle', 'programs', 'quota.js');
    group?.setQuota(0.5);
    const child = spawn(process.execPath, [program, group?.path as string], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const round = async (quota: number): Promise<unknown> => {
      group?.setQuota(quota);
      child.stdin.write('\n');
      return JSON.parse((await lines.next()).value as string);
    };
    const all = Math.min(4, availableParallelism());
    const most = Math.min(2, all);
    expect(await round(0.5)).toEqual({ quota: 0.5, threads: 1, said: '1', made: 0 });
    expect(await round(1.5)).toEqual({ quota: 1.5, threads: most, said: String(most), made: most - 1 });
    expect(await round(1)).toEqual({ quota: 1, threads: 1, said: '1', made: 0 });
    if (child.exitCode === null) await once(child, 'exit');
  },
);
