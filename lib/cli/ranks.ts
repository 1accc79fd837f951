/** A command's work by all ranks of the job that a launcher has started it in. */
import { setTimeout } from 'node:timers/promises';
import { CudnnLstmError, exitCodes, UsageError } from '../errors';
import { type JoinOptions, joinRanks, launchToJoin } from '../ranks/join';
import { launchOf } from '../ranks/launcher';
import type { Ranks } from '../ranks/ranks';
import { type CommandIo, exitCodeOf, reportError } from './command';
import { say } from './output';

/** Milliseconds that rank 0 has to say what all of them find, before another rank ends. */
const patience = 3000;

/** Where ranks other than the first write: nowhere. */
const nowhere = { write: () => true, on: () => nowhere, off: () => nowhere } as unknown as NodeJS.WritableStream;

/**
 * Does the work, together with the other ranks where there are any. Rank 0 alone prints, and ends with the exit code that the launcher
 * gives on; the others end with 0 unless something went wrong on one of them alone, which ends all at once.
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
    // The launcher may end the others as soon as one has. The first of each machine says what is wrong there.
    if (launch.rank > 0) await setTimeout(patience);
    // Ranks on GPUs each speak for themselves: one may be missing. The rest are ended meanwhile if rank 0 has ended.
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
 * Ends a command whose arguments are wrong. All ranks have been given the same ones, as a rule: where a launcher of MPI's has started them,
 * they join to let the first say it.
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
    throw error; // Of this one alone.
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
