/**
 * Loads the addon only in worker threads, one after another, each of which trains and ends: `worker-only.js ADDON DEVICE`. The main thread
 * never loads it, so Node closes the library with the last worker that has it. Prints as JSON how often it is mapped after each.
 */
const { readFileSync } = require('node:fs');
const { basename } = require('node:path');
const { Worker, isMainThread, workerData } = require('node:worker_threads');

const shape = { vocabulary: 31, layers: 2, hidden: 16, input: 'onehot', embedding: 0, dropout: 0.2, seed: 3 };

async function train({ addon, device }) {
  const model = await require(addon).createModel(shape, { device, ...(device === 'cpu' && { threads: 2 }) });
  await model.initialize();
  const [count, steps, batch] = [4, 6, 5];
  const { completed } = await model.trainSteps({
    ids: Int32Array.from({ length: count * (steps + 1) * batch }, (_, i) => (i * i) % shape.vocabulary),
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
  });
  if (completed !== count) throw new Error(`${completed} steps of ${count}`);
  model.dispose();
}

async function main(addon, device) {
  const mapped = [];
  for (let i = 0; i < 3; i += 1) {
    const worker = new Worker(__filename, { workerData: { addon, device } });
    await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    mapped.push(readFileSync('/proc/self/maps', 'utf8').split(basename(addon)).length - 1);
  }
  console.log(JSON.stringify(mapped));
}

void (isMainThread ? main(process.argv[2], process.argv[3]) : train(workerData));
