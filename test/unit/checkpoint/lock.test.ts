import { type ChildProcess, spawn } from 'node:child_process';
import type * as fs from 'node:fs/promises';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { DirectoryLock } from '../../../lib/checkpoint/lock';
import { canRun, itWhere } from '../../fixtures/child';

// A copy whose functions can be put aside.
jest.mock('node:fs/promises', () => ({ ...jest.requireActual<typeof fs>('node:fs/promises') }));

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lock-'));
  path = join(folder, 'lock');
});
afterEach(async () => {
  jest.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const inUse = { code: 'ERR_DISK', exitCode: 5, message: expect.stringMatching(/is in use by process \d+/) };
const onLinux = itWhere(process.platform === 'linux', 'no /proc');

/** A lock as a process of this machine would have left it. */
const left = (o: object) => writeFile(path, JSON.stringify({ pid: process.pid, host: hostname(), started: '', ...o }));

async function ended(child: ChildProcess): Promise<void> {
  await new Promise((resolve) => child.on('exit', resolve));
}

it('is taken once, and anew when it was given back', async () => {
  const lock = await DirectoryLock.take(folder);
  expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ pid: process.pid, host: hostname() });
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
    ...inUse,
    message: expect.stringContaining(
      `in use by process ${process.pid}; wait for it, choose another --out, or remove ${path}`,
    ),
  });
  await lock.release();
  expect(await readdir(folder)).toEqual([]);
  await (await DirectoryLock.take(folder)).release();
});

it('is not given back twice, nor when another has it', async () => {
  const lock = await DirectoryLock.take(folder);
  await lock.release();
  const other = await DirectoryLock.take(folder);
  await lock.release();
  expect(await readdir(folder)).toEqual(['lock']);
  await other.release();
});

it('is refused while its owner lives', async () => {
  const child = spawn('sleep', ['60']);
  await left({ pid: child.pid });
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject(inUse);
  child.kill('SIGKILL');
  await ended(child);
  await (await DirectoryLock.take(folder)).release();
});

onLinux('is reclaimed when the pid now belongs to another process', async () => {
  await left({ started: '1' });
  await (await DirectoryLock.take(folder)).release();
});

itWhere(process.platform === 'linux' && canRun('bash', ['-c', 'true']), 'no /proc')(
  'is reclaimed from a zombie',
  async () => {
    // bash starts a child, tells its pid and becomes a program that never asks how the child ended.
    const parent = spawn('bash', ['-c', 'sleep 0.2 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const pid = Number(
      await new Promise<string>((resolve) => parent.stdout.once('data', (data: Buffer) => resolve(String(data)))),
    );
    const state = async () => /\) (\S)/.exec(await readFile(`/proc/${pid}/stat`, 'utf8'))?.[1];
    while ((await state()) !== 'Z') await new Promise((resolve) => setTimeout(resolve, 20));
    await left({ pid });
    await (await DirectoryLock.take(folder)).release();
    parent.kill('SIGKILL');
    await ended(parent);
  },
);

it('is not reclaimed from another machine', async () => {
  await left({ host: 'elsewhere', pid: 2 ** 30 });
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
    message: expect.stringContaining(`in use by process ${2 ** 30} on elsewhere`),
  });
});

it.each(['', '{', 'null', '{"pid":0,"host":"x"}', '{"pid":-1,"host":"x"}', '{"pid":"1","host":"x"}', '\0\0\0', '[]'])(
  'is reclaimed when it says nothing: %j',
  async (text) => {
    await writeFile(path, text);
    await (await DirectoryLock.take(folder)).release();
    expect(await readdir(folder)).toEqual([]);
  },
);

it('goes to one of many that come at once, also over a dead lock', async () => {
  for (let round = 0; round < 20; round++) {
    if (round % 2 === 1) await left({ pid: 2 ** 30 });
    const taken = await Promise.allSettled(Array.from({ length: 8 }, () => DirectoryLock.take(folder)));
    const locks = taken.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(locks).toHaveLength(1);
    for (const result of taken)
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'ERR_DISK' });
    await locks[0]?.release();
    expect(await readdir(folder)).toEqual([]);
  }
});

it.each(['EPERM', 'ENOTSUP', 'ENOSYS'])('works on a file system without hard links (%s)', async (code) => {
  const link = jest
    .spyOn(jest.requireMock<typeof fs>('node:fs/promises'), 'link')
    .mockRejectedValue(Object.assign(new Error(code), { code, syscall: 'link' }));
  const lock = await DirectoryLock.take(folder);
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject(inUse);
  await lock.release();
  await left({ pid: 2 ** 30 });
  await (await DirectoryLock.take(folder)).release();
  expect(link).toHaveBeenCalledTimes(4);
  expect(await readdir(folder)).toEqual([]);
});

it('names the directory and the remedy where it cannot be written', async () => {
  await expect(DirectoryLock.take(join(folder, 'none'))).rejects.toMatchObject({
    code: 'ERR_DISK',
    message: `cannot lock ${join(folder, 'none')}: the directory is not there`,
  });
});
