// Microseconds per character to write one text with weights in 32, 16 and 8 bits: node bench/weights.js [HIDDEN] [LAYERS] [VOCABULARY].
// With a checkpoint and a text, node bench/weights.js CHECKPOINT TEXT, also its bits per character. On one thread, in processor time, the
// forms taking turns, the minimum of eleven rounds.
const { mkdtempSync, readFileSync, rmSync, statSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { exportModel } = require('../dist/export/export');
const { LanguageModel, Vocabulary } = require('..');

const forms = ['fp32', 'bf16', 'int8'];
const characters = 2000;
const rounds = 11;
const given = process.argv.slice(2);
const options = { device: 'cpu', threads: 1 };

/** Saves a model with random weights. */
async function makeModel(file) {
  const [hidden = 256, layers = 2, size = 65] = given.map(Number);
  const vocabulary = new Vocabulary(Array.from({ length: size }, (_, i) => String.fromCodePoint(0x4e00 + i)));
  const shape = { vocabulary: size, layers, hidden, input: 'onehot', embedding: 0, dropout: 0 };
  const model = await LanguageModel.create(shape, vocabulary, { ...options, seed: 1 });
  await model.save(file);
  model.dispose();
}

async function main() {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'bench-weights-'));
  try {
    const [checkpoint, text] = Number.isNaN(Number(given[0] ?? 0)) ? given : [path.join(folder, 'model.safetensors')];
    if (text === undefined) await makeModel(checkpoint);
    const models = [];
    for (const weights of forms) models.push(await LanguageModel.load(checkpoint, { ...options, weights }));
    const best = forms.map(() => Number.POSITIVE_INFINITY);
    for (let round = 0; round <= rounds; round++) {
      for (const [i, model] of models.entries()) {
        const began = process.cpuUsage();
        for await (const _ of model.generate({ length: characters, seed: 1 }));
        const { user, system } = process.cpuUsage(began);
        if (round > 0) best[i] = Math.min(best[i], (user + system) / characters); // The first round warms up.
      }
    }
    const { layers, hidden, vocabulary } = models[0].shape;
    const isa = /\((\S+),/.exec(models[0].description ?? '')?.[1] ?? '';
    console.log(`${layers} x ${hidden}, ${vocabulary} symbols, ${os.cpus()[0].model} ${isa}, Node ${process.version}`);
    console.log('weights  microseconds per character  bytes of the file  bits per character');
    for (const [i, form] of forms.entries()) {
      const file = path.join(folder, form);
      if (form !== 'fp32') await exportModel(checkpoint, { to: form, out: file });
      else await models[i].save(file);
      const bits =
        text === undefined ? '' : (await models[i].score(readFileSync(text, 'utf8'))).bitsPerCharacter.toFixed(4);
      console.log(
        `${form.padEnd(8)} ${best[i].toFixed(1).padStart(24)} ${statSync(file).size.toLocaleString('en').padStart(18)} ${bits.padStart(17)}`,
      );
      models[i].dispose();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

void main();
