/**
 * Every public entry point, given values of every type: it works, or it fails with one of the package's own errors. The entry points
 * are taken from the library's exports, so that one without a row here fails the test.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import * as main from '../../lib';
import * as advanced from '../../lib/advanced';
import { show } from '../../lib/arguments';
import { drawRules } from '../../lib/device/draw-rules';
import { memoryFolder, tinyCheckpoint, tinyLayout, tinyShape } from '../fixtures/checkpoints';
import { long, share, whole } from '../fixtures/child';

const library = { ...main, ...advanced };
const { CudnnLstmError, LanguageModel, RunDirectory, Vocabulary } = library;

let folder: string;
const before = process.cwd();
beforeAll(async () => {
  // A string may be taken for a path and written to: let that happen in a temporary folder.
  folder = mkdtempSync(join(memoryFolder, 'arguments-'));
  process.chdir(folder);
  writeFileSync('text.txt', 'a sheep and a goat\n'.repeat(60));
  await library.saveCheckpoint('model.safetensors', tinyCheckpoint(), tinyLayout);
  writeFileSync('known-lines.bin', await (await library.KnownLines.of(['a'])).toBytes('0'.repeat(64)));
  model = await LanguageModel.create(tinyShape, new Vocabulary(['\n', 'a', '🦊']), { device: 'cpu', threads: 1 });
  using session = model.session();
  await session.save('session.safetensors');
  training = await library.openTraining({ corpus: ['text.txt'], options: { ...small, out: 'planned' }, save: false });
});
afterAll(async () => {
  model.dispose();
  await training.dispose();
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

let model: Awaited<ReturnType<typeof LanguageModel.create>>;
let training: main.Training;
const small = {
  hidden: 4,
  layers: 1,
  batchSize: 2,
  seqLength: 4,
  sampleLength: 0,
  epochs: 1,
  device: 'cpu',
  threads: 1,
};
const abba = 'a\na\na';

/** Thrown by values that fail on any access. */
class Hostile extends Error {}

const fail = (): never => {
  throw new Hostile('no');
};
const failing = new Proxy(
  {},
  Object.fromEntries(
    ['get', 'has', 'ownKeys', 'getPrototypeOf', 'getOwnPropertyDescriptor', 'set', 'defineProperty'].map((trap) => [
      trap,
      fail,
    ]),
  ),
);
function revoked(target: object): unknown {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}
function detached(): unknown {
  const array = new Float32Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** Values that can be mistaken for something else, or that fail on any access. */
const odd: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -0,
    1,
    -1,
    0.5,
    1e15,
    1e308,
    2 ** 53,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    0n,
    10n ** 200n,
  ],
  ...[
    Symbol('s'),
    Symbol.iterator,
    '',
    '\0',
    'a\0b',
    '\ud800',
    'x'.repeat(5000),
    '__proto__',
    'auto',
    'none',
    'odd.txt',
  ],
  ...[
    [],
    {},
    [null],
    [[]],
    [undefined],
    new Array(3),
    { length: 1e15 },
    { length: 1 },
    Object.create(null),
    // More items than the lowest limit of a list, 10,000, but not a long text: some calls write it out.
    new Array(1e6),
  ],
  ...[
    () => 1,
    fail,
    class {},
    async () => 1,
    function* () {},
    new Date(Number.NaN),
    /x/,
    new Map(),
    new Set(['a']),
    new Error('e'),
  ],
  ...[
    new Uint8Array(3),
    new Float32Array(3),
    new BigInt64Array(1),
    new ArrayBuffer(8),
    new SharedArrayBuffer(8),
    detached(),
  ],
  ...[
    Promise.resolve(1),
    new WeakMap(),
    AbortSignal.abort(),
    new AbortController(),
    new URL('file:///text.txt'),
    Buffer.from('a'),
  ],
  ...[
    failing,
    revoked({}),
    revoked([]),
    revoked(() => 1),
    new Proxy([], { get: fail }),
    new Proxy([1], {}),
    new Proxy(() => 1, {}),
  ],
  { toString: fail, valueOf: fail, toJSON: fail, [Symbol.toPrimitive]: fail },
  { toString: () => 'cpu' },
  { [Symbol.iterator]: fail },
  { [Symbol.iterator]: () => ({ next: fail }) },
  { [Symbol.iterator]: () => ({ next: () => ({ done: false, value: Symbol('v') }) }) },
  // biome-ignore lint/suspicious/noThenProperty: a value that only looks like a promise is one of those to be tried.
  { then: fail },
  {
    get length() {
      return fail();
    },
  },
  Object.defineProperty({}, 'x', { enumerable: true, get: fail }),
  new Proxy(AbortSignal.abort(), {}),
  (() => {
    const round: Record<string, unknown> = {};
    round.round = round;
    return round;
  })(),
];
// Leaves out generated values that could be a path out of the folder.
const inside = (value: unknown): boolean => {
  try {
    return !/\/|\.\.|~|\*/.test(
      typeof value === 'string' ? value : (JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? 1 : v)) ?? ''),
    );
  } catch {
    return true;
  }
};
const generated = fc
  .anything({
    values: [
      fc.string(),
      fc.constantFrom(...odd.filter((value) => !['object', 'function'].includes(typeof value))),
      fc.boolean(),
    ],
    maxDepth: 2,
    withBigInt: true,
    withDate: true,
    withMap: true,
    withSet: true,
    withNullPrototype: true,
    withTypedArray: true,
    withSparseArray: true,
  })
  .filter(inside);

interface Entry {
  /** Arguments that work. An object's properties are tried one by one too. */
  good: () => unknown[];
  call: (...given: never[]) => unknown;
  /** Further options, which `good` does not set. */
  options?: readonly string[];
}

const device = [
  'env',
  'algorithm',
  'chosenAlgorithm',
  'device',
  'threads',
  'nativeBinding',
  'libraryPath',
  'check',
  'onNote',
  'signal',
  'precision',
  'seed',
];
const sampling = ['greedy', ...Object.keys(drawRules), 'seed'];
const generation = [
  ...sampling,
  'prompt',
  'length',
  'unknown',
  'stop',
  'keepStop',
  'untilLines',
  'untilSentences',
  'window',
  'only',
  'pattern',
  'maxCopy',
  'signal',
];
const scoring = ['streams', 'unknown', 'signal', 'onProgress'];
let runs = 0;

/** Opens one of four run directories for one call. */
async function inRun<T>(use: (run: Awaited<ReturnType<typeof RunDirectory.open>>) => Promise<T>): Promise<T> {
  await using run = await RunDirectory.open(`run-${runs++ % 4}`, { create: true, lock: false });
  return await use(run);
}

/** Reads two pieces of a text that may never end. */
async function some(pieces: AsyncIterable<unknown>): Promise<void> {
  let count = 0;
  for await (const _ of pieces) if (++count === 2) break;
}

const checkpoint = () => tinyCheckpoint();

const entries: Record<string, Entry> = {
  loadCheckpoint: { good: () => ['model.safetensors'], call: library.loadCheckpoint },
  readCheckpointMetadata: { good: () => ['model.safetensors'], call: library.readCheckpointMetadata },
  saveCheckpoint: { good: () => ['saved', checkpoint(), tinyLayout], call: library.saveCheckpoint },
  inspectCheckpoint: { good: () => ['model.safetensors'], call: library.inspectCheckpoint },
  canonicalLayout: { good: () => [tinyShape], call: library.canonicalLayout, options: ['gateActivation', 'resetId'] },
  resolveCheckpoint: { good: () => ['model.safetensors'], call: library.resolveCheckpoint },
  'RunDirectory.open': {
    good: () => ['opened', { create: true, lock: false }],
    call: async (directory, options) => (await RunDirectory.open(directory, options)).close(),
  },
  'RunDirectory#saveLast': {
    good: () => [checkpoint(), tinyLayout],
    call: (...a) => inRun((run) => run.saveLast(...(a as unknown as [never, never]))),
  },
  'RunDirectory#saveBest': {
    good: () => [checkpoint(), tinyLayout, 'best.safetensors'],
    call: (...a) => inRun((run) => run.saveBest(...(a as unknown as [never, never, never]))),
  },
  'RunDirectory#newest': { good: () => [], call: () => inRun((run) => run.newest()) },
  'RunDirectory#best': { good: () => [], call: () => inRun((run) => run.best()) },
  'RunDirectory#appendMetrics': { good: () => [{ a: 1 }], call: (record) => inRun((run) => run.appendMetrics(record)) },
  'RunDirectory#writeConfiguration': {
    good: () => [{ a: 1 }],
    call: (record) => inRun((run) => run.writeConfiguration(record)),
  },
  'RunDirectory#close': { good: () => [], call: () => inRun((run) => run.close()) },
  'KnownLines.of': {
    good: () => [['a', 'b']],
    call: async (lines, signal) => (await library.KnownLines.of(lines, signal)).has('a'),
  },
  'KnownLines.fromBytes': {
    good: () => [new Uint8Array(96), '0'.repeat(64)],
    call: (bytes, sha256) => library.KnownLines.fromBytes(bytes, sha256),
  },
  'KnownLines#has': { good: () => ['a'], call: async (line) => (await library.KnownLines.of([])).has(line) },
  'KnownLines#toBytes': {
    good: () => ['0'.repeat(64)],
    call: async (sha256) => (await library.KnownLines.of([])).toBytes(sha256),
  },
  loadKnownLines: {
    good: () => ['model.safetensors', { corpus: { name: 'a', sha256: '0'.repeat(64) } }],
    call: (path, metadata) => library.loadKnownLines(path, metadata),
  },
  openCorpus: {
    good: () => [['text.txt'], {}],
    call: async (corpora, options) => {
      const corpus = await library.openCorpus(corpora, options);
      corpus.ids.read(0, 1);
      corpus.close();
    },
    options: [
      'lowercase',
      'normalize',
      'lineBreaks',
      'byteOrderMark',
      'encoding',
      'gutenberg',
      'vocabulary',
      'unknown',
      'streamAbove',
      'signal',
    ],
  },
  normalizeText: {
    good: () => ['A', { lowercase: true }],
    call: library.normalizeText,
    options: ['form', 'lineBreaks', 'byteOrderMark'],
  },
  Vocabulary: { good: () => [['a', 'b']], call: (symbols) => new Vocabulary(symbols) },
  'Vocabulary.of': { good: () => [['ab', 'c']], call: (texts) => Vocabulary.of(texts) },
  'Vocabulary.sorted': { good: () => [['b', 'a']], call: (symbols) => Vocabulary.sorted(symbols) },
  'Vocabulary#idOf': { good: () => ['a'], call: (symbol) => model.vocabulary.idOf(symbol) },
  'Vocabulary#encode': {
    good: () => ['aa', {}],
    call: (text, options) => model.vocabulary.encode(text, options),
    options: ['unknown', 'what'],
  },
  'Vocabulary#decode': { good: () => [[0, 1]], call: (ids) => model.vocabulary.decode(ids) },
  'Vocabulary#toJSON': { good: () => [], call: () => model.vocabulary.toJSON() },
  chooseDevice: {
    good: () => [{ device: 'cpu' }],
    call: library.chooseDevice,
    options: device,
  },
  chooseThreads: { good: () => [1, {}], call: library.chooseThreads, options: ['CUDNN_LSTM_THREADS'] },
  joinRanks: { good: () => [{ distributed: 'auto' }, {}], call: library.joinRanks, options: ['CUDNN_LSTM_TIMEOUT'] },
  inspectMachine: { good: () => [{ device: 'cpu' }], call: library.inspectMachine, options: device },
  'LanguageModel.create': {
    good: () => [tinyShape, model.vocabulary, { device: 'cpu', threads: 1 }],
    call: async (shape, vocabulary, options) => (await LanguageModel.create(shape, vocabulary, options)).dispose(),
    options: [...device, 'normalization', 'target', 'seqLength', 'batchSize', 'corpus', 'configuration'],
  },
  'LanguageModel.load': {
    good: () => ['model.safetensors', { device: 'cpu', threads: 1 }],
    call: async (path, options) => (await LanguageModel.load(path, options)).dispose(),
    options: device,
  },
  'LanguageModel.mix': {
    good: () => [[{ model, weight: 2 }]],
    call: async (parts) => LanguageModel.mix(parts).dispose(),
  },
  'LanguageModel#gpuUsage': { good: () => [], call: () => model.gpuUsage() },
  'LanguageModel#normalize': { good: () => ['a'], call: (text) => model.normalize(text) },
  'LanguageModel#generate': {
    good: () => [{ length: 3 }],
    call: (options) => some(model.generate(options)),
    options: generation,
  },
  'LanguageModel#generateText': {
    good: () => [{ length: 3 }],
    call: (options) => model.generateText(options),
    options: generation,
  },
  'LanguageModel#generateMany': {
    good: () => [2, { length: 3 }],
    call: (n, options) => some(model.generateMany(n, options)),
    options: generation,
  },
  'LanguageModel#generateBest': {
    good: () => [2, { length: 3 }],
    call: (n, options) => model.generateBest(n, options),
    options: generation,
  },
  'LanguageModel#indexText': {
    good: () => [{ text: 'abba' }, {}],
    call: (corpus, options) => model.indexText(corpus, options),
    options: ['signal'],
  },
  'LanguageModel#generateLines': {
    good: () => [2, { length: 3 }],
    call: (n, options) => some(model.generateLines(n, options)),
    options: ['known', ...generation.filter((name) => !['stop', 'keepStop', 'only', 'maxCopy'].includes(name))],
  },
  'LanguageModel#score': {
    good: () => [abba, {}],
    call: (text, options) => model.score(text, options),
    options: scoring,
  },
  'LanguageModel#scoreLines': {
    good: () => [['aa'], {}],
    call: (lines, options) => model.scoreLines(lines, options),
    options: scoring,
  },
  'LanguageModel#scoreWindows': {
    good: () => [abba, { window: 2 }],
    call: (text, options) => model.scoreWindows(text, options),
    options: ['stride', 'batch', ...scoring],
  },
  'LanguageModel#inspect': {
    good: () => [abba, {}],
    call: (text, options) => model.inspect(text, options),
    options: ['rivals', 'cells', ...scoring],
  },
  'LanguageModel#save': { good: () => ['saved.safetensors'], call: (path) => model.save(path) },
  'LanguageModel#session': {
    good: () => [],
    call: async () => {
      using session = model.session();
      await session.draw({ length: 2 });
    },
  },
  'LanguageModel#loadSession': {
    good: () => ['session.safetensors'],
    call: async (path) => {
      using session = await model.loadSession(path);
      await session.peek();
    },
  },
  'LanguageModel#dispose': {
    good: () => [],
    call: async () =>
      (await LanguageModel.create(tinyShape, model.vocabulary, { device: 'cpu', threads: 1 })).dispose(),
  },
  importModel: {
    good: () => ['model.safetensors', {}],
    call: library.importModel,
    options: [
      'device',
      'threads',
      'nativeBinding',
      'check',
      'onNote',
      'env',
      'vocabulary',
      'corpus',
      'text',
      'encoding',
      'window',
      'signal',
    ],
  },
  saveImported: {
    good: () => [{ checkpoint: checkpoint(), layout: tinyLayout, proof: { loss: 1 } }, `imported-${runs++}`],
    call: library.saveImported,
  },
  exportModel: {
    good: () => ['model.safetensors', { to: 'onnx', out: `exported-${runs++}.onnx` }],
    call: library.exportModel,
    options: ['title', 'half'],
  },
  planTraining: {
    good: () => [training, undefined],
    call: library.planTraining,
  },
  openTraining: {
    good: () => [{ corpus: ['text.txt'], options: { ...small, out: `out-${runs++}` }, save: false }],
    call: async (request) => (await library.openTraining(request)).dispose(),
    options: ['flags', 'env', 'configFile', 'resume', 'signal', 'nativeBinding', 'onNote'],
  },
  train: {
    good: () => [{ corpus: ['text.txt'], ...small, out: false }],
    call: async (request) => (await library.train(request)).dispose(),
    options: ['configFile', 'resume', 'signal', 'nativeBinding', 'onNote'],
  },
};
for (const [name, type] of Object.entries(library)) {
  if (!name.endsWith('Error')) continue;
  entries[name] = { good: () => ['message'], call: (message) => new (type as typeof library.DataError)(message) };
}

/** The library's functions, public constructors, static methods and methods. */
function entryPoints(): string[] {
  const names: string[] = [];
  const methods = (of: object) =>
    Object.entries(Object.getOwnPropertyDescriptors(of)).flatMap(([name, { value }]) =>
      typeof value === 'function' && name !== 'constructor' ? [name] : [],
    );
  // Their constructors are private: only their static methods make them.
  const privately = new Set(['KnownLines', 'LanguageModel', 'RunDirectory']);
  for (const [name, exported] of Object.entries(library)) {
    if (typeof exported !== 'function') continue;
    const isClass = /^class\b/.test(Function.prototype.toString.call(exported));
    if (!isClass || !privately.has(name)) names.push(name);
    if (!isClass) continue;
    names.push(...methods(exported).map((method) => `${name}.${method}`));
    names.push(...methods(exported.prototype as object).map((method) => `${name}#${method}`));
  }
  return names;
}

it('has a row for each entry point of the library', () => {
  expect(Object.keys(entries).sort()).toEqual(entryPoints().sort());
  expect(entryPoints().length).toBeGreaterThan(50);
});

/** How a call ended: with a result, or with an error that it may throw. Anything else fails the test. */
async function outcome(entry: Entry, given: readonly unknown[], bad?: unknown): Promise<'done' | 'refused'> {
  try {
    await entry.call(...(given as never[]));
    return 'done';
  } catch (error) {
    if (error instanceof CudnnLstmError) {
      // Without expect, which takes longer than the call.
      if (typeof error.message === 'string') return 'refused';
    }
    // What the caller's own callback throws is passed on.
    if (error instanceof Hostile && bad === fail) return 'refused';
    // An abort throws the signal's reason.
    if (error instanceof DOMException && error.name === 'AbortError') return 'refused';
    throw new Error(`${given.map(show).join(', ')}: ${error instanceof Error ? error.stack : show(error)}`);
  }
}

describe.each(Object.keys(entries))('%s', (name) => {
  const entry = entries[name] as Entry;

  it('works, and fails with nothing but its own errors', async () => {
    if (name !== 'importModel') expect(await outcome(entry, entry.good())).toBe('done');
    const arity = entry.good().length;
    if (arity === 0) return;
    /** Each puts a bad value in place of one good argument, or of one property of it. */
    const spoilers: ((bad: unknown) => unknown[])[] = [];
    for (let i = 0; i < arity; i++) {
      spoilers.push((bad) => entry.good().map((good, j) => (i === j ? bad : good)));
      const good = entry.good()[i];
      const plain =
        typeof good === 'object' &&
        good !== null &&
        !Array.isArray(good) &&
        Object.getPrototypeOf(good) === Object.prototype;
      if (!plain) continue;
      const keys = new Set([...Object.keys(good), ...(i === arity - 1 || arity === 2 ? (entry.options ?? []) : [])]);
      for (const key of keys)
        spoilers.push((bad) => entry.good().map((each, j) => (i === j ? { ...(each as object), [key]: bad } : each)));
      for (const [key, inner] of Object.entries(good))
        if (typeof inner === 'object' && inner !== null && Object.getPrototypeOf(inner) === Object.prototype)
          for (const below of Object.keys(inner))
            spoilers.push((bad) =>
              entry
                .good()
                .map((each, j) => (i === j ? { ...(each as object), [key]: { ...inner, [below]: bad } } : each)),
            );
    }
    let refused = 0;
    for (const spoil of spoilers) {
      const all = long || spoilers.length < 6 ? odd : odd.filter((_, at) => (at + refused) % (whole ? 4 : 8) === 0);
      for (const bad of all) if ((await outcome(entry, spoil(bad), bad)) === 'refused') refused++;
    }
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: spoilers.length - 1 }), generated, async (at, bad) => {
        if ((await outcome(entry, (spoilers[at] as (bad: unknown) => unknown[])(bad))) === 'refused') refused++;
      }),
      { numRuns: long ? 500 : share(30) },
    );
    if (!/Error$|idOf/.test(name)) expect(refused).toBeGreaterThan(0);
  });
});

it('shows any value in a message', () => {
  for (const each of odd) expect(show(each)).toMatch(/^[^\p{Cc}]{1,210}$/u);
});
