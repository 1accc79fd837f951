/** `--devices`: ranks on one machine, one GPU each, without a launcher: this process starts them, with torchrun's variables. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import { UsageError } from '../errors';
import { gpuVariable } from '../ranks/join';
import { launchOf } from '../ranks/launcher';
import { endingSignalNames } from './command';

/** Milliseconds that the other ranks have to end by themselves when one has ended with an error; all do if they agreed on it. */
const patience = 2000;

/**
 * Parses a list of GPUs: `cuda:0,1`, `0,1` or `cuda:0,cuda:1`.
 *
 * @throws UsageError if it is not a list of different GPUs.
 */
export function readDevices(text: string): number[] {
  const parts = text.split(',').map((part) => /^(?:cuda:)?(\d{1,4})$/.exec(part.trim())?.[1]);
  const numbers = parts.map(Number);
  if (parts.includes(undefined) || new Set(numbers).size < numbers.length)
    throw new UsageError(`--devices takes different GPUs, such as cuda:0,1, not '${text}'.`);
  return numbers;
}

/** The arguments without `--devices LIST` or `--devices=LIST`. */
export function withoutDevices(argv: readonly string[]): string[] {
  return argv.filter(
    (each, i) => each !== '--devices' && argv[i - 1] !== '--devices' && !each.startsWith('--devices='),
  );
}

/**
 * Runs a Node program once per GPU, as the ranks of a job. Signals are passed on to all ranks. When one has died, or has failed and the
 * others do not end, they are killed. The ranks also end when this process is gone.
 *
 * @returns The exit code of the first rank that ended with one other than 0; if a signal killed it, 128 plus the signal's number.
 */
export async function runRanks(gpus: readonly number[], argv: readonly string[]): Promise<number> {
  if (launchOf(process.env))
    throw new UsageError(
      '--devices starts ranks itself, and a launcher has started this one: leave it out, with --device cuda.',
    );
  const port = await freePort();
  const children: ChildProcess[] = [];
  const passOn = (signal: NodeJS.Signals) => {
    for (const child of children) child.kill(signal);
  };
  for (const name of endingSignalNames) process.on(name, passOn);
  let timer: NodeJS.Timeout | undefined;
  const killAll = () => passOn('SIGKILL');
  let code = 0;
  try {
    await Promise.all(
      gpus.map((gpu, rank) => {
        const child = spawn(process.execPath, [...process.execArgv, ...argv], {
          env: {
            ...process.env,
            RANK: String(rank),
            WORLD_SIZE: String(gpus.length),
            LOCAL_RANK: String(rank),
            LOCAL_WORLD_SIZE: String(gpus.length),
            MASTER_ADDR: '127.0.0.1',
            MASTER_PORT: String(port),
            [gpuVariable]: String(gpu),
          },
          // Ctrl-C reaches a terminal's whole process group, and a second signal ends a rank at once: signals come only from here.
          detached: true,
          stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        });
        children.push(child);
        return new Promise<void>((resolve, reject) => {
          child.on('error', reject);
          child.on('exit', (ended, signal) => {
            const mine = signal === null ? (ended as number) : 128 + constants.signals[signal];
            if (mine !== 0 && code === 0) {
              code = mine;
              if (signal === null) timer = setTimeout(killAll, patience);
              else killAll();
            }
            resolve();
          });
        });
      }),
    );
    return code;
  } catch (error) {
    killAll();
    throw error;
  } finally {
    clearTimeout(timer);
    for (const name of endingSignalNames) process.off(name, passOn);
  }
}

/** For a rank started by {@link runRanks}: ends it with the process that started it. */
export function endWithParent(): void {
  if (process.env[gpuVariable] === undefined || !process.channel) return;
  process.channel.unref();
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
}

/** A port whose successor is free; the ranks meet at the successor. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.on('error', reject).listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address ? address.port - 1 : 0;
}
