/** What a GPU does while it trains: readings now and then, and their summary. */
import type { GpuUsage } from '../device/native';

/** A reading at most this often, in milliseconds: the driver's own figures are means over up to a second. */
const interval = 1000;

/**
 * Collects readings of a GPU's use without anybody waiting for them. Where there is nothing to read (a CPU, a driver without its
 * management library) it asks once and is silent from then on.
 */
export class GpuMonitor {
  readonly #read: (() => Promise<GpuUsage | null>) | undefined;
  readonly #now: () => number;
  #pending: Promise<void> | undefined;
  #next: number;
  #absent: boolean;
  #epoch = new Readings();
  readonly #run = new Readings();

  /** @param read Gives the GPU's use now, null where there is none to read; undefined: no GPU. */
  constructor(read: (() => Promise<GpuUsage | null>) | undefined, now: () => number = () => performance.now()) {
    this.#read = read;
    this.#now = now;
    this.#absent = read === undefined;
    // A first reading when work has gone on for a while, not of the idle GPU before it.
    this.#next = now() + interval / 4;
  }

  /** To be called often while the GPU works; starts a reading if one is due. Returns at once. */
  poll(): void {
    if (this.#now() >= this.#next) this.#start();
  }

  /** Ends an epoch: its mean percentages and largest memory; undefined where there is nothing to read. */
  async endEpoch(): Promise<GpuUsage | undefined> {
    if (!this.#absent && this.#epoch.count === 0 && !this.#pending) this.#start();
    await this.#pending;
    const readings = this.#epoch;
    this.#epoch = new Readings();
    return readings.summary();
  }

  /** Usage over the whole run so far. */
  summary(): GpuUsage | undefined {
    return this.#run.summary();
  }

  #start(): void {
    if (this.#absent || this.#pending || !this.#read) return;
    this.#next = this.#now() + interval;
    const stop = () => {
      this.#absent = true;
    };
    this.#pending = this.#read()
      .then((usage) => {
        if (usage === null) return stop();
        this.#epoch.add(usage);
        this.#run.add(usage);
      })
      .catch(stop) // Training does not fail because it cannot be watched.
      .finally(() => {
        this.#pending = undefined;
      });
  }
}

class Readings {
  count = 0;
  #gpu = 0;
  #memory = 0;
  #used = 0;
  #last: GpuUsage | undefined;

  add(usage: GpuUsage): void {
    this.count++;
    this.#gpu += usage.gpuPercent;
    this.#memory += usage.memoryPercent;
    this.#used = Math.max(this.#used, usage.memoryUsedBytes);
    this.#last = usage;
  }

  summary(): GpuUsage | undefined {
    if (!this.#last) return undefined;
    return {
      ...this.#last,
      gpuPercent: Math.round(this.#gpu / this.count),
      memoryPercent: Math.round(this.#memory / this.count),
      memoryUsedBytes: this.#used,
    };
  }
}
