/**
 * Python's pickle format, protocols 0 to 5, read as data. The format is a program for a stack machine that may import and call whatever it
 * names; this machine does neither. A global becomes its name, a call becomes a record of what would have been called, and only the few
 * callables that a reader allows are given a meaning, by that reader's own code.
 *
 * Memory and time are bounded by the file's length: every instruction adds a bounded number of values, containers are shared rather than
 * copied, and what allowed callables copy is counted.
 */
import { Refusal } from './bounds';

/** What a pickle may hold. A tuple or a list becomes an array, a dict a Map, a set a Set. */
export type Pickled =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Pickled[]
  | Map<Pickled, Pickled>
  | Set<Pickled>
  | PickledGlobal
  | PickledCall
  | PickledForeign;

/** The name of a class or function; nothing is imported. */
export class PickledGlobal {
  constructor(
    readonly module: string,
    readonly name: string,
  ) {}

  get path(): string {
    return `${this.module}.${this.name}`;
  }
}

/** An object that a call would have made, and the state, items and entries that were then put into it. */
export class PickledCall {
  state: Pickled = null;
  readonly items: Pickled[] = [];
  readonly entries = new Map<Pickled, Pickled>();

  constructor(
    readonly callable: Pickled,
    readonly args: Pickled,
  ) {}

  /** `module.name` of what would have been called. */
  get path(): string {
    return this.callable instanceof PickledGlobal ? this.callable.path : '';
  }
}

/** A value that a reader's own code made, such as a tensor. */
export class PickledForeign {}

export interface PickleReading {
  /** The result of calling an allowed callable; undefined: the call stays a record. */
  call?: (path: string, args: readonly Pickled[]) => Pickled | undefined;
  /** What a persistent id stands for. */
  persistent?: (id: Pickled) => Pickled;
}

const mostInstructions = 2_000_000;
const mostNumberBytes = 64;
const mark = Symbol('mark');
type Slot = Pickled | typeof mark;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** UTF-8 text as Python 3 reads it; anything else, which Python 2's byte strings may be, byte by byte. */
function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return Buffer.from(bytes).toString('latin1');
  }
}

/** A little-endian number in two's complement. */
function decodeLong(bytes: Uint8Array): number | bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
  return small(BigInt.asIntN(bytes.length * 8, value));
}

function small(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** The text that a protocol 0 string literal stands for. */
function unquote(text: string): string {
  const body = /^(['"])(.*)\1$/s.exec(text)?.[2];
  if (body === undefined) throw new Refusal('a string without its quotes');
  const bytes: number[] = [];
  const escapes: Record<string, number> = { n: 10, r: 13, t: 9, a: 7, b: 8, f: 12, v: 11 };
  for (let i = 0; i < body.length; i++) {
    if (body[i] !== '\\') {
      bytes.push(body.charCodeAt(i) & 0xff);
      continue;
    }
    const next = body[++i] ?? '';
    if (next === 'x') {
      const code = Number.parseInt(body.slice(i + 1, i + 3), 16);
      if (Number.isNaN(code)) throw new Refusal('an impossible escape in a string');
      bytes.push(code);
      i += 2;
    } else bytes.push(escapes[next] ?? next.charCodeAt(0) & 0xff);
  }
  return decodeText(Uint8Array.from(bytes));
}

/** Reads consecutive pickles in a file's bytes. */
export class PickleReader {
  #at: number;
  #stack: Slot[] = [];
  #memo = new Map<number, Pickled>();
  #work = 0;
  readonly #bytes: Uint8Array;
  readonly #reading: PickleReading;

  constructor(bytes: Uint8Array, reading: PickleReading = {}, start = 0) {
    this.#bytes = bytes;
    this.#reading = reading;
    this.#at = start;
  }

  /** Where the next pickle would begin. */
  get position(): number {
    return this.#at;
  }

  /** @throws Refusal with the byte where it went wrong. */
  read(): Pickled {
    this.#stack = [];
    this.#memo = new Map();
    const begin = this.#at;
    try {
      for (;;) {
        const code = this.#byte();
        this.#spend(1);
        if (code === 0x2e) break; // STOP
        this.#step(code);
      }
      const value = this.#pop();
      if (this.#stack.length > 0) throw new Refusal('values left over at its end');
      return value;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      throw new Refusal(`the pickle at byte ${begin} is damaged at byte ${this.#at}: ${error.message}`, {
        cause: error,
      });
    }
  }

  /** Counts the work done; a file cannot cause more than its length and this limit allow. */
  #spend(count: number): void {
    this.#work += count;
    if (this.#work > mostInstructions) throw new Refusal(`it asks for more than ${mostInstructions} steps`);
  }

  #byte(): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) throw new Refusal('it is cut short');
    this.#at++;
    return value;
  }

  #take(length: number): Uint8Array {
    if (!(length >= 0 && length <= this.#bytes.length - this.#at)) throw new Refusal('it is cut short');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #unsigned(width: number): number {
    const bytes = this.#take(width);
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[i] as number);
    return value;
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw new Refusal('it is cut short');
    const text = Buffer.from(this.#take(end - this.#at)).toString('latin1');
    this.#at++;
    return text;
  }

  #pop(): Pickled {
    const value = this.#stack.pop();
    if (value === undefined || value === mark) throw new Refusal('a value is missing');
    return value;
  }

  #top(): Pickled {
    const value = this.#stack.at(-1);
    if (value === undefined || value === mark) throw new Refusal('a value is missing');
    return value;
  }

  /** Pops the last mark and returns what lay above it. */
  #marked(): Pickled[] {
    const at = this.#stack.lastIndexOf(mark);
    if (at < 0) throw new Refusal('a mark is missing');
    this.#spend(this.#stack.length - at);
    return this.#stack.splice(at).slice(1) as Pickled[];
  }

  #global(module: Pickled, name: Pickled): Pickled {
    if (typeof module !== 'string' || typeof name !== 'string') throw new Refusal('a global without a name');
    return new PickledGlobal(module, name);
  }

  #call(callable: Pickled, args: Pickled): Pickled {
    const known =
      callable instanceof PickledGlobal && Array.isArray(args) ? this.#known(callable.path, args) : undefined;
    return known ?? new PickledCall(callable, args);
  }

  /** Calls of containers, which mean the same everywhere, and what the reader allows. */
  #known(path: string, args: readonly Pickled[]): Pickled | undefined {
    const [first] = args;
    if (path === 'collections.OrderedDict' || path === 'builtins.dict' || path === '__builtin__.dict') {
      return first === undefined ? new Map() : first instanceof Map ? this.#copy(first) : this.#ofPairs(first);
    }
    if (path === 'collections.Counter') return first instanceof Map ? this.#copy(first) : new Map();
    if (path === 'collections.defaultdict') return new Map();
    if (path === '_codecs.encode' && typeof first === 'string') {
      this.#spend(first.length);
      return Uint8Array.from(Buffer.from(first, 'latin1'));
    }
    const isSet = /^(builtins|__builtin__)\.(frozen)?set$/.test(path);
    if (isSet && (first === undefined || Array.isArray(first))) {
      this.#spend(first?.length ?? 0);
      return new Set(first ?? []);
    }
    return this.#reading.call?.(path, args);
  }

  #copy(map: Map<Pickled, Pickled>): Map<Pickled, Pickled> {
    this.#spend(map.size);
    return new Map(map);
  }

  #ofPairs(value: Pickled): Map<Pickled, Pickled> | undefined {
    if (!Array.isArray(value)) return undefined;
    this.#spend(value.length);
    const map = new Map<Pickled, Pickled>();
    for (const pair of value) {
      if (!Array.isArray(pair) || pair.length !== 2) return undefined;
      map.set(pair[0] as Pickled, pair[1] as Pickled);
    }
    return map;
  }

  #append(target: Pickled, values: readonly Pickled[]): void {
    const list = Array.isArray(target) ? target : target instanceof PickledCall ? target.items : undefined;
    if (list === undefined) throw new Refusal('items for what is no list');
    for (const value of values) list.push(value);
  }

  #setItems(target: Pickled, values: readonly Pickled[]): void {
    const map = target instanceof Map ? target : target instanceof PickledCall ? target.entries : undefined;
    if (map === undefined || values.length % 2 !== 0) throw new Refusal('entries for what is no dict');
    for (let i = 0; i < values.length; i += 2) map.set(values[i] as Pickled, values[i + 1] as Pickled);
  }

  #toMap(values: readonly Pickled[]): Map<Pickled, Pickled> {
    const map = new Map<Pickled, Pickled>();
    this.#setItems(map, values);
    return map;
  }

  #memoize(index: number): void {
    this.#memo.set(index, this.#top());
  }

  #recall(index: number): Pickled {
    const value = this.#memo.get(index);
    if (value === undefined) throw new Refusal(`nothing was kept under ${index}`);
    return value;
  }

  #index(): number {
    const index = Number(this.#line());
    if (!Number.isSafeInteger(index)) throw new Refusal('a place that is no number');
    return index;
  }

  #long(length: number): Pickled {
    if (length > mostNumberBytes) throw new Refusal(`a number of ${length} bytes`);
    return decodeLong(this.#take(length));
  }

  #decimal(): Pickled {
    const text = this.#line().replace(/L$/, '');
    if (text === '00' || text === '01') return text === '01';
    if (/^-?\d{1,100}$/.test(text)) return small(BigInt(text));
    throw new Refusal('a whole number that is none');
  }

  #tuple(length: number): Pickled {
    const values: Pickled[] = [];
    for (let i = 0; i < length; i++) values.unshift(this.#pop());
    return values;
  }

  #float(): number {
    const bytes = this.#take(8);
    return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0);
  }

  #state(): void {
    const state = this.#pop();
    const target = this.#top();
    // An ordered dict's attributes, such as PyTorch's _metadata, say nothing about weights.
    if (target instanceof PickledCall) target.state = state;
  }

  #step(code: number): void {
    const value = this.#valueOf(code);
    if (value !== undefined) this.#stack.push(value);
  }

  /** Runs an instruction and returns what it pushes. */
  #valueOf(code: number): Slot | undefined {
    switch (String.fromCharCode(code)) {
      case '\x80': // PROTO
        if (this.#byte() > 5) throw new Refusal('its protocol is newer than 5');
        return undefined;
      case '\x95': // FRAME
        this.#take(8);
        return undefined;
      case '(':
        return mark;
      case '0': // POP
        this.#stack.pop();
        return undefined;
      case '1': // POP_MARK
        this.#marked();
        return undefined;
      case '2': // DUP
        return this.#top();
      case 'N':
        return null;
      case '\x88':
        return true;
      case '\x89':
        return false;
      case 'I':
      case 'L':
        return this.#decimal();
      case 'J':
        return this.#unsigned(4) | 0;
      case 'K':
        return this.#unsigned(1);
      case 'M':
        return this.#unsigned(2);
      case '\x8a':
        return this.#long(this.#unsigned(1));
      case '\x8b':
        return this.#long(this.#unsigned(4));
      case 'F':
        return Number(this.#line());
      case 'G':
        return this.#float();
      case 'V': // UNICODE, raw-unicode-escape
        return this.#line().replace(
          /\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g,
          (whole, four?: string, eight?: string) => {
            const point = Number.parseInt(four ?? eight ?? '', 16);
            return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
          },
        );
      case 'X':
      case 'T':
        return decodeText(this.#take(this.#unsigned(4)));
      case '\x8c':
      case 'U':
        return decodeText(this.#take(this.#unsigned(1)));
      case '\x8d':
        return decodeText(this.#take(this.#unsigned(8)));
      case 'S':
        return unquote(this.#line());
      case 'B':
        return this.#take(this.#unsigned(4));
      case 'C':
        return this.#take(this.#unsigned(1));
      case '\x8e':
      case '\x96':
        return this.#take(this.#unsigned(8));
      case ']':
        return [];
      case 'a': {
        const value = this.#pop();
        this.#append(this.#top(), [value]);
        return undefined;
      }
      case 'e': {
        const values = this.#marked();
        this.#append(this.#top(), values);
        return undefined;
      }
      case 'l':
      case 't':
        return this.#marked();
      case ')':
        return [];
      case '\x85':
        return this.#tuple(1);
      case '\x86':
        return this.#tuple(2);
      case '\x87':
        return this.#tuple(3);
      case '}':
        return new Map();
      case 'd':
        return this.#toMap(this.#marked());
      case 's': {
        const value = this.#pop();
        const key = this.#pop();
        this.#setItems(this.#top(), [key, value]);
        return undefined;
      }
      case 'u': {
        const values = this.#marked();
        this.#setItems(this.#top(), values);
        return undefined;
      }
      case '\x8f':
        return new Set();
      case '\x90': {
        const values = this.#marked();
        const target = this.#top();
        if (!(target instanceof Set)) throw new Refusal('items for what is no set');
        for (const value of values) target.add(value);
        return undefined;
      }
      case '\x91':
        return new Set(this.#marked());
      case 'c':
        return this.#global(this.#line(), this.#line());
      case '\x93': {
        const name = this.#pop();
        return this.#global(this.#pop(), name);
      }
      case 'R': // REDUCE, NEWOBJ: what would be called, and with what
      case '\x81': {
        const args = this.#pop();
        return this.#call(this.#pop(), args);
      }
      case '\x92': {
        this.#pop(); // Keyword arguments.
        const args = this.#pop();
        return this.#call(this.#pop(), args);
      }
      case 'i': {
        const callable = new PickledGlobal(this.#line(), this.#line());
        return this.#call(callable, this.#marked());
      }
      case 'o': {
        const [callable = null, ...args] = this.#marked();
        return this.#call(callable, args);
      }
      case 'b':
        this.#state();
        return undefined;
      case 'P':
        return this.#persistent(this.#line());
      case 'Q':
        return this.#persistent(this.#pop());
      case 'p':
        this.#memoize(this.#index());
        return undefined;
      case 'q':
        this.#memoize(this.#unsigned(1));
        return undefined;
      case 'r':
        this.#memoize(this.#unsigned(4));
        return undefined;
      case '\x94':
        this.#memoize(this.#memo.size);
        return undefined;
      case 'g':
        return this.#recall(this.#index());
      case 'h':
        return this.#recall(this.#unsigned(1));
      case 'j':
        return this.#recall(this.#unsigned(4));
      default:
        throw new Refusal(`an instruction 0x${code.toString(16)} that is not known`);
    }
  }

  #persistent(id: Pickled): Pickled {
    const value = this.#reading.persistent?.(id);
    if (value === undefined) throw new Refusal('a reference to something outside of it');
    return value;
  }
}
