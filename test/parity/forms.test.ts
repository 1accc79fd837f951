/**
 * The CPU backend packs its weights in the form that a call needs, and a large model that is not trained holds each matrix in only one
 * form (native/cpu/weights.h): whatever the order of calls, they and the reads use the same weights.
 */
import { createHash } from 'node:crypto';
import { loadNative, type NativeModel, type NativeModelSpec } from '../../lib/device/native';
import { eachWhole, long } from '../fixtures/child';
import { trainCall } from './harness';

/** 4.4 to 7.1 MiB: above the largest size at which a model keeps all forms (kKeptBytes). */
const large: NativeModelSpec[] = [
  { vocabulary: 33, layers: 1, hidden: 530, input: 'scalar', embedding: 0, dropout: 0, seed: 1 },
  { vocabulary: 70, layers: 2, hidden: 360, input: 'embedding', embedding: 19, dropout: 0.2, seed: 2 },
  { vocabulary: 600, layers: 1, hidden: 401, input: 'onehot', embedding: 0, dropout: 0, seed: 3 },
  // Almost all of it is in the lookup table of the one-hot input, and in the output.
  { vocabulary: 9000, layers: 1, hidden: 37, input: 'onehot', embedding: 0, dropout: 0, seed: 4 },
];
const small = { ...(large[1] as NativeModelSpec), hidden: 50 };

const ids = (spec: NativeModelSpec, count: number) =>
  Int32Array.from({ length: count }, (_, i) => (i * 7) % spec.vocabulary);

const calls: Record<string, (model: NativeModel, spec: NativeModelSpec) => Promise<unknown>> = {
  'one stream': (model, spec) => model.logits({ ids: ids(spec, 3), streams: 1 }),
  'two streams': (model, spec) => model.sample({ ids: ids(spec, 4), streams: 2, count: 2, sampling: { seed: 1 } }),
  'three streams': (model, spec) => model.logits({ ids: ids(spec, 6), streams: 3 }),
  // Enough that threads share the lane blocks, not the units: other tiles.
  'fifty streams': (model, spec) => model.logits({ ids: ids(spec, 50), streams: 50 }),
  'one sequence scored': (model, spec) => score(model, spec, 1),
  'many sequences scored': (model, spec) => score(model, spec, 18),
  'a read in pieces': async (model) => {
    const size = Math.ceil(model.parameterCount / 3) + 1;
    const pieces = [0, 1, 2].map((i) =>
      model.read('parameters', i * size, Math.min(size, model.parameterCount - i * size)),
    );
    return pieces;
  },
  'a write of a piece': async (model) => {
    const piece = model.read('parameters', 1000, 5000).map((weight) => weight * 0.5);
    model.write('parameters', piece, 1000);
    model.write(
      'parameters',
      piece.map((weight) => weight * 2),
      1000,
    );
  },
  'a step of training': (model, spec) => model.trainSteps(trainCall(ids(spec, 4 * 17), 3, 17)),
};

/** A hash of the arrays in a call's result. */
function hashOf(value: unknown): string {
  const hash = createHash('sha256');
  const add = (part: unknown): void => {
    if (ArrayBuffer.isView(part)) hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
    else if (typeof part === 'object' && part !== null) Object.values(part).forEach(add);
  };
  add(value);
  return hash.digest('hex');
}

function score(model: NativeModel, spec: NativeModelSpec, batch: number): Promise<Float32Array> {
  const steps = 4;
  const call = { ids: ids(spec, (steps + 1) * batch), steps, batch, carryState: false, dropout: false };
  return model.evaluate({ ...call, target: 'every' });
}

async function modelOf(spec: NativeModelSpec, threads: number, parameters?: Float32Array): Promise<NativeModel> {
  const model = await loadNative().createModel(spec, { device: 'cpu', threads, team: 'fixed' });
  if (parameters) model.write('parameters', parameters);
  else await model.initialize();
  return model;
}

/** A sequence in which each name follows every other. */
function allPairs(names: readonly string[]): string[] {
  return names.flatMap((a, i) => names.slice(i + 1).flatMap((b) => [a, b])).concat(names[0] as string);
}

const named = [...large, small].map(
  (spec) => [`${spec.input}, ${spec.vocabulary} symbols, ${spec.hidden} units`, spec] as const,
);
eachWhole(
  test,
  named,
  (i) => i >= 3,
)('after any call a model answers as a new one does: %s', async (_, spec) => {
  const forms = ['one stream', 'three streams', 'fifty streams', 'one sequence scored', 'many sequences scored'];
  const order = [
    ...allPairs(forms).flatMap((name, i) => (i % 3 === 0 ? [name, 'a read in pieces'] : [name])),
    ...['a write of a piece', ...forms, 'two streams', 'a write of a piece', 'a read in pieces'],
    ...['a step of training', ...forms, 'a read in pieces', 'a step of training', 'three streams', 'one stream'],
  ];
  for (const threads of long ? [1, 3] : [spec.layers === 1 ? 3 : 1]) {
    const used = await modelOf(spec, threads);
    let parameters = used.read('parameters');
    const wanted = new Map<string, string>();
    for (const name of order) {
      const call = calls[name] as (typeof calls)[string];
      const got = hashOf(await call(used, spec));
      if (name === 'a step of training') {
        parameters = used.read('parameters');
        wanted.clear();
        continue;
      }
      if (!wanted.has(name)) {
        const other = await modelOf(spec, threads, parameters);
        wanted.set(name, hashOf(await call(other, spec)));
        other.dispose();
      }
      expect({ name, got }).toEqual({ name, got: wanted.get(name) });
    }
    expect(hashOf(used.read('parameters'))).toBe(hashOf(parameters));
    used.dispose();
  }
});
