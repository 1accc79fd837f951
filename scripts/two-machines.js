#!/usr/bin/env node
/**
 * Runs a command as if on the first of two machines, `first` and `second`, joined only by a network: each has its own network namespace
 * (one end of a veth pair), name, address, processes and shared memory. However this ends, the kernel removes the namespaces and whatever
 * still runs in them. Needs Linux, root or user namespaces, and iproute2.
 *
 *   scripts/two-machines.js [--rate 1gbit] [--patience 60] COMMAND [ARGUMENT...]
 *   scripts/two-machines.js --check     exits with 0 if that can be done, otherwise says what is missing
 *
 * The launchers of Open MPI and MPICH start processes on both: --host first:2,second:2 and -hosts first:2,second:2. --rate applies to each
 * direction, in tc's notation. While COMMAND runs, a line on standard input breaks the network:
 *
 *   cut    the cable of the second machine is pulled
 *   drop   nothing arrives any more, and neither side is told
 *
 * Waits until COMMAND and everything it has started on both machines have ended, but no longer than --patience seconds after its end or the
 * cut. The last line on stderr is JSON: COMMAND's exit code, which is also this program's (null: it has not ended); the bytes that crossed
 * the network; the milliseconds from the cut, or else from the start, to the end of each process; and what has not ended (exit code 124).
 */
const { execFileSync, spawn, spawnSync } = require('node:child_process');
const { readdirSync, readFileSync, statSync, writeFileSync } = require('node:fs');
const { constants } = require('node:os');
const { createInterface } = require('node:readline');

const apart = ['--net', '--uts', '--ipc', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
const asRoot = process.getuid?.() === 0 ? [] : ['--map-root-user'];
const addresses = { first: '10.77.0.1', second: '10.77.0.2' };
/** Milliseconds between two checks of what is running. */
const interval = 50;

function fail(why) {
  console.error(`two-machines: ${why}`);
  process.exit(69);
}

/** Exits unless this machine can do everything that is needed. */
function check() {
  if (process.platform !== 'linux') fail('there are no namespaces but on Linux');
  for (const tool of ['unshare', 'nsenter', 'ip'])
    if (spawnSync('which', [tool]).status !== 0) fail(`no ${tool} (Debian: apt-get install util-linux iproute2)`);
  const script = 'mount -t tmpfs none /mnt && ip link add one type veth peer name other';
  if (spawnSync('unshare', [...asRoot, ...apart, 'sh', '-c', script]).status !== 0)
    fail('this user may not make namespaces with a network');
}

function parse(argv) {
  const options = { patience: '60' };
  const rest = [...argv];
  while (rest[0]?.startsWith('--')) {
    const name = rest.shift().slice(2);
    if (!['check', 'rate', 'patience'].includes(name)) fail(`there is no --${name}`);
    options[name] = name === 'check' ? true : rest.shift();
  }
  if (rest.length === 0 && !options.check) fail('a command must follow');
  return { ...options, command: rest };
}

/** Runs this script again, in namespaces of its own. */
async function outside(options) {
  check();
  if (options.check) return;
  const inner = spawn('unshare', [...asRoot, ...apart, process.execPath, __filename, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, TWO_MACHINES: 'inside' },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => inner.kill('SIGKILL'));
  inner.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

const run = (command, ...args) => execFileSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Makes the second machine: a process, by its id here, that keeps its namespaces, and the prefix that runs a command there. */
async function makeSecond() {
  const keep = 'hostname second && mount -t tmpfs none /dev/shm && echo ready && exec sleep infinity';
  const keeper = spawn('unshare', [...apart, 'sh', '-c', keep], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => keeper.stdout.once('data', resolve));
  const [id] = readFileSync(`/proc/${keeper.pid}/task/${keeper.pid}/children`, 'utf8').trim().split(' ');
  return {
    ids: [keeper.pid, Number(id)],
    enter: ['nsenter', '--target', id, '--net', '--uts', '--ipc', '--mount', '--pid', '--'],
  };
}

/** Gives both hosts their names, and connects them by a network. */
function connect({ ids, enter }, rate) {
  const hosts = Object.entries({ localhost: '127.0.0.1', ...addresses });
  writeFileSync('/mnt/hosts', hosts.map(([name, address]) => `${address} ${name}\n`).join(''));
  run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(ids[1]));
  // Bursts of at most twice the largest packet that the kernel hands to a device.
  const bucket = ['burst', '128kb', 'latency', '100ms'];
  for (const [name, on] of Object.entries({ first: [], second: enter })) {
    run(...on, 'mount', '--bind', '/mnt/hosts', '/etc/hosts');
    run(...on, 'ip', 'link', 'set', 'lo', 'up');
    run(...on, 'ip', 'address', 'add', `${addresses[name]}/24`, 'dev', 'eth0');
    run(...on, 'ip', 'link', 'set', 'eth0', 'up');
    if (rate) run(...on, 'tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', 'rate', rate, ...bucket);
  }
}

/** Waits until the kernel reports both ends as running, up to a second after they are up: some programs ignore an interface until then. */
async function whenRunning({ enter }) {
  for (const on of [[], enter]) {
    const show = [...on, 'ip', '-oneline', 'link', 'show', 'dev', 'eth0'];
    while (!/ state UP /.test(execFileSync(show[0], show.slice(1), { encoding: 'utf8' }))) await pause(10);
  }
}

const failures = {
  cut: ({ enter }) => run(...enter, 'ip', 'link', 'set', 'eth0', 'down'),
  // Sends everything to a MAC address that no interface has.
  drop: ({ enter }) => {
    for (const [on, other] of [
      [[], addresses.second],
      [enter, addresses.first],
    ]) {
      const nobody = ['lladdr', '02:00:00:00:00:01', 'nud', 'permanent'];
      run(...on, 'ip', 'neighbour', 'replace', other, ...nobody, 'dev', 'eth0');
    }
  },
};

/** Writes the stand-in for ssh: [option...] HOST COMMAND... */
function writeAgent(path, enter) {
  const lines = [
    '#!/bin/sh',
    'while case $1 in -*) true ;; *) false ;; esac do shift; done',
    'host=$1',
    'shift',
    `[ "$host" != second ] || exec ${enter.join(' ')} sh -c "$*"`,
    'exec sh -c "$*"',
    '',
  ];
  writeFileSync(path, lines.join('\n'), { mode: 0o755 });
}

/** The processes of both machines except this program's own: id to a name such as `node on first`. */
function processes(own) {
  const network = statSync('/proc/1/ns/net').ino;
  const found = new Map();
  for (const id of readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)) {
    try {
      const [, name, state] = /^\d+ \((.*)\) (\S)/s.exec(readFileSync(`/proc/${id}/stat`, 'utf8'));
      if (state === 'Z' || own.has(id)) continue;
      found.set(id, `${name} on ${statSync(`/proc/${id}/ns/net`).ino === network ? 'first' : 'second'}`);
    } catch {
      // The process has ended.
    }
  }
  return found;
}

/** Counts both directions. */
function bytesCrossed() {
  const [, received, sent] = /eth0:\s*(\d+)(?:\s+\d+){7}\s+(\d+)/.exec(readFileSync('/proc/net/dev', 'utf8'));
  return Number(received) + Number(sent);
}

async function inside({ command, rate, patience }) {
  process.on('disconnect', () => process.exit(69)); // The process outside has gone.
  run('hostname', 'first');
  run('mount', '-t', 'tmpfs', 'none', '/dev/shm');
  run('mount', '-t', 'tmpfs', 'none', '/mnt');
  const second = await makeSecond();
  connect(second, rate);
  await whenRunning(second);
  const agent = '/mnt/ssh';
  writeAgent(agent, second.enter);
  const child = spawn(command[0], command.slice(1), {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: {
      ...process.env,
      TWO_MACHINES: '',
      NODE_CHANNEL_FD: undefined, // The channel to the process outside.
      OMPI_ALLOW_RUN_AS_ROOT: '1',
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
      OMPI_MCA_plm_rsh_agent: agent,
      OMPI_MCA_oob_tcp_if_include: 'eth0',
      OMPI_MCA_btl_tcp_if_include: 'eth0',
      HYDRA_LAUNCHER: 'ssh',
      HYDRA_LAUNCHER_EXEC: agent,
      HYDRA_IFACE: 'eth0',
      OMPI_MCA_orte_tmpdir_base: '/mnt/sessions',
      UCX_TLS: 'tcp,self',
      UCX_NET_DEVICES: 'eth0',
    },
  });
  let counted = performance.now();
  let patientUntil = Number.POSITIVE_INFINITY;
  let code = null;
  const beginPatience = () => {
    patientUntil = performance.now() + 1000 * Number(patience);
  };
  child.on('error', (error) => fail(error.message));
  child.on('exit', (number, signal) => {
    code = number ?? 128 + constants.signals[signal];
    beginPatience();
  });
  createInterface({ input: process.stdin }).on('line', (line) => {
    if (failures[line] === undefined) return;
    counted = performance.now();
    failures[line](second);
    beginPatience();
  });

  const own = new Set([1, ...second.ids]);
  const ended = [];
  let running = processes(own);
  while ((running.size > 0 || code === null) && performance.now() < patientUntil) {
    await pause(interval);
    const before = running;
    running = processes(own);
    const time = Math.round(performance.now() - counted);
    for (const [id, name] of before) if (!running.has(id)) ended.push([name, time]);
  }
  const left = [...running.values()];
  console.error(JSON.stringify({ code, bytes: bytesCrossed(), ended, left }));
  process.exit(left.length > 0 ? 124 : (code ?? 124));
}

const options = parse(process.argv.slice(2));
void (process.env.TWO_MACHINES === 'inside' ? inside(options) : outside(options));
