#!/usr/bin/env node
/**
 * The cost of drawing compared with that of the model it draws from: microseconds per character for each rule, in turn, medians of several
 * rounds, and how much of that exceeds the model with the cheapest rule, which only looks for the largest logit. Times are processor time,
 * which other processes do not lengthen.
 *
 *   node bench/draw.js [--vocabulary 6000] [--layers 2] [--hidden 256] [--streams 1] [--threads 1] [--rounds 7]
 */
const { parseArgs } = require('node:util');
const { loadNative } = require('../dist/device/native');

const number = (value) => ({ type: 'string', default: String(value) });
const { values } = parseArgs({
  options: {
    vocabulary: number(6000),
    layers: number(2),
    hidden: number(256),
    streams: number(1),
    threads: number(1),
    rounds: number(7),
  },
});
const [vocabulary, layers, hidden, streams, threads, rounds] = [
  'vocabulary',
  'layers',
  'hidden',
  'streams',
  'threads',
  'rounds',
].map((name) => Number(values[name]));

const rules = {
  greedy: { greedy: true },
  'temperature 0.8': { temperature: 0.8 },
  'top-k 40': { topK: 40 },
  'top-p 0.95': { topP: 0.95 },
  'min-p 0.05': { minP: 0.05 },
  'typical-p 0.95': { typicalP: 0.95 },
};
const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];

async function main() {
  const spec = { vocabulary, layers, hidden, input: 'onehot', embedding: 0, dropout: 0, seed: 1 };
  const model = await loadNative().createModel(spec, { device: 'cpu', threads });
  await model.initialize();
  // Makes the output weights as large as a trained model's, so that the logits are spread enough for the rules to cut some off.
  const parameters = model.read('parameters');
  const output = model.parameters.find(({ name }) => name === 'output.weight');
  for (let i = 0; i < output.size; i++) parameters[output.offset + i] *= 40;
  model.write('parameters', parameters);
  const count = Math.max(8, Math.round(2_000_000 / vocabulary / streams));
  const ids = new Int32Array(streams).fill(1);
  const jobs = {};
  for (const [name, rule] of Object.entries(rules)) {
    jobs[name] = () => model.sample({ ids, streams, count, sampling: { seed: 1, ...rule } });
  }
  const times = Object.fromEntries(Object.keys(jobs).map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const [name, job] of Object.entries(jobs)) {
      const before = process.cpuUsage();
      await job();
      const { user, system } = process.cpuUsage(before);
      if (round > 0) times[name].push((user + system) / count / streams);
    }
  }
  const alone = median(times.greedy);
  console.log(`${vocabulary} symbols, ${layers} x ${hidden} units, ${streams} streams, ${model.description}`);
  for (const [name, list] of Object.entries(times)) {
    const each = median(list);
    const draw = name === 'greedy' ? ' with the model' : `, of which the draw ${(each - alone).toFixed(1)}`;
    console.log(`${name.padEnd(16)} ${each.toFixed(1).padStart(8)} us a character${draw}`);
  }
  model.dispose();
}

main();
