/**
 * The oracle: an LSTM language model in float64, written to be read. It shares nothing with the package but the parameter layout.
 *
 * Shapes: B batch, T steps, H hidden, V vocabulary, L layers, E embedding size; in = input features of a layer.
 * Per layer, with gates i, f, g, o stacked in this order in the 4H rows:
 *   a_t = W_ih x_t + b + W_hh h_{t-1}
 *   i, f, o = sigmoid(a) or a straight line in its place, g = tanh(a);  c_t = f * c_{t-1} + i * g;  h_t = o * tanh(c_t)
 * The loss is the mean over targets of -log softmax(W_out h + b_out)[target].
 */

export interface Spec {
  vocabulary: number;
  layers: number;
  hidden: number;
  input: 'scalar' | 'onehot' | 'embedding';
  embedding: number;
  /** The activation of gates i, f and o; sigmoid if absent. */
  gateActivation?: 'sigmoid' | 'hard_sigmoid' | 'hard_sigmoid_relu6';
}

export interface Part {
  name: string;
  offset: number;
  size: number;
}

export interface State {
  /** [L][B][H] */
  h: Float64Array[][];
  c: Float64Array[][];
}

export interface Result {
  /** Mean nats per target. */
  loss: number;
  /** Nats of each target, [T][B], or [1][B] for the last position only. */
  losses: number[][];
  /** In the layout of the parameters. */
  gradient: Float64Array;
  state: State;
}

export function layoutOf(spec: Spec): { parts: Part[]; size: number } {
  const parts: Part[] = [];
  let size = 0;
  const add = (name: string, count: number) => {
    parts.push({ name, offset: size, size: count });
    size += count;
  };
  const { vocabulary: V, hidden: H } = spec;
  if (spec.input === 'embedding') add('embedding.weight', V * spec.embedding);
  for (let l = 0; l < spec.layers; l++) {
    const features = l > 0 ? H : spec.input === 'scalar' ? 1 : spec.input === 'onehot' ? V : spec.embedding;
    add(`lstm.weight_ih_l${l}`, 4 * H * features);
    add(`lstm.weight_hh_l${l}`, 4 * H * H);
    add(`lstm.bias_ih_l${l}`, 4 * H);
  }
  add('output.weight', V * H);
  add('output.bias', V);
  return { parts, size };
}

export function zeroState(spec: Spec, batch: number): State {
  const make = () =>
    Array.from({ length: spec.layers }, () => Array.from({ length: batch }, () => new Float64Array(spec.hidden)));
  return { h: make(), c: make() };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const hardSlopes = { hard_sigmoid: 0.2, hard_sigmoid_relu6: 1 / 6 };

/** The gate function, and its derivative as a function of its value. */
function gateOf({ gateActivation = 'sigmoid' }: Spec): {
  open: (x: number) => number;
  derivative: (y: number) => number;
} {
  if (gateActivation === 'sigmoid') return { open: sigmoid, derivative: (y) => y * (1 - y) };
  const slope = hardSlopes[gateActivation];
  return { open: (x) => Math.min(1, Math.max(0, slope * x + 0.5)), derivative: (y) => (y > 0 && y < 1 ? slope : 0) };
}

/** y = W x (+ start), W row-major [rows, columns] at `offset`. */
function product(
  p: ArrayLike<number>,
  offset: number,
  rows: number,
  x: Float64Array,
  start?: Float64Array,
): Float64Array {
  const y = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    let sum = start ? start[r]! : 0;
    for (let k = 0; k < x.length; k++) sum += p[offset + r * x.length + k]! * x[k]!;
    y[r] = sum;
  }
  return y;
}

/** dW += dy x^T and dx += W^T dy. */
function productBack(
  p: ArrayLike<number>,
  d: Float64Array,
  offset: number,
  dy: Float64Array,
  x: Float64Array,
  dx: Float64Array,
): void {
  for (let r = 0; r < dy.length; r++) {
    for (let k = 0; k < x.length; k++) {
      d[offset + r * x.length + k]! += dy[r]! * x[k]!;
      dx[k]! += p[offset + r * x.length + k]! * dy[r]!;
    }
  }
}

interface Cell {
  x: Float64Array;
  hBefore: Float64Array;
  cBefore: Float64Array;
  i: Float64Array;
  f: Float64Array;
  g: Float64Array;
  o: Float64Array;
  c: Float64Array;
  h: Float64Array;
}

/** ids [T + 1][B], time-major and flat. No dropout: the masks are the package's own, tested by finite differences. */
export function run(
  spec: Spec,
  parameters: ArrayLike<number>,
  ids: ArrayLike<number>,
  steps: number,
  batch: number,
  target: 'every' | 'last',
  from: State = zeroState(spec, batch),
): Result {
  const { vocabulary: V, hidden: H, layers: L } = spec;
  const layout = layoutOf(spec);
  const at = (name: string) => layout.parts.find((part) => part.name === name)!.offset;
  const gradient = new Float64Array(layout.size);
  const state = zeroState(spec, batch);
  const first = target === 'every' ? 0 : steps - 1;
  const losses = Array.from({ length: steps - first }, () => new Array<number>(batch).fill(0));
  const scale = 1 / (losses.length * batch);
  const { open, derivative } = gateOf(spec);

  const encode = (id: number): Float64Array => {
    if (spec.input === 'scalar') return Float64Array.of(id / V);
    if (spec.input === 'onehot') return Float64Array.from({ length: V }, (_, v) => (v === id ? 1 : 0));
    return Float64Array.from({ length: spec.embedding }, (_, e) => parameters[id * spec.embedding + e]!);
  };

  for (let b = 0; b < batch; b++) {
    // Forward.
    const cells: Cell[][] = [];
    const outputs: (Float64Array | undefined)[] = [];
    for (let t = 0; t < steps; t++) {
      let x = encode(ids[t * batch + b]!);
      const column: Cell[] = [];
      for (let l = 0; l < L; l++) {
        const before = t > 0 ? cells[t - 1]![l]! : { h: from.h[l]![b]!, c: from.c[l]![b]! };
        const bias = Float64Array.from({ length: 4 * H }, (_, r) => parameters[at(`lstm.bias_ih_l${l}`) + r]!);
        const ofInput = product(parameters, at(`lstm.weight_ih_l${l}`), 4 * H, x, bias);
        const a = product(parameters, at(`lstm.weight_hh_l${l}`), 4 * H, before.h, ofInput);
        const i = a.slice(0, H).map(open);
        const f = a.slice(H, 2 * H).map(open);
        const g = a.slice(2 * H, 3 * H).map(Math.tanh);
        const options = a.slice(3 * H).map(open);
        const c = before.c.map((value, u) => f[u]! * value + i[u]! * g[u]!);
        const h = c.map((value, u) => options[u]! * Math.tanh(value));
        column.push({ x, hBefore: before.h, cBefore: before.c, i, f, g, o: options, c, h });
        x = h;
      }
      cells.push(column);
      if (t >= first) {
        const bias = Float64Array.from({ length: V }, (_, v) => parameters[at('output.bias') + v]!);
        const logits = product(parameters, at('output.weight'), V, x, bias);
        const largest = Math.max(...logits);
        const exponentials = logits.map((value) => Math.exp(value - largest));
        const total = exponentials.reduce((sum, value) => sum + value, 0);
        const wanted = ids[(t + 1) * batch + b]!;
        losses[t - first]![b] = Math.log(total) + largest - logits[wanted]!;
        outputs[t] = exponentials.map((value, v) => (value / total - (v === wanted ? 1 : 0)) * scale);
      }
    }
    for (let l = 0; l < L; l++) {
      state.h[l]![b] = cells[steps - 1]![l]!.h;
      state.c[l]![b] = cells[steps - 1]![l]!.c;
    }

    // Backward through time.
    const dh = Array.from({ length: L }, () => new Float64Array(H));
    const dc = Array.from({ length: L }, () => new Float64Array(H));
    for (let t = steps - 1; t >= 0; t--) {
      let fromAbove = new Float64Array(H);
      const dlogits = outputs[t];
      if (dlogits) {
        for (let v = 0; v < V; v++) gradient[at('output.bias') + v]! += dlogits[v]!;
        productBack(parameters, gradient, at('output.weight'), dlogits, cells[t]![L - 1]!.h, fromAbove);
      }
      for (let l = L - 1; l >= 0; l--) {
        const cell = cells[t]![l]!;
        const da = new Float64Array(4 * H);
        for (let u = 0; u < H; u++) {
          const tanhC = Math.tanh(cell.c[u]!);
          const dhu = fromAbove[u]! + dh[l]![u]!;
          const dcu = dc[l]![u]! + dhu * cell.o[u]! * (1 - tanhC * tanhC);
          da[u] = dcu * cell.g[u]! * derivative(cell.i[u]!);
          da[H + u] = dcu * cell.cBefore[u]! * derivative(cell.f[u]!);
          da[2 * H + u] = dcu * cell.i[u]! * (1 - cell.g[u]! * cell.g[u]!);
          da[3 * H + u] = dhu * tanhC * derivative(cell.o[u]!);
          dc[l]![u] = dcu * cell.f[u]!;
        }
        for (let r = 0; r < 4 * H; r++) gradient[at(`lstm.bias_ih_l${l}`) + r]! += da[r]!;
        const dx = new Float64Array(cell.x.length);
        dh[l] = new Float64Array(H);
        productBack(parameters, gradient, at(`lstm.weight_hh_l${l}`), da, cell.hBefore, dh[l]!);
        productBack(parameters, gradient, at(`lstm.weight_ih_l${l}`), da, cell.x, dx);
        if (l === 0 && spec.input === 'embedding') {
          const id = ids[t * batch + b]!;
          for (let e = 0; e < spec.embedding; e++) gradient[id * spec.embedding + e]! += dx[e]!;
        }
        fromAbove = dx;
      }
    }
  }
  let total = 0;
  for (const row of losses) for (const value of row) total += value;
  return { loss: total * scale, losses, gradient, state };
}
