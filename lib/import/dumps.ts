/**
 * Models whose weights are raw files next to a JSON file that lists them: TensorFlow.js' LayersModels (`model.json`), and the dumps of
 * char-rnn-tensorflow that ml5 reads (`manifest.json` and `vocab.json`).
 *
 * Shapes: V vocabulary, H hidden, E embedding size, in = features into a layer.
 */
import { basename, dirname, join } from 'node:path';
import { halfToFloat } from '../checkpoint/safetensors';
import { parseStrictJson } from '../checkpoint/strict-json';
import { largestTensor, Refusal, readWhole, sizeOf } from './bounds';
import { type ForeignLayer, type ForeignModel, reorderBlocks, transpose, unsupported } from './foreign';
import { kerasModel, type NamedTensor } from './keras';
import { symbolsOf } from './vocabularies';

type Fields = Record<string, unknown>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A file next to `file`. A name in a foreign list must be a plain name, not a path, so that it cannot select another file. */
function beside(file: string, name: unknown): string {
  if (typeof name !== 'string' || !/^[\w. -]{1,200}$/.test(name) || basename(name) !== name || name.startsWith('.')) {
    throw new Refusal(`it names a file ${JSON.stringify(name)?.slice(0, 60)}, and only plain names beside it are read`);
  }
  return join(dirname(file), name);
}

function shapeOf(value: unknown, name: string): number[] {
  if (!Array.isArray(value)) throw new Refusal(`'${name}' has no shape`);
  sizeOf(value as number[], name);
  return value as number[];
}

/** The model in a JSON file. @throws Refusal if it is neither of the two kinds. */
export async function jsonModel(text: string, file: string): Promise<ForeignModel> {
  let json: unknown;
  try {
    json = parseStrictJson(text);
  } catch (error) {
    throw new Refusal(`it is not JSON through and through (${(error as Error).message})`, { cause: error });
  }
  if (isObject(json) && 'weightsManifest' in json) return layersModel(json, file);
  if (isObject(json) && Object.values(json).some((entry) => isObject(entry) && 'filename' in entry))
    return dump(json, file);
  throw new Refusal('it is JSON, but neither a model.json of TensorFlow.js nor a manifest.json of ml5');
}

const widths: Fields = { float32: 4, int32: 4, bool: 1, uint8: 1, uint16: 2, float16: 2, complex64: 8 };

/** The numbers of a weight, dequantised if it was quantised. */
function numbers(bytes: Uint8Array, type: string, quantization: Fields | undefined): Float32Array {
  const width = widths[type] as number;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(bytes.length / width);
  const { scale = 1, min = 0 } = quantization ?? {};
  for (let i = 0; i < out.length; i++) {
    if (type === 'float32') out[i] = view.getFloat32(4 * i, true);
    else if (type === 'float16') out[i] = halfToFloat(view.getUint16(2 * i, true));
    else
      out[i] =
        (type === 'uint8' ? view.getUint8(i) : view.getUint16(2 * i, true)) * (scale as number) + (min as number);
  }
  return out;
}

async function layersModel(json: Fields, file: string): Promise<ForeignModel> {
  if (json.format === 'graph-model')
    throw new Refusal('it is a GraphModel of TensorFlow.js, which has lost its layers; save a LayersModel');
  if (!Array.isArray(json.weightsManifest)) throw new Refusal('its list of weights is none');
  const tensors: NamedTensor[] = [];
  const files = new Set<unknown>();
  let total = 0;
  for (const group of json.weightsManifest as unknown[]) {
    if (!isObject(group) || !Array.isArray(group.paths) || !Array.isArray(group.weights))
      throw new Refusal('its list of weights is none');
    const parts: Buffer[] = [];
    for (const name of group.paths as unknown[]) {
      // Each file is used only once: a short list cannot stand for more memory than its files take.
      if (files.has(name)) throw new Refusal(`its list of weights names ${JSON.stringify(name).slice(0, 60)} twice`);
      files.add(name);
      parts.push(await readWhole(beside(file, name)));
    }
    const bytes = Buffer.concat(parts);
    let at = 0;
    for (const weight of group.weights as unknown[]) {
      if (!isObject(weight) || typeof weight.name !== 'string') throw new Refusal('a weight without a name');
      const shape = shapeOf(weight.shape, weight.name);
      const quantization = isObject(weight.quantization) ? weight.quantization : undefined;
      const type = String(quantization?.dtype ?? weight.dtype);
      const width = Object.hasOwn(widths, type) ? (widths[type] as number) : undefined;
      if (width === undefined) throw new Refusal(`'${weight.name}' is of the type ${type}`);
      const length = sizeOf(shape, weight.name) * width;
      if (at + length > bytes.length) throw new Refusal(`'${weight.name}' is cut short`);
      total += sizeOf(shape, weight.name);
      if (total > largestTensor) throw new Refusal(`it has more than ${largestTensor} numbers`);
      if (['float32', 'float16', 'uint8', 'uint16'].includes(type)) {
        const data = numbers(bytes.subarray(at, at + length), type, quantization);
        tensors.push({ path: weight.name, shape, data });
      }
      at += length;
    }
  }
  const topology = isObject(json.modelTopology) ? json.modelTopology : {};
  const version = topology.keras_version;
  return kerasModel({
    config: topology.model_config ?? topology,
    version: typeof version === 'string' ? version : undefined,
    tensors,
    kind: 'a TensorFlow.js LayersModel',
  });
}

/** TensorFlow's BasicLSTMCell: kernel [in + H, 4H], gates i, j, f, o, and 1 to be added to the forget gate. */
function basicCell(kernel: Float32Array, bias: Float32Array, features: number, hidden: number): ForeignLayer {
  const order = [0, 2, 1, 3];
  const rows = reorderBlocks(transpose(kernel, features + hidden, 4 * hidden), order);
  const inputWeights = new Float32Array(4 * hidden * features);
  const recurrentWeights = new Float32Array(4 * hidden * hidden);
  for (let row = 0; row < 4 * hidden; row++) {
    const from = row * (features + hidden);
    inputWeights.set(rows.subarray(from, from + features), row * features);
    recurrentWeights.set(rows.subarray(from + features, from + features + hidden), row * hidden);
  }
  const ordered = reorderBlocks(bias, order);
  for (let unit = 0; unit < hidden; unit++) ordered[hidden + unit] = (ordered[hidden + unit] as number) + 1;
  return { inputWeights, recurrentWeights, bias: ordered };
}

async function dump(json: Fields, file: string): Promise<ForeignModel> {
  let total = 0;
  const read = async (pattern: RegExp): Promise<{ data: Float32Array; shape: number[] } | undefined> => {
    const name = Object.keys(json).find((each) => pattern.test(each));
    if (name === undefined) return undefined;
    const entry = json[name];
    if (!isObject(entry)) throw new Refusal(`'${name}' is no entry of a file`);
    const shape = shapeOf(entry.shape, name);
    const bytes = await readWhole(beside(file, entry.filename));
    total += sizeOf(shape, name);
    if (bytes.length !== 4 * sizeOf(shape, name) || total > largestTensor) {
      throw new Refusal(`'${name}' should take ${4 * sizeOf(shape, name)} bytes, and its file has ${bytes.length}`);
    }
    return { data: numbers(bytes, 'float32', undefined), shape };
  };
  const need = async (pattern: RegExp, what: string) => {
    const found = await read(pattern);
    if (found === undefined) throw new Refusal(`its ${what} is missing`);
    return found;
  };
  if (Object.keys(json).some((name) => /gru_cell/i.test(name))) throw unsupported('a GRU');
  const head = await need(/softmax_w$/, 'output (softmax_w)');
  const [hidden = 0, vocabulary = 0] = head.shape;
  const bias = await need(/softmax_b$/, 'output (softmax_b)');
  const table = await need(/(^|\/)embedding$/, 'embedding');
  if (
    head.shape.length !== 2 ||
    bias.data.length !== vocabulary ||
    table.shape[0] !== vocabulary ||
    table.shape.length !== 2
  ) {
    throw new Refusal(`its output is [${head.shape}], its embedding [${table.shape}]`);
  }
  const embedding = table.shape[1] as number;
  const layers: ForeignLayer[] = [];
  for (; layers.length < 64; ) {
    const cell = `cell_${layers.length}/.*`;
    const kernel = await read(new RegExp(`${cell}(kernel|weights)$`));
    if (kernel === undefined) break;
    const cellBias = await need(new RegExp(`${cell}bias(es)?$`), `bias of cell ${layers.length}`);
    const features = layers.length === 0 ? embedding : hidden;
    if (
      kernel.shape[0] !== features + hidden ||
      kernel.shape[1] !== 4 * hidden ||
      cellBias.data.length !== 4 * hidden
    ) {
      throw new Refusal(
        `the kernel of its cell ${layers.length} is [${kernel.shape}], and [${features + hidden}, ${4 * hidden}] is needed`,
      );
    }
    layers.push(basicCell(kernel.data, cellBias.data, features, hidden));
  }
  if (layers.length === 0) throw new Refusal('it holds no LSTM: no cell_0');
  const symbols = await vocabularyBeside(file, vocabulary);
  return {
    kind: 'a dump of char-rnn-tensorflow (ml5)',
    vocabulary,
    hidden,
    input: 'embedding',
    embedding,
    embeddingWeights: table.data,
    layers,
    outputWeights: transpose(head.data, hidden, vocabulary),
    outputBias: bias.data,
    gateActivations: ['sigmoid'],
    dropout: 0,
    target: 'every',
    vocabularies: symbols === undefined ? [] : [{ where: 'vocab.json beside it', symbols }],
    notes: [],
  };
}

/** The vocabulary in `vocab.json`, if there is one that fits. */
async function vocabularyBeside(file: string, size: number): Promise<string[] | undefined> {
  try {
    return symbolsOf(parseStrictJson((await readWhole(beside(file, 'vocab.json'), 64 << 20)).toString('utf8')), size);
  } catch {
    return undefined;
  }
}
