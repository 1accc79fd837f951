/**
 * Loads a checkpoint and uses the model: `node loading.js ROOT CHECKPOINT nothing|stream|streams|score|score-streams`. Prints as JSON
 * the whole process's peak of resident memory in MiB, and that before the load; and the seconds taken, without and with the use.
 *
 * ROOT: the root of the package, whose dist/ is used.
 */
const { join } = require('node:path');
const { peakMemory } = require('../../fixtures/peak-memory');

const uses = {
  nothing: () => {},
  stream: async (model) => {
    for await (const _ of model.generate({ length: 3, seed: 1 }));
  },
  streams: async (model) => {
    for await (const _ of model.generateMany(3, { length: 3, seed: 1 }));
  },
  score: (model) => model.score('abacab'),
  'score-streams': (model) => model.score('abacab'.repeat(8), { streams: 5 }),
};
const peak = () => peakMemory() / 2 ** 20;

async function main(root, path, use) {
  const { LanguageModel } = require(join(root, 'dist'));
  const before = peak();
  const start = performance.now();
  const model = await LanguageModel.load(path, { device: 'cpu' });
  const seconds = (performance.now() - start) / 1000;
  await uses[use](model);
  const withUse = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ before, peak: peak(), seconds, withUse }));
}

void main(...process.argv.slice(2));
