// Trains while the affinity of the whole process narrows to one CPU and widens again; prints as JSON what the addon made of it.
const { execFileSync } = require('node:child_process');
const { setTimeout: wait } = require('node:timers/promises');
const { loadNative } = require('../../../dist/device/native.js');
const { call, spec } = require('./short-training.js');

const native = loadNative();

/** Trains for a while; returns the number of CPUs available and of threads that the model reports. */
async function train(model) {
  await model.trainSteps(call);
  await wait(1200); // The allowance is looked up once a second.
  await model.trainSteps(call);
  return { cpus: native.cpuAllowance().cpus, threads: Number(/(\d+) threads?,/.exec(model.description)[1]) };
}

async function main() {
  const mask = execFileSync('taskset', ['-p', '-c', String(process.pid)], { encoding: 'utf8' }).split(': ')[1].trim();
  const narrowTo = (list) => execFileSync('taskset', ['-a', '-p', '-c', list, String(process.pid)]);
  const model = await native.createModel(spec, { device: 'cpu', threads: 4 });
  const one = await native.createModel(spec, { device: 'cpu', threads: 1 });
  for (const each of [model, one]) await each.initialize();
  const before = await train(model);
  narrowTo(mask.split(/[,-]/)[0]);
  const narrow = await train(model);
  narrowTo(mask);
  const after = await train(model);
  for (let i = 0; i < 3; i++) await train(one);
  const same = Buffer.from(model.read('parameters').buffer).equals(Buffer.from(one.read('parameters').buffer));
  process.stdout.write(JSON.stringify({ before, narrow, after, same }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
