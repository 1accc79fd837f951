/** Reads what a launcher tells its processes through the environment. */

/** One process among those that a launcher has started together. */
export interface Launch {
  /** E.g. `Open MPI's mpirun`. */
  readonly launcher: string;
  /** 0 to size - 1. */
  readonly rank: number;
  readonly size: number;
  /** Rank among the processes of this machine; undefined if the launcher does not say. */
  readonly localRank: number | undefined;
  /** MPI libraries to try, likeliest first; none if the launcher is not an MPI launcher. */
  readonly libraries: readonly string[];
  /** Without MPI: where rank 0 is, `host:port`, and the number of processes on this machine; undefined if the launcher does not say. */
  readonly meeting?: string | undefined;
  readonly localSize?: number | undefined;
}

/** File names under which MPI libraries are installed. */
const files =
  process.platform === 'darwin'
    ? {
        openMpi: ['libmpi.40.dylib'],
        mpich: ['libmpi.12.dylib', 'libmpich.12.dylib'],
        standard: ['libmpi_abi.1.dylib'],
      }
    : { openMpi: ['libmpi.so.40'], mpich: ['libmpi.so.12', 'libmpich.so.12'], standard: ['libmpi_abi.so.1'] };

/** Every name, for a machine where nothing says which library is meant. */
export const mpiLibraries: readonly string[] = [...files.openMpi, ...files.mpich, ...files.standard];

/**
 * Each launcher's variables, in order of precedence: mpirun may have been started in a Slurm job, and then finds Slurm's variables there.
 * Those of a whole job (SLURM_NTASKS) do not count: its script, which is one process, has them too.
 */
const launchers = [
  {
    launcher: "Open MPI's mpirun",
    variables: ['OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'],
    libraries: [...files.openMpi, ...files.standard],
  },
  {
    launcher: "MPICH's or Intel MPI's mpirun",
    variables: ['PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID'],
    libraries: [...files.mpich, ...files.standard, ...files.openMpi],
  },
  {
    launcher: "Slurm's srun",
    variables: ['SLURM_PROCID', 'SLURM_STEP_NUM_TASKS', 'SLURM_LOCALID'],
    libraries: [...files.openMpi, ...files.mpich, ...files.standard],
  },
  { launcher: 'torchrun', variables: ['RANK', 'WORLD_SIZE', 'LOCAL_RANK'], libraries: [] },
] as const;

/** Further variables that torchrun sets; so does `--devices`. */
const meetingVariables = ['MASTER_ADDR', 'MASTER_PORT', 'LOCAL_WORLD_SIZE'] as const;

/** All variables that are read. */
export const launcherVariables: readonly string[] = [
  ...launchers.flatMap(({ variables }) => variables),
  ...meetingVariables,
];

/** This process's place among several; undefined if it is the only one, or nothing says that there are others. */
export function launchOf(env: NodeJS.ProcessEnv): Launch | undefined {
  for (const { launcher, variables, libraries } of launchers) {
    const numbers = variables.map((name) => (env[name] ? Number(env[name]) : Number.NaN));
    const [rank, size, local] = numbers as [number, number, number];
    if (!Number.isInteger(rank) || !Number.isInteger(size) || rank < 0 || rank >= size) continue;
    const localRank = Number.isInteger(local) ? local : undefined;
    if (size <= 1) return undefined;
    const launch = { launcher, rank, size, localRank, libraries };
    if (libraries.length > 0) return launch;
    const localSize = Number(env.LOCAL_WORLD_SIZE);
    return { ...launch, meeting: meetingOf(env), localSize: Number.isInteger(localSize) ? localSize : undefined };
  }
  return undefined;
}

/** The address to meet at, one port above the launcher's, where its own agent may be listening. */
function meetingOf({ MASTER_ADDR: host, MASTER_PORT: text }: NodeJS.ProcessEnv): string | undefined {
  const port = Number(text) + 1;
  if (!host || !text || !Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
