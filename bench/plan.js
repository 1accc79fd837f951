// How good the plan of `--preset best` is: its loss compared with the best of many fixed configurations, drawn at random, that train on the
// same text for the same time. As many train at once as there are cores, on one thread each, so that all have the same machine.
//
//   node bench/plan.js                                    100 of 20 s on the package's bundled text: 17 minutes on two cores
//   node bench/plan.js --text book.txt --time 60 --count 20
//
// Use a text that the search (search.js) has not seen. Losses are those of the best checkpoint, on the same last tenth.
const { readFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { train } = require('../dist');
const { machine, median, rounded, writeResult } = require('./measured.js');

const { values } = parseArgs({
  options: {
    text: { type: 'string', default: path.join(__dirname, '..', 'corpora', 'the-lamplighters-road.txt') },
    time: { type: 'string', default: '20' },
    count: { type: 'string', default: '100' },
    /** How many times the plan trains, spread among the others, so that it is not judged by one moment of the machine. */
    plans: { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
    save: { type: 'boolean', default: false },
  },
});
const seconds = Number(values.time);
const [count, plans] = [Number(values.count), Number(values.plans)];
const text = readFileSync(values.text, 'utf8');
const cores = os.availableParallelism();
const fixed = { validation: 0.1, patience: 0, epochs: 1_000_000, sampleLength: 0, seed: 1, threads: 1, device: 'cpu' };

let state = Number(values.seed);
/** Uniform from 0 to below 1 (Numerical Recipes' generator). */
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
const oneOf = (list) => list[Math.floor(random() * list.length)];
/** Log-uniform. */
const between = (least, most) => least * (most / least) ** random();

/** What people try: sizes and rates of the usual recipes. */
const drawConfiguration = () => ({
  layers: oneOf([1, 2, 2, 3]),
  hidden: 8 * Math.round(between(32, 512) / 8),
  dropout: oneOf([0, 0.1, 0.2, 0.3, 0.5]),
  batchSize: oneOf([8, 16, 32, 64]),
  seqLength: oneOf([16, 20, 32, 50, 100]),
  learningRate: rounded(between(1e-3, 2e-2), 2),
});

async function lossOf(options) {
  const training = await train({ corpus: { text }, out: false, ...fixed, ...options });
  let best;
  let steps = 0;
  try {
    for await (const event of training) {
      if (event.type === 'end') best = event.best;
      if (event.type === 'step') steps = event.totalSteps;
    }
  } finally {
    await training.dispose();
  }
  return { loss: rounded(best.loss, 5), steps, options: training.configuration.options };
}

async function main() {
  const jobs = [];
  for (let i = 0; i < count; i++) {
    if (i % Math.ceil(count / plans) === 0) jobs.push({ planned: true });
    jobs.push({ planned: false, options: drawConfiguration() });
  }
  const results = [];
  const next = jobs.values();
  const worker = async () => {
    for (const { planned, options } of next) {
      const what = planned
        ? { preset: 'best', maxTime: seconds }
        : { ...options, schedule: 'wsd', scheduleTime: seconds };
      const result = await lossOf(what).catch((error) => ({ loss: Number.POSITIVE_INFINITY, failed: error.message }));
      results.push({ planned, ...result, options: planned && result.options ? pick(result.options) : options });
      console.log(
        `${results.length}/${jobs.length}  ${planned ? 'planned' : 'fixed'}  ${result.loss}  ${result.failed ?? JSON.stringify(results.at(-1).options)}`,
      );
    }
  };
  await Promise.all(Array.from({ length: cores }, worker));
  const losses = (planned) => results.filter((each) => each.planned === planned).map(({ loss }) => loss);
  const fixedBest = results.filter(({ planned }) => !planned).sort((a, b) => a.loss - b.loss);
  const ours = rounded(median(losses(true)), 5);
  console.log(`\nthe plan: ${ours} (${losses(true).join(', ')})`);
  console.log(
    `the best of ${count}: ${fixedBest
      .slice(0, 5)
      .map(({ loss }) => loss)
      .join(', ')} …, the median ${rounded(median(losses(false)), 5)}`,
  );
  console.log(`the plan is ${(ours - fixedBest[0].loss).toFixed(4)} nats per character from the best`);
  const result = {
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
    text: path.basename(values.text),
    characters: text.length,
    seconds,
    plan: ours,
    best: fixedBest[0].loss,
    results,
  };
  console.log(writeResult('plan', cores, result, values));
}

/** The options that configurations differ in. */
const varied = ['layers', 'hidden', 'dropout', 'batchSize', 'seqLength', 'learningRate', 'weightDecay'];
const pick = (options) => Object.fromEntries(varied.map((name) => [name, options[name]]));

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
