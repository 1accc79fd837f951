// Trains through the library as one of several ranks, and does what the first argument says:
//   throw        rank 1 throws in mid-training
//   hang         rank 1 stops taking part
//   trap         a WebAssembly trap after MPI has begun, caught like any other error
//   worker       a worker asks for a second communicator
//   drift        the weights of rank 1 change in mid-training
//   validation   rank 1 is aborted in the last validation of a run whose time is up
//   plan         rank 1 is aborted at several moments of a dry run
// The last three print the outcome on each rank.
const { readFileSync } = require('node:fs');
const { isMainThread, Worker } = require('node:worker_threads');
const [what, corpus] = process.argv.slice(2);
const { train } = require('../../../dist/index.js');
const { joinRanks, openTraining, planTraining } = require('../../../dist/advanced.js');
const { nativeOf } = require('../../../dist/model.js');

async function main() {
  const ranks = await joinRanks();
  if (what === 'trap') {
    // (module (func (export "f") (drop (i32.load (i32.const -1)))) (memory 1)): out of bounds.
    const bytes = Uint8Array.from([
      0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, 102, 0, 0, 10, 10, 1, 8, 0,
      65, 127, 40, 2, 0, 26, 11,
    ]);
    try {
      new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.f();
    } catch (error) {
      if (ranks.first) console.log(error.message);
    }
    return ranks.leave();
  }
  if (what === 'worker') {
    const said = await new Promise((resolve) => new Worker(__filename, { argv: process.argv.slice(2) }).on('message', resolve));
    if (ranks.first) console.log(said);
    return ranks.leave();
  }
  const options = { hidden: 16, layers: 1, batchSize: 32, seqLength: 10, sampleLength: 0, epochs: 1000, patience: 0, threads: 1 };
  const request = { ...options, device: 'cpu', corpus: [corpus], out: false, ranks };
  if (what === 'drift') {
    const training = await train(request);
    await tell(ranks, async () => {
      for await (const event of training) {
        if (event.type !== 'epoch' || event.epoch < 2 || ranks.rank !== 1) continue;
        const parameters = nativeOf(training.model).read('parameters');
        parameters[0] += 1e-6;
        nativeOf(training.model).write('parameters', parameters);
      }
    });
    return ranks.leave();
  }
  if (what === 'validation') {
    const controller = new AbortController();
    // The time runs out within the first epoch, and nothing is scored before that.
    const text = readFileSync(corpus, 'utf8').repeat(500);
    const timed = { validation: 0.001, validationEvery: 1000, maxTime: 0.3, signal: controller.signal };
    const training = await train({ ...request, ...timed, corpus: { text } });
    const native = nativeOf(training.model);
    const evaluate = native.evaluate;
    native.evaluate = function (...args) {
      if (ranks.rank === 1) controller.abort(Object.assign(new Error('enough'), { exitCode: 143 }));
      return evaluate.apply(this, args);
    };
    await tell(ranks, async () => {
      for await (const _ of training);
    });
    return ranks.leave();
  }
  if (what === 'plan') {
    const { corpus: _, out, ranks: __, ...named } = request;
    const training = await openTraining({ corpus: [corpus], options: named, save: false, ranks });
    for (const milliseconds of [undefined, 0, 50, 200, 500, 700, 900]) {
      const controller = new AbortController();
      const abort = () => controller.abort(Object.assign(new Error('enough'), { exitCode: 143 }));
      const timer = milliseconds !== undefined && ranks.rank === 1 ? setTimeout(abort, milliseconds) : undefined;
      await tell(ranks, async () => {
        await planTraining(training, controller.signal);
      });
      clearTimeout(timer);
    }
    return ranks.leave();
  }
  const training = await train(request);
  for await (const event of training) {
    if (event.type !== 'epoch' || event.epoch < 2 || ranks.rank !== 1) continue;
    if (what === 'throw') throw new Error('rank 1 has had enough');
    await new Promise((resolve) => setTimeout(resolve, 600_000));
  }
}

/** Prints, on rank 0, the outcome of a job on each rank: `rank 1: enough (143)`. */
async function tell(ranks, job) {
  const mine = await job().then(
    (value) => String(value ?? 'done'),
    (error) => `${error.message} (${error.exitCode})`,
  );
  const all = await ranks.gatherJson('told', mine);
  if (ranks.first) console.log(all.map((text, rank) => `rank ${rank}: ${text}`).join('; '));
}

async function inWorker() {
  const { parentPort } = require('node:worker_threads');
  parentPort.postMessage(await joinRanks().then(() => 'joined', (error) => `${error.exitCode} ${error.message}`));
}

void (isMainThread ? main() : inWorker());
