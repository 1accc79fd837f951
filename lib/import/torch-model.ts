/** Finds the tensors of a PyTorch file that are the model, by their names and shapes; see foreign.ts for what it is converted to. */
import { largestTensor, Refusal, sizeOf } from './bounds';
import { type ForeignLayer, type ForeignModel, sum, unsupported } from './foreign';
import { type Pickled, PickledCall } from './pickle';
import { TorchTensor } from './torch';
import { vocabulariesIn } from './vocabularies';

type Tensors = Map<string, TorchTensor>;

/** A set of named tensors that may be the model, and what the file says about its parts. */
interface Candidate {
  tensors: Tensors;
  /** Attributes of modules, if there are any, by the module's name. */
  attributes: Map<string, Map<Pickled, Pickled>>;
  whole: boolean;
}

const attentive = /attn|attention|in_proj/i;
const deepest = 12;
const mostVisited = 200_000;
const mostLayers = 64;
/** The most characters in the name of a module's part: names are joined once for each place where a part occurs. */
const longestName = 1000;

/** Where to look first in a dict that holds more than the model. */
const modelKeys = ['state_dict', 'model_state_dict', 'model', 'net', 'decoder', 'rnn', 'weights'];

function keyed(value: Pickled | undefined, key: string): Pickled | undefined {
  return value instanceof Map ? value.get(key) : undefined;
}

/** Attributes of an object made by a call and a state; with slots, the state is a pair. */
function attributesOf(object: PickledCall): Map<Pickled, Pickled> | undefined {
  const state = Array.isArray(object.state) ? object.state[0] : object.state;
  return state instanceof Map ? state : undefined;
}

/** Collects a module's tensors under the names that state_dict() would give them. */
function flatten(object: PickledCall, prefix: string, into: Candidate, depth: number, visit: () => void): void {
  visit();
  const attributes = attributesOf(object);
  if (attributes === undefined || depth > deepest) return;
  into.attributes.set(prefix, attributes);
  const name = (key: Pickled) => (prefix === '' ? String(key) : `${prefix}.${String(key)}`);
  const take = (key: Pickled, value: Pickled) => {
    if (typeof key !== 'string' || !(value instanceof TorchTensor || value instanceof PickledCall)) return;
    if (key.length > longestName) throw new Refusal(`a part of its modules has a name of ${key.length} characters`);
    if (value instanceof TorchTensor) into.tensors.set(name(key), value);
    else flatten(value, name(key), into, depth + 1, visit);
  };
  for (const group of ['_parameters', '_buffers', '_modules']) {
    const values = keyed(attributes, group);
    if (values instanceof Map) for (const [key, value] of values) take(key, value);
  }
  // TorchScript keeps parameters and modules as plain attributes.
  if (!(keyed(attributes, '_modules') instanceof Map)) for (const [key, value] of attributes) take(key, value);
}

/** All sets of tensors in a file, the likeliest first. */
function candidatesIn(root: Pickled): Candidate[] {
  const found: Candidate[] = [];
  const seen = new Set<Pickled>();
  let visited = 0;
  const visit = () => {
    if (++visited > mostVisited) throw new Refusal('it holds too many objects to look for a model in');
  };
  const search = (value: Pickled, depth: number): void => {
    if (depth > deepest || value === null || typeof value !== 'object' || seen.has(value)) return;
    seen.add(value);
    visit();
    if (value instanceof PickledCall) {
      const candidate: Candidate = { tensors: new Map(), attributes: new Map(), whole: true };
      flatten(value, '', candidate, 0, visit);
      if (candidate.tensors.size > 0) found.push(candidate);
      else search(value.state, depth + 1);
    } else if (value instanceof Map) {
      const tensors: Tensors = new Map();
      for (const [key, entry] of value)
        if (typeof key === 'string' && entry instanceof TorchTensor) tensors.set(key, entry);
      if (tensors.size > 0) found.push({ tensors, attributes: new Map(), whole: false });
      const first = modelKeys.flatMap((key) => value.get(key) ?? []);
      for (const entry of [...first, ...value.values()]) search(entry, depth + 1);
    } else if (Array.isArray(value)) {
      for (const entry of value.slice(0, 1000)) search(entry, depth + 1);
    }
  };
  search(root, 0);
  return found;
}

const recurrent = /^(.*?)(?:^|\.)?(weight|bias)_(ih|hh|hr)(?:_l(\d+))?(_reverse)?$/;

interface LayerNames {
  /** Name of the module, with its trailing dot. */
  prefix: string;
  suffix: string;
}

/** The recurrent layers of a set of tensors, in the order of computation. */
function layersIn({ tensors }: Candidate): LayerNames[] {
  const layers: (LayerNames & { module: number; index: number })[] = [];
  const modules: string[] = [];
  for (const name of tensors.keys()) {
    const match = recurrent.exec(name);
    if (match === null) continue;
    const [, , kind, side, index, reverse] = match;
    if (reverse !== undefined) throw unsupported('a bidirectional LSTM');
    if (side === 'hr') throw unsupported('an LSTM with projections (proj_size)');
    if (kind !== 'weight' || side !== 'ih') continue;
    const end = name.length - `weight_ih${index === undefined ? '' : `_l${index}`}`.length;
    const prefix = name.slice(0, end);
    if (layers.length === mostLayers) throw unsupported(`more than ${mostLayers} layers`);
    if (!modules.includes(prefix)) modules.push(prefix);
    layers.push({
      prefix,
      suffix: index === undefined ? '' : `_l${index}`,
      module: modules.indexOf(prefix),
      index: Number(index ?? 0),
    });
  }
  return layers.sort((a, b) => a.module - b.module || a.index - b.index);
}

function need(tensors: Tensors, name: string): TorchTensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Refusal(`tensor '${name}' is missing`);
  return tensor;
}

/** Rows and columns of a matrix. */
function matrix(tensor: TorchTensor, name: string): [number, number] {
  const [rows, columns] = tensor.shape;
  if (tensor.shape.length !== 2 || !rows || !columns)
    throw new Refusal(`tensor '${name}' is [${tensor.shape}], not a matrix`);
  return [rows, columns];
}

function stem(name: string): string {
  return name.replace(/\.?(weight|bias)$/, '');
}

/** The model in a PyTorch file. @throws Refusal naming what there is instead. */
export async function torchModel(root: Pickled): Promise<ForeignModel> {
  const candidates = candidatesIn(root);
  if (candidates.length === 0) throw new Refusal('it is a PyTorch file, but holds no tensors under names');
  const found = candidates.find(({ tensors }) => [...tensors.keys()].some((name) => recurrent.test(name)));
  if (found === undefined) {
    const names = [...(candidates[0] as Candidate).tensors.keys()];
    const attention = names.find((name) => attentive.test(name));
    if (attention !== undefined) throw unsupported(`attention ('${attention}')`);
    throw new Refusal(
      `it holds no LSTM: its tensors are ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', …' : ''}`,
    );
  }
  return assemble(found, root);
}

async function assemble(candidate: Candidate, root: Pickled): Promise<ForeignModel> {
  const { tensors } = candidate;
  const layers = layersIn(candidate);
  const used = new Set<string>();
  const hidden = hiddenOf(candidate, layers);
  let total = 0;
  const load = (name: string, ...shape: number[]): Promise<Float32Array> => {
    const tensor = need(tensors, name);
    if (tensor.shape.length !== shape.length || tensor.shape.some((extent, i) => extent !== shape[i])) {
      throw new Refusal(`tensor '${name}' is [${tensor.shape}] where the model needs [${shape}]`);
    }
    total += sizeOf(shape, name);
    if (total > largestTensor) throw new Refusal(`it has more than ${largestTensor} numbers`);
    used.add(name);
    return tensor.load(name);
  };
  const read: ForeignLayer[] = [];
  let features = 0;
  for (const [at, { prefix, suffix }] of layers.entries()) {
    const name = (part: string) => `${prefix}${part}${suffix}`;
    const [, columns] = matrix(need(tensors, name('weight_ih')), name('weight_ih'));
    if (at === 0) features = columns;
    const inputWeights = await load(name('weight_ih'), 4 * hidden, at === 0 ? columns : hidden);
    const recurrentWeights = await load(name('weight_hh'), 4 * hidden, hidden);
    const biases: Float32Array[] = [];
    for (const part of ['bias_ih', 'bias_hh'])
      if (tensors.has(name(part))) biases.push(await load(name(part), 4 * hidden));
    const bias = biases.reduce(sum, new Float32Array(4 * hidden));
    read.push({ inputWeights, recurrentWeights, bias });
  }
  const rest = [...tensors.keys()].filter((name) => !used.has(name) && !recurrent.test(name));
  const attention = rest.find((name) => attentive.test(name));
  if (attention !== undefined) throw unsupported(`attention ('${attention}')`);
  const { head, embedding } = outerMatrices(tensors, rest, hidden, features);
  const [vocabulary] = matrix(need(tensors, head), head);
  const outputWeights = await load(head, vocabulary, hidden);
  const headBias = `${stem(head)}.bias`.replace(/^\./, '');
  const outputBias = tensors.has(headBias) ? await load(headBias, vocabulary) : new Float32Array(vocabulary);
  let embeddingWeights: Float32Array | undefined;
  if (embedding !== undefined) embeddingWeights = await load(embedding, vocabulary, features);
  else if (features !== 1 && features !== vocabulary) {
    throw new Refusal(
      `its LSTM takes ${features} features and its output has ${vocabulary} symbols: that is neither one-hot, nor one number, and ` +
        `there is no embedding [${vocabulary}, ${features}]`,
    );
  }
  const left = [...tensors.keys()].filter((name) => !used.has(name));
  if (left.length > 0) throw unexpected(left);
  const { dropout } = moduleAttributes(candidate);
  return {
    kind: candidate.whole ? 'a PyTorch module' : 'a PyTorch state dict',
    vocabulary,
    hidden,
    input: embedding !== undefined ? 'embedding' : features === 1 && vocabulary !== 1 ? 'scalar' : 'onehot',
    embedding: embedding === undefined ? 0 : features,
    embeddingWeights,
    layers: read,
    outputWeights,
    outputBias,
    gateActivations: ['sigmoid'],
    dropout,
    vocabularies: vocabulariesIn(root, vocabulary),
    notes: [],
  };
}

/** H of all layers. @throws Refusal if they differ, or have a different number of gates from an LSTM. */
function hiddenOf({ tensors }: Candidate, layers: readonly LayerNames[]): number {
  const sizes = layers.map(({ prefix, suffix }) => {
    const name = `${prefix}weight_hh${suffix}`;
    const [rows, columns] = matrix(need(tensors, name), name);
    if (rows === 3 * columns) throw unsupported(`a GRU ('${name}' has 3H rows)`);
    if (rows === columns) throw unsupported(`a plain RNN ('${name}' has H rows)`);
    if (rows !== 4 * columns) throw new Refusal(`tensor '${name}' is [${rows}, ${columns}], and an LSTM's is [4H, H]`);
    return columns;
  });
  const [hidden = 0] = sizes;
  if (sizes.some((size) => size !== hidden)) throw unsupported(`LSTM layers of different sizes (${sizes.join(', ')})`);
  return hidden;
}

/** The linear layer on top, and the embedding below, if there is one. */
function outerMatrices(
  tensors: Tensors,
  rest: readonly string[],
  hidden: number,
  features: number,
): { head: string; embedding: string | undefined } {
  const matrices = rest.filter((name) => tensors.get(name)?.shape.length === 2);
  const hasBias = (name: string) => tensors.has(`${stem(name)}.bias`.replace(/^\./, '')) && name.endsWith('weight');
  const looksEmbedded = (name: string) => /emb|encoder|wte|lookup/i.test(name);
  const heads = matrices.filter((name) => tensors.get(name)?.shape[1] === hidden);
  // An embedding of H features has the shape of a head without a bias.
  const likely = heads.filter(hasBias);
  const head = (likely.length > 0 ? likely : heads.filter((name) => !looksEmbedded(name))).at(-1);
  if (likely.length > 1) throw unsupported(`several linear layers (${likely.map((name) => `'${name}'`).join(', ')})`);
  if (head === undefined) {
    const biased = matrices.filter(hasBias);
    if (biased.length > 1) throw unsupported(`several linear layers (${biased.map((name) => `'${name}'`).join(', ')})`);
    throw new Refusal(`it has no linear layer [V, ${hidden}] on top of its LSTM`);
  }
  const vocabulary = tensors.get(head)?.shape[0];
  const embedding = matrices.find((name) => {
    const [rows, columns] = tensors.get(name)?.shape ?? [];
    return name !== head && rows === vocabulary && columns === features && !hasBias(name);
  });
  return { head, embedding };
}

function unexpected(names: readonly string[]): Refusal {
  const listed = names.slice(0, 5).map((name) => `'${name}'`);
  const norm = names.some((name) => /running_mean|running_var|norm/i.test(name));
  const what = norm ? 'normalisation layers' : 'further layers';
  return unsupported(`${what} (${listed.join(', ')}${names.length > 5 ? ', …' : ''})`);
}

/** What a whole module says about its LSTM besides the weights. */
function moduleAttributes({ attributes }: Candidate): { dropout: number } {
  let dropout = 0;
  for (const values of attributes.values()) {
    if (keyed(values, 'bidirectional') === true) throw unsupported('a bidirectional LSTM');
    const rate = keyed(values, 'dropout');
    if (typeof keyed(values, 'hidden_size') === 'number' && typeof rate === 'number' && rate >= 0 && rate < 1)
      dropout = rate;
  }
  return { dropout };
}
