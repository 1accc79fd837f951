// A busy machine: characters per second alongside 0, 1, 2 and 4 other busy processes, with each fixed number of threads and with the team
// that adapts (docs/adr/0014-adaptive-team.md), which should reach at least 0.9 of the best fixed number, and 0.8 if it may take four
// times as many threads as there are cores, or eight. All of them do each kind of work in turn, for several rounds; the table has the
// medians.
//
//   node bench/busy.js                            about seven minutes; --save writes bench/results/busy-<machine>.json
//   node bench/busy.js --busy 0,2 --work train16 --rounds 5 --seconds 2
const os = require('node:os');
const { parseArgs } = require('node:util');
const { loadNative } = require('../dist/device/native.js');
const { machine, median, rounded, startBusy, writeResult } = require('./measured.js');

const vocabulary = 65;
const shape = { vocabulary, layers: 2, hidden: 256, input: 'onehot', embedding: 0, dropout: 0.2, seed: 1 };

const train = (batch, steps, count) => async (model) => {
  const call = {
    ids: randomIds(count * (steps + 1) * batch),
    count,
    steps,
    batch,
    target: 'every',
    carryState: true,
    learningRates: new Float64Array(count).fill(1e-3),
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
    clip: 1,
  };
  await model.trainSteps(call);
  return count * steps * batch;
};

const sample = (streams, count, window) => async (model) => {
  const ids = randomIds(streams * (window || 1));
  await model.sample({ ids, streams, count, ...(window ? { window } : {}), sampling: { seed: 1 } });
  return streams * count;
};

// Calls last about as long as the library's own: 50 ms.
const works = {
  train16: { title: 'training, batch 16, T 20', run: train(16, 20, 3) },
  train64: { title: 'training, batch 64, T 100', run: train(64, 100, 1) },
  stream: { title: 'sampling, one stream', run: sample(1, 500) },
  streams: { title: 'sampling, sixteen streams', run: sample(16, 100) },
  window: { title: 'sampling, a window of 100', run: sample(1, 10, 100) },
};

const { values } = parseArgs({
  options: {
    busy: { type: 'string', default: '0,1,2,4' },
    work: { type: 'string', default: Object.keys(works).join() },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
    save: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const cores = os.availableParallelism();
const many = Math.max(8, 4 * cores);

const native = loadNative();

function randomIds(count) {
  let state = 12345;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * vocabulary);
  });
}

/** Fixed numbers of threads: all up to four, then doubling, up to the number of cores. */
function fixedCounts() {
  const counts = [];
  for (let threads = 1; threads < cores; threads += threads < 4 ? 1 : threads) counts.push(threads);
  return [...counts, cores];
}

const teams = [
  ...fixedCounts().map((threads) => ({ name: `${threads} fixed`, threads, team: 'fixed' })),
  { name: 'adapting', threads: cores, team: 'adapt' },
  { name: `adapting, --threads ${many}`, threads: many, team: 'adapt' },
];

/** Characters per second over at least `duration` seconds. */
async function speed(model, run, duration) {
  const start = process.hrtime.bigint();
  let characters = 0;
  for (;;) {
    characters += await run(model);
    const elapsed = Number(process.hrtime.bigint() - start) / 1e9;
    if (elapsed >= duration) return characters / elapsed;
  }
}

async function measure({ run }) {
  const models = [];
  for (const { threads, team } of teams) {
    const model = await native.createModel(shape, { device: 'cpu', threads, team });
    await model.initialize();
    models.push(model);
  }
  const speeds = teams.map(() => []);
  for (let round = -1; round < rounds; round++) {
    for (const [i, model] of models.entries()) {
      const reached = await speed(model, run, seconds);
      if (round >= 0) speeds[i].push(reached); // The first round warms up caches, and the adapting teams learn in it.
    }
  }
  for (const model of models) model.dispose();
  return speeds.map(median);
}

async function main() {
  const chosen = values.work.split(',').map((key) => {
    if (!works[key]) throw new Error(`--work takes ${Object.keys(works).join(', ')}, not ${key}`);
    return [key, works[key]];
  });
  const table = [];
  console.log(`| other busy processes | work | ${teams.map(({ name }) => name).join(' | ')} | adapting / best fixed |`);
  console.log(`|---|---|${teams.map(() => '---:|').join('')}---:|`);
  for (const busy of values.busy.split(',').map(Number)) {
    const stop = startBusy(busy);
    try {
      for (const [key, work] of chosen) {
        const speeds = await measure(work);
        const best = Math.max(...speeds.slice(0, -2));
        const shares = speeds.slice(-2).map((each) => rounded(each / best, 3));
        table.push({ busy, work: key, charactersPerSecond: speeds.map(Math.round), shares });
        const cells = [busy, work.title, ...speeds.map((each) => Math.round(each).toLocaleString('en'))];
        console.log(`| ${cells.join(' | ')} | ${shares.map((share) => share.toFixed(2)).join(', ')} |`);
      }
    } finally {
      stop();
    }
  }
  const result = {
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
    loadAverageAtEnd: os.loadavg().map((each) => rounded(each, 3)),
    rounds,
    seconds,
    teams: teams.map(({ name }) => name),
    table,
  };
  console.log(`\n${writeResult('busy', cores, result, values)}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
