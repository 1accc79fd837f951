// What a program may do to a model at any time: a second call, stop, dispose, two models at once, a worker that is terminated, an
// exit in mid-call. Plain Node and the addon only, like parity.js.
//
//   node test/gpu/lifecycle.js [--addon build/Release/cudnn_lstm.node] [--device cuda|cpu]
const { spawnSync } = require('node:child_process');
const { join, resolve } = require('node:path');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');

const argument = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined);
const addonPath = resolve(argument('--addon') ?? join(__dirname, '..', '..', 'build', 'Release', 'cudnn_lstm.node'));
const device = argument('--device') ?? 'cuda';
const addon = require(addonPath);

const shape = { vocabulary: 31, layers: 2, hidden: 32, input: 'onehot', embedding: 0, dropout: 0.2, seed: 3 };
const [steps, batch] = [8, 6];
let failures = 0;

function expect(ok, what) {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${what}`);
  if (!ok) failures += 1;
}

async function makeModel() {
  const model = await addon.createModel(shape, { device, ...(device === 'cuda' ? { algorithm: 'standard' } : { threads: 1 }) });
  await model.initialize();
  return model;
}

function trainCall(count) {
  const ids = Int32Array.from({ length: count * (steps + 1) * batch }, (_, i) => (i * i + (i >> 4)) % shape.vocabulary);
  const learningRates = new Float64Array(count).fill(1e-3);
  return { ids, count, steps, batch, target: 'every', carryState: true, learningRates, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, clip: 1 };
}
const code = (promise) =>
  promise.then(
    () => undefined,
    (error) => error.code,
  );
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const long = 1 << 17; // steps: far more than anyone would wait for

// Node waits for the running call before it ends a thread or a process, so programs make short ones (docs/adr/0005).
async function trainForever(model, call, soon) {
  while (true) {
    await model.trainSteps(call);
    soon?.();
    soon = undefined;
  }
}

async function inMidCall() {
  const model = await makeModel();
  const running = model.trainSteps(trainCall(long));
  let busy;
  try {
    busy = await code(model.trainSteps(trainCall(1)));
  } catch (error) {
    busy = error.code;
  }
  expect(busy === 'ERR_BUSY', `a second call: ${busy}`);
  await pause(50);
  model.stop();
  const result = await running;
  expect(result.stopped && result.completed < long, `stopped after ${result.completed} steps`);
  expect(model.stepCount === result.completed, 'the steps completed are counted');
  expect((await model.trainSteps(trainCall(3))).completed === 3, 'a stopped model trains again');

  const given = model.trainSteps(trainCall(long));
  await pause(50);
  model.dispose();
  model.dispose();
  expect((await given).completed < long, 'disposed of in mid-call');
  let disposed;
  try {
    model.read('parameters');
  } catch (error) {
    disposed = error.code;
  }
  expect(disposed === 'ERR_DISPOSED', `a call after it: ${disposed}`);
}

async function twoAtOnce() {
  const models = [await makeModel(), await makeModel(), await makeModel()];
  await models[0].trainSteps(trainCall(40));
  await Promise.all(models.slice(1).map((model) => model.trainSteps(trainCall(40))));
  const [alone, ...together] = models.map((model) => Buffer.from(model.read('parameters').buffer));
  for (const one of together) expect(alone.equals(one), 'two models at once have the bits of one alone');
  for (const model of models) model.dispose();
}

async function inWorkers() {
  const worker = new Worker(__filename, { argv: process.argv.slice(2) });
  await new Promise((started) => worker.once('message', started));
  await pause(50);
  // It trains for ever: the test is that this returns.
  await worker.terminate();
  const model = await makeModel();
  expect((await model.trainSteps(trainCall(3))).completed === 3, 'other threads train');
  model.dispose();
}

function exitInMidCall() {
  const script = `
    const call = ${trainCall}; const [shape, steps, batch] = ${JSON.stringify([shape, steps, batch])};
    require(process.argv[1]).createModel(shape, { device: process.argv[2] }).then(async (model) => {
      await model.initialize();
      (${trainForever})(model, call(8)).catch(() => {});
      setTimeout(() => process.exit(7), 100);
    });`;
  const result = spawnSync(process.execPath, ['-e', script, addonPath, device], { encoding: 'utf8', timeout: 60_000 });
  expect(result.status === 7, `an exit in mid-call: ${result.signal ?? result.status} ${result.stderr}`);
}

async function main() {
  await inMidCall();
  await twoAtOnce();
  await inWorkers();
  exitInMidCall();
  console.log(failures === 0 ? 'all passed' : `${failures} FAILED`);
  process.exitCode = failures === 0 ? 0 : 1;
}

if (isMainThread) {
  main().catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
} else {
  void makeModel()
    .then((model) => trainForever(model, trainCall(8), () => parentPort.postMessage('started')))
    .catch(() => {});
}
