// The CPU backend against the machine's own ceiling: the whole training step as a share of the FMA peak measured in the same run,
// an epoch of the reference's recipe, characters per second of the default recipe, microseconds per sampled character.
//
//   npm run bench                         prints a table
//   npm run bench -- --save               also writes bench/results/cpu-<isa>-<cpu>-<threads>.json
//   npm run --silent bench -- --json      prints one JSON object on stdout
//   npm run bench -- --threads 1 --rounds 20
//   npm run bench -- --hidden 128         a size other than the reference's
//   CUDNN_LSTM_CPU_ISA=avx2 npm run bench
const os = require('node:os');
const { parseArgs } = require('node:util');
const { loadNative } = require('../dist/device/native.js');
const { presets } = require('../dist/training/presets.js');
const { machine, median, writeResult } = require('./measured.js');

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    rounds: { type: 'string', default: '12' },
    hidden: { type: 'string', default: '256' },
    save: { type: 'boolean', default: false },
  },
});

const native = loadNative();
const threads = Number(options.threads);
const rounds = Number(options.rounds);

// The reference's model and corpus (docs/reproduction.md): two layers of 256 (--hidden), 47 symbols, 144,324 windows of 100.
const vocabulary = 47;
const layers = 2;
const hidden = Number(options.hidden);
const steps = 100;
const windows = 144_324;

/** Floating-point operations of one step's matrix products: 2 per multiply-add, for forward pass, data gradient and weight gradient. */
function flops(batch, sequence) {
  const recurrent = 4 * hidden * hidden * layers;
  const between = 4 * hidden * hidden * (layers - 1);
  return 6 * batch * sequence * (recurrent + between);
}

const randomIds = (count) => {
  let state = 12345;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * vocabulary);
  });
};

const createModel = (input) =>
  native.createModel(
    { vocabulary, layers, hidden, input, embedding: 0, dropout: 0.2, seed: 1 },
    { device: 'cpu', threads },
  );

/** Times steps of one shape, each next to a measurement of the peak; medians of both, so that a drifting clock affects both alike. */
async function measureSteps({ input, target, carryState, batch, sequence }) {
  const model = await createModel(input);
  await model.initialize();
  const call = {
    ids: randomIds((sequence + 1) * batch),
    count: 1,
    steps: sequence,
    batch,
    target,
    carryState,
    learningRates: Float64Array.of(1e-3),
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
    clip: 0,
  };
  for (let i = 0; i < 3; i++) await model.trainSteps(call);
  const seconds = [];
  const peaks = [];
  for (let i = 0; i < rounds; i++) {
    peaks.push(await native.measurePeak(threads, 30));
    const start = process.hrtime.bigint();
    await model.trainSteps(call);
    seconds.push(Number(process.hrtime.bigint() - start) / 1e9);
  }
  const description = model.description;
  model.dispose();
  const stepSeconds = median(seconds);
  const peakGflops = median(peaks);
  const stepGflops = flops(batch, sequence) / stepSeconds / 1e9;
  return { description, stepSeconds, peakGflops, stepGflops, ratio: stepGflops / peakGflops };
}

async function measureSampling(streams) {
  const model = await createModel('onehot');
  await model.initialize();
  const count = streams === 1 ? 1000 : 200;
  const call = {
    ids: new Int32Array(streams).fill(1),
    streams,
    count,
    sampling: { seed: 1 },
  };
  const microseconds = [];
  for (let i = 0; i < 6; i++) {
    const start = process.hrtime.bigint();
    await model.sample(call);
    if (i > 0) microseconds.push(Number(process.hrtime.bigint() - start) / 1e3 / count / streams);
  }
  model.dispose();
  return median(microseconds);
}

const round = (value, digits) => Number(value.toFixed(digits));

async function main() {
  const say = (line) => {
    if (!options.json) console.log(line);
  };
  const ratioByBatch = {};
  let seed;
  say(
    `batch  ms/step  GFLOP/s  peak   ratio   (whole train step, T ${steps}, ${layers} x ${hidden}, scalar input, target last, dropout 0.2)`,
  );
  for (const batch of [16, 32, 64, 128]) {
    const measured = await measureSteps({ input: 'scalar', target: 'last', carryState: false, batch, sequence: steps });
    ratioByBatch[batch] = round(measured.ratio, 3);
    if (batch === 64) seed = measured;
    say(
      `${String(batch).padStart(5)}  ${(measured.stepSeconds * 1e3).toFixed(1).padStart(7)}  ` +
        `${measured.stepGflops.toFixed(1).padStart(7)}  ${measured.peakGflops.toFixed(1)}  ${measured.ratio.toFixed(3)}`,
    );
  }
  const { batchSize, seqLength } = presets.fast;
  const fast = await measureSteps({
    input: 'onehot',
    target: 'every',
    carryState: true,
    batch: batchSize,
    sequence: seqLength,
  });
  const sampleMicroseconds = { 1: round(await measureSampling(1), 1), 64: round(await measureSampling(64), 2) };
  const result = {
    date: new Date().toISOString().slice(0, 10),
    machine: { ...machine(), backend: seed.description },
    threads,
    peakGflops: round(seed.peakGflops, 1),
    stepGflops: round(seed.stepGflops, 1),
    ratio: round(seed.ratio, 3),
    secondsPerEpoch: round((seed.stepSeconds / 64) * windows, 1),
    ratioByBatch,
    fast: {
      batch: batchSize,
      steps: seqLength,
      ratio: round(fast.ratio, 3),
      charactersPerSecond: Math.round((batchSize * seqLength) / fast.stepSeconds),
    },
    sampleMicroseconds,
  };
  say(writeResult(`cpu-${native.cpuInfo().isa}`, threads, result, options));
  if (options.json) {
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  say(`backend              ${result.machine.backend}`);
  say(`reference's epoch         ${result.secondsPerEpoch} s (batch 64, 144,324 windows)`);
  say(
    `preset fast          ${result.fast.charactersPerSecond} characters/s, ${result.fast.ratio} of the peak ` +
      `(batch ${batchSize}, T ${seqLength}, one-hot, a loss at every position)`,
  );
  say(`sampled character    ${sampleMicroseconds[1]} us (1 stream), ${sampleMicroseconds[64]} us (64 streams)`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
