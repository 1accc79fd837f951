/** Joins the ranks that a launcher has started. */
import { fstatSync } from 'node:fs';
import { fieldsOf, optionsOf, pathOf, show } from '../arguments';
import { fromNative, loadNative, type NativeAddon } from '../device/native';
import { DeviceError, UsageError } from '../errors';
import { grouped } from '../numbers';
import { option, subject } from '../wording';
import { type Launch, launcherVariables, launchOf } from './launcher';
import { Ranks } from './ranks';

/**
 * How ranks are found.
 *
 * @category Training
 */
export interface JoinOptions {
  /**
   * `auto`: join if a launcher says that it has started several processes, by MPI under an MPI launcher, and by NCCL, with a GPU each,
   * under torchrun. `mpi`, `nccl`: a launcher of that kind must have started several. `off`: each process trains by itself.
   *
   * @default the environment's CUDNN_LSTM_DISTRIBUTED, else 'auto'
   */
  distributed?: 'auto' | 'mpi' | 'nccl' | 'off' | undefined;
  /**
   * The addon's binary; see {@link DeviceRequest.nativeBinding}.
   *
   * @default the one that is found
   */
  nativeBinding?: string | undefined;
}

export const distributedChoices = ['auto', 'mpi', 'nccl', 'off'] as const;

/** The number of a rank's GPU, if it is not the rank's number on its machine; `--devices` sets it. */
export const gpuVariable = 'CUDNN_LSTM_RANK_GPU';

/** The file descriptor through which MPICH's launcher, or Slurm's for MPICH, talks to a process. */
const connectionVariable = 'PMI_FD';

const ownVariables = [
  'CUDNN_LSTM_DISTRIBUTED',
  'CUDNN_LSTM_MPI_LIBRARY',
  'CUDNN_LSTM_TIMEOUT',
  gpuVariable,
  connectionVariable,
] as const;

/** Seconds that a call between ranks may wait for the others. */
const defaultTimeout = 300;
const longestTimeout = 1_000_000;

/**
 * The launch to join; undefined if this process trains by itself.
 *
 * @throws UsageError if ranks are requested but no launcher has started any.
 */
export function launchToJoin(options: JoinOptions, env: NodeJS.ProcessEnv): Launch | undefined {
  const asked = options.distributed ?? env.CUDNN_LSTM_DISTRIBUTED;
  const mode = asked || 'auto';
  if (!(distributedChoices as readonly string[]).includes(mode)) {
    const what = options.distributed === undefined ? 'CUDNN_LSTM_DISTRIBUTED' : subject('distributed');
    throw new UsageError(`${what} must be auto, mpi, nccl or off, not ${show(mode)}.`);
  }
  if (mode === 'off') return undefined;
  const launch = launchOf(env);
  if (mode === 'mpi' && !launch)
    throw new UsageError(
      'no launcher has started other ranks, which mpi asks for: mpirun -n 2 node_modules/.bin/cudnn-lstm train …',
    );
  if (mode === 'nccl' && !launch)
    throw new UsageError(
      'no launcher has started other ranks, which nccl asks for: npx cudnn-lstm train --devices cuda:0,1 …',
    );
  if (launch && mode === 'nccl' && launch.libraries.length > 0)
    throw new UsageError(
      `${launch.launcher} has started these ranks, which MPI brings together: leave out ${option({ distributed: 'nccl' })} (with ${option({ device: 'cuda' })} their gradients are summed by NCCL all the same).`,
    );
  if (launch && mode === 'mpi' && launch.libraries.length === 0)
    throw new UsageError(
      `${launch.launcher} has started these ranks, and it is no launcher of MPI's: mpirun -n ${launch.size} node_modules/.bin/cudnn-lstm train …`,
    );
  return launch;
}

/**
 * Joins the other ranks, which is possible once per process; waits until all have joined.
 *
 * @returns The ranks; undefined if this process is the only one.
 * @throws DeviceError if there is no MPI library, or it is not the launcher's.
 * @category Training
 */
export async function joinRanks(
  options: JoinOptions = {},
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Ranks | undefined> {
  const checked = optionsOf<JoinOptions>('options', options, {
    distributed: (_, value) => value as JoinOptions['distributed'], // See launchToJoin.
    nativeBinding: pathOf,
  });
  const env = fieldsOf<NodeJS.ProcessEnv>('env', environment, [...ownVariables, ...launcherVariables]);
  const launch = launchToJoin(checked, env);
  if (!launch) return undefined;
  const { launcher, size } = launch;
  const timeout = timeoutOf(env);
  const addon = loadNative(checked.nativeBinding);
  if (launch.libraries.length === 0) return joinByNccl(addon, launch, env, timeout);
  if (!isConnected(env[connectionVariable])) {
    throw new DeviceError(
      `${launcher} has started ${size} processes, and one that lies between, such as npx, has not passed on the connection to it (PMI_FD): let it start the program itself, mpirun -n ${size} node_modules/.bin/cudnn-lstm train …`,
    );
  }
  const native = await addon
    .openMpi(env.CUDNN_LSTM_MPI_LIBRARY ? [env.CUDNN_LSTM_MPI_LIBRARY] : launch.libraries, timeout)
    .catch((error: unknown) => {
      const known = fromNative(error);
      throw known instanceof DeviceError
        ? new DeviceError(
            `${launcher} has started ${size} processes, and they cannot be brought together: ${known.message} (CUDNN_LSTM_MPI_LIBRARY names MPI's library; ${option({ distributed: 'off' })}: each trains by itself).`,
            { cause: error },
          )
        : known;
    });
  if (native.size !== size) {
    throw new DeviceError(
      `${launcher} has started ${size} processes, and ${native.version} (${native.library}) knows of ${native.size}: start them by that library's own mpirun, or name the launcher's library by CUDNN_LSTM_MPI_LIBRARY.`,
    );
  }
  return Ranks.of(addon, native);
}

/** Whether the launcher's connection, if its processes inherit one, has reached this process. MPI would end the process otherwise. */
function isConnected(descriptor: string | undefined): boolean {
  if (!descriptor) return true;
  try {
    return fstatSync(Number(descriptor)).isSocket();
  } catch {
    return false;
  }
}

/** Joins by NCCL: ranks that MPI does not connect have a GPU each. */
async function joinByNccl(addon: NativeAddon, launch: Launch, env: NodeJS.ProcessEnv, timeout: number): Promise<Ranks> {
  const { launcher, rank, size } = launch;
  const onCpus = `ranks on CPUs: mpirun -n ${size} node_modules/.bin/cudnn-lstm train …; ${option({ distributed: 'off' })}: each trains by itself`;
  if (launch.meeting === undefined)
    throw new DeviceError(
      `${launcher} has started ${size} processes, and MASTER_ADDR and MASTER_PORT do not say where they meet (${onCpus}).`,
    );
  const localRank = launch.localRank ?? 0;
  const ordinal = env[gpuVariable] ? Number(env[gpuVariable]) : localRank;
  const place = { rank, size, localRank, localSize: launch.localSize ?? 1, ordinal, address: launch.meeting };
  const native = await addon.openNccl(place, timeout).catch((error: unknown) => {
    const known = fromNative(error);
    throw known instanceof DeviceError
      ? new DeviceError(
          `${launcher} has started ${size} processes, and NCCL is to bring them together, a GPU each: ${known.message} (${onCpus}).`,
          { cause: error },
        )
      : known;
  });
  return Ranks.of(addon, native, ordinal);
}

function timeoutOf(env: NodeJS.ProcessEnv): number {
  const text = env.CUDNN_LSTM_TIMEOUT;
  if (!text) return defaultTimeout;
  const seconds = Number(text);
  if (text.trim() !== '' && seconds >= 0 && seconds <= longestTimeout) return seconds;
  throw new UsageError(
    `CUDNN_LSTM_TIMEOUT must be a number of seconds from 0 (for ever) to ${grouped(longestTimeout)}, not ${show(text)}.`,
  );
}
