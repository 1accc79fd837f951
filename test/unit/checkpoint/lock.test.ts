import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { DirectoryLock } from '../../../lib/checkpoint/lock';
import { packageRoot } from '../../../lib/device/native';
import { canRun, compiled, itWhere, itWhole, long, node, run, share, whole } from '../../fixtures/child';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lock-'));
  path = join(folder, 'lock');
});
afterEach(() => rm(folder, { recursive: true }));

const inUse = { code: 'ERR_DISK', exitCode: 5, message: expect.stringMatching(/is in use by process \d+; /) };
const onPosix = itWhere(process.platform !== 'win32', 'needs a POSIX system');

/** A program that takes the lock and then runs `rest`. */
const taker = (rest: string) =>
  `const { DirectoryLock } = require(${JSON.stringify(compiled('checkpoint/lock.js'))});
  DirectoryLock.take(${JSON.stringify(folder)}).then((lock) => { globalThis.lock = lock; ${rest} });`;

/** Starts a process that holds the lock. */
async function otherOwner(rest = 'console.log(process.pid); setInterval(() => {}, 1000)'): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['-e', taker(rest)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child;
}

async function killed(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

it('is taken once, and anew when it was given back', async () => {
  const lock = await DirectoryLock.take(folder);
  expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ pid: process.pid, host: hostname() });
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
    ...inUse,
    message: `${folder} is in use by process ${process.pid}; wait for it, or choose another \`out\``,
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
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject(inUse);
  await other.release();
});

it('is refused while its owner lives, and free when that was killed', async () => {
  const child = await otherOwner();
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
    message: expect.stringContaining(`in use by process ${child.pid};`),
  });
  await killed(child);
  expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ pid: child.pid });
  await (await DirectoryLock.take(folder)).release();
});

onPosix('ends with its process, though a child of that lives on', async () => {
  const child = await otherOwner(
    `const sleeper = require('node:child_process').spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
    console.log(sleeper.pid);
    setInterval(() => {}, 1000);`,
  ).then(async (owner) => {
    const { stdout } = await run('pgrep', ['-P', String(owner.pid)]);
    await killed(owner);
    return Number(stdout);
  });
  expect(child).toBeGreaterThan(1);
  process.kill(child, 0); // Throws if it is not running.
  await (await DirectoryLock.take(folder)).release();
  process.kill(child);
});

it('ends with its worker thread', async () => {
  const rest = "require('node:worker_threads').parentPort.postMessage('taken'); setInterval(() => {}, 1000);";
  const worker = new Worker(taker(rest), { eval: true });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject(inUse);
  await worker.terminate();
  await (await DirectoryLock.take(folder)).release();
});

it.each([
  ...['', '{', 'null', '[]', '\0\0\0', '{"pid":0,"host":"x"}', '{"pid":"1","host":"x"}', 'x'.repeat(4096)],
  JSON.stringify({ pid: 2 ** 30, host: hostname() }),
  JSON.stringify({ pid: process.pid, host: hostname() }),
  JSON.stringify({ pid: 2 ** 40, host: hostname() }),
  JSON.stringify({ pid: 1, host: 'elsewhere' }),
])('is taken whatever a dead owner left in the file (%#)', async (text) => {
  await writeFile(path, text);
  const lock = await DirectoryLock.take(folder);
  expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ pid: process.pid });
  await lock.release();
  expect(await readdir(folder)).toEqual([]);
});

it.each(['', 'null', '{"pid":"1"}', '{"host":3}', '\u001b]0;x\u0007'])(
  'is refused where its text says nothing: %j',
  async (text) => {
    const lock = await DirectoryLock.take(folder);
    await writeFile(path, text);
    await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
      message: `${folder} is in use by another trainer; wait for it, or choose another \`out\``,
    });
    await lock.release();
  },
);

it('names the machine of an owner elsewhere', async () => {
  const lock = await DirectoryLock.take(folder);
  await writeFile(path, '{"pid":7,"host":"elsewhere"}');
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
    message: expect.stringContaining('in use by process 7 on elsewhere;'),
  });
  await lock.release();
});

it('reads no more of the text than one takes', async () => {
  const lock = await DirectoryLock.take(folder);
  const file = await open(path, 'r+');
  await file.truncate(2 ** 40);
  await file.close();
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
    message: expect.stringContaining('in use by another trainer'),
  });
  await lock.release();
});

it('is refused over a file that holds more than a lock', async () => {
  await writeFile(path, 'x'.repeat(4097));
  await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
    code: 'ERR_DISK',
    message: `${path} holds 4,097 bytes, and is no trainer's lock: remove it`,
  });
  expect(await readFile(path, 'utf8')).toHaveLength(4097);
});

it('leaves a file in peace that another has put in its place', async () => {
  const lock = await DirectoryLock.take(folder);
  await rm(path);
  await writeFile(path, 'not ours');
  await lock.release();
  expect(await readFile(path, 'utf8')).toBe('not ours');
});

describe('where something else is in its place', () => {
  const kinds: [string, string, () => Promise<unknown>][] = [
    ['a link to nothing', 'symbolic link', () => symlink(join(folder, 'nothing'), path)],
    [
      'a link to a file',
      'symbolic link',
      async () => {
        await writeFile(join(folder, 'precious'), 'text');
        await symlink(join(folder, 'precious'), path);
      },
    ],
    ['a link to a device', 'symbolic link', () => symlink('/dev/zero', path)],
    ['a directory', 'directory', () => mkdir(path)],
    ['a FIFO', 'named pipe', () => run('mkfifo', [path])],
  ];
  for (const [kind, what, make] of kinds) {
    onPosix(`${kind}: says what to remove`, async () => {
      await make();
      await expect(DirectoryLock.take(folder)).rejects.toMatchObject({
        code: 'ERR_DISK',
        message: `${path} is a ${what}, not a file, and is no trainer's lock: remove it`,
      });
      await rm(path, { recursive: true });
      await (await DirectoryLock.take(folder)).release();
      expect(await readFile(join(folder, 'precious'), 'utf8').catch(() => 'text')).toBe('text');
    });
  }
});

it('goes to one of many that come at once, also over what a dead owner left', async () => {
  for (let round = 0; round < 20; round++) {
    if (round % 2 === 1) await writeFile(path, '{"pid":1}');
    const taken = await Promise.allSettled(Array.from({ length: 8 }, () => DirectoryLock.take(folder)));
    const locks = taken.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(locks).toHaveLength(1);
    for (const result of taken)
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'ERR_DISK' });
    await locks[0]?.release();
    expect(await readdir(folder)).toEqual([]);
  }
});

it('goes to one at a time of those that come while it is given back', async () => {
  let inside = 0;
  let taken = 0;
  const contender = async () => {
    for (let attempt = 0; attempt < 200; attempt++) {
      const lock = await DirectoryLock.take(folder).catch(() => undefined);
      if (lock === undefined) continue;
      expect(++inside).toBe(1);
      taken++;
      await new Promise((resolve) => setImmediate(resolve));
      inside--;
      await lock.release();
    }
  };
  await Promise.all([contender(), contender(), contender()]);
  expect(taken).toBeGreaterThan(20);
  expect(await readdir(folder)).toEqual([]);
});

const rounds = long ? 1000 : share(40);
it(`goes to one of 2 to 8 processes, ${rounds} times, over dead locks of every kind`, async () => {
  const ended = await run(process.execPath, [join(packageRoot, 'scripts', 'race.js'), String(rounds)], {});
  expect({ ...ended, stdout: '' }).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
  const counts = JSON.parse(ended.stdout) as { rounds: number; killed: number; contenders: object; leftovers: object };
  expect(counts).toMatchObject({ rounds, killed: Math.ceil(rounds / 3) });
  expect([Object.keys(counts.contenders).length, Object.keys(counts.leftovers).length]).toEqual([7, 7]);
});

it('names the directory and the remedy where it cannot be written', async () => {
  await expect(DirectoryLock.take(join(folder, 'none'))).rejects.toMatchObject({
    code: 'ERR_DISK',
    message: `cannot lock ${join(folder, 'none')}: the directory is not there; make it, or choose another place`,
  });
});

(whole
  ? itWhere(process.platform === 'linux' && canRun('cc', ['--version']), 'needs Linux and a C compiler')
  : itWhole)('is refused by name on a file system that cannot lock, where --no-lock trains', async () => {
  const source = join(folder, 'flock.c');
  const library = join(folder, 'flock.so');
  await writeFile(source, '#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n');
  await run('cc', ['-shared', '-fPIC', '-o', library, source]);
  const corpus = join(folder, 'corpus.txt');
  await writeFile(corpus, 'a sheep and a goat went over the hill and far away\n'.repeat(100));
  const out = join(folder, 'run');
  // By its name alone, because LD_PRELOAD is split at spaces, and a path may have some.
  const env = { ...process.env, LD_PRELOAD: 'flock.so', LD_LIBRARY_PATH: folder };
  const size = ['--hidden', '8', '--layers', '1', '--epochs', '1', '--sample-length', '0', '--device', 'cpu'];
  const argv = [corpus, '--out', out, ...size];
  const refused = await node('train.js', argv, { env });
  expect(refused).toMatchObject({ code: 5, stdout: '' });
  expect(refused.stderr.trim().split('\n').at(-1)).toBe(
    `${out} is on a file system that cannot lock (No locks available); choose another --out, or add --no-lock and let no other trainer into it`,
  );
  expect(await readdir(out)).toEqual([]);
  const taken = await node('train.js', [...argv, '--no-lock'], { env });
  expect(taken).toMatchObject({ code: 0 });
  expect(await readdir(out)).not.toContain('lock');
  const resumed = await node('train.js', ['--resume', out, '--epochs', '2'], { env });
  expect(resumed).toMatchObject({ code: 5, stderr: expect.stringContaining('--no-lock') });
  expect(await node('train.js', ['--resume', out, '--epochs', '2', '--no-lock'], { env })).toMatchObject({ code: 0 });
});
