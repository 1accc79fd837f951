/** What a launcher tells a process that it has started, by the environment. */

/** One process among those that a launcher has started together. */
export interface Launch {
  /** E.g. `Open MPI's mpirun`. */
  readonly launcher: string;
  /** 0 to size - 1. */
  readonly rank: number;
  readonly size: number;
  /** Among those of this machine; undefined where the launcher does not say. */
  readonly localRank: number | undefined;
  /** MPI libraries to try, the likeliest first; none for a launcher that is not one of MPI's. */
  readonly libraries: readonly string[];
  /** Of such a launcher: where rank 0 is, `host:port`, and how many processes this machine has; undefined where it does not say. */
  readonly meeting?: string | undefined;
  readonly localSize?: number | undefined;
}

/** The names under which MPI's libraries are installed. */
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
 * The variables of each launcher, in the order in which they count: mpirun may have been started in a job of Slurm's, and finds that
 * one's variables there. Those of a job (SLURM_NTASKS) do not count: its script, which is one process, has them too.
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

/** What torchrun says besides; so does `--devices`. */
const meetingVariables = ['MASTER_ADDR', 'MASTER_PORT', 'LOCAL_WORLD_SIZE'] as const;

/** The variables that are read. */
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

/** The port behind the one that the launcher says: there its own agent may listen. */
function meetingOf({ MASTER_ADDR: host, MASTER_PORT: text }: NodeJS.ProcessEnv): string | undefined {
  const port = Number(text) + 1;
  if (!host || !text || !Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
