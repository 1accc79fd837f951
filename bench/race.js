// The race to the reference's best loss, 1.2341: trains the fast preset from scratch on Alice's Adventures in Wonderland, lower-cased, and
// scores it by the reference's own metric (mean nats of the 101st character given the 100 before it, from zero state, over all windows),
// with dropout on, as the reference reports it, and off.
//
//   node bench/race.js [--corpus FILE, default: alice] [--seeds 1,2,3] [--epochs 4] [--goal NATS] [-- more options of train]
//
// All seeds are trained before any is scored: scoring every window takes minutes, and warms the machine.
const { spawnSync } = require('node:child_process');
const { mkdtempSync, rmSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { measureQuality } = require('../dist/report/quality.js');
const { referenceRuns } = require('../dist/report/reference-figures.js');
const { corpusFile, corpusText } = require('./corpus.js');
const { machine, median, writeResult } = require('./measured.js');

const root = path.join(__dirname, '..');
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    corpus: { type: 'string', default: 'alice' },
    seeds: { type: 'string', default: '1,2,3' },
    epochs: { type: 'string', default: '4' },
    /** The loss that every seed must reach, instead of the reference's. */
    goal: { type: 'string' },
  },
});
const corpus = corpusFile(options.corpus);

const { bestLoss, runTime } = referenceRuns.find(({ epochs }) => epochs === 100);
const goal = Number(options.goal ?? bestLoss);
const text = corpusText(corpus);
const run = (command, args) => {
  const result = spawnSync(
    process.execPath,
    [path.join(root, 'dist', 'cli', 'main.js'), command, ...args.map(String)],
    {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  if (result.status !== 0) process.exit(result.status ?? 1);
  return result.stdout;
};

const recipe = ['--lowercase', '--validation', '0', '--epochs', options.epochs, '--sample-length', '0', ...positionals];
const runs = [];
const place = mkdtempSync(path.join(os.tmpdir(), 'cudnn-lstm-race-'));
const directoryOf = (seed) => path.join(place, String(seed));

/** The prompt that the samples continue: a window of the text, like the reference's. */
const from = Math.min(50_000, Math.max(0, [...text].length - 100));
const prompt = [...text].slice(from, from + 100).join('');

/** measureQuality's figures for 1,000 characters that the run's model writes. */
function sampleQuality(seed, sampling) {
  const sample = JSON.parse(
    run('sample', [directoryOf(seed), '--prompt', prompt, '--length', 1000, '--seed', 1, ...sampling, '--json']),
  );
  const { knownWords, longestCopy, loop } = measureQuality(sample.text, text);
  return {
    knownWords: Number(knownWords.toFixed(3)),
    longestCopy: longestCopy.characters,
    loops: loop !== undefined,
    text: sample.text,
  };
}

try {
  for (const seed of options.seeds.split(',').map(Number)) {
    const started = performance.now();
    const events = run('train', [corpus, ...recipe, '--seed', seed, '--out', directoryOf(seed), '--json'])
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const wallSeconds = (performance.now() - started) / 1000;
    const epochs = events.filter((event) => event.type === 'epoch');
    const seconds = epochs.reduce((sum, epoch) => sum + epoch.seconds, 0);
    runs.push({
      seed,
      trainingSeconds: Number(seconds.toFixed(1)),
      wallSeconds: Number(wallSeconds.toFixed(1)),
      curve: epochs.map((epoch) => Number(epoch.loss.toFixed(4))),
    });
    console.log(`seed ${seed}: ${seconds.toFixed(1)} s of training, ${wallSeconds.toFixed(1)} s from start to exit`);
  }
  for (const result of runs) {
    const score = JSON.parse(run('score', [directoryOf(result.seed), corpus, '--protocol', 'window', '--json']));
    Object.assign(result, {
      lossWithDropout: score.lossWithDropout,
      loss: score.loss,
      windows: score.windows ?? score.characters,
      samples: {
        greedy: sampleQuality(result.seed, ['--greedy']),
        temperature0_8: sampleQuality(result.seed, ['--temperature', 0.8]),
      },
    });
    console.log(
      `seed ${result.seed}: ${result.trainingSeconds} s of training, window loss ${result.lossWithDropout.toFixed(4)} with ` +
        `dropout, ${result.loss.toFixed(4)} without; the reference: ${bestLoss} after ${runTime} on a GPU`,
    );
  }
} finally {
  rmSync(place, { recursive: true, force: true });
}
const report = {
  date: new Date().toISOString().slice(0, 10),
  machine: machine(),
  recipe,
  goal,
  medianTrainingSeconds: median(runs.map((each) => each.trainingSeconds)),
  medianLossWithDropout: median(runs.map((each) => each.lossWithDropout)),
  runs,
};
console.log(
  `median of ${runs.length} seeds: ${report.medianTrainingSeconds} s of training, ${report.medianLossWithDropout.toFixed(4)}`,
);
console.log(writeResult('race', os.availableParallelism(), report, { save: true }));
process.exitCode = runs.every((each) => each.lossWithDropout <= goal) ? 0 : 1;
