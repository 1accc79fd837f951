// Tests whether the fast preset is worse than the reference's recipe on text that neither has seen: both train on the first 90 % of Alice's
// Adventures in Wonderland, lower-cased, and keep the checkpoint that is best on the last 10 %; then both are scored on that tail
// by the reference's metric (the 101st character given the 100 before it, from zero state), dropout off.
//
//   node bench/held-out.js [--corpus FILE, default: alice] [--seeds 1,2,3] [--epochs 50] [--max-time 12h]
//
// The reference's recipe takes hours: its run is kept in runs/held-out, and the same command resumes it. The result says how far it is.
const { spawnSync } = require('node:child_process');
const { existsSync, mkdirSync, readFileSync, writeFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { corpusFile, corpusText } = require('./corpus.js');
const { machine, median, rounded, writeResult } = require('./measured.js');

const root = path.join(__dirname, '..');
const { values: options } = parseArgs({
  options: {
    corpus: { type: 'string', default: 'alice' },
    /** Seeds of the fast preset; the reference's recipe runs once, with the first. */
    seeds: { type: 'string', default: '1,2,3' },
    /** Epochs of the reference's recipe. */
    epochs: { type: 'string', default: '50' },
    /** How long the reference's recipe may train in this invocation; 0: only score what there is. */
    'max-time': { type: 'string', default: '12h' },
  },
});
const corpus = corpusFile(options.corpus);
const place = path.join(root, 'runs', 'held-out');
mkdirSync(place, { recursive: true });
const characters = [...corpusText(corpus)];
const tail = path.join(place, 'tail.txt');
const validation = Math.floor(characters.length * 0.1);
const window = 100;
// Includes the window before it, so that every character of the tail is scored.
writeFileSync(tail, characters.slice(-validation - window).join(''));

function run(command, args) {
  const argv = [path.join(root, 'dist', 'cli', 'main.js'), command, ...args.map(String)];
  const result = spawnSync(process.execPath, argv, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (result.status !== 0) process.exit(result.status ?? 1);
  return result.stdout;
}

/** Trains, or resumes where an earlier invocation stopped, and scores the best checkpoint. */
function measure(directory, recipe) {
  const out = path.join(place, directory);
  const metrics = path.join(out, 'metrics.jsonl');
  const begun = existsSync(metrics) ? ['--resume', out] : [];
  run('train', [corpus, '--lowercase', '--validation', 0.1, '--sample-length', 0, '--out', out, ...recipe, ...begun]);
  const epochs = readFileSync(metrics, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter((event) => event.type === 'epoch');
  if (epochs.length === 0) return undefined;
  const best = epochs.reduce((a, b) => (b.validationLoss < a.validationLoss ? b : a));
  const score = JSON.parse(run('score', [out, tail, '--protocol', 'window', '--json']));
  return {
    epochs: epochs.length,
    bestEpoch: best.epoch,
    trainingSecondsToBest: rounded(
      epochs.filter((each) => each.epoch <= best.epoch).reduce((sum, each) => sum + each.seconds, 0),
      4,
    ),
    secondsPerEpoch: rounded(median(epochs.map((each) => each.seconds)), 4),
    windows: score.windows ?? score.characters,
    heldOutLoss: rounded(score.loss, 5),
    curve: epochs.map(({ loss, validationLoss }) => [rounded(loss, 5), rounded(validationLoss, 5)]),
  };
}

const [firstSeed, ...otherSeeds] = options.seeds.split(',').map(Number);
const fast = [firstSeed, ...otherSeeds].map((seed) => ({ seed, ...measure(`fast-${seed}`, ['--seed', seed]) }));
const recipe = [
  '--preset',
  'proj-basic',
  '--epochs',
  options.epochs,
  '--seed',
  firstSeed,
  '--max-time',
  options['max-time'],
];
const projBasic = measure('proj-basic', recipe);
const result = {
  date: new Date().toISOString().slice(0, 10),
  machine: machine(),
  training: characters.length - validation,
  heldOut: validation,
  curveColumns: ['training loss, dropout on', 'validation loss, each preset by its own protocol'],
  fast: { medianHeldOutLoss: median(fast.map((each) => each.heldOutLoss)), runs: fast },
  projBasic: projBasic && {
    partial: projBasic.epochs < Number(options.epochs),
    ofEpochs: Number(options.epochs),
    ...projBasic,
  },
};
console.log(
  `fast: ${result.fast.medianHeldOutLoss} nats per character of the tail, median of ${fast.length} seeds; proj-basic: ` +
    (projBasic
      ? `${projBasic.heldOutLoss} after ${projBasic.epochs} of ${options.epochs} epochs, best at ${projBasic.bestEpoch}`
      : 'no epoch yet'),
);
console.log(writeResult('held-out', os.availableParallelism(), result, { save: true }));
