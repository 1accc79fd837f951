// Times this package from Node on a GPU: training steps of the reference recipe (2 x 256, T 100, windows, target last) and
// sampled characters. Prints one JSON object per line on stdout.
//
//   node bench/gpu/step.js [--addon build/Release/cudnn_lstm.node] [--seconds 1] [--batches 64,2048] [--tiny]
//
// --batches: only these, and no sampling. --tiny: a trivial model, to try the script itself.
const { join, resolve } = require('node:path');

const argument = (name, otherwise) =>
  process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : otherwise;
const addon = require(resolve(argument('--addon', join(__dirname, '..', '..', 'build', 'Release', 'cudnn_lstm.node'))));
const tiny = process.argv.includes('--tiny');
const seconds = Number(argument('--seconds', tiny ? '0.05' : '1'));
const chosen = argument('--batches', '');

const windows = 144_324;
const shape = {
  vocabulary: 47,
  layers: 2,
  hidden: tiny ? 6 : 256,
  input: 'scalar',
  embedding: 0,
  dropout: 0.2,
  seed: 1,
};
const steps = tiny ? 3 : 100;
const batches = tiny ? [2, 3] : chosen ? chosen.split(',').map(Number) : [64, 128, 512, 2048];
const streamCounts = tiny ? [1, 2] : [1, 64, 1024];
const characters = tiny ? 10 : 1000;

function ids(count) {
  const values = new Int32Array(count);
  let state = 1;
  for (let i = 0; i < count; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state >>> 8) % shape.vocabulary;
  }
  return values;
}

// Seconds per step: the median of calls of about 50 ms each, repeated until `seconds` have passed.
async function timeTraining(precision, batch, algorithm) {
  const model = await addon.createModel(shape, { device: 'cuda', precision, algorithm });
  await model.initialize();
  const call = (count) => ({
    ids: ids(count * (steps + 1) * batch),
    count,
    steps,
    batch,
    target: 'last',
    carryState: false,
    learningRates: new Float64Array(count).fill(1e-3),
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
    clip: 0,
  });
  await model.trainSteps(call(8));
  const probe = process.hrtime.bigint();
  await model.trainSteps(call(8));
  const each = Number(process.hrtime.bigint() - probe) / 8e9;
  const whole = call(Math.max(1, Math.min(256, Math.floor(0.05 / each))));
  const times = [];
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end || times.length < 5) {
    const start = process.hrtime.bigint();
    const result = await model.trainSteps(whole);
    times.push(Number(process.hrtime.bigint() - start) / 1e9 / whole.count);
    if (result.completed !== whole.count) throw new Error('a step was not applied');
  }
  times.sort((a, b) => a - b);
  const median = times[times.length >> 1];
  const entry = {
    precision,
    batch,
    algorithm,
    millisecondsPerStep: median * 1000,
    // The spread of the middle four fifths: a smaller difference is noise.
    spread: (times[Math.floor(times.length * 0.9)] - times[Math.floor(times.length * 0.1)]) / median,
    secondsPerEpoch: median * Math.ceil(windows / batch),
    deviceBytes: model.deviceBytes,
    ran: model.description,
  };
  model.dispose();
  return entry;
}

async function timeSampling(streams) {
  const model = await addon.createModel({ ...shape, input: 'onehot' }, { device: 'cuda', precision: 'tf32' });
  await model.initialize();
  const call = (count) => ({
    ids: ids(streams),
    streams,
    count,
    sampling: { seed: 1 },
  });
  await model.sample(call(16));
  const count = characters;
  const start = process.hrtime.bigint();
  await model.sample(call(count));
  const each = Number(process.hrtime.bigint() - start) / 1e3 / count;
  model.dispose();
  return { streams, microsecondsPerTick: each, microsecondsPerCharacter: each / streams };
}

async function main() {
  const info = await addon.cudaInfo();
  if (!info.available) throw new Error(info.reason);
  for (const algorithm of ['standard', 'auto']) {
    for (const precision of ['tf32', 'bf16', 'fp32', 'fp16']) {
      for (const batch of batches) console.log(JSON.stringify(await timeTraining(precision, batch, algorithm)));
    }
    if (chosen) return;
    if (algorithm === 'auto') continue;
    for (const streams of streamCounts) console.log(JSON.stringify(await timeSampling(streams)));
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
