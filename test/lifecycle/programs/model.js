/** A model and calls to train it, for these tests' programs, which run on the compiled package. */
const { loadNative } = require('../../../dist/device/native');

const vocabulary = 31;

/** Two layers, on two CPU threads. */
exports.createModel = async ({ hidden = 32, weights = true } = {}) => {
  const shape = { vocabulary, layers: 2, hidden, input: 'onehot', embedding: 0, dropout: 0.2, seed: 3 };
  const model = await loadNative().createModel(shape, { device: 'cpu', threads: 2 });
  if (weights) await model.initialize();
  return model;
};

exports.trainCall = ({ count = 1, steps = 8, batch = 6 } = {}) => ({
  ids: Int32Array.from({ length: count * (steps + 1) * batch }, (_, i) => (i * i + (i >> 4)) % vocabulary),
  count,
  steps,
  batch,
  target: 'every',
  carryState: true,
  learningRates: new Float64Array(count).fill(1e-3),
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-7,
  clip: 1,
});

/** A model whose step takes about half a second on two cores: 6·100·16·12·1024² is 0.12 TFLOP. */
exports.createSlowModel = () => exports.createModel({ hidden: 1024, weights: false });
exports.slowCall = () => exports.trainCall({ steps: 100, batch: 16 });

/** Trains until the process or the thread ends; calls `begun` once the first call has started. */
exports.trainForever = async (model, call, begun = () => {}) => {
  for (let first = true; ; first = false) {
    const running = model.trainSteps(call);
    if (first) begun();
    await running;
  }
};
