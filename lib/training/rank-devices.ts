/** Chooses each process's device when several train one model, and how they sum gradients. */
import type { DeviceName } from '../device/choose';
import { loadNative } from '../device/native';
import { UsageError } from '../errors';
import type { Ranks } from '../ranks/ranks';
import { option } from '../wording';

/**
 * Whether ranks on GPUs sum their gradients with NCCL: if all have it, in the same version. Otherwise the sums go through host memory,
 * and a note says so.
 */
export async function agreeOnNccl(
  ranks: Ranks,
  device: string,
  onNote: ((line: string) => void) | undefined,
): Promise<boolean> {
  if (ranks.gpu !== undefined) return true;
  if (device === 'auto' || device === 'cpu') return false;
  const info = await loadNative()
    .cudaInfo()
    .catch(() => undefined);
  const mine = {
    version: info?.nccl?.version ?? '',
    why: info?.searched.filter((line) => line.startsWith('NCCL')).join('; ') || 'this build of the addon has no NCCL',
  };
  const all = await ranks.gatherJson<typeof mine>('nccl', mine);
  const without = all.findIndex(({ version }) => version === '');
  const other = all.findIndex(({ version }) => version !== all[0]?.version);
  if (without < 0 && other < 0) return true;
  const reason =
    without >= 0
      ? `${ranks.name(without)} cannot use NCCL (${all[without]?.why})`
      : `${ranks.name(0)} has NCCL ${all[0]?.version}, and ${ranks.name(other)} ${all[other]?.version}`;
  onNote?.(`ranks: gradients are summed by way of the host's memory: ${reason}`);
  return false;
}

/**
 * The device for a process. Several ranks use the CPU, or one GPU each; GPUs only on request, or if NCCL has brought the ranks together,
 * since no job has run on several yet.
 */
export function deviceOf(device: string, ranks: Ranks | undefined): DeviceName {
  if (!ranks) return device as DeviceName;
  if (ranks.gpu !== undefined) {
    if (device === 'auto' || device === 'cuda' || device === `cuda:${ranks.gpu}`) return `cuda:${ranks.gpu}`;
    if (device !== 'cpu') throw byNumber(device);
    throw new UsageError(
      `NCCL has brought these ranks together, which have a GPU each; on CPUs MPI does: mpirun -n ${ranks.size} node_modules/.bin/cudnn-lstm train … --device cpu.`,
    );
  }
  if (device === 'auto' || device === 'cpu') return 'cpu';
  if (device === 'cuda') return `cuda:${ranks.localRank}`;
  throw byNumber(device);
}

function byNumber(device: string): UsageError {
  return new UsageError(
    `Several ranks take a GPU each, by their number on the machine: ${option({ device: 'cuda' })}, not ${device}.`,
  );
}
