// This package, as a user runs it: the trainer's own loop including batching and accounting, and generate() including
// decoding. Only checkpoints, validation and samples between epochs are off.
const { readFileSync } = require('node:fs');
const { MemoryIds } = require('../../dist/corpus/ids.js');
const { Vocabulary } = require('../../dist/corpus/vocabulary.js');
const { LanguageModel } = require('../../dist/model.js');
const { divideCorpus } = require('../../dist/training/division.js');
const { trainable } = require('../../dist/training/parts.js');
const { presetOptions } = require('../../dist/training/presets.js');
const { Trainer } = require('../../dist/training/trainer.js');
const { packageVersion } = require('../../dist/version.js');
const { readJob, run, serve } = require('./serve.js');

async function main() {
  const job = readJob();
  const { vocabulary: size, layers, hidden, input, dropout } = job;
  const ids = new Uint8Array(readFileSync(job.ids));
  const symbols = Array.from({ length: size }, (_, i) => String.fromCodePoint(48 + i));
  const model = await LanguageModel.create(
    { vocabulary: size, layers, hidden, input, embedding: 0, dropout },
    new Vocabulary(symbols),
    { device: 'cpu', threads: job.threads, seed: 1, target: job.target, seqLength: job.steps },
  );
  const corpus = { ids: new MemoryIds(ids), length: ids.length, sha256: '', sources: [], notes: [] };
  const options = {
    ...presetOptions(job.recipe),
    batchSize: job.batch,
    epochs: 1_000_000,
    validation: 0,
    patience: 0,
    sampleLength: 0,
  };
  const trainer = new Trainer({
    model: trainable(model),
    corpus,
    options,
    division: await divideCorpus(corpus, options),
  });
  const events = trainer[Symbol.asyncIterator]();
  const prompt = model.vocabulary.decode(ids.subarray(0, job.steps));

  await serve(
    {
      name: 'cudnn-lstm',
      versions: { node: process.version, 'cudnn-lstm': packageVersion },
      settings: model.description,
      parameters: model.parameterCount,
    },
    {
      async train(count) {
        const before = trainer.stepsDone;
        let loss;
        while (trainer.stepsDone - before < count) {
          const { value } = await events.next();
          if (value.type === 'step') loss = value.loss;
        }
        return { count: trainer.stepsDone - before, loss };
      },
      async sample(count) {
        const sampling = job.target === 'last' ? { greedy: true } : { temperature: 1 };
        for await (const _ of model.generate({ prompt, length: count, ...sampling }));
        return { count };
      },
    },
  );
}

run(main);
