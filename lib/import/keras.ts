/**
 * Keras models: whole ones in HDF5 (before 3) and in `.keras` archives (since 2.12), weights alone in either layout, and Keras 1's twelve
 * arrays per layer. What a layer is comes from the configuration or, without one, from the shapes.
 *
 * Shapes: V vocabulary, H hidden, in = features into a layer. Keras has kernels [in, 4H] with gates i, f, c, o side by side.
 */
import type { GateActivation, Target } from '../device/native';
import { largestTensor, Refusal, sizeOf } from './bounds';
import { type ForeignLayer, type ForeignModel, sum, transpose, unsupported } from './foreign';

/** A tensor, named by its groups: `model_weights/lstm_1/lstm_1/kernel:0`, `layers/lstm/cell/vars/0`, `lstm_1/kernel`. */
export interface NamedTensor {
  path: string;
  shape: readonly number[];
  data: Float32Array;
}

interface LayerConfig {
  type: string;
  name: string;
  config: Record<string, unknown>;
}

/** A layer's weights by name, whatever the layout. */
type Weights = Map<string, NamedTensor>;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The most layers in a configuration and tensors in a file: each layer's tensors are searched for among all. */
const mostListed = 256;
const mostTensors = 20_000;

/** The layers of a configuration, one after another. */
function layersOf(config: unknown): LayerConfig[] {
  const model = isObject(config) ? config : {};
  const inner = model.config;
  // In Keras 1 this is the list itself.
  const list = Array.isArray(inner) ? inner : isObject(inner) ? inner.layers : undefined;
  if (!Array.isArray(list))
    throw new Refusal(`its configuration of a ${String(model.class_name)} has no list of layers`);
  if (list.length > mostListed) throw unsupported(`a configuration of ${list.length} layers`);
  return list.map((entry: unknown): LayerConfig => {
    const layer = isObject(entry) ? entry : {};
    const own = isObject(layer.config) ? layer.config : {};
    return { type: String(layer.class_name), name: String(own.name ?? layer.name ?? ''), config: own };
  });
}

/** An activation's name, which may be nested in an object. */
function activationName(value: unknown): string {
  if (isObject(value)) return activationName(value.config ?? value.class_name);
  return String(value);
}

const classWords: readonly [RegExp, string][] = [
  [/^(CuDNN)?GRU$|^GRUCell$/, 'a GRU'],
  [/^SimpleRNN$/, 'a plain RNN'],
  [/^Bidirectional$/, 'a bidirectional LSTM'],
  [/Attention/, 'attention'],
  [/Norm/, 'normalisation layers'],
  [/Conv/, 'convolutions'],
  [/^(Concatenate|Add|Merge|Multiply|Dot)$/, 'branches that meet'],
];

function named(type: string): string {
  return classWords.find(([pattern]) => pattern.test(type))?.[1] ?? `a layer ${type}`;
}

/** Layers that change nothing once a model is trained. */
const silent = new Set([
  'InputLayer',
  'Dropout',
  'SpatialDropout1D',
  'ActivityRegularization',
  'GaussianNoise',
  'GaussianDropout',
]);

/** A Keras 3 group's name for a class: LSTM is lstm, TimeDistributed is time_distributed. */
function snake(type: string): string {
  return type
    .replace(/([a-z\d])([A-Z])/g, '$1_$2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1_$2')
    .toLowerCase();
}

/** A layer with its weights; a list of them is in the order of computation. */
interface Part {
  layer: LayerConfig;
  weights: Weights;
}

/** The last name of a path, without TensorFlow's `:0`. */
function leaf(path: string): string {
  return (path.split('/').at(-1) as string).replace(/:0$/, '');
}

/** A layer's weights by the names used here: kernel, recurrent_kernel, bias, embeddings; for Keras 1, W_i to b_o, W and b. */
function weightsUnder(tensors: readonly NamedTensor[], prefix: string, names: readonly string[]): Weights {
  const found: Weights = new Map();
  for (const tensor of tensors) {
    if (!tensor.path.startsWith(prefix)) continue;
    const last = leaf(tensor.path);
    const inVars = /\/vars\/\d+$/.test(tensor.path);
    const old = /_([WUb](?:_[icfo])?)$/.exec(last)?.[1];
    const name = inVars ? names[Number(last)] : (old ?? last);
    if (name !== undefined && !found.has(name)) found.set(name, tensor);
  }
  return found;
}

const weightNames: Readonly<Record<string, readonly string[]>> = {
  LSTM: ['kernel', 'recurrent_kernel', 'bias'],
  CuDNNLSTM: ['kernel', 'recurrent_kernel', 'bias'],
  Dense: ['kernel', 'bias'],
  Embedding: ['embeddings'],
};

function partsOf(layers: readonly LayerConfig[], tensors: readonly NamedTensor[]): Part[] {
  const counts = new Map<string, number>();
  const parts: Part[] = [];
  for (const layer of layers) {
    const counted = snake(layer.type);
    const count = counts.get(counted) ?? 0;
    counts.set(counted, count + 1);
    let { type, config } = layer;
    if (type === 'TimeDistributed') {
      const inner = isObject(config.layer) ? config.layer : {};
      type = String(inner.class_name);
      config = isObject(inner.config) ? inner.config : {};
      if (type !== 'Dense') throw unsupported(named(type));
    }
    if (silent.has(type)) {
      parts.push({ layer: { ...layer, type, config }, weights: new Map() });
      continue;
    }
    if (type === 'Activation' || type === 'Softmax') {
      const activation = type === 'Softmax' ? 'softmax' : activationName(config.activation);
      if (activation !== 'softmax' && activation !== 'linear') throw unsupported(`an activation ${activation}`);
      continue;
    }
    const names = weightNames[type];
    if (names === undefined) throw unsupported(named(type));
    const byClass = count === 0 ? counted : `${counted}_${count}`;
    const prefixes = [
      ...['model_weights/', '', 'layers/', '_layer_checkpoint_dependencies/'].map((group) => `${group}${layer.name}/`),
      ...['layers/', '_layer_checkpoint_dependencies/'].map((group) => `${group}${byClass}/`),
    ];
    const weights = prefixes.map((prefix) => weightsUnder(tensors, prefix, names)).find((found) => found.size > 0);
    if (weights === undefined) throw new Refusal(`the weights of its layer '${layer.name}' are missing`);
    parts.push({ layer: { ...layer, type, config }, weights });
  }
  return parts;
}

/** Without a configuration: the groups of weights in natural order, and what they must be by their shapes. */
function partsByShape(tensors: readonly NamedTensor[], order: readonly string[] | undefined): Part[] {
  const groups = new Map<string, NamedTensor[]>();
  for (const tensor of tensors) {
    const group = tensor.path.replace(/(\/cell)?(\/vars)?\/[^/]*$/, '');
    const known = groups.get(group);
    if (known) known.push(tensor);
    else groups.set(group, [tensor]);
  }
  const places = new Map(order?.map((name, place) => [name, place]));
  const place = (name: string) => places.get(name.split('/')[0] as string) ?? -1;
  const sorted = [...groups].sort(([a], [b]) => place(a) - place(b) || a.localeCompare(b, 'en', { numeric: true }));
  const parts: Part[] = [];
  for (const [group, all] of sorted) {
    const matrices = all.filter(({ shape }) => shape.length === 2).length;
    const hasBias = all.some(({ shape }) => shape.length === 1);
    const old = all.some(({ path }) => /_W_[icfo]$/.test(leaf(path)));
    const type = old || matrices === 2 ? 'LSTM' : hasBias ? 'Dense' : 'Embedding';
    const weights = weightsUnder(all, group, weightNames[type] as string[]);
    if (weights.size > 0) parts.push({ layer: { type, name: group, config: {} }, weights });
  }
  const rank = { Embedding: 0, LSTM: 1, Dense: 2 } as Record<string, number>;
  return parts.sort((a, b) => (rank[a.layer.type] as number) - (rank[b.layer.type] as number));
}

function need(part: Part, name: string): NamedTensor {
  const tensor = part.weights.get(name);
  if (tensor === undefined) throw new Refusal(`'${name}' of its layer '${part.layer.name}' is missing`);
  if (tensor.data.length !== sizeOf(tensor.shape, tensor.path)) throw new Refusal(`'${tensor.path}' is cut short`);
  return tensor;
}

function matrixOf(part: Part, name: string): { data: Float32Array; rows: number; columns: number } {
  const { shape, data } = need(part, name);
  const [rows = 0, columns = 0] = shape;
  if (shape.length !== 2 || rows < 1 || columns < 1)
    throw new Refusal(`'${name}' of '${part.layer.name}' is [${shape}], not a matrix`);
  return { data, rows, columns };
}

function vectorOf(part: Part, name: string, length: number): Float32Array {
  if (!part.weights.has(name)) return new Float32Array(length); // use_bias=False
  const { shape, data } = need(part, name);
  if (shape.length !== 1 || data.length !== length)
    throw new Refusal(`'${name}' of '${part.layer.name}' is [${shape}], not [${length}]`);
  return data;
}

/** Columns g H to (g + 1) H of a [rows, 4H] matrix as blocks, not transposed. */
function gateBlocks(data: Float32Array, rows: number, hidden: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let gate = 0; gate < 4; gate++) {
    for (let row = 0; row < rows; row++) {
      const from = row * 4 * hidden + gate * hidden;
      out.set(data.subarray(from, from + hidden), (gate * rows + row) * hidden);
    }
  }
  return out;
}

function checkGates(rows: number, columns: number, name: string): number {
  if (columns === 3 * rows) throw unsupported(`a GRU ('${name}' has 3H columns)`);
  if (columns === rows) throw unsupported(`a plain RNN ('${name}' has H columns)`);
  if (columns !== 4 * rows)
    throw new Refusal(`the recurrent kernel of '${name}' is [${rows}, ${columns}], and an LSTM's is [H, 4H]`);
  return rows;
}

/** An LSTM's weights in this package's layout, and its features. */
function lstmOf(part: Part): { layer: ForeignLayer; hidden: number; features: number } {
  const { type, name, config } = part.layer;
  if (type === 'LSTM' && config.activation !== undefined && activationName(config.activation) !== 'tanh') {
    throw unsupported(`an LSTM with the activation ${activationName(config.activation)}`);
  }
  if (config.go_backwards === true) throw unsupported('an LSTM that reads backwards');
  if (part.weights.has('W_i')) return firstKerasLstm(part);
  const recurrent = matrixOf(part, 'recurrent_kernel');
  const kernel = matrixOf(part, 'kernel');
  const hidden = checkGates(recurrent.rows, recurrent.columns, name);
  if (kernel.columns !== 4 * hidden)
    throw new Refusal(`the kernel of '${name}' is [${kernel.rows}, ${kernel.columns}]`);
  const features = kernel.rows;
  const bias = part.weights.get('bias');
  if (type === 'CuDNNLSTM' || bias?.data.length === 8 * hidden) {
    // cuDNN's own layout: each gate's block holds our rows one after another, and there are two biases.
    const both = vectorOf(part, 'bias', 8 * hidden);
    const layer = {
      inputWeights: gateBlocks(kernel.data, features, hidden),
      recurrentWeights: gateBlocks(recurrent.data, hidden, hidden),
      bias: sum(both.subarray(0, 4 * hidden), both.subarray(4 * hidden)),
    };
    return { layer, hidden, features };
  }
  const layer = {
    inputWeights: transpose(kernel.data, features, 4 * hidden),
    recurrentWeights: transpose(recurrent.data, hidden, 4 * hidden),
    bias: vectorOf(part, 'bias', 4 * hidden),
  };
  return { layer, hidden, features };
}

/** Keras 1: W, U and b of each gate separately. */
function firstKerasLstm(part: Part): { layer: ForeignLayer; hidden: number; features: number } {
  const first = matrixOf(part, 'W_i');
  const hidden = first.columns;
  const stacked = (kind: string, rows: number) => {
    const all = new Float32Array(4 * rows * hidden);
    for (const [at, gate] of ['i', 'f', 'c', 'o'].entries()) {
      const { data, rows: found, columns } = matrixOf(part, `${kind}_${gate}`);
      if (found !== rows || columns !== hidden)
        throw new Refusal(`'${kind}_${gate}' of '${part.layer.name}' is [${found}, ${columns}]`);
      all.set(transpose(data, rows, hidden), at * rows * hidden);
    }
    return all;
  };
  const bias = new Float32Array(4 * hidden);
  for (const [at, gate] of ['i', 'f', 'c', 'o'].entries()) bias.set(vectorOf(part, `b_${gate}`, hidden), at * hidden);
  const layer = { inputWeights: stacked('W', first.rows), recurrentWeights: stacked('U', hidden), bias };
  return { layer, hidden, features: first.rows };
}

/** The gates' possible activation functions: one if it is known; for a file of weights alone, both that its layout leaves open. */
function gatesOf(parts: readonly Part[], version: string | undefined): GateActivation[] {
  const inVars = parts.some(({ weights }) => [...weights.values()].some(({ path }) => path.includes('/vars/')));
  const names = parts.map(({ layer }) =>
    layer.type === 'CuDNNLSTM' ? 'sigmoid' : (layer.config.recurrent_activation ?? layer.config.inner_activation),
  );
  const [first] = names;
  // Weights alone: Keras 3's layout, or an older one's.
  if (first === undefined) return ['sigmoid', inVars ? 'hard_sigmoid_relu6' : 'hard_sigmoid'];
  const found = names.map(activationName);
  if (found.some((name) => name !== found[0]))
    throw unsupported(`LSTM layers of different gates (${found.join(', ')})`);
  const name = found[0] as string;
  if (name === 'sigmoid') return ['sigmoid'];
  if (/^hard_?sigmoid$/i.test(name)) {
    return [Number.parseInt(version ?? '2', 10) >= 3 ? 'hard_sigmoid_relu6' : 'hard_sigmoid'];
  }
  throw unsupported(`an LSTM with gates of ${name}`);
}

export interface KerasFile {
  /** Parsed; undefined for weights alone. */
  config: unknown;
  /** The version of Keras that wrote it, or TensorFlow.js' own name for it. */
  version: string | undefined;
  tensors: readonly NamedTensor[];
  /** Layer names in order, if the file gives them without a configuration. */
  order?: readonly string[] | undefined;
  kind: string;
}

/** The model in a Keras file. @throws Refusal naming what cannot be represented. */
export function kerasModel({ config, version, tensors, order, kind }: KerasFile): ForeignModel {
  if (tensors.length > mostTensors) throw new Refusal(`it holds more than ${mostTensors} tensors`);
  const layers = config === undefined ? undefined : layersOf(config);
  const parts = layers === undefined ? partsByShape(tensors, order) : partsOf(layers, tensors);
  const of = (...types: string[]) => parts.filter(({ layer }) => types.includes(layer.type));
  const lstms = of('LSTM', 'CuDNNLSTM');
  const dense = of('Dense');
  const [embedding, ...moreEmbeddings] = of('Embedding');
  if (lstms.length === 0)
    throw new Refusal(`it holds no LSTM: ${parts.map(({ layer }) => layer.name).join(', ') || 'it is empty'}`);
  if (lstms.length > 64) throw unsupported(`${lstms.length} layers`);
  if (dense.length > 1)
    throw unsupported(`several linear layers (${dense.map(({ layer }) => `'${layer.name}'`).join(', ')})`);
  if (dense.length === 0) throw new Refusal('it has no dense layer on top of its LSTM');
  if (moreEmbeddings.length > 0) throw unsupported('several embeddings');
  checkOrder(parts);
  const total = lstms
    .flatMap(({ weights }) => [...weights.values()])
    .reduce((count, { data }) => count + data.length, 0);
  if (total > largestTensor) throw new Refusal(`it has more than ${largestTensor} numbers`);
  const read = lstms.map(lstmOf);
  const { hidden, features } = read[0] as (typeof read)[number];
  for (const [i, each] of read.entries()) {
    if (each.hidden !== hidden)
      throw unsupported(`LSTM layers of different sizes (${read.map((r) => r.hidden).join(', ')})`);
    if (i > 0 && each.features !== hidden)
      throw new Refusal(`its LSTM '${lstms[i]?.layer.name}' takes ${each.features} features`);
  }
  const head = dense[0] as Part;
  const activation = head.layer.config.activation;
  if (activation !== undefined && !['softmax', 'linear'].includes(activationName(activation))) {
    throw unsupported(`a dense layer with the activation ${activationName(activation)}`);
  }
  const kernel = matrixOf(head, head.weights.has('W') ? 'W' : 'kernel');
  if (kernel.rows !== hidden)
    throw new Refusal(`its dense layer takes ${kernel.rows} features, and its LSTM has ${hidden}`);
  const vocabulary = kernel.columns;
  const table = embedding === undefined ? undefined : embeddingOf(embedding, vocabulary, features);
  if (table === undefined && features !== 1 && features !== vocabulary) {
    throw new Refusal(
      `its LSTM takes ${features} features and its output has ${vocabulary} symbols: that is neither one-hot nor one number`,
    );
  }
  return {
    kind,
    vocabulary,
    hidden,
    input: table !== undefined ? 'embedding' : features === 1 && vocabulary !== 1 ? 'scalar' : 'onehot',
    embedding: table === undefined ? 0 : features,
    embeddingWeights: table,
    layers: read.map(({ layer }) => layer),
    outputWeights: transpose(kernel.data, hidden, vocabulary),
    outputBias: vectorOf(head, head.weights.has('b') ? 'b' : 'bias', vocabulary),
    gateActivations: gatesOf(lstms, version),
    dropout: dropoutOf(parts),
    ...protocolOf(layers, lstms),
    vocabularies: [],
    notes: config === undefined ? ['the file holds weights alone and does not say how it was trained'] : [],
  };
}

/** An embedding or none, LSTMs, a dense layer: in this order, with nothing else between them. */
function checkOrder(parts: readonly Part[]): void {
  const letters = parts
    .map(({ layer }) => ({ Embedding: 'E', LSTM: 'L', CuDNNLSTM: 'L', Dense: 'D' })[layer.type] ?? '')
    .join('');
  if (!/^E?L+D$/.test(letters)) throw unsupported('its layers in another order');
}

function embeddingOf(part: Part, vocabulary: number, features: number): Float32Array {
  const { data, rows, columns } = matrixOf(part, part.weights.has('W') ? 'W' : 'embeddings');
  if (rows !== vocabulary || columns !== features) {
    throw new Refusal(
      `its embedding is [${rows}, ${columns}], and [${vocabulary}, ${features}] is needed: as many symbols in as out`,
    );
  }
  return data;
}

/** The first rate that is not zero; it matters only for training. */
function dropoutOf(parts: readonly Part[]): number {
  for (const { layer } of parts) {
    for (const key of layer.type === 'Dropout' ? ['rate', 'p'] : ['dropout']) {
      const rate = layer.config[key];
      if (typeof rate === 'number' && rate > 0 && rate < 1) return rate;
    }
  }
  return 0;
}

/** Whether the loss was taken at every position, and how many positions there were, if the configuration says so. */
function protocolOf(
  layers: readonly LayerConfig[] | undefined,
  lstms: readonly Part[],
): { target?: Target; seqLength?: number } {
  if (layers === undefined) return {};
  const top = (lstms.at(-1) as Part).layer.config;
  const shapes = layers.map(({ config }) => config.batch_input_shape ?? config.batch_shape ?? config.input_shape);
  const shape = shapes.find((each) => Array.isArray(each)) as unknown[] | undefined;
  const length = shape?.[1] ?? layers.find(({ type }) => type === 'Embedding')?.config.input_length;
  const known = typeof length === 'number' && Number.isInteger(length) && length >= 1 && length <= 1 << 24;
  return { target: top.return_sequences === true ? 'every' : 'last', ...(known ? { seqLength: length } : {}) };
}
