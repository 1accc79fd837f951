/**
 * Trains, evaluates and samples at sizes around tiles and pages, on the instruction set that CUDNN_LSTM_CPU_ISA names; prints the number
 * of cases. With CUDNN_LSTM_GUARD_PAGES=end an access past the end of a buffer ends the process, with =begin one before its beginning.
 */
const { loadNative } = require('../../../dist/device/native');

// Sizes at which a tile of 6 rows reaches past the next multiple of 64 rows, and their neighbours.
const vocabularies = [2, 5, 6, 7, 60, 61, 62, 63, 64, 65, 127, 128, 129, 253, 254, 255, 256, 257, 319, 320, 321, 512];
// 16 steps of one lane block: from 61 symbols on, the logits buffers have their own pages, even without guards.
const shapes = [
  { hidden: 1, layers: 1, batch: 16, steps: 16, threads: 1, input: 'onehot', target: 'every' },
  { hidden: 17, layers: 2, batch: 3, steps: 5, threads: 2, input: 'scalar', target: 'last' },
  { hidden: 48, layers: 1, batch: 33, steps: 9, threads: 3, input: 'embedding', target: 'every' },
  { hidden: 33, layers: 2, batch: 18, steps: 7, threads: 2, input: 'onehot', target: 'every', resetId: 0 },
];

async function main() {
  let count = 0;
  for (const vocabulary of vocabularies) {
    for (const { hidden, layers, batch, steps, threads, input, target, resetId } of shapes) {
      const spec = { vocabulary, layers, hidden, input, embedding: input === 'embedding' ? 7 : 0, dropout: 0, seed: 1, resetId };
      const model = await loadNative().createModel(spec, { device: 'cpu', threads, team: 'fixed' });
      await model.initialize();
      const ids = Int32Array.from({ length: (steps + 1) * batch }, (_, i) => (i * 31) % vocabulary);
      const batchOf = { ids, count: 1, steps, batch, target, carryState: false };
      const { losses } = await model.trainSteps({
        ...batchOf,
        learningRates: new Float64Array([1e-3]),
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-7,
        clip: 1,
      });
      if (!(losses[0] > 0)) throw new Error(`loss ${losses[0]} at ${vocabulary} symbols, hidden ${hidden}`);
      // One and two sequences are scored by matrix-vector products, more by tiles.
      for (const sequences of [1, 2, batch]) {
        const scored = { ids: ids.subarray(0, (steps + 1) * sequences), steps, batch: sequences, target };
        const nats = await model.evaluate({ ...scored, carryState: false, dropout: false });
        if (!nats.every((each) => each > 0)) throw new Error(`scored ${nats} at ${vocabulary} symbols, hidden ${hidden}`);
      }
      for (const streams of [1, 2, 17]) {
        await model.sample({ ids: new Int32Array(streams), count: 3, streams, sampling: { temperature: 1 } });
      }
      model.dispose();
      count++;
    }
  }
  console.log(count);
}

void main();
