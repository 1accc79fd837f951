// The race to the seed's best loss, 1.2341: the fast preset from nothing on Alice's Adventures in Wonderland, lower-cased, scored
// by the seed's own metric (mean nats of the 101st character given the 100 before it, from zero state, over all windows), with
// dropout on, as the seed reports it, and off.
//
//   node bench/race.js [--corpus FILE] [--seeds 1,2,3] [--epochs 6] [-- more options of train]
const { spawnSync } = require('node:child_process');
const { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');

const root = path.join(__dirname, '..');
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    corpus: { type: 'string', default: path.join(root, '..', 'shared', 'corpora', 'wonderland.txt') },
    seeds: { type: 'string', default: '1,2,3' },
    epochs: { type: 'string', default: '6' },
  },
});
if (!existsSync(options.corpus)) {
  console.error(`no corpus at ${options.corpus}: give one with --corpus`);
  process.exit(3);
}

const goal = 1.2341;
const run = (file, args) => {
  const result = spawnSync(process.execPath, [path.join(root, 'dist', file), ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (result.status !== 0) process.exit(result.status ?? 1);
  return result.stdout;
};

const recipe = ['--lowercase', '--validation', '0', '--epochs', options.epochs, '--sample-length', '0', ...positionals];
const runs = [];
const place = mkdtempSync(path.join(os.tmpdir(), 'cudnn-lstm-race-'));
try {
  for (const seed of options.seeds.split(',')) {
    const out = path.join(place, seed);
    const events = run('train.js', [options.corpus, ...recipe, '--seed', seed, '--out', out, '--json'])
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const epochs = events.filter((event) => event.type === 'epoch');
    const seconds = epochs.reduce((sum, epoch) => sum + epoch.seconds, 0);
    const score = JSON.parse(run('score.js', [out, options.corpus, '--protocol', 'window', '--json']));
    const result = {
      seed: Number(seed),
      trainingSeconds: Number(seconds.toFixed(1)),
      wallSeconds: Number(epochs.at(-1).elapsedSeconds.toFixed(1)),
      lossWithDropout: score.lossWithDropout,
      loss: score.loss,
      windows: score.characters ?? score.windows,
      curve: epochs.map((epoch) => Number(epoch.loss.toFixed(4))),
    };
    runs.push(result);
    console.log(
      `seed ${seed}: ${result.trainingSeconds} s of training, window loss ${result.lossWithDropout.toFixed(4)} with dropout, ` +
        `${result.loss.toFixed(4)} without; the seed system's best: ${goal} after 42,012 s on a GPU`,
    );
  }
} finally {
  rmSync(place, { recursive: true, force: true });
}
const machine = { cpu: os.cpus()[0]?.model ?? 'unknown', cores: os.availableParallelism(), node: process.version };
const report = { date: new Date().toISOString().slice(0, 10), machine, recipe, goal, runs };
const directory = path.join(__dirname, 'results');
mkdirSync(directory, { recursive: true });
const name = `race-${machine.cpu.replace(/[^A-Za-z0-9]+/g, '-').toLowerCase()}-${machine.cores}.json`;
writeFileSync(path.join(directory, name), `${JSON.stringify(report, null, 2)}\n`);
console.log(`written to ${path.join('bench', 'results', name)}`);
process.exitCode = runs.every((each) => each.lossWithDropout <= goal) ? 0 : 1;
