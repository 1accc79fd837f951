// Tests whether proj-basic learns as Keras does: the mean training loss of the first epochs, for several seeds of each, on a cut of a
// corpus small enough to wait for. Losses do not depend on how busy the machine is.
//
//   node bench/peers/spread.js [--corpus FILE] [--characters 3100] [--epochs 5] [--seeds 5] [--python ~/venv/bin/python] [--save]
//   node bench/peers/spread.js --recorded bench/results/keras-spread-<cpu>-<threads>.json      judges recorded runs again
//
// Exits with 1 if at any epoch our mean is further from Keras's mean than three standard errors of their difference (Welch's: for
// two means, each with its own variance), or if a first batch, before any update, is not at the loss of a guess.
// Two groups of five seeds of the same program differ by more in 1.7 % of cases at a given epoch, and in 93 % if one program's losses
// are higher by three standard deviations. Whether our mean lies between Keras's minimum and maximum loss is shown, but does not
// decide: with one and the same program, it lies outside at 14 % of the epochs.
const { spawn } = require('node:child_process');
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { createInterface } = require('node:readline');
const { parseArgs } = require('node:util');
const { openCorpus } = require('../../dist/corpus/corpus.js');
const { packageVersion } = require('../../dist/version.js');
const { machine, mean, rounded, standardDeviation, writeResult } = require('../measured.js');

const root = path.join(__dirname, '..', '..');
const { values: options } = parseArgs({
  options: {
    corpus: { type: 'string', default: 'alice' },
    characters: { type: 'string', default: '3100' },
    epochs: { type: 'string', default: '5' },
    seeds: { type: 'string', default: '5' },
    /** The first seed of both sides; another one gives runs that nobody has seen yet. */
    'first-seed': { type: 'string', default: '1' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    python: { type: 'string', default: 'python3' },
    /** A result file: judges the runs in it by today's rule and writes the verdict back; trains nothing. */
    recorded: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
});
const epochs = Number(options.epochs);
if (!(Number(options.seeds) >= 3)) {
  console.error(`--seeds ${options.seeds}: at least 3, a spread needs them`);
  process.exit(2);
}
const firstSeed = Number(options['first-seed']);
const seeds = Array.from({ length: Number(options.seeds) }, (_, i) => firstSeed + i);
/** How far a first batch may be from ln V, in nats: the weights are small, not zero. */
const guessTolerance = 0.05;
/** How far apart the two means may be. */
const standardErrors = 3;

/** Runs a command and passes each line of its stdout, a JSON object, to `each`. */
async function jsonLines(command, args, each) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr = `${stderr}${data}`.slice(-10_000);
  });
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  ended.catch(() => {});
  for await (const line of createInterface({ input: child.stdout })) each(JSON.parse(line));
  const status = await ended;
  if (status !== 0)
    throw new Error(`${path.basename(command)}: ${stderr.trim().split('\n').at(-1) || `exit ${status}`}`);
}

/** Writes the first characters of the corpus, as the preset prepares it, to a separate file. */
async function cutCorpus(place) {
  const corpus = await openCorpus([options.corpus], { lowercase: true });
  try {
    const count = Number(options.characters);
    if (count > corpus.length) throw new Error(`${options.corpus} has ${corpus.length} characters, not ${count}`);
    const file = path.join(place, 'cut.txt');
    writeFileSync(file, corpus.vocabulary.decode(corpus.ids.read(0, count)));
    return file;
  } finally {
    corpus.close();
  }
}

async function runKeras(cut) {
  const runs = [];
  let about;
  const args = [
    path.join(__dirname, 'keras_epochs.py'),
    cut,
    '--epochs',
    epochs,
    '--seeds',
    seeds,
    '--threads',
    options.threads,
  ];
  await jsonLines(options.python, args.map(String), (line) => {
    if (about === undefined) about = line;
    else {
      runs.push(line);
      console.log(`Keras seed ${line.seed}: ${line.losses.map((loss) => loss.toFixed(4)).join(' ')}`);
    }
  });
  return { about, runs };
}

async function runOurs(cut, place) {
  const runs = [];
  let symbols;
  for (const seed of seeds) {
    const run = { seed, firstLoss: undefined, losses: [] };
    const flags = {
      preset: 'proj-basic',
      gutenberg: 'keep',
      device: 'cpu',
      epochs,
      seed,
      threads: options.threads,
      'sample-length': 0,
      'save-every': 0,
      out: path.join(place, String(seed)),
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    await jsonLines(process.execPath, [path.join(root, 'dist', 'train.js'), cut, '--json', ...args], (event) => {
      if (event.type === 'start') symbols = event.corpus.symbols;
      // The first call to the device is one step.
      if (event.type === 'step' && event.totalSteps === 1) run.firstLoss = event.loss;
      if (event.type === 'epoch') run.losses.push(event.loss);
    });
    runs.push(run);
    console.log(`ours  seed ${seed}: ${run.losses.map((loss) => loss.toFixed(4)).join(' ')}`);
  }
  return { symbols, runs };
}

const summary = (losses) => ({
  min: rounded(Math.min(...losses), 6),
  max: rounded(Math.max(...losses), 6),
  mean: rounded(mean(losses), 6),
  standardDeviation: rounded(standardDeviation(losses), 4),
});

function compareEpochs(keras, ours) {
  return keras[0].losses.map((_, i) => {
    const [theirs, own] = [keras, ours].map((runs) => summary(runs.map((run) => run.losses[i])));
    const difference = own.mean - theirs.mean;
    const standardError = Math.sqrt(
      own.standardDeviation ** 2 / ours.length + theirs.standardDeviation ** 2 / keras.length,
    );
    return {
      epoch: i + 1,
      keras: theirs,
      ours: own,
      meanWithinRange: own.mean >= theirs.min && own.mean <= theirs.max,
      standardErrors: rounded(difference / standardError, 3),
      within: Math.abs(difference) <= standardErrors * standardError,
    };
  });
}

function print(comparison) {
  const cells = ({ min, max, mean: middle, standardDeviation: deviation }) =>
    `${min.toFixed(4)} .. ${max.toFixed(4)}   ${middle.toFixed(4)} +- ${deviation.toFixed(4)}`;
  const header = 'min .. max         mean +- s.d.';
  console.log(
    `\nepoch  Keras: ${header.padEnd(34)}ours: ${header.padEnd(35)}within min .. max  standard errors apart  verdict`,
  );
  for (const each of comparison) {
    console.log(
      `${String(each.epoch).padStart(5)}  ${cells(each.keras).padEnd(41)}${cells(each.ours).padEnd(41)}` +
        `${(each.meanWithinRange ? 'yes' : 'no').padEnd(19)}${each.standardErrors.toFixed(2).padStart(6).padEnd(23)}` +
        `${each.within ? 'within' : 'OUTSIDE'}`,
    );
  }
}

/** Trains both; returns { date, machine, versions, corpus, runs: { keras, ours } }. */
async function trainBoth() {
  const place = mkdtempSync(path.join(os.tmpdir(), 'cudnn-lstm-spread-'));
  try {
    const cut = await cutCorpus(place);
    const ours = await runOurs(cut, place);
    const keras = await runKeras(cut);
    if (ours.symbols !== keras.about.symbols) {
      throw new Error(`the alphabets differ: ${ours.symbols} symbols here, ${keras.about.symbols} in Keras`);
    }
    const { symbols, windows, ...versions } = keras.about;
    return {
      date: new Date().toISOString().slice(0, 10),
      machine: machine(),
      versions: { 'cudnn-lstm': packageVersion, ...versions },
      corpus: { file: path.basename(options.corpus), characters: Number(options.characters), symbols, windows },
      runs: { keras: keras.runs, ours: ours.runs },
    };
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** Prints and returns the verdict on runs. */
function judge({ corpus, runs }) {
  const comparison = compareEpochs(runs.keras, runs.ours);
  print(comparison);
  const guess = Math.log(corpus.symbols);
  const farthest = (side) => rounded(Math.max(...side.map((run) => Math.abs(run.firstLoss - guess))), 4);
  const firstBatch = {
    guess: rounded(guess, 6),
    farthest: { keras: farthest(runs.keras), ours: farthest(runs.ours) },
  };
  console.log(
    `\nfirst batch: at most ${firstBatch.farthest.keras} (Keras) and ${firstBatch.farthest.ours} (ours) nats from ` +
      `ln ${corpus.symbols} = ${guess.toFixed(4)}`,
  );
  return {
    criterion: `means at most ${standardErrors} standard errors of their difference apart`,
    within:
      comparison.every((epoch) => epoch.within) &&
      Object.values(firstBatch.farthest).every((distance) => distance <= guessTolerance),
    firstBatch,
    comparison,
  };
}

async function main() {
  const recorded = options.recorded && JSON.parse(readFileSync(options.recorded, 'utf8'));
  const { date, machine: where, versions, corpus, runs } = recorded ?? (await trainBoth());
  const verdict = judge({ corpus, runs });
  const result = { date, machine: where, versions, corpus, recipe: 'proj-basic', ...verdict, runs };
  if (recorded) writeFileSync(options.recorded, `${JSON.stringify(result, null, 2)}\n`);
  else console.log(writeResult('keras-spread', options.threads, result, options));
  process.exitCode = verdict.within ? 0 : 1;
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
