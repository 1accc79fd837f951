#!/usr/bin/env node
/**
 * Measures how long a job of two ranks lives on after one of them has failed: `rank-failures.js N`, N times in each way, under each of
 * mpirun.openmpi and mpirun.mpich that is installed. The ways: rank 0 or rank 1 is killed, rank 1 throws, and rank 0's disk is full (if
 * the user may mount a file system: unshare -rm). The time runs from the kill, or from the first line that reports the failure, until the
 * launcher has ended and no rank is left. Prints the times in milliseconds as JSON; exits with 1 if one is over three seconds, a launcher
 * ended with 0, or a run could not be resumed.
 */
const { spawn, spawnSync } = require('node:child_process');
const { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync } = require('node:fs');
const { join } = require('node:path');
const { reportTimes } = require('./longest-times.js');

const limit = 3000;
const root = join(__dirname, '..');
const main = join(root, 'dist', 'cli', 'main.js');
const program = join(root, 'test', 'lifecycle', 'programs', 'ranks.js');
const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };
const launchers = [
  { name: 'mpirun.openmpi', more: ['--oversubscribe', '--bind-to', 'none'], rankVariable: 'OMPI_COMM_WORLD_RANK' },
  { name: 'mpirun.mpich', more: [], rankVariable: 'PMI_RANK' },
];
const isThere = (command, args) => spawnSync(command, args).status === 0;
const machine = ['--device', 'cpu', '--threads', '1', '--sample-length', '0', '--patience', '0'];
const model = ['--hidden', '16', '--batch-size', '48', '--seq-length', '7', '--epochs', '1000000'];

/** The ranks whose command line contains `marker`: rank to process id. */
function ranksWith(marker, rankVariable) {
  const found = new Map();
  for (const id of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readlinkSync(`/proc/${id}/exe`) !== process.execPath) continue;
      if (!readFileSync(`/proc/${id}/cmdline`, 'utf8').includes(marker)) continue;
      const environment = `\0${readFileSync(`/proc/${id}/environ`, 'utf8')}`;
      const rank = new RegExp(`\0${rankVariable}=(\\d+)\0`).exec(environment)?.[1];
      if (rank !== undefined) found.set(Number(rank), Number(id));
    } catch {
      // The process has ended.
    }
  }
  return found;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Runs two ranks; calls `begun` with all that they have printed so far until it returns the moment at which one has failed. Returns the
 * time from then until all have ended.
 */
async function timeOf({ name, more, rankVariable }, args, marker, begun, wrapper = []) {
  const [command, ...rest] = [...wrapper, name, ...more, '-n', '2', process.execPath, ...args];
  const child = spawn(command, rest, { env });
  let printed = '';
  let failed;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      printed += text;
      failed ??= begun(printed, () => ranksWith(marker, rankVariable));
    });
  }
  const code = await new Promise((resolve) => child.on('exit', (number, signal) => resolve(number ?? signal)));
  while (ranksWith(marker, rankVariable).size > 0) {
    if (failed !== undefined && performance.now() - failed > 10 * limit) break;
    await pause(5);
  }
  if (failed === undefined) throw new Error(`${name} ended with ${code} before a rank had failed: ${printed}`);
  if (code === 0) throw new Error(`${name} ended with 0 though a rank had failed`);
  return performance.now() - failed;
}

/** Checks that the run can be resumed: the last checkpoint is whole, and nobody holds the lock. */
function resume({ name, more }, out) {
  const args = ['train', '--resume', out, '--max-time', '1s', '--device', 'cpu', '--threads', '1', '--json'];
  const { status, stderr } = spawnSync(name, [...more, '-n', '2', process.execPath, main, ...args], { env });
  if (status !== 0) throw new Error(`${name}: a run was not resumed: ${stderr}`);
}

const ways = {
  'rank 0 is killed': (launcher, corpus, folder) => killed(0, launcher, corpus, folder),
  'rank 1 is killed': (launcher, corpus, folder) => killed(1, launcher, corpus, folder),
  'rank 1 throws': (launcher, corpus) =>
    timeOf(launcher, [program, 'throw', corpus], program, (printed) =>
      /rank 1 has had enough/.test(printed) ? performance.now() : undefined,
    ),
  'a full disk': fullDisk,
};

async function killed(rank, launcher, corpus, folder) {
  const out = join(folder, 'run');
  const args = [main, 'train', corpus, ...model, ...machine, '--out', out, '--json'];
  const time = await timeOf(launcher, args, out, (printed, ranks) => {
    if (!/"type":"epoch","epoch":2,/.test(printed)) return undefined;
    const id = ranks().get(rank);
    const now = performance.now();
    process.kill(id, 'SIGKILL');
    return now;
  });
  resume(launcher, out);
  return time;
}

async function fullDisk(launcher, corpus, folder) {
  if (!isThere('unshare', ['-rm', 'bash', '-c', 'mount -t tmpfs -o size=64k none /mnt'])) return undefined;
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  const script = 'mount -t tmpfs -o size=100k none "$1"; shift; "$@"';
  const wrapper = ['unshare', '-rm', 'bash', '-c', script, 'bash', disk];
  const args = [main, 'train', corpus, ...model, ...machine, '--out', join(disk, 'run')];
  const isFull = (printed) => (/no space is left/.test(printed) ? performance.now() : undefined);
  return timeOf(launcher, args, disk, isFull, wrapper);
}

async function measure(count, corpus, folder) {
  const report = {};
  for (const launcher of launchers.filter(({ name }) => isThere(name, ['--version']))) {
    for (const [way, once] of Object.entries(ways)) {
      const times = [];
      for (let round = 0; round < count; round++) {
        const time = await once(launcher, corpus, folder);
        if (time !== undefined) times.push(Math.round(time));
        for (const name of ['run', 'disk'])
          if (existsSync(join(folder, name))) rmSync(join(folder, name), { recursive: true });
      }
      report[`${launcher.name}: ${way}`] =
        times.length > 0 ? { longest: Math.max(...times), times } : 'not possible here';
    }
  }
  if (Object.keys(report).length === 0) throw new Error('no mpirun here (Debian: apt-get install openmpi-bin mpich)');
  return report;
}

const count = Number(process.argv[2] ?? 5);
void reportTimes(limit, (corpus, folder) => measure(count, corpus, folder));
