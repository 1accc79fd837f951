/** Files made by Keras, and layouts of its older versions, written with h5py: Keras' logits against ours. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hdf5Thread } from '../../../lib/import/hdf5';
import { type ImportOptions, importBy, importModel } from '../../../lib/import/import';
import { saveImported } from '../../../lib/import/save';
import { nativeOf } from '../../../lib/model';
import { type TrainRequest, train } from '../../../lib/training/train';
import { itWithPython, largestDifference, learnableText, logitsOf, pythonHas, runPython } from '../../fixtures/interop';

const itWithKeras = itWithPython('keras', 'h5py');
const cpu = { device: 'cpu', threads: 1 } as const;

const script = `
import importlib.util, json, os, sys
os.environ["KERAS_BACKEND"] = "torch" if importlib.util.find_spec("torch") else "tensorflow"
import keras, h5py, numpy as np
from keras import layers as L, ops
keras.utils.set_random_seed(1)
folder = sys.argv[1]
text = open(folder + "/text.txt", newline="").read()
chars = sorted(set(text)); V = len(chars); H = 20; T = 24
ids = np.array([chars.index(c) for c in text])
windows = np.stack([ids[i:i + T + 1] for i in range(0, len(ids) - T, 11)])
encode = {
    "embedding": lambda x: x,
    "onehot": lambda x: np.eye(V, dtype="float32")[x],
    "scalar": lambda x: (x / V).astype("float32")[..., None],
}
first_ids = ids[None, :T]
answers = {}

def begin(m, name):
    """Gives it the weights that were learned, in the order of its layers."""
    w = {part["name"]: np.array(part["data"], "float32").reshape(part["shape"]) for part in json.load(open(f"{folder}/{name}.json"))}
    cells = [i for i in range(2) if f"lstm.weight_ih_l{i}" in w]
    learned = [[w["embedding.weight"]]] if "embedding.weight" in w else []
    learned += [[w[f"lstm.weight_ih_l{i}"].T, w[f"lstm.weight_hh_l{i}"].T, w[f"lstm.bias_ih_l{i}"]] for i in cells]
    learned += [[w["output.weight"].T, w["output.bias"]]]
    layers = [layer for layer in m.layers if layer.weights]
    assert len(layers) == len(learned)
    for layer, weights in zip(layers, learned): layer.set_weights(weights)

def fit(m, coding, last):
    """A step, so that the optimizer has a state, which is saved too."""
    y = windows[:, -1] if last else windows[:, 1:]
    m.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    m.train_on_batch(encode[coding](windows[:32, :-1]), y[:32])

def logits(m, coding):
    """Of every position of the first window, or of the last one: what the layer below the head gives, times the head."""
    head = m.layers[-1]
    below = keras.Model(m.inputs, m.layers[-2].output)
    kernel, bias = [np.asarray(w) for w in head.get_weights()]
    return (ops.convert_to_numpy(below(encode[coding](first_ids)))[0].reshape(-1, H) @ kernel + bias).flatten().tolist()

def save(name, m):
    m.save(f"{folder}/{name}.keras"); m.save(f"{folder}/{name}.h5"); m.save_weights(f"{folder}/{name}.weights.h5")

inputs = {"embedding": L.Input((T,)), "onehot": L.Input((T, V)), "scalar": L.Input((T, 1))}
for coding, gates in [("embedding", "hard_sigmoid"), ("onehot", "sigmoid")]:
    m = keras.Sequential([inputs[coding]] + ([L.Embedding(V, 9)] if coding == "embedding" else []) + [
        L.LSTM(H, return_sequences=True, recurrent_activation=gates), L.Dropout(0.2),
        L.LSTM(H, return_sequences=True, recurrent_activation=gates), L.Dense(V, activation="softmax")])
    begin(m, coding); fit(m, coding, False); save(coding, m); answers[coding] = logits(m, coding)
# The tutorial's shape: one number in, a loss at the last position alone; as a functional model.
x = L.Input((T, 1)); h = L.Dropout(0.2)(L.LSTM(H)(x)); m = keras.Model(x, L.Dense(V, activation="softmax")(h))
begin(m, "scalar"); fit(m, "scalar", True); save("scalar", m); answers["scalar"] = logits(m, "scalar")
# The same weights with the gates of Keras before 3, as its files were.
def old_gates(x): return ops.clip(0.2 * x + 0.5, 0.0, 1.0)
x = L.Input((T, V)); h = L.LSTM(H, return_sequences=True, recurrent_activation=old_gates)(x)
m = keras.Model(x, L.Dense(V, activation="softmax")(h)); begin(m, "old"); fit(m, "onehot", False); answers["old"] = logits(m, "onehot")
kernel, recurrent, bias = [np.asarray(w) for w in m.layers[1].get_weights()]
dense, dense_bias = [np.asarray(w) for w in m.layers[2].get_weights()]
def config(lstm, key="recurrent_activation", kind="LSTM"):
    lstm = {"name": "lstm_1", "units": H, "activation": "tanh", "return_sequences": True, "batch_input_shape": [None, T, V], **lstm}
    return [{"class_name": kind, "config": lstm}, {"class_name": "Dropout", "config": {"name": "dropout_1", "rate": 0.2}},
            {"class_name": "TimeDistributed", "config": {"name": "td", "layer": {"class_name": "Dense", "config": {"name": "d", "activation": "softmax"}}}}]
def legacy(name, weights, model_config=None, version="2.0.3", prefix="model_weights/", nested=True):
    with h5py.File(f"{folder}/{name}", "w") as f:
        if model_config is not None: f.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": model_config})
        if model_config is not None: f.attrs["keras_version"] = version
        g = f.require_group(prefix) if prefix else f
        g.attrs["layer_names"] = [n.encode() for n in weights]
        for layer, tensors in weights.items():
            for k, v in tensors.items(): g[f"{layer}/{layer}/{k}" if nested else f"{layer}/{k}"] = np.asarray(v, "float32")
two = {"lstm_1": {"kernel:0": kernel, "recurrent_kernel:0": recurrent, "bias:0": bias}, "td": {"kernel:0": dense, "bias:0": dense_bias}}
legacy("old.h5", two, config({"recurrent_activation": "hard_sigmoid"}))
legacy("old-list.h5", two, config({"inner_activation": "hard_sigmoid"}), "1.2.2")
legacy("old-weights.hdf5", two, prefix="")
first = {"lstm_1": {f"lstm_1_{k}_{g}": v[..., i * H:(i + 1) * H] for k, v in [("W", kernel), ("U", recurrent), ("b", bias)] for i, g in enumerate("ifco")},
         "td": {"td_W": dense, "td_b": dense_bias}}
legacy("keras1.h5", first, config({"inner_activation": "hard_sigmoid"}), "1.0.3", nested=False)
# CuDNNLSTM: of each gate the transposed kernel's numbers in a block [in, H], the recurrent kernel transposed, two biases.
source = keras.models.load_model(f"{folder}/onehot.keras"); a, b = source.layers[0], source.layers[2]
def cudnn(layer):
    k, r, c = [np.asarray(w) for w in layer.get_weights()]
    blocks = lambda w, f: np.hstack([f(g) for g in np.hsplit(w, 4)])
    half = np.random.default_rng(1).normal(size=c.shape)
    return {"kernel:0": blocks(k, lambda g: g.T.reshape(g.shape, order="C")), "recurrent_kernel:0": blocks(r, lambda g: g.T), "bias:0": np.concatenate([half, c - half])}
d, e = [np.asarray(w) for w in source.layers[-1].get_weights()]
cu = config({}, kind="CuDNNLSTM"); cu.insert(1, {"class_name": "CuDNNLSTM", "config": {"name": "lstm_2", "units": H, "return_sequences": True}})
legacy("cudnn.h5", {"lstm_1": cudnn(a), "lstm_2": cudnn(b), "td": {"kernel:0": d, "bias:0": e}}, cu, "2.2.4")
# What cannot be represented.
def broken(name, *ls): keras.Sequential([L.Input((T, V)), *ls]).save(f"{folder}/{name}.keras")
top = L.Dense
broken("gru", L.GRU(H), top(V)); broken("bidirectional", L.Bidirectional(L.LSTM(H)), top(V)); broken("norm", L.LSTM(H), L.BatchNormalization(), top(V))
broken("heads", L.LSTM(H), top(V), top(V)); broken("sizes", L.LSTM(H, return_sequences=True), L.LSTM(H + 1), top(V)); broken("relu", L.LSTM(H, activation="relu"), top(V))
broken("none", top(V))
y = L.Input((T, V)); z = L.LSTM(H, return_sequences=True)(y); z = L.Attention()([z, z]); keras.Model(y, top(V)(z)).save(folder + "/attention.keras")
print(json.dumps(answers))
`;

let folder: string;
let answers: Record<string, number[]>;
/** One thread for all files, because it takes half a second to start. importModel, tested below, starts one for each file. */
const thread = new Hdf5Thread();
const importByThread = (file: string, options: ImportOptions) =>
  importBy((bytes, signal) => thread.read(bytes, signal), file, options);

/** Trains the weights that the models start with. Keras would need a minute for it, because it runs an LSTM step by step. */
async function learn(name: string, options: TrainRequest): Promise<void> {
  const sizes = {
    hidden: 20,
    seqLength: 24,
    batchSize: 8,
    learningRate: 0.01,
    dropout: 0,
    validation: 0,
    sampleLength: 0,
  };
  const all = { ...sizes, ...cpu, ...options, patience: 0, corpus: { text: learnableText() }, out: false } as const;
  await using training = await train(all);
  for await (const _ of training);
  const native = nativeOf(training.model);
  const values = native.read('parameters');
  const parts = native.parameters.map((part) => ({
    name: part.name,
    shape: part.shape,
    data: [...values.subarray(part.offset, part.offset + part.size)],
  }));
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(parts));
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'import-keras-'));
  writeFileSync(join(folder, 'text.txt'), learnableText());
  if (!pythonHas('keras', 'h5py')) return;
  await learn('embedding', { input: 'embedding', embeddingSize: 9, layers: 2, epochs: 20 });
  await learn('onehot', { input: 'onehot', layers: 2, epochs: 20 });
  await learn('scalar', { input: 'scalar', layers: 1, target: 'last', epochs: 8 });
  await learn('old', { input: 'onehot', layers: 1, epochs: 20 });
  answers = await runPython(script, [folder]);
});
afterAll(async () => {
  await thread.end();
  rmSync(folder, { recursive: true });
});

interface Expected {
  answer: string;
  gates?: 'hard_sigmoid' | 'hard_sigmoid_relu6';
  target: 'every' | 'last';
  seqLength: number;
  layers: number;
}

const onehot = { answer: 'onehot', target: 'every', seqLength: 24, layers: 2 } as const;
const embedding = { ...onehot, answer: 'embedding', gates: 'hard_sigmoid_relu6' } as const;
const scalar = { answer: 'scalar', target: 'last', seqLength: 24, layers: 1 } as const;
const old = { ...onehot, answer: 'old', gates: 'hard_sigmoid', layers: 1 } as const;
const files: [string, Expected][] = [
  ['embedding.keras', embedding],
  ['embedding.h5', embedding],
  ['embedding.weights.h5', { ...embedding, seqLength: 100 }],
  ['onehot.keras', onehot],
  ['onehot.h5', onehot],
  ['onehot.weights.h5', { ...onehot, seqLength: 100 }],
  ['scalar.keras', scalar],
  ['scalar.h5', scalar],
  ['scalar.weights.h5', scalar],
  ['old.h5', old],
  ['old-list.h5', old],
  ['old-weights.hdf5', { ...old, seqLength: 100 }],
  ['keras1.h5', old],
  ['cudnn.h5', onehot],
];

itWithKeras('every layout, with its logits', async () => {
  const corpus = join(folder, 'text.txt');
  const characters = learnableText();
  const symbols = [...new Set(characters)].sort();
  const ids = [...characters.slice(0, 24)].map((symbol) => symbols.indexOf(symbol));
  const differences: string[] = [];
  for (const [name, { answer, gates, target, seqLength, layers }] of files) {
    // Weights alone do not tell the window, nor the gates if two kinds score alike.
    const alone = /weights/.test(name);
    const imported = await importByThread(join(folder, name), {
      ...cpu,
      corpus,
      ...(alone && target === 'last' ? { window: 24 } : {}),
      ...(alone ? { gates: gates ?? 'sigmoid' } : {}),
    });
    const { metadata } = imported.checkpoint;
    expect([name, metadata.target, metadata.seqLength, metadata.model.gateActivation, metadata.model.layers]).toEqual([
      name,
      target,
      seqLength,
      gates,
      layers,
    ]);
    expect(imported.proof.loss).toBeLessThan(imported.proof.letterLoss);
    const ours = await logitsOf(await saveImported(imported, join(folder, `${name}.safetensors`)), ids);
    const theirs = answers[answer] as number[];
    const difference = largestDifference(ours.subarray(ours.length - theirs.length), theirs);
    differences.push(`${name} ${difference.toExponential(1)}`);
    expect([name, difference < 1e-5]).toEqual([name, true]);
  }
  console.log(`Keras: largest difference of logits: ${differences.join(', ')}`);
});

itWithKeras('gates that a file does not name are chosen by their score, which is told', async () => {
  const corpus = join(folder, 'text.txt');
  const imported = await importModel(join(folder, 'old-weights.hdf5'), { ...cpu, corpus });
  expect(imported.notes.at(-1)).toMatch(/chosen by their score \(sigmoid \d\.\d{4}, hard_sigmoid \d\.\d{4} nats/);
  await expect(importModel(join(folder, 'old.h5'), { ...cpu, corpus, gates: 'sigmoid' })).rejects.toThrow(
    'its gates are hard_sigmoid, as the file says',
  );
});

itWithKeras('what cannot be represented is named', async () => {
  const corpus = join(folder, 'text.txt');
  for (const [name, message] of [
    ['gru', 'it has a GRU'],
    ['bidirectional', 'a bidirectional LSTM'],
    ['norm', 'normalisation layers'],
    ['attention', 'attention'],
    ['heads', 'several linear layers'],
    ['sizes', 'LSTM layers of different sizes (20, 21)'],
    ['relu', 'an LSTM with the activation relu'],
    ['none', 'it holds no LSTM'],
  ] as const) {
    const path = join(folder, `${name}.keras`);
    const error = await importByThread(path, { ...cpu, corpus }).catch((e: Error) => e.message);
    expect([name, error]).toEqual([name, expect.stringContaining(message)]);
  }
});

itWithKeras('a damaged HDF5 file is refused in one line, by a thread that ends', async () => {
  const whole = readFileSync(join(folder, 'onehot.h5'));
  for (const length of [8, 100, 2000, whole.length >> 1]) {
    const path = join(folder, `cut-${length}.h5`);
    writeFileSync(path, whole.subarray(0, length));
    await expect(importModel(path, cpu)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(/^cannot import .*$/),
    });
  }
});
