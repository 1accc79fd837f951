/**
 * Trains with checkpoints, loads, samples and scores, again and again: `node --expose-gc soak.js SECONDS`. A sixth of the time is warm-up.
 * Prints as JSON how resident memory, measured after every round once all garbage is collected, changed in the rest.
 */
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const { LanguageModel } = require('../../../dist');
const { openTraining } = require('../../../dist/advanced');

async function round(folder, corpus, index) {
  const out = join(folder, `run-${index}`);
  const options = {
    ...{ hidden: 64, layers: 2, batchSize: 16, seqLength: 24, epochs: 3, patience: 0, sampleLength: 50, saveEvery: 0.2 },
    ...{ validation: 0.1, device: 'cpu', threads: 2, target: index % 2 === 0 ? 'every' : 'last', out },
  };
  const training = await openTraining({ corpus: [corpus], options });
  for await (const _ of training);
  await training.dispose();
  const model = await LanguageModel.load(out, { device: 'cpu', threads: 2 });
  for await (const _ of model.generate({ prompt: 'a sheep', length: 300, seed: index }));
  await model.score('a sheep and a goat went over the hill\n'.repeat(20));
  if (index % 3 > 0) model.dispose(); // The collector frees the others.
  rmSync(out, { recursive: true });
}

async function residentMemory() {
  for (let i = 0; i < 4; i++) {
    global.gc();
    await pause(20); // Finalizers run on the event loop.
  }
  return process.memoryUsage.rss() / 2 ** 20;
}

/** Slope of the least-squares line through the points. */
function slopeOf(points) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [x, y] = [mean(points.map(([at]) => at)), mean(points.map(([, value]) => value))];
  const products = points.reduce((sum, [at, value]) => sum + (at - x) * (value - y), 0);
  return products / points.reduce((sum, [at]) => sum + (at - x) ** 2, 0);
}

async function main(seconds) {
  const folder = mkdtempSync(join(tmpdir(), 'soak-'));
  const corpus = join(folder, 'corpus.txt');
  writeFileSync(corpus, 'a sheep and a goat went over the hill and far away\n'.repeat(30));
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const points = [];
  let rounds = 0;
  try {
    for (; elapsed() < seconds; rounds++) {
      await round(folder, corpus, rounds);
      const resident = await residentMemory();
      if (elapsed() > seconds / 6) points.push([elapsed(), resident]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const values = points.map(([, value]) => value);
  const report = {
    rounds,
    seconds: elapsed(),
    slope: slopeOf(points) * 3600,
    spread: Math.max(...values) - Math.min(...values),
  };
  console.log(JSON.stringify(report));
}

void main(Number(process.argv[2]));
