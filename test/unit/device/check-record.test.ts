/** Records of self-checks: each is found by its key alone, and ignored if it is damaged. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  type CheckKey,
  type CheckReport,
  checkKey,
  forgetFailures,
  keepReport,
  rememberedCheck,
} from '../../../lib/device/check-record';
import type { NativeCudaInfo } from '../../../lib/device/native';
import { packageVersion } from '../../../lib/version';

const key: CheckKey = {
  driver: '580.65 (CUDA 13.0)',
  cudnn: '9.24.0',
  cublas: '13.1.1',
  card: 'GPU, 9.0, 1 bytes',
  version: '0.1.0',
  build: 'abc',
  algorithm: 'standard',
};
const report = (changes: Partial<CheckReport> = {}): CheckReport => ({
  passed: true,
  summary: 'fp32 within 1.0e-6',
  date: '2026-01-02T03:04:05.000Z',
  seconds: 1.5,
  key,
  cases: [],
  ...changes,
});

describe('the memory of self-checks', () => {
  let folder: string;
  const before = process.env.XDG_CACHE_HOME;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'cudnn-lstm-record-'));
    process.env.XDG_CACHE_HOME = folder;
  });
  afterEach(() => {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
    rmSync(folder, { recursive: true, force: true });
  });

  it('finds what passed by its key', async () => {
    expect(await rememberedCheck(key)).toBeUndefined();
    const { file } = keepReport(report());
    expect(await rememberedCheck({ ...key })).toEqual({ ...report(), file });
  });

  it.each(Object.keys(key) as (keyof CheckKey)[])('does not hold for another %s', async (field) => {
    keepReport(report());
    const other = { ...key, [field]: `${key[field]} or another` };
    expect(await rememberedCheck(other)).toBeUndefined();
    const { file } = keepReport(report({ key: other })); // Saved beside the first, which stays.
    expect((await rememberedCheck(other))?.file).toBe(file);
    expect(await rememberedCheck(key)).toBeDefined();
  });

  it('takes every part of the key from the machine', async () => {
    const binary = join(folder, 'addon.node');
    writeFileSync(binary, 'one build');
    const info: NativeCudaInfo = {
      compiled: true,
      available: true,
      reason: '',
      driver: '580.65 (CUDA 13.0)',
      cudnn: { version: '9.24.0', path: '/a' },
      cublas: { version: '13.1.1', path: '/b' },
      devices: [{ ordinal: 0, name: 'GPU', memoryBytes: 8, freeBytes: 4, computeCapability: '9.0' }],
      searched: [],
    };
    const [gpu] = info.devices as [NativeCudaInfo['devices'][number]];
    const found = await checkKey(info, gpu, binary, 'standard');
    expect(found).toEqual({
      driver: '580.65 (CUDA 13.0)',
      cudnn: '9.24.0',
      cublas: '13.1.1',
      card: 'GPU, 9.0, 8 bytes',
      version: packageVersion,
      build: createHash('sha256').update('one build').digest('hex'),
      algorithm: 'standard',
    });
    expect(await checkKey(info, gpu, binary, 'auto')).not.toEqual(found);
    expect(await checkKey(info, { ...gpu, ordinal: 1, freeBytes: 1 }, binary, 'standard')).toEqual(found);
    for (const [changed, other] of [
      [{ ...info, driver: '581' }, gpu],
      [{ ...info, cudnn: { version: '9.25.0', path: '/a' } }, gpu],
      [{ ...info, cublas: { version: '13.2.0', path: '/b' } }, gpu],
      [info, { ...gpu, name: 'GPU Ti' }],
      [info, { ...gpu, computeCapability: '9.1' }],
      [info, { ...gpu, memoryBytes: 9 }],
    ] as const) {
      expect(await checkKey(changed, other, binary, 'standard')).not.toEqual(found);
    }
    writeFileSync(binary, 'another');
    expect(await checkKey(info, gpu, binary, 'standard')).not.toEqual(found);
  });

  it('takes nothing that is damaged, huge, or another key’s', async () => {
    const { file } = keepReport(report()) as { file: string };
    const text = JSON.stringify(report());
    const other = JSON.stringify(report({ key: { ...key, driver: 'other' } }));
    const bad = [
      '',
      'null',
      '[]',
      '7',
      text.slice(0, -1),
      `${text}x`,
      other,
      text.replace('true', '1'),
      '{"passed":true}',
    ];
    for (const content of [...bad, text.padEnd(1_000_001)]) {
      writeFileSync(file, content);
      expect([content.slice(0, 20), await rememberedCheck(key)]).toEqual([content.slice(0, 20), undefined]);
    }
    rmSync(file);
    execFileSync('mkfifo', [file]);
    expect(await rememberedCheck(key)).toBeUndefined();
    rmSync(file);
    mkdirSync(file);
    expect(await rememberedCheck(key)).toBeUndefined();
    expect(keepReport(report()).file).toBeUndefined();
    expect(readdirSync(dirname(file))).toHaveLength(1); // No temporary file is left.
  });

  it('remembers a failure until it is forgotten, or made again', async () => {
    const failed = keepReport(report({ passed: false, key: { ...key, algorithm: 'auto' } }));
    expect(await rememberedCheck({ ...key, algorithm: 'auto' })).toEqual(failed);
    await forgetFailures({ ...key, algorithm: 'auto' }); // Forgets only those of the other algorithms.
    expect(await rememberedCheck({ ...key, algorithm: 'auto' })).toEqual(failed);
    keepReport(report({ key: { ...key, algorithm: 'persist-static' } }));
    await forgetFailures(key);
    expect(await rememberedCheck({ ...key, algorithm: 'auto' })).toBeUndefined();
    expect((await rememberedCheck({ ...key, algorithm: 'persist-static' }))?.passed).toBe(true);
    const { file } = keepReport(report({ passed: false }));
    expect((await rememberedCheck(key))?.passed).toBe(false);
    expect(keepReport(report()).file).toBe(file);
    expect((await rememberedCheck(key))?.passed).toBe(true);
  });

  it('does not remember what may pass, but keeps it to be read, elsewhere if need be', async () => {
    const failed = keepReport(report({ passed: false, passing: true }));
    expect(failed.file).toContain(folder);
    expect(await rememberedCheck(key)).toBeUndefined();
    process.env.XDG_CACHE_HOME = failed.file; // A file, so nothing can be created below it.
    const elsewhere = keepReport(report({ passed: false }));
    expect(elsewhere.file).toContain(join(tmpdir(), 'cudnn-lstm-self-check-'));
    rmSync(elsewhere.file as string);
    expect(keepReport(report()).file).toBeUndefined();
  });
});
