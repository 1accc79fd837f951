// A model and a call of twenty steps shared by its threads, for the programs whose CPUs change while they train.
const spec = { vocabulary: 20, layers: 1, hidden: 128, input: 'onehot', embedding: 0, dropout: 0, seed: 1 };
const [steps, batch, count] = [10, 16, 20];

const call = {
  ids: Int32Array.from({ length: count * (steps + 1) * batch }, (_, i) => (i * 7) % 20),
  ...{ count, steps, batch, target: 'every', carryState: true, learningRates: new Float64Array(count).fill(1e-3) },
  ...{ beta1: 0.9, beta2: 0.999, epsilon: 1e-7, clip: 0 },
};

module.exports = { spec, call };
