/** GPU usage during training: occasional readings and their summary. */
import type { GpuUsage } from '../device/native';

/** Least time between readings, in milliseconds: the driver's own figures are means over up to a second. */
const interval = 1000;

/**
 * Collects readings of a GPU's usage in the background. If there is nothing to read (a CPU, a driver without its management library),
 * it asks once and never again.
 */
export class GpuMonitor {
  readonly #read: (() => Promise<GpuUsage | null>) | undefined;
  readonly #now: () => number;
  #pending: Promise<void> | undefined;
  #next: number;
  #absent: boolean;
  #epoch = new Readings();
  readonly #run = new Readings();

  /** @param read Returns the GPU's current usage, null if it cannot be read; undefined: no GPU. */
  constructor(read: (() => Promise<GpuUsage | null>) | undefined, now: () => number = () => performance.now()) {
    this.#read = read;
    this.#now = now;
    this.#absent = read === undefined;
    // The first reading comes after some work, not from the idle GPU before it.
    this.#next = now() + interval / 4;
  }

  /** Call often while the GPU works; starts a reading if one is due. Returns immediately. */
  poll(): void {
    if (this.#now() >= this.#next) this.#start();
  }

  /** Ends an epoch and returns its mean percentages and peak memory; undefined if there is nothing to read. */
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
