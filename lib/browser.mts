/**
 * Reads a checkpoint and writes with it anywhere JavaScript runs: no addon, no dependency, nothing of Node or of a browser. The
 * model computes as the package does, in float32, and a seed gives the text that `cudnn-lstm sample` gives for it, as far as two ways of
 * rounding draw alike.
 *
 * Shapes: V vocabulary, H hidden, L layers, E embedding size, in = features into a layer.
 */

/** Hidden and cell state, [L, H] each. */
export interface State {
  h: Float32Array[];
  c: Float32Array[];
}

/** How text is drawn. */
export interface WriteOptions {
  /** Text to continue. Default: a line break, or a space. */
  prompt?: string;
  /** Characters to write. Default 500. */
  length?: number;
  /** Divides the logits; 0 takes the likeliest character. Default 0.8. */
  temperature?: number;
  /** A whole number from 0; keys every draw. Default: a random one. */
  seed?: number;
}

interface Layer {
  /** [4H, in], packed; of one-hot symbols [in, 4H], so that the column of a symbol lies in one piece. */
  input: Float32Array;
  /** [4H, H], packed. */
  recurrent: Float32Array;
  /** [4H] */
  bias: Float32Array;
  features: number;
}

interface Normalization {
  lowercase?: boolean;
  form?: 'nfc' | 'nfkc';
  lineBreaks?: 'keep';
  byteOrderMark?: 'keep';
  unknown?: string;
}

const knownNormalization = ['lowercase', 'form', 'lineBreaks', 'byteOrderMark', 'unknown'];

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** [rows, columns] to [columns, rows]. */
function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c]!;
  return out;
}

const blockRows = 8;
const padded = (rows: number) => Math.ceil(rows / blockRows) * blockRows;

/** [rows, columns] in blocks of 8 rows, [block][column][8], the last one filled up with zeros. */
function pack(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(padded(rows) * columns);
  for (let r = 0; r < rows; r++) {
    const at = (r >> 3) * columns * blockRows + (r & 7);
    for (let c = 0; c < columns; c++) out[at + c * blockRows] = data[r * columns + c]!;
  }
  return out;
}

/** Philox4x32-10 (Salmon et al. 2011). */
function philox(counter: number[], key: number[]): number[] {
  let [a, b, c, d] = counter as [number, number, number, number];
  let [k0, k1] = key as [number, number];
  const high = (x: number, y: number) => Number((BigInt(x >>> 0) * BigInt(y >>> 0)) >> 32n);
  for (let round = 0; round < 10; round++) {
    const next = [
      high(0xcd9e8d57, c) ^ b ^ k0,
      Math.imul(0xcd9e8d57, c),
      high(0xd2511f53, a) ^ d ^ k1,
      Math.imul(0xd2511f53, a),
    ];
    [a, b, c, d] = next as [number, number, number, number];
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  return [a >>> 0, b >>> 0, c >>> 0, d >>> 0];
}

/** Uniform in [0, 1), of draw number `position` of a seed. */
function coin(seed: number, position: number): number {
  const words = philox([position, 0, 0, 2], [seed >>> 0, Math.floor(seed / 2 ** 32)]);
  return (words[0]! * 2 ** 21 + (words[1]! >>> 11)) / 2 ** 53;
}

/** A character model, its weights in memory. */
export class CharacterModel {
  /** Symbols in id order. */
  readonly vocabulary: readonly string[];
  readonly hidden: number;
  /** 0: the state is carried from character to character; else every character is drawn from so many before it. */
  readonly window: number;
  readonly #ids: Map<string, number>;
  readonly #normalization: Normalization;
  readonly #layers: Layer[] = [];
  readonly #embedding: Float32Array | undefined;
  readonly #scalar: boolean;
  /** [V, H], packed. */
  readonly #output: Float32Array;
  readonly #outputBias: Float32Array;
  /** Of the straight line in place of the sigmoid; 0: the sigmoid. */
  readonly #slope: number;
  readonly #gates: Float32Array;
  /** Before it is read the state is set to zero; -1: no symbol. */
  readonly #resetId: number;

  /**
   * @param bytes Of a checkpoint, a safetensors file.
   * @throws Error if it is none, or a newer one than this code reads.
   */
  constructor(bytes: Uint8Array | ArrayBuffer) {
    const all = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
    const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
    const length = all.length < 8 ? Number.NaN : view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
    if (!(length <= all.length - 8)) throw new Error('not a checkpoint: it is no safetensors file, or cut short');
    const header = JSON.parse(new TextDecoder().decode(all.subarray(8, 8 + length)));
    const metadata = header.__metadata__ ?? {};
    if (metadata.format !== 'cudnn-lstm' || metadata.formatVersion !== '1')
      throw new Error('not a checkpoint of cudnn-lstm that can be read here');
    const tensor = (name: string): Float32Array => {
      const entry = header[name];
      const [begin, end] = entry?.data_offsets ?? [];
      const width = entry?.dtype === 'F32' ? 4 : entry?.dtype === 'F16' ? 2 : 0;
      const size = entry?.shape?.reduce((product: number, extent: number) => product * extent, 1);
      if (!width || !(begin >= 0) || end - begin !== size * width || 8 + length + end > all.length)
        throw new Error(`the checkpoint's tensor ${name} is missing or damaged`);
      const at = 8 + length + begin;
      if (width === 4) return Float32Array.from({ length: size }, (_, i) => view.getFloat32(at + 4 * i, true));
      return Float32Array.from({ length: size }, (_, i) => half(view.getUint16(at + 2 * i, true)));
    };
    const model = JSON.parse(metadata.model);
    this.#normalization = JSON.parse(metadata.normalization);
    const strange = Object.keys(this.#normalization).find((key) => !knownNormalization.includes(key));
    if (strange !== undefined)
      throw new Error(`the checkpoint's texts have a property ${strange} that this code does not know`);
    this.vocabulary = JSON.parse(metadata.vocabulary);
    this.#ids = new Map(this.vocabulary.map((symbol, id) => [symbol, id]));
    this.hidden = model.hidden;
    this.window = metadata.target === 'last' ? JSON.parse(metadata.seqLength) : 0;
    const slope = { sigmoid: 0, hard_sigmoid: 0.2, hard_sigmoid_relu6: 1 / 6 }[
      (model.gateActivation as string) ?? 'sigmoid'
    ];
    if (slope === undefined)
      throw new Error(`the checkpoint's gates are ${model.gateActivation}, which this code does not know`);
    this.#slope = slope;
    this.#resetId = model.resetId ?? -1;
    this.#scalar = model.input === 'scalar';
    this.#embedding = model.input === 'embedding' ? tensor('embedding.weight') : undefined;
    const rows = 4 * this.hidden;
    for (let l = 0; l < model.layers; l++) {
      const input = tensor(`lstm.weight_ih_l${l}`);
      const features = input.length / rows;
      const bias = tensor(`lstm.bias_ih_l${l}`);
      if (header[`lstm.bias_hh_l${l}`])
        for (const [i, value] of tensor(`lstm.bias_hh_l${l}`).entries()) bias[i] = bias[i]! + value;
      const recurrent = pack(tensor(`lstm.weight_hh_l${l}`), rows, this.hidden);
      const arranged = l === 0 && model.input === 'onehot' ? transpose : pack;
      this.#layers.push({ input: arranged(input, rows, features), recurrent, bias, features });
    }
    this.#output = pack(tensor('output.weight'), this.vocabulary.length, this.hidden);
    this.#outputBias = tensor('output.bias');
    this.#gates = new Float32Array(padded(rows));
  }

  /** A state that has read nothing. */
  state(): State {
    const zeros = () => this.#layers.map(() => new Float32Array(this.hidden));
    return { h: zeros(), c: zeros() };
  }

  /** `text` as the model's corpus was normalised, as ids; characters that the model does not know are left out. */
  encode(text: string): number[] {
    const { lowercase, form, lineBreaks, byteOrderMark, unknown } = this.#normalization;
    let normal = byteOrderMark ? text : text.replace(/^\uFEFF+/, '');
    if (!lineBreaks) normal = normal.replace(/\r\n?/g, '\n');
    const formed = (each: string) => (form ? each.normalize(form === 'nfc' ? 'NFC' : 'NFKC') : each);
    normal = formed(normal);
    if (lowercase) normal = formed(Array.from(normal, (symbol) => symbol.toLowerCase()).join(''));
    const other = unknown === undefined ? undefined : this.#ids.get(unknown);
    return Array.from(normal, (symbol) => this.#ids.get(symbol) ?? other).filter((id) => id !== undefined);
  }

  /** Feeds a symbol: changes the state, and gives the logits [V] of the next one. */
  step(id: number, state: State): Float32Array {
    this.#feed(id, state);
    const logits = new Float32Array(padded(this.vocabulary.length));
    logits.set(this.#outputBias);
    addProduct(this.#output, state.h.at(-1)!, logits);
    return logits.slice(0, this.vocabulary.length);
  }

  #feed(id: number, { h, c }: State): void {
    const H = this.hidden;
    const gates = this.#gates;
    const slope = this.#slope;
    if (id === this.#resetId) for (const part of [...h, ...c]) part.fill(0);
    let below: Float32Array | undefined;
    for (const [l, layer] of this.#layers.entries()) {
      gates.set(layer.bias);
      if (below) addProduct(layer.input, below, gates);
      else if (this.#embedding)
        addProduct(layer.input, this.#embedding.subarray(id * layer.features, (id + 1) * layer.features), gates);
      else if (this.#scalar) addProduct(layer.input, Float32Array.of(id / this.vocabulary.length), gates);
      else for (let r = 0, at = id * 4 * H; r < 4 * H; r++) gates[r]! += layer.input[at + r]!;
      const hl = h[l]!;
      const cl = c[l]!;
      addProduct(layer.recurrent, hl, gates);
      for (let u = 0; u < H; u++) {
        const input = open(gates[u]!, slope);
        const forget = open(gates[H + u]!, slope);
        const output = open(gates[3 * H + u]!, slope);
        cl[u] = forget * cl[u]! + input * Math.tanh(gates[2 * H + u]!);
        hl[u] = output * Math.tanh(cl[u]!);
      }
      below = hl;
    }
  }

  /** Probabilities [V] of logits at a temperature above 0. */
  probabilities(logits: Float32Array, temperature = 1): Float64Array {
    let largest = -Infinity;
    for (const logit of logits) largest = Math.max(largest, logit);
    const out = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
    let total = 0;
    for (const value of out) total += value;
    return out.map((value) => value / total);
  }

  /** The id that draw number `position` of a seed picks. */
  draw(given: Float32Array, temperature: number, seed: number, position: number): number {
    const { unknown } = this.#normalization;
    const logits = given.slice();
    // It stands for what it was not taught, and is not written.
    if (unknown !== undefined) logits[this.#ids.get(unknown)!] = -Infinity;
    if (temperature === 0) return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    const share = coin(seed, position);
    let sum = 0;
    const probabilities = this.probabilities(logits, temperature);
    for (let id = 0; id < probabilities.length; id++) {
      sum += probabilities[id]!;
      if (sum > share) return id;
    }
    return probabilities.reduce((best, value, id) => (value > probabilities[best]! ? id : best), 0);
  }

  /** What a text without a prompt follows: a line break, or a space, or whatever symbol is first. */
  get startId(): number {
    return this.#ids.get('\n') ?? this.#ids.get(' ') ?? 0;
  }

  /** The ids that are read for a text: a model of single lines begins a line at the symbol that ends one. */
  begin(ids: readonly number[]): number[] {
    if (this.#resetId >= 0 && ids[0] !== this.#resetId) return [this.#resetId, ...ids];
    return ids.length > 0 ? [...ids] : [this.startId];
  }

  /** Logits [V] after a text's ids: of all of them, or of the model's window. */
  read(ids: readonly number[], state: State = this.state()): Float32Array {
    let logits = this.#outputBias;
    const last = this.window ? ids.slice(-this.window) : ids;
    for (const [i, id] of last.entries()) {
      if (i === last.length - 1) logits = this.step(id, state);
      else this.#feed(id, state);
    }
    return logits;
  }

  /** Writes a continuation, character by character. */
  *write({
    prompt = '',
    length = 500,
    temperature = 0.8,
    seed = Math.floor(Math.random() * 2 ** 32),
  }: WriteOptions = {}): Generator<string, void, undefined> {
    let ids = this.begin(this.encode(prompt));
    const state = this.state();
    let logits = this.read(ids, state);
    for (let position = 0; position < length; position++) {
      const id = this.draw(logits, temperature, seed, position);
      yield this.vocabulary[id]!;
      if (position === length - 1) return;
      if (this.window) {
        ids = [...ids, id].slice(-this.window);
        logits = this.read(ids);
      } else logits = this.step(id, state);
    }
  }

  /** Mean bits a character of a text, its first character not counted unless the model knows how one begins; NaN of fewer than two. */
  score(text: string): number {
    const ids = this.begin(this.encode(text));
    const state = this.state();
    let bits = 0;
    for (let i = 0; i + 1 < ids.length; i++) {
      const logits = this.window ? this.read(ids.slice(0, i + 1)) : this.step(ids[i]!, state);
      bits -= Math.log2(this.probabilities(logits)[ids[i + 1]!]!);
    }
    return bits / (ids.length - 1);
  }
}

function open(x: number, slope: number): number {
  return slope === 0 ? 1 / (1 + Math.exp(-x)) : Math.min(1, Math.max(0, slope * x + 0.5));
}

/** y += A x, A packed; eight sums at once, which stay in registers. */
function addProduct(a: Float32Array, x: Float32Array, y: Float32Array): void {
  const n = x.length;
  for (let r = 0, at = 0; r < y.length; r += blockRows) {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = [0, 0, 0, 0, 0, 0, 0, 0];
    for (let k = 0; k < n; k++, at += blockRows) {
      const value = x[k]!;
      s0 += value * a[at]!;
      s1 += value * a[at + 1]!;
      s2 += value * a[at + 2]!;
      s3 += value * a[at + 3]!;
      s4 += value * a[at + 4]!;
      s5 += value * a[at + 5]!;
      s6 += value * a[at + 6]!;
      s7 += value * a[at + 7]!;
    }
    y[r] = y[r]! + s0;
    y[r + 1] = y[r + 1]! + s1;
    y[r + 2] = y[r + 2]! + s2;
    y[r + 3] = y[r + 3]! + s3;
    y[r + 4] = y[r + 4]! + s4;
    y[r + 5] = y[r + 5]! + s5;
    y[r + 6] = y[r + 6]! + s6;
    y[r + 7] = y[r + 7]! + s7;
  }
}
