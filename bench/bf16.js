// Training in bfloat16 compared with float32 on a CPU: the loss that the fast preset reaches in the race's four epochs, for several seeds
// of each, by the window protocol (dropout off and on), and the processor time of a step of both recipes, the two precisions taking turns:
// how many times as long a step in float32 takes.
//
//   node bench/bf16.js [--corpus FILE, default: alice] [--seeds 1,2,3] [--epochs 4] [--stride 10] [--rounds 7] [--no-losses] [--save]
//
// On a processor without AVX512-BF16 the products are emulated, and bfloat16 is slower than float32.
const { spawnSync } = require('node:child_process');
const { mkdtempSync, rmSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { loadNative } = require('../dist/device/native.js');
const { corpusFile } = require('./corpus.js');
const { machine, median, rounded, writeResult } = require('./measured.js');

const { values } = parseArgs({
  options: {
    corpus: { type: 'string', default: 'alice' },
    seeds: { type: 'string', default: '1,2,3' },
    epochs: { type: 'string', default: '4' },
    stride: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '7' },
    losses: { type: 'boolean', default: true },
    save: { type: 'boolean', default: false },
  },
  allowNegative: true,
});
const precisions = ['fp32', 'bf16'];

function run(command, args) {
  const program = path.join(__dirname, '..', 'dist', 'cli', 'main.js');
  const result = spawnSync(process.execPath, [program, command, ...args.map(String)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (result.status !== 0) process.exit(result.status ?? 1);
  return result.stdout;
}

function losses() {
  const corpus = corpusFile(values.corpus);
  const place = mkdtempSync(path.join(os.tmpdir(), 'cudnn-lstm-bf16-'));
  const rows = [];
  const recipe = ['--lowercase', '--validation', '0', '--epochs', values.epochs, '--sample-length', '0', '--json'];
  try {
    for (const seed of values.seeds.split(',').map(Number)) {
      for (const precision of precisions) {
        const out = path.join(place, `${precision}-${seed}`);
        const lines = run('train', [
          corpus,
          ...recipe,
          '--seed',
          seed,
          '--precision',
          precision,
          '--device',
          'cpu',
          '--out',
          out,
        ]);
        const epochs = lines
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
          .filter(({ type }) => type === 'epoch');
        rows.push({ seed, precision, out, trainingLoss: rounded(epochs.at(-1).loss, 5) });
        console.log(JSON.stringify(rows.at(-1)));
      }
    }
    return rows.map(({ out, ...row }) => {
      const score = JSON.parse(
        run('score', [out, corpus, '--protocol', 'window', '--stride', values.stride, '--device', 'cpu', '--json']),
      );
      const scored = { ...row, loss: score.loss, lossWithDropout: score.lossWithDropout };
      console.log(JSON.stringify(scored));
      return scored;
    });
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** The measured steps: the default recipe's, and the reference's (docs/reproduction.md). */
const recipes = {
  fast: { vocabulary: 65, input: 'onehot', batch: 16, length: 20, target: 'every', count: 5 },
  'proj-basic': { vocabulary: 47, input: 'scalar', batch: 64, length: 100, target: 'last', count: 1 },
};

/** Milliseconds of processor time per step on one thread, the two precisions taking turns. */
async function steps([recipe, { vocabulary, input, batch, length, target, count }]) {
  const shape = { vocabulary, layers: 2, hidden: 256, input, embedding: 0, dropout: 0.2, seed: 1 };
  const call = {
    ids: Int32Array.from({ length: count * (length + 1) * batch }, (_, i) => (i * 7919) % vocabulary),
    ...{ count, steps: length, batch, target, carryState: target === 'every', clip: 1 },
    ...{ learningRates: new Float64Array(count).fill(1e-3), beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
  };
  const models = [];
  for (const precision of precisions) {
    const model = await loadNative().createModel(shape, { device: 'cpu', threads: 1, precision });
    await model.initialize();
    models.push(model);
  }
  const times = precisions.map(() => []);
  for (let round = -1; round < Number(values.rounds); round++) {
    for (const [i, model] of models.entries()) {
      const before = process.cpuUsage();
      await model.trainSteps(call);
      const { user, system } = process.cpuUsage(before);
      if (round >= 0) times[i].push((user + system) / 1000 / count);
    }
  }
  const [fp32, bf16] = times.map(median);
  const timesAsFast = median(times[0].map((time, round) => time / times[1][round]));
  const result = {
    recipe,
    what: models[1].description,
    millisecondsAStep: { fp32: rounded(fp32, 3), bf16: rounded(bf16, 3) },
    timesAsFast: rounded(timesAsFast, 3),
  };
  console.log(JSON.stringify(result));
  for (const model of models) model.dispose();
  return result;
}

async function stepsOfAll() {
  const results = [];
  for (const recipe of Object.entries(recipes)) results.push(await steps(recipe));
  return results;
}

async function main() {
  const result = {
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
    steps: await stepsOfAll(),
    ...(values.losses ? { epochs: Number(values.epochs), stride: Number(values.stride), losses: losses() } : {}),
  };
  console.log(writeResult('bf16', os.availableParallelism(), result, values));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
