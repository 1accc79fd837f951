/** ml5's dumps and TensorFlow.js' LayersModels, compared with LSTMs written out here, and with TensorFlow.js if it is installed. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../../lib/device/native';
import { jsonModel } from '../../../lib/import/dumps';
import { importModel } from '../../../lib/import/import';
import { saveImported } from '../../../lib/import/save';
import { itWhere, run } from '../../fixtures/child';
import {
  biasOf,
  drawnText,
  headOf,
  kernelOf,
  weightsOf,
  writeLayersModel,
  writeMl5,
} from '../../fixtures/foreign-files';
import { largestDifference, learnableText, logitsOf } from '../../fixtures/interop';

const cpu = { device: 'cpu', threads: 1 } as const;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dumps-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** TensorFlow's BasicLSTMCell, as its documentation defines it: [x, h] times the kernel, gates i, j, f, o, forget bias 1. */
function basicLstm(
  kernel: Float32Array,
  bias: Float32Array,
  x: number[],
  h: number[],
  c: number[],
): { h: number[]; c: number[] } {
  const H = h.length;
  const a = Array.from(bias, (start, column) =>
    [...x, ...h].reduce((sum, value, row) => sum + value * (kernel[row * 4 * H + column] as number), start),
  );
  const next = c.map(
    (before, u) =>
      before * sigmoid((a[2 * H + u] as number) + 1) + sigmoid(a[u] as number) * Math.tanh(a[H + u] as number),
  );
  return { c: next, h: next.map((value, u) => Math.tanh(value) * sigmoid(a[3 * H + u] as number)) };
}

test('an ml5 dump has the logits of its cells', async () => {
  const symbols = [...'\n abcdefghij'];
  const file = writeMl5(join(folder, 'ml5'), symbols);
  const text = join(folder, 'text.txt');
  const [V, E, H] = [12, 5, 6];
  const ids = [3, 1, 4, 1, 5, 9, 2, 6];
  const embedding = weightsOf(V * E, 1);
  const cells = [kernelOf(E + H, E, H, 2), biasOf(H, 2, 3), kernelOf(2 * H, H, H, 4), biasOf(H, 2, 5)] as const;
  const [head, headBias] = [headOf(H * V, 6), weightsOf(V, 7)];
  const states = [0, 1].map(() => ({ h: new Array<number>(H).fill(0), c: new Array<number>(H).fill(0) }));
  const step = (id: number) => {
    let x = [...embedding.subarray(id * E, (id + 1) * E)];
    for (const l of [0, 1]) {
      const { h, c } = states[l] as { h: number[]; c: number[] };
      states[l] = basicLstm(cells[2 * l] as Float32Array, cells[2 * l + 1] as Float32Array, x, h, c);
      x = (states[l] as { h: number[] }).h;
    }
    return Array.from(headBias, (bias, v) =>
      x.reduce((sum, value, u) => sum + value * (head[u * V + v] as number), bias),
    );
  };
  const expected = ids.flatMap(step);
  writeFileSync(text, drawnText(symbols, step));
  const imported = await importModel(file, { ...cpu, text });
  expect([imported.kind, imported.vocabularySource]).toEqual([
    'a dump of char-rnn-tensorflow (ml5)',
    'vocab.json beside it',
  ]);
  expect(imported.checkpoint.metadata.vocabulary).toEqual(symbols);
  const path = await saveImported(imported, join(folder, 'out.safetensors'));
  expect(largestDifference(await logitsOf(path, ids), expected)).toBeLessThan(1e-5);
});

test('names that lead elsewhere, and weights that are not there, are refused', async () => {
  const file = writeMl5(join(folder, 'ml5'), [...'\n abcdefghij']);
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as Record<string, { filename: string; shape: number[] }>;
  const changed = async (change: (entry: { filename: string; shape: number[] }) => void): Promise<string> => {
    const copy = structuredClone(manifest);
    change(copy['rnnlm/softmax_w'] as { filename: string; shape: number[] });
    writeFileSync(file, JSON.stringify(copy));
    return importModel(file, cpu).then(
      () => 'imported',
      (error: Error) => error.message,
    );
  };
  for (const name of ['../secret', '/etc/passwd', '..', '.hidden', 'a/b', 'a\\b', '', 'a\0b']) {
    expect(
      await changed((entry) => {
        entry.filename = name;
      }),
    ).toContain('only plain names beside it are read');
  }
  expect(
    await changed((entry) => {
      entry.filename = 'gone';
    }),
  ).toContain('there is no such file');
  expect(
    await changed((entry) => {
      entry.shape = [2 ** 20, 2 ** 20];
    }),
  ).toContain('is larger than');
  expect(
    await changed((entry) => {
      entry.shape = [6, 13];
    }),
  ).toContain('should take');
  expect(
    await changed((entry) => {
      entry.shape = [-1, 12];
    }),
  ).toContain('has the extent -1');
});

test('a LayersModel is read, of whatever kind its weights are packed', async () => {
  const file = writeLayersModel(join(folder, 'tfjs'), 7);
  const json = JSON.parse(readFileSync(file, 'utf8'));
  const plain = await importModel(file, { ...cpu, vocabulary: vocabularyOf(7), text: await textFor(file, 7) });
  expect(plain.kind).toBe('a TensorFlow.js LayersModel');
  expect(plain.checkpoint.metadata).toMatchObject({
    target: 'every',
    seqLength: 20,
    model: { gateActivation: 'hard_sigmoid', hidden: 6, input: 'onehot' },
  });
  // The same numbers, quantised to 16-bit integers that stand for -8 to 8.
  const data = new Float32Array(new Uint8Array(readFileSync(join(folder, 'tfjs', 'weights.bin'))).buffer);
  writeFileSync(
    join(folder, 'tfjs', 'weights.bin'),
    new Uint8Array(Uint16Array.from(data, (value) => Math.round((value + 8) * 4000)).buffer),
  );
  for (const weight of json.weightsManifest[0].weights)
    weight.quantization = { dtype: 'uint16', scale: 1 / 4000, min: -8 };
  writeFileSync(file, JSON.stringify(json));
  const packed = await importModel(file, { ...cpu, vocabulary: vocabularyOf(7), text: join(folder, 'own.txt') });
  expect(largestDifference(packed.checkpoint.parameters, plain.checkpoint.parameters)).toBeLessThan(1.3e-4);

  function vocabularyOf(size: number): string {
    const path = join(folder, 'symbols.json');
    writeFileSync(path, JSON.stringify([...'\nabcdefghijk'].slice(0, size)));
    return path;
  }

  /** Writes a text drawn from the model, whose weights it has to take from the reader under test. */
  async function textFor(model: string, size: number): Promise<string> {
    const found = await jsonModel(readFileSync(model, 'utf8'), model);
    expect([found.vocabulary, found.hidden, found.layers.length, found.gateActivations]).toEqual([
      size,
      6,
      1,
      ['hard_sigmoid'],
    ]);
    const { layers, outputWeights, outputBias } = found;
    const { inputWeights, recurrentWeights, bias } = layers[0] as (typeof layers)[number];
    const hard = (x: number) => Math.min(1, Math.max(0, 0.2 * x + 0.5));
    let h = new Array<number>(6).fill(0);
    let c = h;
    const step = (id: number) => {
      const a = Array.from(bias, (start: number, row) =>
        h.reduce(
          (sum, value, u) => sum + value * (recurrentWeights[row * 6 + u] as number),
          start + (inputWeights[row * size + id] as number),
        ),
      );
      c = c.map(
        (before, u) => before * hard(a[6 + u] as number) + hard(a[u] as number) * Math.tanh(a[12 + u] as number),
      );
      h = c.map((value, u) => Math.tanh(value) * hard(a[18 + u] as number));
      return Array.from(outputBias, (start: number, v) =>
        h.reduce((sum, value, u) => sum + value * (outputWeights[v * 6 + u] as number), start),
      );
    };
    writeFileSync(join(folder, 'own.txt'), drawnText([...'\nabcdefghijk'], step));
    return join(folder, 'own.txt');
  }
});

const peers = join(packageRoot, 'bench', 'peers');
const itWithTensorFlow = itWhere(
  existsSync(join(peers, 'node_modules', '@tensorflow', 'tfjs')),
  'no TensorFlow.js: npm install in bench/peers',
);

/** Trains a model in TensorFlow.js, saves it as a browser would, and prints the log-probabilities for the first ids. */
const program = `
const tf = require('@tensorflow/tfjs');
const fs = require('fs');
const [folder, file] = process.argv.slice(1);
(async () => {
  const text = fs.readFileSync(file, 'utf8'), chars = [...new Set(text)].sort(), V = chars.length, T = 16;
  const ids = [...text].map((c) => chars.indexOf(c));
  const model = tf.sequential();
  model.add(tf.layers.lstm({ units: 16, returnSequences: true, inputShape: [T, V], kernelInitializer: tf.initializers.glorotUniform({ seed: 1 }), recurrentInitializer: tf.initializers.glorotUniform({ seed: 2 }) }));
  model.add(tf.layers.dense({ units: V, activation: 'softmax', kernelInitializer: tf.initializers.glorotUniform({ seed: 3 }) }));
  model.compile({ optimizer: tf.train.adam(0.03), loss: 'categoricalCrossentropy' });
  const cut = (from) => Array.from({ length: 150 }, (_, i) => ids.slice(i * 7 + from, i * 7 + from + T));
  const hot = (rows) => tf.oneHot(tf.tensor2d(rows, [rows.length, T], 'int32'), V).toFloat();
  await model.fit(hot(cut(0)), hot(cut(1)), { epochs: 6, batchSize: 16, shuffle: false, verbose: 0 });
  await model.save(tf.io.withSaveHandler(async (a) => {
    fs.writeFileSync(folder + '/weights.bin', Buffer.from(a.weightData));
    fs.writeFileSync(folder + '/model.json', JSON.stringify({ format: a.format, generatedBy: a.generatedBy, modelTopology: a.modelTopology, weightsManifest: [{ paths: ['weights.bin'], weights: a.weightSpecs }] }));
    return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } };
  }));
  console.log(JSON.stringify(Array.from(model.predict(hot([ids.slice(0, T)])).log().dataSync())));
})();
`;

itWithTensorFlow("TensorFlow.js' own model, with its probabilities", async () => {
  const text = join(folder, 'text.txt');
  writeFileSync(text, learnableText());
  const model = join(folder, 'model');
  mkdirSync(model);
  const { stdout, stderr, code } = await run(process.execPath, ['-e', program, model, text], {
    cwd: peers,
  });
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  const theirs = JSON.parse(stdout.trimEnd().split('\n').at(-1) as string) as number[];
  const imported = await importModel(join(model, 'model.json'), { ...cpu, corpus: text });
  expect(imported.checkpoint.metadata.model.gateActivation).toBe('hard_sigmoid');
  const symbols = imported.checkpoint.metadata.vocabulary;
  const ids = [...learnableText().slice(0, 16)].map((symbol) => symbols.indexOf(symbol));
  const logits = await logitsOf(await saveImported(imported, join(folder, 'out.safetensors')), ids);
  const V = symbols.length;
  const ours = ids.flatMap((_, i) => {
    const row = logits.subarray(i * V, (i + 1) * V);
    const total = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
    return Array.from(row, (logit) => logit - total);
  });
  const difference = largestDifference(ours, theirs);
  console.log(`TensorFlow.js: largest difference of log-probabilities ${difference.toExponential(1)}`);
  expect(difference).toBeLessThan(1e-5);
});
