/** What is remembered of self-checks: a file each in the user's cache directory, and what a check that passed holds for. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cacheDirectory } from '../cache';
import { readSmallFile } from '../files';
import { packageVersion } from '../version';
import type { CheckedCase } from './comparison';
import type { NativeCudaDevice, NativeCudaInfo } from './native';

/** What a self-check that passed holds for; where any of it changes, it is made again. */
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
}

/** What came of a self-check. */
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
  /** What the child process wrote to stderr, the last of it, where the check failed. */
  readonly log?: string;
  /** Where this report was written. */
  readonly file?: string;
}

/** @param binary The addon's. */
export async function checkKey(info: NativeCudaInfo, gpu: NativeCudaDevice, binary: string): Promise<CheckKey> {
  return {
    driver: info.driver ?? 'unknown',
    cudnn: info.cudnn?.version ?? 'unknown',
    cublas: info.cublas?.version ?? 'unknown',
    card: `${gpu.name}, ${gpu.computeCapability}, ${gpu.memoryBytes} bytes`,
    version: packageVersion,
    build: createHash('sha256')
      .update(await readFile(binary))
      .digest('hex'),
  };
}

/** Names a key's files. */
export function nameOf(key: CheckKey): string {
  return createHash('sha256')
    .update(JSON.stringify(fieldsOf(key)))
    .digest('hex')
    .slice(0, 20);
}

/** A self-check that passed and holds for `key`; undefined if there is none, or none that can be read. */
export async function rememberedCheck(key: CheckKey): Promise<CheckReport | undefined> {
  try {
    const file = join(recordDirectory(), `${nameOf(key)}.json`);
    const report = JSON.parse((await readSmallFile(file, 1e6)).toString()) as CheckReport;
    const usable = report.passed === true && typeof report.summary === 'string' && typeof report.date === 'string';
    return usable && nameOf(report.key) === nameOf(key) ? { ...report, file } : undefined;
  } catch {
    return undefined; // None, or damaged: the check is made again.
  }
}

/**
 * Keeps a report: that of a check which passed is found again by its key, another one is for people to read, in the directory for
 * temporary files where the cache cannot be written to.
 *
 * @returns The report with its file; without one if none could be written.
 */
export function keepReport(report: CheckReport): CheckReport {
  const name = `${nameOf(report.key)}${report.passed ? '' : '.failed'}.json`;
  const places = [() => join(recordDirectory(), name)];
  if (!report.passed) places.push(() => join(tmpdir(), `cudnn-lstm-self-check-${name}`));
  for (const place of places) {
    try {
      const file = place();
      writeAtomically(file, `${JSON.stringify(report, null, 2)}\n`);
      return { ...report, file };
    } catch {
      // The next place; a check that cannot be remembered is made again the next time.
    }
  }
  return report;
}

function recordDirectory(): string {
  return join(cacheDirectory(), 'self-check');
}

function fieldsOf({ driver, cudnn, cublas, card, version, build }: CheckKey): string[] {
  return [driver, cudnn, cublas, card, version, build];
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
