/** Runs a command's work on all ranks of the job in which a launcher has started it. */
import { setTimeout } from 'node:timers/promises';
import { CudnnLstmError, exitCodes, UsageError } from '../errors';
import { type JoinOptions, joinRanks, launchToJoin } from '../ranks/join';
import { launchOf } from '../ranks/launcher';
import type { Ranks } from '../ranks/ranks';
import { type CommandIo, exitCodeOf, reportError } from './command';
import { say } from './output';

/** Milliseconds that rank 0 has to report what all ranks find, before another rank ends. */
const patience = 3000;

/** Discards what ranks other than the first write. */
const nowhere = { write: () => true, on: () => nowhere, off: () => nowhere } as unknown as NodeJS.WritableStream;

/**
 * Does the work, together with the other ranks if there are any. Only rank 0 prints, and its exit code is the one that the launcher passes
 * on; the others end with 0 unless something goes wrong on one of them alone, which ends all at once.
 */
export async function amongRanks(
  options: JoinOptions,
  io: CommandIo,
  work: (io: CommandIo, ranks: Ranks | undefined) => Promise<number>,
): Promise<number> {
  const launch = launchToJoin(options, process.env);
  if (!launch) return work(io, undefined);
  let ranks: Ranks | undefined;
  try {
    ranks = await joinRanks(options);
  } catch (error) {
    // The launcher may end the others as soon as one has ended. The first rank of each machine says what is wrong there.
    if (launch.rank > 0) await setTimeout(patience);
    // Ranks on GPUs each report for themselves: one GPU may be missing. If rank 0 has ended, the rest are ended meanwhile.
    if ((launch.localRank ?? 0) > 0 && launch.libraries.length > 0) return exitCodeOf(error);
    throw error;
  }
  if (!ranks) return work(io, undefined);
  const others = { stdout: nowhere, stderr: nowhere };
  try {
    const code = await work(ranks.first ? io : others, ranks);
    await leave(ranks, io);
    return ranks.first ? code : exitCodes.ok;
  } catch (error) {
    if (ranks.agreedOn(error)) {
      await leave(ranks, io);
      if (ranks.first) throw error;
      return exitCodes.ok;
    }
    reportError(named(error, ranks), io.stderr);
    ranks.abort(exitCodeOf(error));
    throw error;
  }
}

/**
 * Ends a command whose arguments are wrong. As a rule, all ranks have been given the same ones: if an MPI launcher has started them, they
 * join to let the first report it.
 */
export async function refuse(error: unknown, io: CommandIo): Promise<number> {
  const { libraries = [] } = launchOf(process.env) ?? {};
  if (libraries.length === 0 || !(error instanceof UsageError)) throw error;
  return await amongRanks({}, io, async (_, ranks) => {
    try {
      await ranks?.together('arguments', () => {
        throw error;
      });
    } catch (thrown) {
      if (ranks?.agreedOn(thrown)) throw thrown;
    }
    throw error; // On this rank alone.
  });
}

async function leave(ranks: Ranks, { stderr }: CommandIo): Promise<void> {
  if (await ranks.leave()) return;
  say(stderr, `${ranks.name()}: all is done, but MPI does not end; its launcher may report a failure.`);
}

/** An error that says on which rank it happened. */
function named(error: unknown, ranks: Ranks): unknown {
  if (!(error instanceof Error)) return error;
  const code = exitCodeOf(error);
  const { code: name = 'ERR_UNEXPECTED' } = error as { code?: string };
  return new CudnnLstmError(name, `${ranks.name()}: ${error.message.split('\n')[0]}`, code, { cause: error });
}
