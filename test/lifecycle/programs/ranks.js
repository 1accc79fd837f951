// Trains by the library as one of several ranks, and does what the first argument says:
//   throw        rank 1 throws in mid-training
//   hang         rank 1 stops taking part
//   trap         a WebAssembly trap after MPI has begun, caught as any other error
//   worker       a worker asks for a second communicator
const { isMainThread, Worker } = require('node:worker_threads');
const [what, corpus] = process.argv.slice(2);
const { train } = require('../../../dist/index.js');
const { joinRanks } = require('../../../dist/advanced.js');

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
  const training = await train({ ...options, device: 'cpu', corpus: [corpus], out: false, ranks });
  for await (const event of training) {
    if (event.type !== 'epoch' || event.epoch < 2 || ranks.rank !== 1) continue;
    if (what === 'throw') throw new Error('rank 1 has had enough');
    await new Promise((resolve) => setTimeout(resolve, 600_000));
  }
}

async function inWorker() {
  const { parentPort } = require('node:worker_threads');
  parentPort.postMessage(await joinRanks().then(() => 'joined', (error) => `${error.exitCode} ${error.message}`));
}

void (isMainThread ? main() : inWorker());
