/**
 * Runs everything that allocates, once each and to its end, failures included, for the leak sanitizer (scripts/sanitize.sh): memory
 * that the addon allocated and that is still allocated when this process ends is a leak. Prints "done".
 */
const { setTimeout: pause } = require('node:timers/promises');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');
const { loadNative } = require('../../../dist/device/native');
const { createModel, trainCall, trainForever } = require('./model');

const ids = Int32Array.of(1, 2, 3, 4, 5, 6);
const sampling = { topK: 3, topP: 0.9, minP: 0.01, repetitionPenalty: 1.1, penaltyWindow: 4, seed: 1 };
const evaluation = { ids, steps: 2, batch: 2, target: 'every', carryState: true, dropout: true, maskStep: 3 };
const shape = { vocabulary: 31, layers: 2, hidden: 24, input: 'onehot', embedding: 0, dropout: 0.2, seed: 3 };
const cpu = { device: 'cpu', threads: 2 };

async function refused(code, job) {
  try {
    await job();
  } catch (error) {
    if (error.code === code) return;
    throw error;
  }
  throw new Error(`${code} was expected`);
}

async function useEverything(input) {
  const embedding = input === 'embedding' ? 5 : 0;
  const model = await loadNative().createModel({ ...shape, input, embedding }, cpu);
  await model.initialize();
  for (const target of ['every', 'last']) {
    await model.trainSteps({ ...trainCall({ count: 2 }), target });
    await model.trainSteps({ ...trainCall({ batch: 40 }), target });
    await model.evaluate({ ...evaluation, target });
  }
  await model.evaluate({ ...evaluation, ids: ids.slice(3), batch: 1, dropout: false });
  for (const streams of [1, 3]) {
    const first = await model.sample({ sampling, ids: ids.slice(3), streams, count: 5 });
    const each = Array.from({ length: streams }, (_, stream) => ({ ...sampling, stream, position: 5, history: ids, allowed: ids, biasedIds: ids, biases: new Float32Array(6) }));
    await model.sample({ sampling: each, ids: first.ids, streams, count: 3, state: first.state, rivals: 4 });
    await model.sample({ sampling, ids, streams, count: 3, window: 2 });
    await model.logits({ ids, streams });
  }
  for (const slot of ['parameters', 'gradients', 'firstMoments', 'secondMoments', 'trainingState', 'streamState']) {
    const values = model.read(slot);
    if (slot !== 'gradients') model.write(slot, values);
  }
  return [model.description, model.parameters, model.hostBytes, model.deviceBytes, model.parameterCount, model.stepCount, model];
}

async function failEveryWay() {
  const addon = loadNative();
  await refused('ERR_INVALID_ARGUMENT', () => addon.createModel({ ...shape, input: 'none' }, cpu));
  await refused('ERR_INVALID_ARGUMENT', () => addon.createModel(shape, { device: 'tpu' }));
  const model = (await useEverything('onehot')).at(-1);
  await refused('ERR_INVALID_ARGUMENT', () => model.trainSteps({ ...trainCall(), ids: Int32Array.of(99) }));
  await refused('ERR_INVALID_ARGUMENT', () => model.evaluate({ ...evaluation, steps: 7 }));
  await refused('ERR_INVALID_ARGUMENT', () => model.write('parameters', new Float32Array(1)));
  const running = model.trainSteps(trainCall({ count: 1 << 14 }));
  await refused('ERR_BUSY', () => model.evaluate(evaluation));
  await pause(20);
  model.dispose();
  await running;
  await refused('ERR_DISPOSED', () => model.evaluate(evaluation));
}

async function dropModels() {
  for (let i = 0; i < 5; i++) await (await createModel()).trainSteps(trainCall());
  global.gc?.();
  await pause(20);
}

async function useWorkers() {
  for (const how of ['terminated', 'ends']) {
    const worker = new Worker(__filename, { argv: [how] });
    const ended = new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    await new Promise((resolve) => worker.once('message', resolve));
    if (how === 'terminated') {
      await pause(20);
      await worker.terminate();
    }
    await ended;
  }
}

async function main() {
  for (const input of ['scalar', 'onehot', 'embedding']) (await useEverything(input)).at(-1).dispose();
  await failEveryWay();
  await dropModels();
  await useWorkers();
  await loadNative().cudaInfo();
  await loadNative().measurePeak(2, 20);
  console.log('done');
  await trainForever(await createModel(), trainCall(), () => setTimeout(() => process.exit(0), 20)); // Cut off in mid-step.
}

async function work(how) {
  const model = await createModel();
  await model.trainSteps(trainCall());
  if (how === 'ends') return parentPort.postMessage('ends');
  await trainForever(model, trainCall(), () => parentPort.postMessage('training'));
}

void (isMainThread ? main() : work(process.argv[2]));
