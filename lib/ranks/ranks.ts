/**
 * The ranks of a job: processes that train one model together, on one machine or several. What they tell one another beside the sums
 * of their gradients goes through here, so that all of them decide alike.
 *
 * Every call is for all ranks, in the same order. Each message carries what it is about: ranks that have lost step with one another
 * fail, and do not wait for ever.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { deserialize, serialize } from 'node:v8';
import { chooseThreads } from '../device/choose';
import { fromNative, type NativeAddon, type NativeRank } from '../device/native';
import { SerialQueue } from '../device/queue';
import { CudnnLstmError, DeviceError, exitCodes } from '../errors';

/** What carries messages: the addon. */
export type RankTransport = Pick<NativeAddon, 'gather' | 'broadcast' | 'measureSum' | 'leave' | 'abort'>;

/** A message that is no longer than `inline` crosses at once, within its header. Bytes. */
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
  /** What brings them together: `Open MPI v4.1.4`, `NCCL 2.30.7`. */
  readonly library: string;
  /** The number of the rank's GPU, where ranks have one each and nothing but NCCL brings them together. */
  readonly gpu: number | undefined;
  /** The machine of each rank. */
  readonly hosts: readonly string[];
  readonly #transport: RankTransport;
  readonly #queue = new SerialQueue();
  readonly #agreed = new WeakSet<object>();
  /** Ranks of this machine that may use the same CPUs. */
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

  /** Makes the ranks of a process that has joined. */
  static async of(transport: RankTransport, native: NativeRank, gpu?: number): Promise<Ranks> {
    const alone = new Ranks(transport, native, Array<Place>(native.size).fill({ host: '', cpus: '' }));
    const places = await alone.gatherJson<Place>('place', { host: hostname(), cpus: cpuList() });
    return new Ranks(transport, native, places, gpu);
  }

  /** Whether this is rank 0, which alone prints, samples and writes. */
  get first(): boolean {
    return this.rank === 0;
  }

  /** Threads of this rank where nobody says how many: what its CPUs are, divided by the ranks that have the same ones. */
  get threads(): number {
    return Math.max(1, Math.floor(chooseThreads().threads / this.#sharingCpus));
  }

  /** `rank 1 of 4 on host`. */
  name(rank = this.rank): string {
    return `rank ${rank} of ${this.size} on ${this.hosts[rank]}`;
  }

  /** Everybody's bytes, which may differ in number, in the order of the ranks. `kind`: up to 16 ASCII characters. */
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

  /** As many numbers of each rank. */
  async gatherNumbers(kind: string, mine: readonly number[]): Promise<number[][]> {
    const all = await this.gather(kind, new Uint8Array(Float64Array.from(mine).buffer));
    return all.map((bytes) => [...new Float64Array(new Uint8Array(bytes).buffer)]);
  }

  async gatherJson<T>(kind: string, mine: T): Promise<T[]> {
    const all = await this.gather(kind, Buffer.from(JSON.stringify(mine)));
    return all.map((bytes) => JSON.parse(Buffer.from(bytes).toString()) as T);
  }

  /**
   * Does a job on every rank, and goes on when all have done it. Where it fails on one, all throw that error, the first rank's first;
   * it says which rank, unless it is the same everywhere. No other call may be made in the job.
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

  /** Does a job on rank 0 alone; all get what it gives, or throw what it throws. */
  async share<T>(kind: string, job: () => T | Promise<T>): Promise<T> {
    const value = await this.together(kind, () => (this.first ? job() : undefined));
    const bytes = this.first ? serialize(value) : Buffer.alloc(0);
    const [[length]] = (await this.gatherNumbers(kind, [bytes.length])) as [[number]];
    const sent = this.first ? bytes : new Uint8Array(length);
    const received = await this.#queue.run(() => this.#call(() => this.#transport.broadcast(sent), length));
    return this.first ? (value as T) : (deserialize(received[0] as Buffer) as T);
  }

  /** Marks an error as one that every rank throws: a command ends in good order with it. */
  agree<E>(error: E): E {
    if (typeof error === 'object' && error !== null) this.#agreed.add(error);
    return error;
  }

  agreedOn(error: unknown): boolean {
    return typeof error === 'object' && error !== null && this.#agreed.has(error);
  }

  /**
   * What all throw when one of them was asked to stop: the reason of this one's own signal, else an error that names the rank.
   *
   * @param code What `abortCode` says of that rank's signal.
   */
  interrupted(rank: number, code: number, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return this.agree(signal.reason);
    return this.agree(new CudnnLstmError('ERR_INTERRUPTED', `${this.name(rank)} was interrupted.`, code));
  }

  /** As the signal's method, on all ranks alike where one was asked to stop. */
  async throwIfAborted(signal: AbortSignal | undefined): Promise<void> {
    const codes = (await this.gatherNumbers('aborted', [abortCode(signal)])).flat();
    const rank = codes.findIndex((code) => code !== notAborted);
    if (rank >= 0) throw this.interrupted(rank, codes[rank] as number, signal);
  }

  /** Microseconds of a sum of so many floats over all ranks: the median of `rounds`, on the slowest rank. */
  async measureSum(floats: number, rounds: number): Promise<number> {
    const times = await this.#queue.run(() => this.#transport.measureSum(floats, rounds).catch(rethrow));
    const median = [...times].sort((a, b) => a - b)[times.length >> 1] as number;
    return Math.max(...(await this.gatherNumbers('measured', [median])).flat());
  }

  /** Leaves, when all ranks do. No call may follow. False if MPI does not end although their work is over. */
  async leave(): Promise<boolean> {
    return this.#queue.run(() => this.#transport.leave().catch(rethrow));
  }

  /** Ends all ranks at once; the launcher ends with that exit code. */
  abort(exitCode: number): void {
    this.#transport.abort(exitCode);
  }

  /** A native call's result in pieces of `length` bytes. */
  async #call(call: () => Promise<Uint8Array>, length: number): Promise<Buffer[]> {
    const all = Buffer.from((await call().catch(rethrow)).buffer);
    return Array.from({ length: length === 0 ? this.size : all.length / length }, (_, i) =>
      all.subarray(i * length, (i + 1) * length),
    );
  }
}

export const notAborted = -1;

/** The exit code that an aborted signal's reason calls for; {@link notAborted}. */
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

/** Does a job, on all ranks where there are several; if it fails on one, it fails on all. */
export function together<T>(ranks: Ranks | undefined, kind: string, job: () => T | Promise<T>): T | Promise<T> {
  return ranks ? ranks.together(kind, job) : job();
}

/** Does a job, on rank 0 alone where there are several; all get what comes of it. */
export function share<T>(ranks: Ranks | undefined, kind: string, job: () => T | Promise<T>): T | Promise<T> {
  return ranks ? ranks.share(kind, job) : job();
}
