/**
 * The arithmetic of lib/browser.mts, four numbers at a time: a WebAssembly module of a few hundred bytes, assembled here instruction by
 * instruction. Where WebAssembly with SIMD is missing, or a page's policy forbids it, JavaScript does the same.
 *
 * Both work on one float32 array, in which weights and vectors are addressed by the index of their first float, a multiple of 4.
 */

/** The operations of a model's step. */
export interface Kernels {
  /** Everything that the kernels read and write. */
  readonly memory: Float32Array;
  /** Whether WebAssembly does the work. */
  readonly simd: boolean;
  /** y[rows] += A x, where x has `columns` elements, a multiple of 4; A is packed in blocks of 8 rows, [rows / 8][columns][8]. */
  product(a: number, x: number, y: number, columns: number, rows: number): void;
  /** Cells c[size] and outputs h[size] from gates [4, size] in the order i, f, g, o, with the sigmoid; `size` is a multiple of 4. */
  cells(gates: number, c: number, h: number, size: number): void;
}

/** Kernels with a memory of `floats` zeros. */
export function makeKernels(floats: number): Kernels {
  return inWebAssembly(floats) ?? inJavaScript(floats);
}

function inJavaScript(floats: number): Kernels {
  const memory = new Float32Array(floats);
  return {
    memory,
    simd: false,
    product(a, x, y, columns, rows) {
      // Eight sums at once, which stay in registers.
      for (let r = y, at = a; r < y + rows; r += 8) {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = [0, 0, 0, 0, 0, 0, 0, 0];
        for (let k = x; k < x + columns; k++, at += 8) {
          const value = memory[k]!;
          s0 += value * memory[at]!;
          s1 += value * memory[at + 1]!;
          s2 += value * memory[at + 2]!;
          s3 += value * memory[at + 3]!;
          s4 += value * memory[at + 4]!;
          s5 += value * memory[at + 5]!;
          s6 += value * memory[at + 6]!;
          s7 += value * memory[at + 7]!;
        }
        memory[r] = memory[r]! + s0;
        memory[r + 1] = memory[r + 1]! + s1;
        memory[r + 2] = memory[r + 2]! + s2;
        memory[r + 3] = memory[r + 3]! + s3;
        memory[r + 4] = memory[r + 4]! + s4;
        memory[r + 5] = memory[r + 5]! + s5;
        memory[r + 6] = memory[r + 6]! + s6;
        memory[r + 7] = memory[r + 7]! + s7;
      }
    },
    cells: (gates, c, h, size) => cellsBy((x) => 1 / (1 + Math.exp(-x)), memory, gates, c, h, size),
  };
}

/** {@link Kernels.cells} with any gate activation. */
export function cellsBy(
  gate: (x: number) => number,
  memory: Float32Array,
  gates: number,
  c: number,
  h: number,
  size: number,
): void {
  for (let u = 0; u < size; u++) {
    const input = gate(memory[gates + u]!);
    const forget = gate(memory[gates + size + u]!);
    const output = gate(memory[gates + 3 * size + u]!);
    const cell = forget * memory[c + u]! + input * Math.tanh(memory[gates + 2 * size + u]!);
    memory[c + u] = cell;
    memory[h + u] = output * Math.tanh(cell);
  }
}

// The module. Code is a list of bytes, as https://webassembly.github.io/spec/core/binary defines them.
type Code = readonly number[];

/** An unsigned number in LEB128. */
function leb(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...leb(value >>> 7)];
}
const list = (items: readonly Code[]): number[] => [...leb(items.length), ...items.flat()];
const sized = (code: Code): number[] => [...leb(code.length), ...code];

const [i32, v128] = [0x7f, 0x7b];
const get = (local: number): number[] => [0x20, local];
const set = (local: number, value: Code): number[] => [...value, 0x21, local];
const call = (callee: number, argument: Code): number[] => [...argument, 0x10, callee];
/** A constant of at most 8,191: two bytes, the second of which leaves the sign bit clear. */
const whole = (value: number): number[] => [0x41, (value & 127) | 128, value >> 7];
const plus = (a: Code, b: Code): number[] => [...a, ...b, 0x6a];
const minus = (a: Code, b: Code): number[] => [...a, ...b, 0x6b];
const below = (a: Code, b: Code): number[] => [...a, ...b, 0x49];
const advance = (local: number, by: Code): number[] => set(local, plus(get(local), by));
/** A do-while loop: repeats `body` as long as `condition` holds after it. */
const repeat = (body: Code, condition: Code): number[] => [0x03, 0x40, ...body, ...condition, 0x0d, 0, 0x0b];

/** An instruction on four numbers at once. */
const simd = (opcode: number, ...operands: Code[]): number[] => [...operands.flat(), 0xfd, ...leb(opcode)];
const load = (address: Code, offset = 0): number[] => [...simd(0x00, address), 2, ...leb(offset)];
/** Loads one number into all four lanes. */
const splat = (address: Code, offset = 0): number[] => [...simd(0x09, address), 2, ...leb(offset)];
const store = (address: Code, value: Code, offset = 0): number[] => [...simd(0x0b, address, value), 2, ...leb(offset)];
/** A constant in all four lanes. */
const always = (value: number): number[] => [...simd(0x0c), ...new Uint8Array(new Float32Array(4).fill(value).buffer)];
const add = (a: Code, b: Code) => simd(0xe4, a, b);
const subtract = (a: Code, b: Code) => simd(0xe5, a, b);
const multiply = (a: Code, b: Code) => simd(0xe6, a, b);
const divide = (a: Code, b: Code) => simd(0xe7, a, b);
const least = (a: Code, b: Code) => simd(0xe8, a, b);
const largest = (a: Code, b: Code) => simd(0xe9, a, b);
const negative = (a: Code) => simd(0xe1, a);
const nearest = (a: Code) => simd(0x6a, a);
/** 2^n for whole numbers n from -126 to 127: n + 127 in the exponent bits of a float32. */
const powerOfTwo = (n: Code) => simd(0xab, simd(0xae, simd(0xf8, n), [...whole(127), ...simd(0x11)]), whole(23));

/** sigmoid(x) = 1 / (1 + exp(-x)) and exp(y) = 2^n exp(y - n ln 2), the second factor being a Taylor polynomial: |y - n ln 2| < 0.35. */
function sigmoidCode(): number[] {
  const [y, n] = [0, 1];
  let power = always(1 / 5040);
  for (const factorial of [720, 120, 24, 6, 2, 1, 1]) power = add(multiply(power, get(y)), always(1 / factorial));
  return [
    ...set(y, largest(least(negative(get(y)), always(88)), always(-87))),
    ...set(n, nearest(multiply(get(y), always(Math.LOG2E)))),
    // ln 2 is split in two: products with the first part, 355/512, are exact.
    ...set(y, subtract(get(y), multiply(get(n), always(355 / 512)))),
    ...set(y, subtract(get(y), multiply(get(n), always(Math.LN2 - 355 / 512)))),
    ...divide(always(1), add(always(1), multiply(power, powerOfTwo(get(n))))),
  ];
}

/** Takes four columns of a block at a time, each with its own two sums of four rows. */
function productCode(): number[] {
  const [a, x, y, columns, blocks, at, end, value, firstSum] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const halves = [0, 1];
  const places = [0, 1, 2, 3];
  const sum = (column: number, half: number) => firstSum + 2 * column + half;
  const columnsOnce = places.flatMap((column) => [
    ...set(value, splat(get(at), 4 * column)),
    ...halves.flatMap((half) =>
      set(sum(column, half), add(get(sum(column, half)), multiply(get(value), load(get(a), 32 * column + 16 * half)))),
    ),
  ]);
  const block = [
    ...places.flatMap((column) =>
      halves.flatMap((half) => set(sum(column, half), column === 0 ? load(get(y), 16 * half) : always(0))),
    ),
    ...set(at, get(x)),
    ...repeat([...columnsOnce, ...advance(a, whole(128)), ...advance(at, whole(16))], below(get(at), get(end))),
    ...halves.flatMap((half) => {
      const of = (column: number) => get(sum(column, half));
      return store(get(y), add(add(of(0), of(1)), add(of(2), of(3))), 16 * half);
    }),
    ...advance(y, whole(32)),
    ...set(blocks, minus(get(blocks), whole(1))),
  ];
  return [...set(end, plus(get(x), get(columns))), ...repeat(block, get(blocks))];
}

/** tanh(x) = 2 sigmoid(2 x) - 1. */
function cellsCode(sigmoid: number): number[] {
  const [gates, c, h, bytes, end, value] = [0, 1, 2, 3, 4, 5];
  const tanh = (local: number) => subtract(multiply(always(2), call(sigmoid, add(get(local), get(local)))), always(1));
  const gate = (number: number): Code => {
    let address = get(gates);
    for (let i = 0; i < number; i++) address = plus(address, get(bytes));
    return load(address);
  };
  const opened = (number: number) => call(sigmoid, gate(number));
  const [input, forget, candidate, output] = [0, 1, 2, 3];
  const four = [
    ...set(value, gate(candidate)),
    ...set(value, add(multiply(opened(forget), load(get(c))), multiply(opened(input), tanh(value)))),
    ...store(get(c), get(value)),
    ...store(get(h), multiply(opened(output), tanh(value))),
    ...[gates, c, h].flatMap((local) => advance(local, whole(16))),
  ];
  return [...set(end, plus(get(c), get(bytes))), ...repeat(four, below(get(c), get(end)))];
}

const pageBytes = 65_536;

/** The bytes of a module whose memory has `pages` pages of 64 KiB. */
function moduleOf(pages: number): Uint8Array {
  const section = (id: number, items: readonly Code[]) => [id, ...sized(list(items))];
  const type = (parameters: Code, results: Code) => [0x60, ...sized(parameters), ...sized(results)];
  const exported = (name: string, kind: number, index: number) => [1, name.charCodeAt(0), kind, index];
  const body = (locals: readonly Code[], code: Code) => sized([...list(locals), ...code, 0x0b]);
  const [sigmoid, product, cells] = [0, 1, 2];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // \0asm, version 1
    ...section(1, [type([v128], [v128]), type([i32, i32, i32, i32, i32], []), type([i32, i32, i32, i32], [])]),
    ...section(3, [[0], [1], [2]]), // The type of each function.
    ...section(5, [[0, ...leb(pages)]]),
    ...section(7, [exported('p', 0, product), exported('c', 0, cells), exported('m', 2, 0)]),
    ...section(10, [
      body([[1, v128]], sigmoidCode()),
      body(
        [
          [2, i32],
          [9, v128],
        ],
        productCode(),
      ),
      body(
        [
          [1, i32],
          [1, v128],
        ],
        cellsCode(sigmoid),
      ),
    ]),
  ]);
}

/** The part of WebAssembly used here; its types come with a browser's. */
interface Assembly {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (
    module: object,
  ) => {
    exports: {
      p(a: number, x: number, y: number, columns: number, blocks: number): void;
      c(gates: number, c: number, h: number, bytes: number): void;
      m: { buffer: ArrayBuffer };
    };
  };
}

function inWebAssembly(floats: number): Kernels | undefined {
  const { WebAssembly } = globalThis as unknown as { WebAssembly?: Assembly };
  const littleEndian = new Uint8Array(Float32Array.of(1).buffer)[3] === 0x3f;
  if (!WebAssembly || !littleEndian) return undefined;
  try {
    const pages = Math.max(1, Math.ceil((4 * floats) / pageBytes));
    const { p, c: run, m } = new WebAssembly.Instance(new WebAssembly.Module(moduleOf(pages))).exports;
    return {
      memory: new Float32Array(m.buffer),
      simd: true,
      product: (a, x, y, columns, rows) => p(4 * a, 4 * x, 4 * y, 4 * columns, rows / 8),
      cells: (gates, c, h, size) => run(4 * gates, 4 * c, 4 * h, 4 * size),
    };
  } catch {
    return undefined; // No SIMD, a policy without 'wasm-unsafe-eval', or not that much memory.
  }
}
