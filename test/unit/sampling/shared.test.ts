/** Texts that share native calls come out the same as when each is drawn alone. */
import fc from 'fast-check';
import type { NativeModel, NativeSamplingOptions } from '../../../lib/device/native';
import { loadNative } from '../../../lib/device/native';
import { queued } from '../../../lib/device/queue';
import { PrefixCache, prefixKeys } from '../../../lib/sampling/prefix-cache';
import { type Drawn, type SharedRequest, SharedSampler } from '../../../lib/sampling/shared';

const vocabulary = 23;
const shape = { layers: 2, hidden: 12 };
const spec = { ...shape, vocabulary, input: 'onehot', embedding: 0, dropout: 0, seed: 5 } as const;
let native: NativeModel;
beforeAll(async () => {
  native = queued(await loadNative().createModel(spec, { device: 'cpu', threads: 2 }));
  await native.initialize();
  const parameters = native.read('parameters');
  native.write(
    'parameters',
    parameters.map((value, i) => value * 3 + Math.sin(i) / 3),
  );
});
afterAll(() => native.dispose());

/** Draws a whole text by itself, in one call. */
async function alone(request: SharedRequest, sampling: NativeSamplingOptions): Promise<Drawn> {
  const { ids, logProbabilities, rivals } = await native.sample({
    sampling,
    ids: request.prompt,
    streams: 1,
    count: request.length,
    window: request.window,
    ...(request.rivals === undefined ? {} : { logProbabilities: true, rivals: request.rivals }),
  });
  return { ids, ...(logProbabilities ? { logProbabilities } : {}), ...(rivals ? { rivals } : {}) };
}

/** Reads a text until it ends or has at least `most` ids, pausing for `pause` turns of the event loop after each piece. */
async function read(text: AsyncIterable<Drawn>, most = Number.POSITIVE_INFINITY, pause = 0): Promise<Required<Drawn>> {
  const all = { ids: [] as number[], logProbabilities: [] as number[], rivals: [] as number[] };
  for await (const drawn of text) {
    all.ids.push(...drawn.ids);
    all.logProbabilities.push(...(drawn.logProbabilities ?? []));
    all.rivals.push(...(drawn.rivals ?? []));
    for (let i = 0; i < pause; i++) await new Promise((resolve) => setImmediate(resolve));
    if (all.ids.length >= most) break;
  }
  return {
    ids: Int32Array.from(all.ids),
    logProbabilities: Float32Array.from(all.logProbabilities),
    rivals: Int32Array.from(all.rivals),
    rivalLogProbabilities: new Float32Array(0),
  };
}

const samplings: NativeSamplingOptions[] = [
  {},
  { temperature: 0.7, topK: 5 },
  { greedy: true },
  { repetitionPenalty: 1.7, penaltyWindow: 9 },
  { topP: 0.8, biasedIds: Int32Array.of(3), biases: Float32Array.of(2) },
  { allowed: Int32Array.of(1, 2, 3, 5, 8) },
];

const requests = fc.record({
  promptLength: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(127, 128, 129, 130, 256, 257, 300)),
  length: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(64, 65, 255, 256, 257, 600)),
  window: fc.constantFrom(0, 0, 0, 1, 5, 40),
  texts: fc.integer({ min: 1, max: 5 }),
  rules: fc.nat(samplings.length - 1),
  rivals: fc.constantFrom(undefined, undefined, 0, 3, vocabulary),
  seed: fc.integer({ min: 0, max: 2 ** 32 }),
  delay: fc.nat(30),
  pause: fc.constantFrom(0, 0, 1, 5),
  leave: fc.option(fc.nat(100), { nil: undefined }),
});

test('a text does not depend on those that come, go and are drawn beside it', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(requests, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 40 }),
      async (all, most) => {
        const sampler = new SharedSampler(native, { ...shape, mostStreams: most });
        await Promise.all(
          all.map(async (r) => {
            for (let i = 0; i < r.delay; i++) await new Promise((resolve) => setImmediate(resolve));
            const request: SharedRequest = {
              // Prompts begin alike, so that cached prefixes are used.
              prompt: Int32Array.from(
                { length: r.promptLength },
                (_, i) => (i * i + (i > 200 ? r.seed : 0)) % vocabulary,
              ),
              length: r.length,
              window: r.window,
              sampling: Array.from({ length: r.texts }, (_, stream) => ({
                ...samplings[r.rules],
                seed: r.seed,
                stream,
              })),
              rivals: r.rivals,
            };
            const texts = await Promise.all(sampler.open(request).map((text) => read(text, r.leave, r.pause)));
            for (const [stream, text] of texts.entries()) {
              const whole = await alone(request, request.sampling[stream] as NativeSamplingOptions);
              const count = text.ids.length;
              if (r.leave === undefined) expect(count).toBe(r.length);
              else expect(count).toBeGreaterThanOrEqual(Math.min(r.leave, r.length));
              expect(text.ids).toEqual(whole.ids.subarray(0, count));
              if (r.rivals === undefined) continue;
              expect(text.logProbabilities).toEqual(whole.logProbabilities?.subarray(0, count));
              if (r.rivals > 0) expect(text.rivals).toEqual(whole.rivals?.subarray(0, count * r.rivals));
            }
          }),
        );
        expect(sampler.active).toBe(0);
      },
    ),
    { numRuns: process.env.LONG ? 300 : 25 },
  );
});

const prompt = Int32Array.from({ length: 300 }, (_, i) => i % vocabulary);
const request = (options: Partial<SharedRequest> = {}): SharedRequest => ({
  prompt,
  length: 4,
  window: 0,
  sampling: [{ seed: 1 }],
  ...options,
});

test('a beginning that comes again is not computed again', async () => {
  const sampler = new SharedSampler(native, shape);
  const [first] = sampler.open(request());
  const once = await read(first as AsyncIterable<Drawn>);
  expect(sampler.fedIds).toBe(299);
  const [again] = sampler.open(request());
  expect((await read(again as AsyncIterable<Drawn>)).ids).toEqual(once.ids);
  expect(sampler.fedIds).toBe(299);
  // With another ending, the first two pieces of 128 ids are still cached.
  const [other] = sampler.open(request({ prompt: Int32Array.of(...prompt.subarray(0, 280), 1, 1, 1) }));
  await read(other as AsyncIterable<Drawn>);
  expect(sampler.fedIds).toBe(299 + 26);
});

test('requests with one prompt at the same moment compute it once', async () => {
  const sampler = new SharedSampler(native, shape);
  const texts = [1, 2, 3].flatMap((seed) => sampler.open(request({ sampling: [{ seed }, { seed, stream: 1 }] })));
  await Promise.all(texts.map((text) => read(text)));
  expect(sampler.fedIds).toBe(299);
});

test('an abort ends a text while it waits, while it is read, and before it begins', async () => {
  const sampler = new SharedSampler(native, shape);
  const reason = new Error('gone');
  for (const when of ['before', 'waiting', 'reading']) {
    const controller = new AbortController();
    if (when === 'before') controller.abort(reason);
    const [text] = sampler.open(request({ length: 100_000, signal: controller.signal }));
    if (when === 'reading') await (text as AsyncGenerator<Drawn>).next();
    const rest = read(text as AsyncIterable<Drawn>);
    controller.abort(reason);
    await expect(rest).rejects.toBe(reason);
  }
  while (sampler.active > 0) await new Promise((resolve) => setImmediate(resolve));
});

test.each([
  ['a prompt is fed', { length: 5 }],
  ['a text is drawn', { length: 1000, prompt: Int32Array.of(1) }],
])('a client that goes away while %s ends the call itself, however long it takes', async (_, options) => {
  const signals: AbortSignal[] = [];
  // A call that ends only when it is aborted.
  const endless = {
    sample: (_: unknown, signal?: AbortSignal) =>
      new Promise<never>((_, reject) => {
        signals.push(signal as AbortSignal);
        signal?.addEventListener('abort', () => reject(signal.reason));
      }),
  };
  const sampler = new SharedSampler(endless, shape);
  const controllers = [new AbortController(), new AbortController()];
  const [one, other] = controllers.map(({ signal }) => {
    // Two texts of one request, drawn in the same call.
    const texts = sampler.open(request({ ...options, sampling: [{ seed: 1 }, { seed: 2 }], signal }));
    return Promise.allSettled(texts.map((text) => read(text)));
  });
  const running = async (count: number) => {
    while (signals.length < count) await new Promise((resolve) => setImmediate(resolve));
  };
  await running(1);
  controllers[0]?.abort(new Error('gone'));
  expect((await one)?.every(({ status }) => status === 'rejected')).toBe(true);
  // Either the other request's texts were in the same call, which then keeps running, or they get one of their own now.
  if (signals[0]?.aborted) await running(2);
  expect(signals.at(-1)?.aborted).toBe(false);
  controllers[1]?.abort(new Error('gone too'));
  await other;
  while (sampler.active > 0) await new Promise((resolve) => setImmediate(resolve));
  expect(signals.every(({ aborted }) => aborted)).toBe(true);
});

test('a large model is fed in short pieces', async () => {
  const lengths: number[] = [];
  const slow = {
    sample: async (call: Parameters<NativeModel['sample']>[0]) => {
      lengths.push(call.ids.length);
      if (call.ids.length >= 8) await new Promise((resolve) => setTimeout(resolve, 2 * call.ids.length));
      return native.sample(call);
    },
  };
  const sampler = new SharedSampler(slow, shape);
  for (const [i, longest] of [128, 8].entries()) {
    lengths.length = 0;
    const prompt = Int32Array.from({ length: 140 }, (_, at) => (at + i) % vocabulary);
    const [text] = sampler.open(request({ prompt }));
    const whole = await alone(request({ prompt }), { seed: 1 });
    expect((await read(text as AsyncIterable<Drawn>)).ids).toEqual(whole.ids);
    expect(Math.max(...lengths)).toBe(longest);
  }
});

test('a text is drawn a bounded number of ids ahead of its reader', async () => {
  const sampler = new SharedSampler(native, shape);
  const [text] = sampler.open(request({ length: 1e9 }));
  await (text as AsyncGenerator<Drawn>).next();
  for (let i = 0; i < 300; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(sampler.drawnIds).toBeLessThanOrEqual(256 + 64 + 64);
  await (text as AsyncGenerator<Drawn>).return(undefined);
});

test('a failed call is told to those that were in it, and to no other', async () => {
  let fail = true;
  const failing = {
    sample: (call: Parameters<NativeModel['sample']>[0]) => {
      if (!fail) return native.sample(call);
      fail = false;
      return Promise.reject(new Error('lost'));
    },
  };
  const sampler = new SharedSampler(failing, shape);
  const [bad] = sampler.open(request());
  await expect(read(bad as AsyncIterable<Drawn>)).rejects.toThrow('lost');
  const [good] = sampler.open(request());
  expect((await read(good as AsyncIterable<Drawn>)).ids.length).toBe(4);
});

test('known states take no more than their bytes, and the least recently used go', () => {
  const cache = new PrefixCache(40);
  const keys = prefixKeys(prompt, [1, 2, 3, 4]) as [string, string, string, string];
  expect(new Set(keys).size).toBe(4);
  for (const key of keys.slice(0, 2)) cache.keep(key, new Float32Array(4));
  expect(cache.get(keys[0])).toBeDefined();
  cache.keep(keys[2], new Float32Array(4));
  expect(cache.get(keys[1])).toBeUndefined();
  expect(cache.get(keys[0])).toBeDefined();
  cache.keep(keys[0], new Float32Array(4));
  expect(cache.bytes).toBe(32);
  cache.keep(keys[3], new Float32Array(11));
  expect(cache.get(keys[3])).toBeUndefined();
});
