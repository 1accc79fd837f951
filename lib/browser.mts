/**
 * Reads a checkpoint and generates text with it anywhere JavaScript runs: no addon, no dependencies, no APIs of Node or a browser. The
 * model computes in float32 as the package does, and a seed gives the same text as in `cudnn-lstm sample`, unless a difference in rounding
 * changes a draw.
 *
 * Shapes: V vocabulary, H hidden, L layers, E embedding size, in = features into a layer; P is H rounded up to a multiple of 4, with the
 * extra units staying at zero.
 */
import { cellsBy, type Kernels, makeKernels } from './browser-kernels.mjs';

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

/** Where a layer's arrays are in the kernels' memory. */
interface Layer {
  /** [4P, in], packed; for one-hot symbols [in, 4P] with the bias added to each row, so that everything for a symbol is contiguous. */
  input: number;
  /** [4P, P], packed. */
  recurrent: number;
  /** [4P] */
  bias: number;
  /** [P], after the last step. */
  h: number;
  /** Features of the layer's input, rounded up to a multiple of 4. */
  columns: number;
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

const upTo = (multiple: number, count: number) => Math.ceil(count / multiple) * multiple;

/** The rows of a matrix, in groups each padded to a multiple of 4: 4 groups for the gates, otherwise one. */
interface Rows {
  groups: number;
  each: number;
}
const filled = ({ groups, each }: Rows) => upTo(8, groups * upTo(4, each));
const placeOf = ({ each }: Rows, row: number) => Math.floor(row / each) * upTo(4, each) + (row % each);

/** [rows, columns] into blocks of 8 rows, [block][columns, a multiple of 4][8]; the padding stays zero. */
function pack(data: Float32Array, rows: Rows, to: Float32Array): void {
  const count = rows.groups * rows.each;
  const columns = data.length / count;
  for (let r = 0; r < count; r++) {
    const place = placeOf(rows, r);
    const at = (place >> 3) * upTo(4, columns) * 8 + (place & 7);
    for (let c = 0; c < columns; c++) to[at + c * 8] = data[r * columns + c]!;
  }
}

/** [rows, columns] into [columns, rows]. */
function transpose(data: Float32Array, rows: Rows, to: Float32Array): void {
  const count = rows.groups * rows.each;
  const columns = data.length / count;
  for (let r = 0; r < count; r++) {
    const place = placeOf(rows, r);
    for (let c = 0; c < columns; c++) to[c * filled(rows) + place] = data[r * columns + c]!;
  }
}

/** Philox4x32-10 (Salmon et al. 2011). */
function philox(counter: number[], key: number[]): number[] {
  let [a, b, c, d] = counter as [number, number, number, number];
  let [k0, k1] = key as [number, number];
  /** The upper 32 bits of a product, computed by halves. */
  const high = (x: number, y: number) => {
    const [x0, x1, y0, y1] = [x & 0xffff, x >>> 16, y & 0xffff, y >>> 16];
    const middle = x1 * y0 + ((x0 * y0) >>> 16);
    return x1 * y1 + (middle >>> 16) + ((x0 * y1 + (middle & 0xffff)) >>> 16);
  };
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

/** A uniform number in [0, 1): draw number `position` of a seed. */
function coin(seed: number, position: number): number {
  const words = philox([position, 0, 0, 2], [seed >>> 0, Math.floor(seed / 2 ** 32)]);
  return (words[0]! * 2 ** 21 + (words[1]! >>> 11)) / 2 ** 53;
}

/** A character model with its weights in memory. */
export class CharacterModel {
  /** Symbols in id order. */
  readonly vocabulary: readonly string[];
  readonly hidden: number;
  /** 0: the state is carried from character to character; otherwise each character is drawn from this many before it. */
  readonly window: number;
  readonly #ids: Map<string, number>;
  readonly #normalization: Normalization;
  readonly #layers: Layer[] = [];
  readonly #embedding: Float32Array | undefined;
  readonly #scalar: boolean;
  readonly #outputBias: Float32Array;
  /** Slope of the straight line that replaces the sigmoid; 0: the sigmoid itself. */
  readonly #slope: number;
  readonly #kernels: Kernels;
  /** Indices into the kernels' memory: the output weights [V, P], packed, and the logits. */
  readonly #output: number;
  readonly #logits: number;
  /** The gates [4P], a layer's cells [P], and an input vector. */
  readonly #gates: number;
  readonly #cells: number;
  readonly #input: number;
  /** The symbol before which the state is set to zero; -1: none. */
  readonly #resetId: number;

  /**
   * @param bytes A checkpoint, which is a safetensors file.
   * @throws Error if it is not one, or is newer than this code can read.
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
    const tensor = (name: string, ...shape: number[]): Float32Array => {
      const entry = header[name];
      const [begin, end] = entry?.data_offsets ?? [];
      const width = entry?.dtype === 'F32' ? 4 : entry?.dtype === 'F16' ? 2 : 0;
      const size = shape.reduce((product, extent) => product * extent, 1);
      const whole = String(entry?.shape) === String(shape) && begin >= 0 && end - begin === size * width;
      if (!width || !whole || 8 + length + end > all.length)
        throw new Error(`the checkpoint's tensor ${name} is missing or damaged`);
      const at = 8 + length + begin;
      const values = new Float32Array(size);
      for (let i = 0; i < size; i++)
        values[i] = width === 4 ? view.getFloat32(at + 4 * i, true) : half(view.getUint16(at + 2 * i, true));
      return values;
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
    const H = this.hidden;
    const P = upTo(4, H);
    const V = this.vocabulary.length;
    const E = model.embedding;
    this.#embedding = model.input === 'embedding' ? tensor('embedding.weight', V, E) : undefined;
    const gates = { groups: 4, each: H };
    const symbols = { groups: 1, each: V };
    const onehot = model.input === 'onehot';
    // First everything the kernels work on gets its place, then the memory is allocated, then the weights are written.
    let floats = 0;
    const fill: ((memory: Float32Array) => void)[] = [];
    const place = (size: number, put?: (to: Float32Array) => void) => {
      const at = floats;
      floats += upTo(4, size);
      if (put) fill.push((memory) => put(memory.subarray(at, at + size)));
      return at;
    };
    for (let l = 0; l < model.layers; l++) {
      const features = l > 0 ? H : onehot ? V : this.#scalar ? 1 : E;
      const input = tensor(`lstm.weight_ih_l${l}`, 4 * H, features);
      const recurrent = tensor(`lstm.weight_hh_l${l}`, 4 * H, H);
      const bias = tensor(`lstm.bias_ih_l${l}`, 4 * H);
      if (header[`lstm.bias_hh_l${l}`])
        for (const [i, value] of tensor(`lstm.bias_hh_l${l}`, 4 * H).entries()) bias[i] = bias[i]! + value;
      const columns = upTo(4, features);
      const arranged = (to: Float32Array) => {
        if (l > 0 || !onehot) return pack(input, gates, to);
        transpose(input, gates, to);
        for (let from = 0; from < to.length; from += 4 * P)
          for (let r = 0; r < 4 * H; r++) to[from + placeOf(gates, r)]! += bias[r]!;
      };
      this.#layers.push({
        input: place(4 * P * (l === 0 && onehot ? features : columns), arranged),
        recurrent: place(4 * P * P, (to) => pack(recurrent, gates, to)),
        bias: place(4 * P, (to) => transpose(bias, gates, to)),
        h: place(P),
        columns,
      });
    }
    const output = tensor('output.weight', V, H);
    this.#outputBias = tensor('output.bias', V);
    this.#output = place(filled(symbols) * P, (to) => pack(output, symbols, to));
    this.#logits = place(filled(symbols));
    this.#gates = place(4 * P);
    this.#cells = place(P);
    this.#input = place(Math.max(1, E));
    this.#kernels = makeKernels(floats);
    for (const put of fill) put(this.#kernels.memory);
  }

  /** Whether WebAssembly computes, four numbers at a time; JavaScript does where that is missing, or a page's policy forbids it. */
  get simd(): boolean {
    return this.#kernels.simd;
  }

  /** The state before anything is read. */
  state(): State {
    const zeros = () => this.#layers.map(() => new Float32Array(this.hidden));
    return { h: zeros(), c: zeros() };
  }

  /** `text`, normalised as the model's corpus was, as ids; characters that the model does not know become its
   * unknown symbol if it has one, and are left out otherwise. */
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

  /** Feeds a symbol: updates the state and returns the logits [V] of the next one. */
  step(id: number, state: State): Float32Array {
    const top = this.#feed(id, state);
    const { memory } = this.#kernels;
    const V = this.vocabulary.length;
    memory.set(this.#outputBias, this.#logits);
    this.#kernels.product(this.#output, top, this.#logits, upTo(4, this.hidden), upTo(8, V));
    return memory.slice(this.#logits, this.#logits + V);
  }

  /** @returns Where the last layer's h is. */
  #feed(id: number, { h, c }: State): number {
    const H = this.hidden;
    const P = upTo(4, H);
    const kernels = this.#kernels;
    const { memory } = kernels;
    const gates = this.#gates;
    const slope = this.#slope;
    if (this.vocabulary[id] === undefined) throw new RangeError(`no symbol has the id ${id}`);
    if ([h, c].some((parts) => parts.length !== this.#layers.length || parts.some(({ length }) => length !== H)))
      throw new RangeError('the state is of another model');
    if (id === this.#resetId) for (const part of [...h, ...c]) part.fill(0);
    let below = this.#input;
    for (const [l, { input, recurrent, bias, h: out, columns }] of this.#layers.entries()) {
      const coded = l > 0 || this.#embedding !== undefined || this.#scalar;
      const first = coded ? bias : input + id * 4 * P;
      memory.copyWithin(gates, first, first + 4 * P);
      if (l === 0 && this.#embedding) {
        const { length } = this.#embedding;
        const size = length / this.vocabulary.length;
        memory.set(this.#embedding.subarray(id * size, (id + 1) * size), below);
      } else if (l === 0) memory[below] = id / this.vocabulary.length;
      if (coded) kernels.product(input, below, gates, columns, 4 * P);
      memory.set(h[l]!, out);
      memory.set(c[l]!, this.#cells);
      kernels.product(recurrent, out, gates, P, 4 * P);
      if (slope === 0) kernels.cells(gates, this.#cells, out, P);
      else cellsBy((x) => Math.min(1, Math.max(0, slope * x + 0.5)), memory, gates, this.#cells, out, P);
      h[l]!.set(memory.subarray(out, out + H));
      c[l]!.set(memory.subarray(this.#cells, this.#cells + H));
      below = out;
    }
    return below;
  }

  /** Probabilities [V] of logits at a temperature above 0. */
  probabilities(logits: Float32Array, temperature = 1): Float64Array {
    let largest = -Infinity;
    for (const logit of logits) largest = Math.max(largest, logit);
    const out = new Float64Array(logits.length);
    let total = 0;
    for (let id = 0; id < out.length; id++) total += out[id] = Math.exp((logits[id]! - largest) / temperature);
    for (let id = 0; id < out.length; id++) out[id]! /= total;
    return out;
  }

  /** The id that draw number `position` of a seed picks. */
  draw(given: Float32Array, temperature: number, seed: number, position: number): number {
    const { unknown } = this.#normalization;
    const logits = given.slice();
    // The unknown symbol stands for what the model was not taught, and is never written.
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

  /** What a text without a prompt follows: a line break, else a space, else the first symbol. */
  get startId(): number {
    return this.#ids.get('\n') ?? this.#ids.get(' ') ?? 0;
  }

  /** The ids to read for a text: a model of single lines begins a line with the symbol that ends one. */
  begin(ids: readonly number[]): number[] {
    if (this.#resetId >= 0 && ids[0] !== this.#resetId) return [this.#resetId, ...ids];
    return ids.length > 0 ? [...ids] : [this.startId];
  }

  /** Logits [V] after reading a text's ids: all of them, or as many as the model's window. */
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

  /** Mean bits per character of a text, the first not counted unless the model knows how a text begins; NaN for fewer than two. */
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
