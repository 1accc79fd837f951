/** Records of past self-checks, one file each in the user's cache directory, and the key that says what a check holds for. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cacheDirectory } from '../cache';
import { readSmallFile } from '../files';
import { packageVersion } from '../version';
import type { CheckedCase } from './comparison';
import { type Algorithm, algorithms, type NativeCudaDevice, type NativeCudaInfo } from './native';

/**
 * What a self-check holds for; if any of it changes, the check is repeated.
 *
 * @category Devices and this machine
 */
export interface CheckKey {
  readonly driver: string;
  readonly cudnn: string;
  readonly cublas: string;
  /** The GPU's name, compute capability and memory. */
  readonly card: string;
  /** Version of this package. */
  readonly version: string;
  /** SHA-256 of the addon's binary. */
  readonly build: string;
  /** The cuDNN algorithm used for training. */
  readonly algorithm: Algorithm;
}

/**
 * The outcome of a self-check.
 *
 * @category Devices and this machine
 */
export interface CheckReport {
  readonly passed: boolean;
  /** One line: the largest difference, or what went wrong. */
  readonly summary: string;
  /** ISO 8601. */
  readonly date: string;
  readonly seconds: number;
  readonly key: CheckKey;
  readonly cases: readonly CheckedCase[];
  /** Why the model that was about to run was not compared. */
  readonly skipped?: string;
  /** The end of what the child process wrote to stderr, if the check failed. */
  readonly log?: string;
  /** It failed for a transient reason, such as a GPU whose memory another process held: the next use repeats it. */
  readonly passing?: true;
  /** Where this report was written. */
  readonly file?: string;
}

/** @param binary Path of the addon's binary. */
export async function checkKey(
  info: NativeCudaInfo,
  gpu: NativeCudaDevice,
  binary: string,
  algorithm: Algorithm,
): Promise<CheckKey> {
  return {
    driver: info.driver ?? 'unknown',
    cudnn: info.cudnn?.version ?? 'unknown',
    cublas: info.cublas?.version ?? 'unknown',
    card: `${gpu.name}, ${gpu.computeCapability}, ${gpu.memoryBytes} bytes`,
    version: packageVersion,
    build: createHash('sha256')
      .update(await readFile(binary))
      .digest('hex'),
    algorithm,
  };
}

/** The base name of a key's files. */
export function nameOf(key: CheckKey): string {
  return createHash('sha256')
    .update(JSON.stringify(fieldsOf(key)))
    .digest('hex')
    .slice(0, 20);
}

/** The recorded self-check that holds for `key`; undefined if there is none, or none that can be read. */
export async function rememberedCheck(key: CheckKey): Promise<CheckReport | undefined> {
  try {
    const file = join(recordDirectory(), `${nameOf(key)}.json`);
    const report = JSON.parse((await readSmallFile(file, 1e6)).toString()) as CheckReport;
    const { passed, summary, date, seconds, cases } = report;
    const texts = [summary, date].every((text) => typeof text === 'string');
    const usable = typeof passed === 'boolean' && texts && typeof seconds === 'number' && Array.isArray(cases);
    return usable && nameOf(report.key) === nameOf(key) ? { ...report, file } : undefined;
  } catch {
    return undefined; // Missing or damaged: the check is repeated.
  }
}

/**
 * Saves a report. It is found again by its key, unless it failed for a transient reason. People read failed reports too, so these go to
 * the directory for temporary files if the cache cannot be written to.
 *
 * @returns The report with its file, or without one if none could be written.
 */
export function keepReport(report: CheckReport): CheckReport {
  const name = nameOf(report.key);
  const places = [() => join(recordDirectory(), `${name}${report.passing ? '.failed' : ''}.json`)];
  if (!report.passed) places.push(() => join(tmpdir(), `cudnn-lstm-self-check-${name}.failed.json`));
  for (const place of places) {
    try {
      const file = place();
      writeAtomically(file, `${JSON.stringify(report, null, 2)}\n`);
      return { ...report, file };
    } catch {
      // Try the next place. A check that cannot be recorded is repeated next time.
    }
  }
  return report;
}

/** Deletes the failures recorded for the other algorithms, so that each is tried again when it is next requested. */
export async function forgetFailures(key: CheckKey): Promise<void> {
  for (const algorithm of algorithms) {
    const report = await rememberedCheck({ ...key, algorithm });
    if (report?.file && !report.passed && algorithm !== key.algorithm) rmSync(report.file, { force: true });
  }
}

function recordDirectory(): string {
  return join(cacheDirectory(), 'self-check');
}

function fieldsOf({ driver, cudnn, cublas, card, version, build, algorithm }: CheckKey): string[] {
  return [driver, cudnn, cublas, card, version, build, algorithm];
}

function writeAtomically(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    writeFileSync(temporary, text, { flag: 'wx' });
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
