// TensorFlow.js, with one of two backends: `node tfjs_peer.js node|wasm JOB`. tfjs-node computes with TensorFlow's native library;
// WebAssembly has one thread in Node. The layers API's model is trained with the core API's gradients, because the layers API
// cannot clip by the global norm.
const { readFileSync } = require('node:fs');
const path = require('node:path');
const { readJob, run, serve } = require('./serve.js');

/** Each returns { tf, versions, settings }. */
const backends = {
  async node() {
    const tf = require('@tensorflow/tfjs-node');
    const versions = { 'tfjs-node': tf.version['tfjs-node'], libtensorflow: tf.backend().binding.TF_Version };
    return { tf, versions, settings: 'native library' };
  },
  async wasm() {
    const tf = require('@tensorflow/tfjs');
    const wasm = require('@tensorflow/tfjs-backend-wasm');
    wasm.setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}${path.sep}`);
    await tf.setBackend('wasm');
    const simd = (await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT')) ? 'SIMD' : 'no SIMD';
    const settings = `WebAssembly, ${simd}, ${wasm.getThreadsCount()} thread(s)`;
    return { tf, versions: { tfjs: tf.version.tfjs }, settings };
  },
};

function build(tf, job, { batch, steps, every }) {
  const features = job.input === 'scalar' ? 1 : job.vocabulary;
  const model = tf.sequential();
  for (let layer = 0; layer < job.layers; layer++) {
    model.add(
      tf.layers.lstm({
        units: job.hidden,
        recurrentActivation: 'sigmoid',
        // Orthogonal initialisation takes minutes here, and changes no timing.
        recurrentInitializer: 'glorotUniform',
        returnSequences: every || layer + 1 < job.layers,
        stateful: job.target === 'every',
        ...(layer === 0 ? { batchInputShape: [batch, steps, features] } : {}),
      }),
    );
    model.add(tf.layers.dropout({ rate: job.dropout }));
  }
  model.add(tf.layers.dense({ units: job.vocabulary }));
  return model;
}

async function main() {
  const job = readJob();
  process.env.TF_NUM_INTRAOP_THREADS = String(job.threads);
  process.env.TF_NUM_INTEROP_THREADS = String(job.threads);
  const { tf, versions, settings } = await backends[process.argv[2]]();
  const ids = new Uint8Array(readFileSync(job.ids));
  const { batch, steps, vocabulary } = job;
  const every = job.target === 'every';
  const model = build(tf, job, { batch, steps, every });
  const optimizer = tf.train.adam(job.learningRate, job.beta1, job.beta2, job.epsilon);
  const streamLength = Math.floor(ids.length / batch);
  let position = 0;

  /** Where the B rows of the next batch start. */
  function starts() {
    if (!every) return Array.from({ length: batch }, () => Math.floor(Math.random() * (ids.length - steps)));
    if (position + steps + 1 > streamLength) position = 0;
    const at = Array.from({ length: batch }, (_, b) => b * streamLength + position);
    position += steps;
    return at;
  }

  const coded = (rows) =>
    job.input === 'scalar'
      ? tf.tensor3d(
          Float32Array.from(rows.flat(), (id) => id / vocabulary),
          [rows.length, rows[0].length, 1],
        )
      : tf.oneHot(tf.tensor2d(rows, undefined, 'int32'), vocabulary).toFloat();

  async function trainStep() {
    const rows = starts().map((start) => Array.from(ids.subarray(start, start + steps + 1)));
    const loss = tf.tidy(() => {
      const x = coded(rows.map((row) => row.slice(0, steps)));
      const targets = every ? rows.flatMap((row) => row.slice(1)) : rows.map((row) => row[steps]);
      const y = tf.oneHot(tf.tensor1d(targets, 'int32'), vocabulary);
      const { value, grads } = tf.variableGrads(() =>
        tf.losses.softmaxCrossEntropy(y, model.apply(x, { training: true }).reshape([-1, vocabulary])),
      );
      if (job.clip > 0) {
        const norm = tf.sqrt(tf.addN(Object.values(grads).map((gradient) => tf.sum(tf.square(gradient)))));
        const scale = tf.minimum(1, tf.div(job.clip, norm));
        for (const name of Object.keys(grads)) grads[name] = tf.mul(grads[name], scale);
      }
      optimizer.applyGradients(grads);
      return value;
    });
    const [nats] = await loss.data();
    loss.dispose();
    return nats;
  }

  const single = build(tf, job, { batch: 1, steps: every ? 1 : steps, every: false });
  const predict = async (row) => {
    const logits = tf.tidy(() => single.predict(coded([row])));
    const values = await logits.data();
    logits.dispose();
    return values;
  };

  await serve(
    {
      name: 'TensorFlow.js',
      versions: { node: process.version, ...versions },
      settings,
      parameters: model.countParams(),
    },
    {
      async train(count) {
        let loss;
        for (let i = 0; i < count; i++) loss = await trainStep();
        return { count, loss };
      },
      async sample(count) {
        single.setWeights(model.getWeights());
        const text = Array.from(ids.subarray(0, steps));
        for (let i = 0; i < count; i++) {
          const logits = await predict(every ? text.slice(-1) : text.slice(-steps));
          text.push(every ? draw(logits) : logits.indexOf(Math.max(...logits)));
        }
        return { count };
      },
    },
  );
}

/** Draws one id from the softmax of the logits. */
function draw(logits) {
  const highest = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp(logit - highest));
  let coin = Math.random() * weights.reduce((sum, weight) => sum + weight, 0);
  const id = weights.findIndex((weight) => {
    coin -= weight;
    return coin < 0;
  });
  return id < 0 ? weights.length - 1 : id;
}

run(main);
