/**
 * Creates models, trains each for one step and gives it up: `node --expose-gc memory.js COUNT dispose|drop|unasked`. Prints as JSON the
 * growth of resident memory, its largest growth on the way, and how much all the models held together, in MiB.
 *
 * dispose: by dispose(). drop: only the collector frees them, run at the end. unasked: it is not run either.
 */
const { setTimeout: pause } = require('node:timers/promises');
const { createModel, trainCall } = require('./model');

const call = trainCall({ steps: 32, batch: 32 });
const mebibytes = (bytes) => Math.round(bytes / 2 ** 20);
let collected = 0;
const registry = new FinalizationRegistry(() => {
  collected++;
});

async function useModel(how) {
  const model = await createModel({ hidden: 128, weights: false });
  await model.trainSteps(call);
  const held = model.hostBytes;
  if (how === 'dispose') model.dispose();
  registry.register(model, undefined);
  return held;
}

/** Resident memory once all garbage has been collected. */
async function settled() {
  for (let i = 0; i < 4; i++) {
    global.gc();
    await pause(20); // Finalizers run on the event loop.
  }
  return process.memoryUsage.rss();
}

async function main(count, how) {
  for (let i = 0; i < 20; i++) await useModel(how);
  const before = await settled();
  collected = 0;
  let [held, peak] = [0, 0];
  for (let i = 0; i < count; i++) {
    held += await useModel(how);
    peak = Math.max(peak, process.memoryUsage.rss());
  }
  const after = how === 'unasked' ? process.memoryUsage.rss() : await settled();
  const report = { growth: mebibytes(after - before), peak: mebibytes(peak - before), held: mebibytes(held), collected };
  console.log(JSON.stringify(report));
}

void main(Number(process.argv[2]), process.argv[3]);
