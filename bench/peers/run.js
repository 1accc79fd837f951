// This package compared with its peers on the CPU: the same model on the same data, each peer paired with this package in one run,
// the two taking turns, so that whatever else the machine does affects both alike. A ratio is the peer's time over ours in one round.
//
//   node bench/peers/run.js --save                          both recipes, all peers; writes bench/results/peers-<machine>.json
//   node bench/peers/run.js --peers torch,keras --recipe proj-basic --python ~/venv/bin/python
//   node bench/peers/run.js --rounds 3 --steps 2
//   node bench/peers/run.js --busy 0,2                      alone, and then alongside two processes that spin
//   node bench/peers/run.js --peers package                 this package against itself: how certain a ratio is
//
// Recipes: `proj-basic` is the reference's (windows, loss at the last position); its characters are sampled as the reference samples
// them, by sliding the window. `fast` is the default of this package (streams, loss at every position, carried state); its
// characters are sampled with the state carried on. A peer that cannot run is listed with the reason.
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const { presets } = require('../../dist/training/presets.js');
const { jobOf, stepsPerEpoch, syntheticIds } = require('./jobs.js');
const { machine, median, rounded, startBusy, writeResult } = require('../measured.js');
const { PeerProcess } = require('./peer-process.js');

const { values: options } = parseArgs({
  options: {
    peers: { type: 'string', default: 'torch,keras,tfjs-node,tfjs-wasm' },
    recipe: { type: 'string', default: 'proj-basic,fast' },
    rounds: { type: 'string', default: '7' },
    /** Training steps per turn; default: as many as take about `seconds`. */
    steps: { type: 'string' },
    seconds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    /** The number of other processes, which spin alongside both. */
    busy: { type: 'string', default: '0' },
    /** Replaces the recipe's batch size. */
    batch: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    save: { type: 'boolean', default: false },
  },
});

const script = (name) => path.join(__dirname, name);
const ours = [process.execPath, script('package_peer.js')];
const commands = {
  package: ours,
  torch: [options.python, script('torch_peer.py')],
  keras: [options.python, script('keras_peer.py')],
  'tfjs-node': [process.execPath, script('tfjs_peer.js'), 'node'],
  'tfjs-wasm': [process.execPath, script('tfjs_peer.js'), 'wasm'],
};
/** Milliseconds between two turns, for threads that spin before they sleep. */
const pause = 300;

const threads = Number(options.threads);
const rounds = Number(options.rounds);
const names = options.peers.split(',');
const unknown = names.filter((name) => !(name in commands));
if (unknown.length > 0) {
  console.error(`no such peer: ${unknown.join(', ')}; there are ${Object.keys(commands).join(', ')}`);
  process.exit(2);
}
const recipeNames = options.recipe.split(',');
const unknownRecipes = recipeNames.filter((name) => !(name in presets));
if (unknownRecipes.length > 0) {
  console.error(`no such recipe: ${unknownRecipes.join(', ')}; there are ${Object.keys(presets).join(', ')}`);
  process.exit(2);
}

const start = ([command, ...args], job) => PeerProcess.start(command, args, job);

/** How many units of what `ask` does fit into one turn, going by the second try of a few. */
async function turnSize(ask, few) {
  await ask(few);
  const { each } = await ask(few);
  return Math.max(1, Math.round(Number(options.seconds) / each));
}

/** Lets both sides take turns: the median seconds of each side, and the ratio of each round. */
async function takeTurns(own, peer, few, fixed) {
  const sides = [];
  for (const ask of [own, peer]) sides.push({ ask, size: fixed ?? (await turnSize(ask, few)), seconds: [] });
  for (let round = 0; round < rounds; round++) {
    for (const { ask, size, seconds } of sides) {
      await sleep(pause);
      seconds.push((await ask(size)).each);
    }
  }
  const [ours, theirs] = sides.map(({ seconds }) => seconds);
  const ratios = ours.map((each, round) => theirs[round] / each);
  return {
    ours: rounded(median(ours), 4),
    peer: rounded(median(theirs), 4),
    ratio: {
      median: rounded(median(ratios), 4),
      min: rounded(Math.min(...ratios), 4),
      max: rounded(Math.max(...ratios), 4),
    },
  };
}

/**
 * Checks, before timing, that both train the same model to the same end. The ids are random, so an early loss is that of a guess,
 * ln V; PyTorch's second bias in each layer is under 1 % of the parameters.
 */
async function checkSameWork(own, peer, job) {
  if (Math.abs(peer.about.parameters / own.about.parameters - 1) > 0.01) {
    throw new Error(`another model: ${peer.about.parameters} parameters instead of ${own.about.parameters}`);
  }
  const guess = Math.log(job.vocabulary);
  for (const side of [own, peer]) {
    const { loss } = await side.train(1);
    if (!(Math.abs(loss - guess) < 0.3)) {
      throw new Error(`${side.about.name} starts at a loss of ${loss} instead of about ${guess.toFixed(2)}`);
    }
  }
}

/** Runs a pair: this package and one peer, both alive, take turns at training and then at sampling. */
async function comparePair(name, job) {
  const peer = await start(commands[name], job);
  try {
    const own = await start(ours, job);
    try {
      await checkSameWork(own, peer, job);
      const steps = options.steps === undefined ? undefined : Number(options.steps);
      const training = await takeTurns(own.train, peer.train, 1, steps);
      const sampling = await takeTurns(own.sample, peer.sample, 3, undefined);
      const microseconds = (seconds) => rounded(seconds * 1e6, 4);
      const perEpoch = stepsPerEpoch(job);
      return {
        peer: { id: name, ...peer.about },
        ours: own.about,
        secondsPerStep: { ours: training.ours, peer: training.peer },
        secondsPerEpoch: { ours: rounded(training.ours * perEpoch, 4), peer: rounded(training.peer * perEpoch, 4) },
        trainingRatio: training.ratio,
        microsecondsPerCharacter: { ours: microseconds(sampling.ours), peer: microseconds(sampling.peer) },
        samplingRatio: sampling.ratio,
      };
    } finally {
      await own.stop();
    }
  } finally {
    await peer.stop();
  }
}

const span = ({ median: middle, min, max }) => `${middle.toFixed(2)} x (${min.toFixed(2)} .. ${max.toFixed(2)})`;

function printPair(pair) {
  const row = (what, { ours: own, peer }, ratio) =>
    console.log(
      `  ${what.padEnd(28)}${String(peer).padStart(12)}${String(own).padStart(12)}   ${ratio === undefined ? '' : span(ratio)}`,
    );
  const versions = Object.entries(pair.peer.versions).map(([name, version]) => `${name} ${version}`);
  console.log(`\n  ${pair.peer.name} (${versions.join(', ')}; ${pair.peer.settings})`);
  console.log(`  ${''.padEnd(28)}${pair.peer.name.padStart(12)}${'ours'.padStart(12)}   ratio (min .. max of rounds)`);
  row('s / step', pair.secondsPerStep, pair.trainingRatio);
  row('s / epoch', pair.secondsPerEpoch);
  row('us / sampled character', pair.microsecondsPerCharacter, pair.samplingRatio);
}

async function compareRecipe(recipe, busy, ids) {
  const batch = options.batch === undefined ? undefined : Number(options.batch);
  const job = jobOf(recipe, { batch, threads, ids });
  console.log(
    `\n${recipe}: batch ${job.batch}, T ${job.steps}, ${job.input} input, target ${job.target}, ` +
      `${job.layers} x ${job.hidden}, ${stepsPerEpoch(job)} steps per epoch; ${threads} thread(s)` +
      (busy > 0 ? `, beside ${busy} busy process(es)` : ''),
  );
  const pairs = [];
  const missing = [];
  for (const name of names) {
    try {
      const pair = await comparePair(name, job);
      printPair(pair);
      pairs.push(pair);
    } catch (error) {
      console.log(`\n  ${name}: did not run: ${error.message}`);
      missing.push({ peer: name, why: error.message });
    }
  }
  const { ids: _, ...what } = job;
  return { job: { ...what, stepsPerEpoch: stepsPerEpoch(job) }, busy, pairs, missing };
}

async function main() {
  const [load] = os.loadavg();
  if (load > 0.5)
    console.log(`something else runs on this machine (load ${load.toFixed(1)}): ratios will be less sure`);
  const place = mkdtempSync(path.join(os.tmpdir(), 'cudnn-lstm-peers-'));
  const ids = path.join(place, 'ids');
  try {
    writeFileSync(ids, syntheticIds());
    const recipes = [];
    for (const busy of options.busy.split(',').map(Number)) {
      const stop = startBusy(busy);
      try {
        for (const recipe of recipeNames) recipes.push(await compareRecipe(recipe, busy, ids));
      } finally {
        stop();
      }
    }
    const result = {
      date: new Date().toISOString().slice(0, 10),
      machine: machine(),
      loadAtStart: rounded(load, 2),
      threads,
      rounds,
      recipes,
    };
    if (recipes.every(({ pairs }) => pairs.length === 0)) throw new Error('no peer ran: nothing is written');
    console.log(`\n${writeResult('peers', threads, result, options)}`);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
