/**
 * Loads the package in worker threads that train, and terminates them at any moment: `workers.js COUNT`. Then one worker calls
 * process.exit() in the middle of a long step, and another is terminated there. Prints what happened as JSON.
 */
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { setTimeout: pause } = require('node:timers/promises');
const { createModel, createSlowModel, slowCall, trainCall, trainForever } = require('./model');

const call = trainCall({ count: 8 });

async function terminateOne(index) {
  const worker = new Worker(__filename, { workerData: 'train' });
  const failed = new Promise((_, reject) => worker.once('error', reject));
  failed.catch(() => {});
  const training = new Promise((resolve) => worker.once('message', resolve));
  // Every fourth worker at any point of its start, the others while they train.
  if (index % 4 === 3) await Promise.race([pause(Math.random() * 300), failed]);
  else {
    await Promise.race([training, failed]);
    await pause(Math.random() * 40);
  }
  await Promise.race([worker.terminate(), failed]);
}

/** Ends a worker in the middle of a long step: its exit code, and the processor time used until then. */
async function endInMidStep(how) {
  const worker = new Worker(__filename, { workerData: how });
  const ended = new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
  await new Promise((resolve) => worker.once('message', resolve));
  const before = process.cpuUsage();
  if (how === 'terminate') await worker.terminate();
  return { code: await ended, microseconds: microsecondsSince(before) };
}

/** Processor time of the whole process. */
function microsecondsSince(before) {
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

async function wholeStep() {
  const model = await createSlowModel();
  const before = process.cpuUsage();
  await model.trainSteps(slowCall());
  const microseconds = microsecondsSince(before);
  model.dispose();
  return microseconds;
}

async function main(count) {
  const model = await createModel();
  await model.trainSteps(call);
  let next = 0;
  const series = async () => {
    while (next < count) await terminateOne(next++);
  };
  await Promise.all([series(), series()]);
  const ends = { exit: await endInMidStep('exit'), terminate: await endInMidStep('terminate') };
  const step = await wholeStep();
  const { completed } = await model.trainSteps(call); // The models of other threads do not affect this one.
  model.dispose();
  console.log(JSON.stringify({ terminated: next, ends, step, completed }));
}

async function train() {
  await trainForever(await createModel(), call, () => parentPort.postMessage('training'));
}

async function trainUntilEnded(how) {
  await trainForever(await createSlowModel(), slowCall(), () =>
    setTimeout(() => {
      parentPort.postMessage('in a step');
      if (how === 'exit') process.exit(3);
    }, 50),
  );
}

void (isMainThread ? main(Number(process.argv[2])) : workerData === 'train' ? train() : trainUntilEnded(workerData));
