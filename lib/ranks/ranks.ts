/**
 * The ranks of a job: processes that train one model together, on one machine or several. All that they exchange besides the sums of
 * their gradients goes through here, so that they make the same decisions.
 *
 * All ranks must make every call, in the same order. Each message carries its kind, so that ranks that get out of step fail instead of
 * waiting for ever.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { deserialize, serialize } from 'node:v8';
import { chooseThreads } from '../device/choose';
import { fromNative, type NativeAddon, type NativeRank } from '../device/native';
import { SerialQueue } from '../device/queue';
import { CudnnLstmError, DeviceError, exitCodes } from '../errors';

/** Carries the messages: the addon. */
export type RankTransport = Pick<NativeAddon, 'gather' | 'broadcast' | 'measureSum' | 'leave' | 'abort'>;

/** Sizes in bytes. A message of at most `inline` bytes is sent at once, within its header. */
const layout = { kind: 16, length: 16, inline: 24, header: 64 } as const;

interface Outcome {
  readonly error?: { readonly code: string; readonly message: string; readonly exitCode: number };
}

/**
 * The ranks of the job that this process belongs to.
 *
 * @category Training
 */
export class Ranks {
  readonly rank: number;
  readonly size: number;
  readonly localRank: number;
  readonly localSize: number;
  /** The library that connects them: `Open MPI v4.1.4`, `NCCL 2.30.7`. */
  readonly library: string;
  /** The number of the rank's GPU, if ranks have one each and only NCCL connects them. */
  readonly gpu: number | undefined;
  /** The machine of each rank. */
  readonly hosts: readonly string[];
  readonly #transport: RankTransport;
  readonly #queue = new SerialQueue();
  readonly #agreed = new WeakSet<object>();
  /** Number of ranks on this machine that may use the same CPUs. */
  readonly #sharingCpus: number;

  /** @internal See {@link Ranks.of}. */
  constructor(transport: RankTransport, native: NativeRank, places: readonly Place[], gpu?: number) {
    this.gpu = gpu;
    this.#transport = transport;
    this.rank = native.rank;
    this.size = native.size;
    this.localRank = native.localRank;
    this.localSize = native.localSize;
    this.library = native.version;
    this.hosts = places.map(({ host }) => host);
    const mine = places[native.rank] as Place;
    this.#sharingCpus = places.filter(({ host, cpus }) => host === mine.host && cpus === mine.cpus).length;
  }

  /** Creates the ranks for a process that has joined. */
  static async of(transport: RankTransport, native: NativeRank, gpu?: number): Promise<Ranks> {
    const alone = new Ranks(transport, native, Array<Place>(native.size).fill({ host: '', cpus: '' }));
    const places = await alone.gatherJson<Place>('place', { host: hostname(), cpus: cpuList() });
    return new Ranks(transport, native, places, gpu);
  }

  /** Whether this is rank 0, the only one that prints, samples and writes. */
  get first(): boolean {
    return this.rank === 0;
  }

  /** Threads of this rank by default: what its CPUs allow, divided by the number of ranks that share them. */
  get threads(): number {
    return Math.max(1, Math.floor(chooseThreads().threads / this.#sharingCpus));
  }

  /** `rank 1 of 4 on host`. */
  name(rank = this.rank): string {
    return `rank ${rank} of ${this.size} on ${this.hosts[rank]}`;
  }

  /** All ranks' bytes, in rank order; their numbers may differ. `kind`: up to 16 ASCII characters. */
  async gather(kind: string, mine: Uint8Array): Promise<Uint8Array[]> {
    return this.#queue.run(async () => {
      const header = Buffer.alloc(layout.header);
      header.write(kind, 0, layout.kind, 'latin1');
      header.writeDoubleLE(mine.length, layout.kind);
      const small = mine.length <= layout.inline;
      if (small) header.set(mine, layout.header - layout.inline);
      const headers = await this.#call(() => this.#transport.gather(header), layout.header);
      const kinds = headers.map((each) => each.toString('latin1', 0, layout.kind).replace(/\0+$/, ''));
      const other = kinds.findIndex((each) => each !== kind);
      if (other >= 0)
        throw new CudnnLstmError(
          'ERR_RANKS',
          `The ranks have lost step: this one is at '${kind}', and ${this.name(other)} at '${kinds[other]}'.`,
          exitCodes.runtime,
        );
      const lengths = headers.map((each) => each.readDoubleLE(layout.kind));
      const most = Math.max(...lengths);
      if (most <= layout.inline)
        return headers.map((each, r) => each.subarray(layout.header - layout.inline).subarray(0, lengths[r]));
      const padded = new Uint8Array(most);
      padded.set(mine);
      const all = await this.#call(() => this.#transport.gather(padded), most);
      return all.map((each, r) => each.subarray(0, lengths[r]));
    });
  }

  /** Numbers from every rank, equally many from each. */
  async gatherNumbers(kind: string, mine: readonly number[]): Promise<number[][]> {
    const all = await this.gather(kind, new Uint8Array(Float64Array.from(mine).buffer));
    return all.map((bytes) => [...new Float64Array(new Uint8Array(bytes).buffer)]);
  }

  async gatherJson<T>(kind: string, mine: T): Promise<T[]> {
    const all = await this.gather(kind, Buffer.from(JSON.stringify(mine)));
    return all.map((bytes) => JSON.parse(Buffer.from(bytes).toString()) as T);
  }

  /**
   * Runs a job on every rank, and returns when all have finished. If it fails on any, all throw the error of the first rank that failed,
   * which names that rank unless the error is the same everywhere. The job must not make calls of its own to the other ranks.
   */
  async together<T>(kind: string, job: () => T | Promise<T>): Promise<T> {
    let value: T | undefined;
    let thrown: unknown;
    let outcome: Outcome = {};
    try {
      value = await job();
    } catch (error) {
      thrown = error;
      const { code, message, exitCode } = error as Partial<CudnnLstmError>;
      outcome = {
        error: {
          code: String(code ?? 'ERR_UNEXPECTED'),
          message: String(message ?? error),
          exitCode: exitCode ?? exitCodes.runtime,
        },
      };
    }
    const outcomes = await this.gatherJson(kind, outcome);
    const failed = outcomes.findIndex(({ error }) => error !== undefined);
    if (failed < 0) return value as T;
    const { error } = outcomes[failed] as Required<Outcome>;
    const everywhere = outcomes.every((each) => each.error?.message === error.message);
    if (
      thrown !== undefined &&
      (everywhere || failed === 0) &&
      failed <= this.rank &&
      outcome.error?.message === error.message
    )
      throw this.agree(thrown as Error);
    const message = everywhere ? error.message : `${this.name(failed)}: ${error.message}`;
    throw this.agree(new CudnnLstmError(error.code, message, error.exitCode));
  }

  /** Runs a job on rank 0 only; all ranks get its result, or throw its error. */
  async share<T>(kind: string, job: () => T | Promise<T>): Promise<T> {
    const value = await this.together(kind, () => (this.first ? job() : undefined));
    const bytes = this.first ? serialize(value) : Buffer.alloc(0);
    const [[length]] = (await this.gatherNumbers(kind, [bytes.length])) as [[number]];
    const sent = this.first ? bytes : new Uint8Array(length);
    const received = await this.#queue.run(() => this.#call(() => this.#transport.broadcast(sent), length));
    return this.first ? (value as T) : (deserialize(received[0] as Buffer) as T);
  }

  /** Marks an error as thrown by every rank: a command can then end in good order. */
  agree<E>(error: E): E {
    if (typeof error === 'object' && error !== null) this.#agreed.add(error);
    return error;
  }

  agreedOn(error: unknown): boolean {
    return typeof error === 'object' && error !== null && this.#agreed.has(error);
  }

  /**
   * What all ranks throw when one was asked to stop: the reason of this rank's own signal, else an error that names the one asked.
   *
   * @param code The `abortCode` of that rank's signal.
   */
  interrupted(rank: number, code: number, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return this.agree(signal.reason);
    return this.agree(new CudnnLstmError('ERR_INTERRUPTED', `${this.name(rank)} was interrupted.`, code));
  }

  /** Like the signal's method, but throws on all ranks if any was asked to stop. */
  async throwIfAborted(signal: AbortSignal | undefined): Promise<void> {
    const codes = (await this.gatherNumbers('aborted', [abortCode(signal)])).flat();
    const rank = codes.findIndex((code) => code !== notAborted);
    if (rank >= 0) throw this.interrupted(rank, codes[rank] as number, signal);
  }

  /** Microseconds taken by a sum of that many floats over all ranks: the median of `rounds`, on the slowest rank. */
  async measureSum(floats: number, rounds: number): Promise<number> {
    const times = await this.#queue.run(() => this.#transport.measureSum(floats, rounds).catch(rethrow));
    const median = [...times].sort((a, b) => a - b)[times.length >> 1] as number;
    return Math.max(...(await this.gatherNumbers('measured', [median])).flat());
  }

  /** Leaves the job once all ranks do. No call may follow. False if MPI does not end although their work is over. */
  async leave(): Promise<boolean> {
    return this.#queue.run(() => this.#transport.leave().catch(rethrow));
  }

  /** Ends all ranks at once; the launcher exits with that code. */
  abort(exitCode: number): void {
    this.#transport.abort(exitCode);
  }

  /** A native call's result, split into pieces of `length` bytes. */
  async #call(call: () => Promise<Uint8Array>, length: number): Promise<Buffer[]> {
    const all = Buffer.from((await call().catch(rethrow)).buffer);
    return Array.from({ length: length === 0 ? this.size : all.length / length }, (_, i) =>
      all.subarray(i * length, (i + 1) * length),
    );
  }
}

export const notAborted = -1;

/** The exit code that an aborted signal's reason calls for, else {@link notAborted}. */
export function abortCode(signal: AbortSignal | undefined): number {
  if (!signal?.aborted) return notAborted;
  return (signal.reason as Partial<CudnnLstmError> | undefined)?.exitCode ?? exitCodes.runtime;
}

interface Place {
  readonly host: string;
  /** The CPUs that the process may use, as the kernel writes them. */
  readonly cpus: string;
}

function cpuList(): string {
  try {
    return /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  } catch {
    return ''; // Not Linux: all CPUs, for every rank.
  }
}

function rethrow(error: unknown): never {
  const known = fromNative(error);
  throw known instanceof DeviceError
    ? new DeviceError(`${known.message}: another rank has ended, or the network failed.`, { cause: error })
    : known;
}

/** Runs a job, on all ranks if there are several; if it fails on one, it fails on all. */
export function together<T>(ranks: Ranks | undefined, kind: string, job: () => T | Promise<T>): T | Promise<T> {
  return ranks ? ranks.together(kind, job) : job();
}

/** Runs a job, on rank 0 alone if there are several; all get its result. */
export function share<T>(ranks: Ranks | undefined, kind: string, job: () => T | Promise<T>): T | Promise<T> {
  return ranks ? ranks.share(kind, job) : job();
}
