/**
 * Calls every entry point of the addon with arguments that run JavaScript while they are read, that are gone when they are used, or that
 * have the wrong type: `hostile-calls.js CASES SEED` tries each of these once in every place, and then CASES random mixtures. Prints as
 * JSON how many cases each entry point had, and in how many the hostile code ran. It looks for crashes and hangs; it also checks every
 * error's code, and uses each surviving model again.
 */
const { createHook } = require('node:async_hooks');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { eachDrawRule } = require('../../../dist/device/draw-rules');
const { loadNative } = require('../../../dist/device/native');

const addon = loadNative();
const vocabulary = 7;
const spec = { vocabulary, layers: 2, hidden: 5, input: 'embedding', embedding: 3, dropout: 0.1, seed: 4 };
async function makeModel() {
  const model = await addon.createModel(spec, { device: 'cpu', threads: 2 });
  await model.initialize();
  return model;
}
const parameterCount = 2 * 4 * 5 * (5 + 1) + 4 * 5 * (3 + 5) + vocabulary * (3 + 5 + 1);

/** An array in its own buffer, which can be shrunk. */
function resizable(Type, values) {
  const bytes = values.length * Type.BYTES_PER_ELEMENT;
  const array = new Type(new ArrayBuffer(bytes, { maxByteLength: bytes + 64 }), 0, values.length);
  array.set(values);
  return array;
}
/** Whether arguments can be shrunk: each array that can has pages mapped for it, which takes longer than the rest of a case. */
let shrinkable = true;
const arrayOf = (Type, values) => (shrinkable ? resizable(Type, values) : Type.from(values));
const ids = (length) => arrayOf(Int32Array, Array.from({ length }, (_, i) => (i * i) % vocabulary));
const floats = (length) => arrayOf(Float32Array, new Array(length).fill(0.25));

const sampling = () => ({
  ...eachDrawRule((_, { low, high, whole }) => (whole ? 4 : (low + Math.min(high, 1)) / 2)),
  ...{ greedy: false, seed: 1, stream: 0, position: 2, history: ids(3), allowed: ids(4), biasedIds: ids(2) },
  biases: floats(2),
});
const stateSize = (streams) => 2 * 2 * streams * 5;

/** The valid arguments of each entry point and the call with them, on `model` where there is one. */
const entries = {
  createModel: {
    alone: true,
    valid: () => [
      { ...spec },
      {
        ...{ device: 'cpu', threads: 1, ordinal: 0, precision: 'fp32', algorithm: 'auto' },
        libraryPath: '/nonexistent',
      },
    ],
    call: (_, args) => addon.createModel(...args).then((model) => model.dispose()),
  },
  cpuInfo: { alone: true, valid: () => [], call: (_, args) => addon.cpuInfo(...args) },
  cpuAllowance: { alone: true, valid: () => ['/nonexistent'], call: (_, args) => addon.cpuAllowance(...args) },
  cudaInfo: {
    alone: true,
    valid: () => [{ libraryPath: '/nonexistent', openLibraries: false }],
    call: (_, args) => addon.cudaInfo(...args),
  },
  gpuUsage: { alone: true, valid: () => [0], call: (_, args) => addon.gpuUsage(...args) },
  lockFile: { alone: true, valid: () => [1e9], call: (_, args) => addon.lockFile(...args) }, // No such descriptor.
  draw: {
    alone: true,
    valid: () => [{ logits: floats(2 * vocabulary), streams: 2, sampling: [sampling(), sampling()] }],
    call: (_, args) => addon.draw(...args),
  },
  measurePeak: { alone: true, valid: () => [1, 1], call: (_, args) => addon.measurePeak(...args) },
  constructor: { valid: () => [], call: (model, args) => new model.constructor(...args).dispose() },
  trainSteps: {
    valid: () => [
      {
        ...{ ids: ids(2 * 4 * 3), count: 2, steps: 3, batch: 3, target: 'every', carryState: true },
        ...{ learningRates: arrayOf(Float64Array, [0.01, 0.02]), beta1: 0.9, beta2: 0.99, epsilon: 1e-7, clip: 1 },
      },
    ],
    call: (model, args) => model.trainSteps(...args),
  },
  evaluate: {
    valid: () => [
      { ids: ids(4 * 3), steps: 3, batch: 3, target: 'last', carryState: true, dropout: true, maskStep: 5 },
    ],
    call: (model, args) => model.evaluate(...args),
  },
  sample: {
    valid: () => [
      {
        ...{ ids: ids(4), streams: 2, count: 3, window: 0, state: floats(stateSize(2)), logProbabilities: true },
        ...{ rivals: 2, sampling: [sampling(), sampling()] },
      },
    ],
    call: (model, args) => model.sample(...args),
  },
  logits: {
    valid: () => [{ ids: ids(4), streams: 2, state: floats(stateSize(2)) }],
    call: (model, args) => model.logits(...args),
  },
  read: { valid: () => ['parameters', 1, 3], call: (model, args) => model.read(...args) },
  write: {
    valid: () => ['parameters', floats(parameterCount), 0],
    call: (model, args) => model.write(...args),
  },
  'write a state': {
    valid: () => ['trainingState', floats(stateSize(3))],
    call: (model, args) => model.write(...args),
  },
  'write streams': {
    valid: () => ['streamState', floats(stateSize(2))],
    call: (model, args) => model.write(...args),
  },
  'stepCount =': {
    valid: () => [3],
    call: (model, args) => {
      model.stepCount = args[0];
    },
  },
  ...Object.fromEntries(
    ['initialize', 'resetEvaluationState', 'resetTrainingState', 'stop', 'dispose'].map((name) => [
      name,
      { valid: () => [], call: (model, args) => model[name](...args) },
    ]),
  ),
  ...Object.fromEntries(
    ['parameterCount', 'parameters', 'description', 'hostBytes', 'deviceBytes', 'stepCount'].map((name) => [
      name,
      { valid: () => [], call: (model) => model[name] },
    ]),
  ),
};

/** Calls made during the one under test; their errors are checked too. */
let besides = [];
const beside = (name) => (model) => {
  besides.push(attempt(() => entries[name].call(model, entries[name].valid())));
};

const own = new Error('thrown by the hostile program');
/** What JavaScript may do while an argument is read. */
const acts = {
  dispose: (model) => model?.dispose(),
  ...Object.fromEntries(
    ['trainSteps', 'evaluate', 'sample', 'logits', 'initialize', 'write', 'read', 'stop'].map((name) => [
      name,
      (model) => model && beside(name)(model),
    ]),
  ),
  detach: (_, args) => everyArray(args, detach),
  shrink: (_, args) => everyArray(args, shrink),
  throw: () => {
    throw own;
  },
  collect: () => gc(),
};

/** False for a buffer that another act has detached, which is left alone; Node 20 has no `detached`. */
const isThere = (buffer) => buffer instanceof ArrayBuffer && buffer.maxByteLength > 0;
function detach({ buffer }) {
  if (isThere(buffer)) structuredClone(buffer, { transfer: [buffer] });
}
function shrink({ buffer }) {
  if (isThere(buffer) && buffer.resizable) buffer.resize(0);
}

function everyArray(value, use) {
  if (ArrayBuffer.isView(value)) use(value);
  else if (value && typeof value === 'object') for (const each of Object.values(value)) everyArray(each, use);
}

/** The places in the arguments where there is something, as lists of keys. */
function paths(value, from = []) {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return [from];
  const inner = Object.keys(value).flatMap((key) => paths(value[key], [...from, key]));
  return from.length > 0 ? [from, ...inner] : inner;
}
function at(value, path) {
  return path.reduce((inner, key) => inner[key], value);
}
function replace(args, path, property) {
  Object.defineProperty(at(args, path.slice(0, -1)), path.at(-1), { configurable: true, enumerable: true, ...property });
}

/** Made once: eight megabytes of holes. */
const holes = new Array(1e6);
const junk = () => [
  ...[undefined, null, true, -1, -0, 0.5, 1e9, 2 ** 31, 2 ** 32, 2 ** 53, 1e300, Infinity, Number.NaN, 1n, 2n ** 70n],
  ...['', 'x', '\ud800', 'a'.repeat(100_000), Symbol('s'), Symbol.iterator, [], [[]], {}, Object.create(null), () => {}],
  ...[new Date(), new Map(), new Proxy({}, {}), new Proxy(() => {}, {}), Promise.resolve(1), new ArrayBuffer(8), addon],
  ...[new DataView(new ArrayBuffer(8)), new Uint8Array(3), new BigInt64Array(2), new Float32Array(3), new Int32Array(3)],
  ...[new Float64Array(1), new Proxy(new Int32Array(4), {}), holes, /x/],
];

/** The same values, in an array that is not what it seems. */
const disguises = {
  detached: (array) => {
    const copy = new array.constructor(array);
    detach(copy);
    return copy;
  },
  shrunk: (array) => {
    const copy = resizable(array.constructor, array);
    shrink(copy);
    return copy;
  },
  'shrunk, of the length of its buffer': (array) => {
    const { buffer } = resizable(array.constructor, array);
    const copy = new array.constructor(buffer);
    buffer.resize(0);
    return copy;
  },
  'partly shrunk': (array) => {
    const { buffer } = resizable(array.constructor, array);
    const copy = new array.constructor(buffer);
    buffer.resize(Math.floor(array.length / 2) * array.BYTES_PER_ELEMENT);
    return copy;
  },
  grown: (array) => {
    const { buffer } = resizable(array.constructor, array);
    const copy = new array.constructor(buffer);
    buffer.resize(buffer.maxByteLength);
    return copy;
  },
  shared: (array) => {
    const copy = new array.constructor(new SharedArrayBuffer(array.byteLength));
    copy.set(array);
    return copy;
  },
  'shared and growing': (array) => {
    const { byteLength } = array;
    const buffer = new SharedArrayBuffer(byteLength, { maxByteLength: byteLength + 64 });
    const copy = new array.constructor(buffer);
    copy.set(array);
    buffer.grow(byteLength + 64);
    return copy;
  },
  'of WebAssembly memory that has grown': (array) => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
    const copy = new array.constructor(memory.buffer, 0, array.length);
    copy.set(array);
    memory.grow(1);
    return copy;
  },
  'in the middle of a buffer': (array) => {
    const { length, BYTES_PER_ELEMENT } = array;
    const copy = new array.constructor(new ArrayBuffer((length + 2) * BYTES_PER_ELEMENT), BYTES_PER_ELEMENT, length);
    copy.set(array);
    return copy;
  },
  'with a length of its own': (array) => {
    const copy = new array.constructor(array);
    for (const name of ['length', 'byteLength', 'byteOffset', 'buffer']) {
      Object.defineProperty(copy, name, { get: () => (name === 'buffer' ? new ArrayBuffer(0) : 1e9) });
    }
    return copy;
  },
  'a subclass': (array) => new (class extends array.constructor {})(array),
  'one too many': (array) => new array.constructor(array.length + 1),
  'one too few': (array) => new array.constructor(Math.max(0, array.length - 1)),
  empty: (array) => new array.constructor(0),
  'out of range': (array) => new array.constructor(array.length).fill(vocabulary),
  negative: (array) => new array.constructor(array.length).fill(-1),
  'not numbers': (array) => new array.constructor(array.length).fill(Number.NaN),
};

const counts = {};
const count = (name, what) => {
  counts[name] ??= { cases: 0, ran: 0 };
  counts[name][what]++;
};

const codes = new Set(['ERR_INVALID_ARGUMENT', 'ERR_BUSY', 'ERR_DISPOSED', 'ERR_OUT_OF_MEMORY', 'ERR_DEVICE_UNAVAILABLE',
  'ERR_STOPPED', 'ERR_CANNOT_LOCK']);
/** Awaits a call; an error that is not one of the addon's own is a failure. */
async function attempt(call) {
  try {
    await call();
  } catch (error) {
    if (error === own || codes.has(error?.code)) return;
    throw error;
  }
}

let model;
/** Runs one case: `prepare` makes the arguments hostile, and gets a function that records that their code ran. */
async function tryOnce(name, prepare) {
  const { alone, valid } = entries[name];
  if (!alone) model ??= await makeModel();
  const target = alone ? undefined : model;
  const args = valid();
  let armed = false;
  let ran = false;
  const arrays = [];
  everyArray(args, (array) => arrays.push(array));
  const cleanUp = prepare(args, (act) => {
    if (!armed) return;
    ran = true;
    acts[act](target, arrays);
  });
  count(name, 'cases');
  try {
    armed = true;
    await attempt(() => entries[name].call(target, args));
  } catch (error) {
    console.error(`${name}: an error without a code of the addon's`, error);
    process.exitCode = 1;
  } finally {
    armed = false;
    cleanUp?.();
  }
  for (const other of besides) await other;
  besides = [];
  if (ran) count(name, 'ran');
  if (alone) return;
  // Whatever is left of the model must still work as one.
  await attempt(async () => {
    const losses = await model.evaluate(entries.evaluate.valid()[0]);
    if (losses.length !== 3) throw new Error('wrong losses');
  });
  try {
    if (model.hostBytes > 0) return;
  } catch {}
  model = undefined; // disposed of
}

const getter = (path, act, once) => (args, run) => {
  const value = at(args, path);
  let calls = 0;
  replace(args, path, {
    get: () => {
      if (!once || calls++ === 0) run(act);
      return value;
    },
  });
};
const proxy = (position, act, turn) => (args, run) => {
  const inner = args[position];
  if (inner === null || typeof inner !== 'object') return;
  let left = turn;
  const trap =
    (name) =>
    (...parameters) => {
      if (left-- === 0) run(act);
      return Reflect[name](...parameters);
    };
  args[position] = new Proxy(inner, Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((n) => [n, trap(n)])));
};
const converter = (path, act) => (args, run) => {
  const value = at(args, path);
  const convert = () => {
    run(act);
    return value;
  };
  replace(args, path, { value: { toString: convert, valueOf: convert, [Symbol.toPrimitive]: convert } });
};
const junkAt = (path, value) => (args) => replace(args, path, { value });
const disguised = (path, disguise) => (args) => replace(args, path, { value: disguises[disguise](at(args, path)) });
const hooked = (act) => (_, run) => {
  let left = 1;
  const hook = createHook({
    init: () => {
      if (left-- === 1) run(act);
    },
  }).enable();
  return () => hook.disable();
};
/** Puts setters where results get their properties from. */
const polluted = (act) => (_, run) => {
  const names = ['name', 'shape', 'offset', 'size', 'losses', 'norms', 'completed', 'stopped', 'isa', 'devices', 'code'];
  let left = 1;
  const once = () => {
    if (left-- === 1) run(act);
  };
  const set = (target, name) =>
    Object.defineProperty(target, name, {
      configurable: true,
      set(value) {
        once();
        Object.defineProperty(this, name, { value, configurable: true, writable: true, enumerable: true });
      },
    });
  for (const name of names) set(Object.prototype, name);
  for (const index of [0, 1]) set(Array.prototype, index);
  return () => {
    for (const name of names) delete Object.prototype[name];
    for (const index of [0, 1]) delete Array.prototype[index];
  };
};

/** Calls a model's methods on objects that are not models. */
async function onOthers() {
  const live = await makeModel();
  const others = [undefined, null, 1, {}, addon, Object.create(live), new Proxy(live, {}), new Map(), () => {}];
  // Another addon's object, which has something else behind it.
  const { Compiler } = require('@swc/core/binding');
  others.push(new Compiler());
  const prototype = Object.getPrototypeOf(live);
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
    if (name === 'constructor') continue;
    for (const use of [property.value, property.get, property.set].filter(Boolean)) {
      for (const other of others) {
        count('on others', 'cases');
        let refused = false;
        try {
          await use.call(other, 'parameters', new Float32Array(3));
        } catch {
          refused = true;
        }
        if (!refused) throw new Error(`${name} took ${typeof other} for a model`);
      }
    }
  }
  live.dispose();
}

/** Evaluates while another thread keeps writing to the ids. */
async function scribbled() {
  const { valid, call } = entries.evaluate;
  const [args] = valid();
  const shared = new Int32Array(new SharedArrayBuffer(args.ids.byteLength));
  const worker = new Worker(__filename, { workerData: shared });
  await new Promise((resolve) => worker.once('message', resolve));
  const live = await makeModel();
  const seen = { taken: 0, refused: 0 };
  for (let i = 0; (seen.taken < 20 || seen.refused < 20) && i < 100_000; i++) {
    count('scribbled', 'cases');
    try {
      await call(live, [{ ...args, ids: shared }]);
      seen.taken++;
    } catch (error) {
      if (error.code !== 'ERR_INVALID_ARGUMENT') throw error;
      seen.refused++;
    }
  }
  if (seen.taken === 0 || seen.refused === 0) throw new Error(`nothing was in the way: ${JSON.stringify(seen)}`);
  live.dispose();
  await worker.terminate();
}

async function main(cases, seed) {
  for (const [name, { valid }] of Object.entries(entries)) {
    const args = valid();
    const all = paths(args);
    for (const act of Object.keys(acts)) {
      shrinkable = act === 'shrink';
      if (act !== 'throw') await tryOnce(name, hooked(act)); // Node ends the process if a hook throws.
      await tryOnce(name, polluted(act));
      for (const path of all.filter((each) => each.length > 1)) await tryOnce(name, getter(path, act, true));
      for (const path of all) await tryOnce(name, converter(path, act));
      for (let i = 0; i < args.length; i++) {
        for (let turn = 0; turn < 12; turn++) await tryOnce(name, proxy(i, act, turn));
      }
    }
    shrinkable = false;
    for (const path of all) {
      for (const value of junk()) {
        const alone = entries[name].alone;
        if (alone && name !== 'createModel' && name !== 'measurePeak' && value === undefined) continue;
        await tryOnce(name, junkAt(path, value));
      }
      if (!ArrayBuffer.isView(at(args, path))) continue;
      for (const disguise of Object.keys(disguises)) await tryOnce(name, disguised(path, disguise));
    }
    // Missing arguments.
    for (let length = 0; length < args.length; length++) {
      await tryOnce(name, (list) => {
        list.length = length;
      });
    }
  }
  await onOthers();
  await scribbled();
  shrinkable = true;

  let state = seed;
  const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const pick = (list) => list[random(list.length)];
  const names = Object.keys(entries).filter((name) => entries[name].valid().length > 0);
  for (let i = 0; i < cases; i++) {
    const name = pick(names);
    await tryOnce(name, (args, run) => {
      const cleanUps = [];
      for (let n = 1 + random(3); n > 0; n--) {
        const path = pick(paths(entries[name].valid()));
        const act = pick(Object.keys(acts));
        const kinds = [
          () => getter(path, act, random(2) === 0),
          () => proxy(random(args.length), act, random(20)),
          () => converter(path, act),
          () => junkAt(path, pick(junk())),
          () => (ArrayBuffer.isView(at(args, path)) ? disguised(path, pick(Object.keys(disguises))) : hooked('dispose')),
        ];
        try {
          cleanUps.push(pick(kinds)()(args, run));
        } catch {} // The place no longer exists: a hostile value already stands there.
      }
      return () => {
        for (const cleanUp of cleanUps) cleanUp?.();
      };
    });
  }
  console.log(JSON.stringify(counts));
}

function scribble(shared) {
  const { parentPort } = require('node:worker_threads');
  parentPort.postMessage('at work');
  for (let i = 0; ; i++) shared[i % shared.length] = i % 977 < 488 ? 1 : 1_000_000_000;
}

if (isMainThread) void main(Number(process.argv[2]), Number(process.argv[3]));
else scribble(workerData);
