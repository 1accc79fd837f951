// Joins the control group that it is given and trains there; waits for a line on standard input before each of three rounds, and after
// each prints what the addon made of the quota, as a line of JSON.
const { readdirSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { createInterface } = require('node:readline');
const { setTimeout: wait } = require('node:timers/promises');
const { loadNative } = require('../../../dist/device/native.js');
const { call, spec } = require('./short-training.js');

const native = loadNative();

const threadsOfProcess = () => readdirSync('/proc/self/task').length;

async function main() {
  writeFileSync(join(process.argv[2], 'cgroup.procs'), String(process.pid));
  const model = await native.createModel(spec, { device: 'cpu', threads: 4 });
  await model.initialize();
  let round = 0;
  for await (const _ of createInterface({ input: process.stdin })) {
    await wait(1200); // The allowance is looked up once a second.
    const before = threadsOfProcess();
    await model.trainSteps(call);
    const made = threadsOfProcess() - before; // No thread ends before the model does.
    const { quota, threads } = native.cpuAllowance();
    process.stdout.write(`${JSON.stringify({ quota, threads, said: /(\d+) threads?,/.exec(model.description)[1], made })}\n`);
    round++;
    if (round === 3) break;
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
