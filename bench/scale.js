// Two ranks of one thread each against one process of two threads, taking turns, and the time to sum their gradients.
//
//   node bench/scale.js [--rounds 7] [--seconds 4] [--ranks 2] [--cpus 0,1] [--launcher mpirun] [--save]
//
// Runs under each of mpirun.openmpi and mpirun.mpich that is installed, else under mpirun, or only under --launcher. The ratio is the
// process's time per step over the ranks': 1 means that ranks cost nothing. One machine does not need ranks; the figures show what they
// cost before a network adds to it. The order alternates from round to round; the first second of each training (--warm-up), in which it
// settles, is left out. --cpus, one per rank, keeps both sides on the same CPUs (taskset): a machine with more would give them neighbours
// of different speed. --sizes measures other models: hidden units, batch, length (such as 512x64x20,256x32x20).
const { spawnSync } = require('node:child_process');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { machine, median, writeResult } = require('./measured.js');

/** The default sizes, with the ratio that two ranks should reach. */
const ordinary = [
  { hidden: 512, batchSize: 64, seqLength: 20, bar: 0.9 },
  { hidden: 256, batchSize: 32, seqLength: 20, bar: 0.85 },
];

/** Trains for some seconds, leaving out the first; prints milliseconds per step and microseconds per sum. */
async function measure({ seconds, warmUp, threads, bar: _, ...size }) {
  const { train } = require('../dist');
  const { joinRanks } = require('../dist/advanced.js');
  const ranks = await joinRanks();
  const training = await train({
    ...size,
    threads,
    device: 'cpu',
    corpus: [path.join(__dirname, '..', 'corpora', 'the-lamplighters-road.txt')],
    validation: 0,
    sampleLength: 0,
    epochs: 1_000_000,
    maxTime: 1 + warmUp + seconds,
    out: false,
    ranks,
  });
  let began;
  let first;
  let last;
  for await (const { type, totalSteps } of training) {
    if (type !== 'step') continue;
    last = { time: performance.now(), totalSteps };
    began ??= last.time;
    if (!first && last.time - began > 1000 * warmUp) first = last;
  }
  if (first === undefined || first === last) throw new Error('too few steps were done: --seconds takes more');
  const microseconds = await ranks?.measureSum(training.model.parameterCount, 50);
  await training.dispose();
  await ranks?.leave();
  if (ranks?.first === false) return;
  console.log(JSON.stringify({ step: (last.time - first.time) / (last.totalSteps - first.totalSteps), microseconds }));
}

function run(cpus, command, args) {
  if (cpus !== undefined) return run(undefined, 'taskset', ['--cpu-list', cpus, command, ...args]);
  const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env });
  if (status !== 0) throw new Error(`${command} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

const isThere = (command) => spawnSync(command, ['--version']).status === 0;

function main({ rounds, seconds, warmUp, ranks, cpus, save, launcher: asked, sizes }) {
  const both = ['mpirun.openmpi', 'mpirun.mpich'].filter(isThere);
  const launchers = asked ? [asked] : both.length > 0 ? both : ['mpirun'].filter(isThere);
  if (launchers.length === 0) throw new Error('no mpirun here (Debian: apt-get install openmpi-bin mpich)');
  const program = (size, threads) => [__filename, '--measure', JSON.stringify({ ...size, seconds, warmUp, threads })];
  const results = [];
  for (const launcher of launchers) {
    const isOpenMpi = /open/i.test(String(spawnSync(launcher, ['--version']).stdout));
    const more = isOpenMpi ? ['--oversubscribe', '--bind-to', 'none'] : [];
    for (const size of sizes) {
      const taken = { process: [], ranks: [], microseconds: [] };
      const turns = [
        () => taken.process.push(run(cpus, process.execPath, program(size, ranks)).step),
        () => {
          const args = [...more, '-n', String(ranks), process.execPath, ...program(size, 1)];
          const { step, microseconds } = run(cpus, launcher, args);
          taken.ranks.push(step);
          taken.microseconds.push(microseconds);
        },
      ];
      for (let round = 0; round < rounds; round++) for (const turn of turns.reverse()) turn();
      const ratio = median(taken.process.map((step, round) => step / taken.ranks[round]));
      results.push({ launcher, ...size, ratio, ...taken });
      console.log(
        `${launcher}, hidden ${size.hidden}, batch ${size.batchSize}, T ${size.seqLength}: one process of ${ranks} threads ${median(taken.process).toFixed(2)} ms, ` +
          `${ranks} ranks of one ${median(taken.ranks).toFixed(2)} ms, ratio ${ratio.toFixed(3)}${ranks === 2 && size.bar ? ` (to reach: ${size.bar})` : ''}; a sum ${median(taken.microseconds).toFixed(0)} µs (best ${Math.min(...taken.microseconds).toFixed(0)})`,
      );
    }
  }
  console.log(writeResult('scale', ranks, { machine: machine(), rounds, seconds, ranks, cpus, results }, { save }));
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '4' },
    'warm-up': { type: 'string', default: '1' },
    sizes: { type: 'string' },
    launcher: { type: 'string' },
    ranks: { type: 'string', default: '2' },
    cpus: { type: 'string' },
    save: { type: 'boolean', default: false },
    measure: { type: 'string' },
  },
});
if (values.measure) void measure(JSON.parse(values.measure));
else
  main({
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    warmUp: Number(values['warm-up']),
    launcher: values.launcher,
    sizes:
      values.sizes?.split(',').map((each) => {
        const [hidden, batchSize, seqLength] = each.split('x').map(Number);
        return { hidden, batchSize, seqLength };
      }) ?? ordinary,
    ranks: Number(values.ranks),
    cpus: values.cpus,
    save: values.save,
  });
