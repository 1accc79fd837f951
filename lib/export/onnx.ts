/**
 * An ONNX model: one graph for both a step and a sequence, opset 17. Inputs: `ids` [T, S] int64, `h` and `c` [L, S, H]; outputs: `logits`
 * [T, S, V], `h_out`, `c_out`. T and S are symbolic.
 *
 * Shapes: T steps, S streams, L layers, H hidden, V vocabulary, E embedding size, in = features into a layer.
 */
import type { CheckpointMetadata } from '../checkpoint/checkpoint';
import { UsageError } from '../errors';
import { packageVersion } from '../version';
import { Message } from './protobuf';

const float32 = 1;
const int64 = 7;
/** The format's limit for one message. */
const largest = 2 ** 31 - 1;

/** A tensor of this package's layout, by name. */
export type Weights = (name: string) => Float32Array;

type Extent = number | string;

function tensor(name: string, shape: readonly number[], data: Float32Array | BigInt64Array): Message {
  const message = new Message();
  for (const extent of shape) message.int(1, extent);
  message.int(2, data instanceof Float32Array ? float32 : int64).bytes(8, name);
  return message.bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function value(name: string, type: number, shape: readonly Extent[]): Message {
  const extents = new Message();
  for (const extent of shape) {
    extents.bytes(1, typeof extent === 'number' ? new Message().int(1, extent) : new Message().bytes(2, extent));
  }
  const tensorType = new Message().int(1, type).bytes(2, extents);
  return new Message().bytes(1, name).bytes(2, new Message().bytes(1, tensorType));
}

type Attribute = number | readonly string[] | readonly { float: number }[];

function attribute(name: string, content: Attribute): Message {
  const message = new Message().bytes(1, name);
  if (typeof content === 'number') return message.int(3, content).int(20, 2);
  for (const item of content) {
    if (typeof item === 'string') message.bytes(9, item);
    else message.float(7, item.float);
  }
  return message.int(20, typeof content[0] === 'string' ? 8 : 6);
}

/** Our gates i, f, g, o in ONNX's order: i, o, f, c. */
const gateOrder = [0, 3, 1, 2];

function gates(data: Float32Array): Float32Array {
  const size = data.length / 4;
  const out = new Float32Array(data.length);
  for (const [to, from] of gateOrder.entries()) out.set(data.subarray(from * size, (from + 1) * size), to * size);
  return out;
}

class Graph {
  readonly message = new Message();
  readonly #initializers: Message[] = [];

  node(
    type: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Record<string, Attribute> = {},
  ): void {
    const node = new Message();
    for (const input of inputs) node.bytes(1, input);
    for (const output of outputs) node.bytes(2, output);
    node.bytes(3, `${type}_${outputs[0]}`).bytes(4, type);
    for (const [name, content] of Object.entries(attributes)) node.bytes(5, attribute(name, content));
    this.message.bytes(1, node);
  }

  constant(name: string, shape: readonly number[], data: Float32Array | readonly number[]): string {
    const numbers = data instanceof Float32Array ? data : BigInt64Array.from(data, BigInt);
    this.#initializers.push(tensor(name, shape, numbers));
    return name;
  }

  finish(name: string, inputs: readonly Message[], outputs: readonly Message[]): Message {
    this.message.bytes(2, name);
    for (const each of this.#initializers) this.message.bytes(5, each);
    for (const each of inputs) this.message.bytes(11, each);
    for (const each of outputs) this.message.bytes(12, each);
    return this.message;
  }
}

/** [T, S] ids to [T, S, in] features of the first layer. */
function inputOf(graph: Graph, { model, vocabulary }: CheckpointMetadata, weights: Weights): string {
  const V = vocabulary.length;
  if (model.input === 'embedding') {
    graph.node(
      'Gather',
      [graph.constant('embedding', [V, model.embedding], weights('embedding.weight')), 'ids'],
      ['x0'],
    );
  } else if (model.input === 'onehot') {
    const depth = graph.constant('depth', [], [V]);
    graph.node('OneHot', ['ids', depth, graph.constant('off_on', [2], Float32Array.of(0, 1))], ['x0'], { axis: -1 });
  } else {
    graph.node('Cast', ['ids'], ['ids_float'], { to: float32 });
    graph.node('Mul', ['ids_float', graph.constant('scale', [], Float32Array.of(1 / V))], ['scaled']);
    graph.node('Unsqueeze', ['scaled', graph.constant('last_axis', [1], [-1])], ['x0']);
  }
  return 'x0';
}

/** The pieces of the file. @throws UsageError beyond 2 GiB, the format's limit. */
export function onnxFile(metadata: CheckpointMetadata, weights: Weights): readonly Uint8Array[] {
  const { model, vocabulary } = metadata;
  const { layers: L, hidden: H } = model;
  const V = vocabulary.length;
  const graph = new Graph();
  let x = inputOf(graph, metadata, weights);
  const names = (prefix: string) => Array.from({ length: L }, (_, l) => `${prefix}${l}`);
  const split = graph.constant('one_each', [L], new Array<number>(L).fill(1));
  for (const state of ['h', 'c']) graph.node('Split', [state, split], names(`${state}_in`), { axis: 0 });
  const time = graph.constant('direction_axis', [1], [1]);
  const slope = { sigmoid: undefined, hard_sigmoid: 0.2, hard_sigmoid_relu6: 1 / 6 }[model.gateActivation ?? 'sigmoid'];
  const activations =
    slope === undefined
      ? {}
      : {
          activations: ['HardSigmoid', 'Tanh', 'Tanh'],
          activation_alpha: [{ float: slope }],
          activation_beta: [{ float: 0.5 }],
        };
  for (let l = 0; l < L; l++) {
    const input = weights(`lstm.weight_ih_l${l}`);
    const bias = new Float32Array(8 * H);
    bias.set(gates(weights(`lstm.bias_ih_l${l}`)));
    const w = graph.constant(`W${l}`, [1, 4 * H, input.length / (4 * H)], gates(input));
    const r = graph.constant(`R${l}`, [1, 4 * H, H], gates(weights(`lstm.weight_hh_l${l}`)));
    const b = graph.constant(`B${l}`, [1, 8 * H], bias);
    graph.node('LSTM', [x, w, r, b, '', `h_in${l}`, `c_in${l}`], [`y${l}`, `h_out${l}`, `c_out${l}`], {
      hidden_size: H,
      ...activations,
    });
    graph.node('Squeeze', [`y${l}`, time], [`x${l + 1}`]);
    x = `x${l + 1}`;
  }
  for (const state of ['h', 'c']) graph.node('Concat', names(`${state}_out`), [`${state}_out`], { axis: 0 });
  const output = weights('output.weight');
  const transposed = new Float32Array(output.length);
  for (let v = 0; v < V; v++) for (let u = 0; u < H; u++) transposed[u * V + v] = output[v * H + u] as number;
  graph.node('MatMul', [x, graph.constant('output_weight', [H, V], transposed)], ['product']);
  graph.node('Add', ['product', graph.constant('output_bias', [V], weights('output.bias'))], ['logits']);
  const state = (name: string) => value(name, float32, [L, 'streams', H]);
  const body = graph.finish(
    'character_lstm',
    [value('ids', int64, ['steps', 'streams']), state('h'), state('c')],
    [value('logits', float32, ['steps', 'streams', V]), state('h_out'), state('c_out')],
  );
  const file = new Message().int(1, 8).bytes(2, 'cudnn-lstm').bytes(3, packageVersion).bytes(7, body);
  file.bytes(8, new Message().bytes(1, '').int(2, 17));
  const properties = {
    vocabulary: JSON.stringify(vocabulary),
    normalization: JSON.stringify(metadata.normalization),
    // 'last': feed windows of seqLength from zero state, one for each character.
    target: metadata.target,
    seqLength: String(metadata.seqLength),
    // Before this id is fed, h and c must be zeroed: the graph does not do it.
    ...(model.resetId === undefined ? {} : { resetId: String(model.resetId) }),
  };
  for (const [key, text] of Object.entries(properties)) file.bytes(14, new Message().bytes(1, key).bytes(2, text));
  const size = file.parts.reduce((sum, part) => sum + part.length, 0);
  if (size > largest)
    throw new UsageError('the model is larger than the 2 GiB that an ONNX file can hold: choose another form.');
  return file.parts;
}
