/**
 * The event loop gets its turns however large the input of a call. `npm test` counts them; LONG=1 uses realistic sizes and measures the
 * largest gap against that of an idle loop.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { readCheckpointMetadata, saveCheckpoint } from '../../lib/checkpoint/checkpoint';
import * as layouts from '../../lib/checkpoint/layout';
import { byteNormalization, byteVocabulary } from '../../lib/corpus/bytes';
import { openCorpus } from '../../lib/corpus/corpus';
import { decodeText } from '../../lib/corpus/encode';
import { MemoryIds } from '../../lib/corpus/ids';
import { KnownLines } from '../../lib/corpus/known-lines';
import { LineIndex } from '../../lib/corpus/lines';
import { TextIndex } from '../../lib/corpus/text-index';
import { Vocabulary } from '../../lib/corpus/vocabulary';
import { readSlot, writeSlot } from '../../lib/device/pieces';
import { LanguageModel, nativeOf } from '../../lib/model';
import { findCopies } from '../../lib/sampling/copies';
import { readLines } from '../../lib/scoring/text';
import { complete } from '../../lib/serve/completions';
import { defaultLimits } from '../../lib/serve/limits';
import type { Served } from '../../lib/serve/models';
import { readCompletion } from '../../lib/serve/schema';
import { divideLines } from '../../lib/training/lines';
import { eachWhole, long } from '../fixtures/child';
import { countTurns } from '../fixtures/turns';

const { writeSparseCheckpoint } = require('../fixtures/sparse-checkpoint') as {
  writeSparseCheckpoint(path: string, shape: object, vocabulary: string[], layout: typeof layouts): number;
};

/** Nanoseconds of processor time used by the JavaScript thread; undefined where the system does not report it. */
function threadTime(): number | undefined {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]);
  } catch {
    return undefined;
  }
}

/** The most processor time between two turns of the event loop, in milliseconds: other processes do not lengthen it. */
async function longestWork(work: () => Promise<unknown>): Promise<number | undefined> {
  let last = threadTime();
  if (last === undefined) return undefined;
  let longest = 0;
  const look = () => {
    const now = threadTime() as number;
    longest = Math.max(longest, now - (last as number));
    last = now;
  };
  let counting = true;
  const turn = () => {
    look();
    if (counting) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  counting = false;
  look();
  return longest / 1e6;
}

/** The longest gap between two turns during `work`, in milliseconds. */
async function longestGap(work: () => Promise<unknown>): Promise<number> {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  await pause(20); // Its first sample.
  histogram.reset();
  await work();
  await pause(5); // So that a gap that ends with the work counts too.
  histogram.disable();
  return histogram.max / 1e6;
}

let folder: string;
let model: LanguageModel;
const made: LanguageModel[] = [];
const line = 'The night went on and on, über alles.\n';
const large = { layers: 2, hidden: long ? 2048 : 768, input: 'onehot', embedding: 0, dropout: 0 } as const;
const text = (megabytes: number) => line.repeat((megabytes * 1e6) / line.length);
const path = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'event-loop-'));
  const vocabulary = Vocabulary.of([line]);
  const shape = {
    vocabulary: vocabulary.size,
    layers: 1,
    hidden: 4,
    input: 'scalar',
    embedding: 0,
    dropout: 0,
  } as const;
  model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, target: 'last', seqLength: 10 });
  made.push(model);
  writeSparseCheckpoint(path('large.safetensors'), large, ['a', 'b', 'c'], layouts);
  writeFileSync(path('text.txt'), text(long ? 60 : 8));
  const json = Buffer.from(JSON.stringify({ __metadata__: { format: 'cudnn-lstm', other: '\n"é'.repeat(2_000_000) } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path('header.safetensors'), Buffer.concat([length, json]));
});
afterAll(() => {
  for (const each of made) each.dispose();
  rmSync(folder, { recursive: true });
});

const load = async () => {
  const loaded = await LanguageModel.load(path('large.safetensors'), { device: 'cpu', threads: 1 });
  made.push(loaded);
  return loaded;
};
const failing = (promise: Promise<unknown>) => expect(promise).rejects.toThrow();

/** A training position, as recorded by a checkpoint with moments. */
const resumeState = {
  ...{ batchInEpoch: 0, batch: 1, seed: 1, corpusSha256: '', corpusLength: 0 },
  ...{ scheduleSteps: 1, elapsedSeconds: 0, extra: {} },
};

/** Each prepares what it needs and returns the work to measure. */
const calls: Record<string, () => Promise<() => Promise<unknown>>> = {
  'a long prompt': async () => {
    const prompt = text(10);
    return async () => {
      for await (const _ of model.generate({ prompt, length: 1 }));
    };
  },
  'a long prompt that ends in an unknown character': async () => {
    const prompt = `${text(10)}€`;
    return () => failing(model.generate({ prompt, length: 1 })[Symbol.asyncIterator]().next());
  },
  // Encoded but not scored, which takes a minute.
  'a long text to score': async () => {
    const unknown = `${text(10)}€`;
    return () => failing(model.score(unknown));
  },
  // Beyond the server's own limits: a request is encoded before anything is drawn, and this one is then refused.
  'a prompt of a request to the server': async () => {
    const request = readCompletion({ model: 'any', prompt: `${text(10)}€`, max_tokens: 1 });
    const served = { model, name: 'any', version: '1' } as unknown as Served;
    const limits = { ...defaultLimits, prompt: 1e9 };
    const output = { send: () => Promise.resolve() };
    return () => failing(complete(served, request, limits, new AbortController().signal, output));
  },
  'the echo of such a prompt': async () => {
    const ids = new Int32Array(10_000_000);
    return () => decodeText(ids, model.vocabulary);
  },
  'a long prompt of bytes': async () => {
    const shape = { vocabulary: 256, layers: 1, hidden: 4, input: 'scalar', embedding: 0, dropout: 0 } as const;
    const options = { device: 'cpu', threads: 1, target: 'last', seqLength: 10 } as const;
    const bytes = await LanguageModel.create(shape, byteVocabulary(), {
      ...options,
      normalization: byteNormalization,
    });
    made.push(bytes);
    const prompt = Buffer.alloc(10_000_000, line);
    return () => bytes.generateText({ prompt, length: 1 });
  },
  'the lines of a corpus, found and divided': async () => {
    const ids = new MemoryIds(
      Uint8Array.from({ length: long ? 60_000_000 : 4_000_000 }, (_, i) => (i % 3 === 0 ? 0 : 1)),
    );
    return async () => divideLines(await LineIndex.find(ids, 0), 0.1);
  },
  // Each text is in thousands of places of the pattern at once.
  'many texts within a pattern': async () => async () => {
    for await (const _ of model.generateMany(long ? 1024 : 128, { pattern: '(n?i?){1500}e', length: 3, seed: 1 }));
  },
  'an index of a text': async () => {
    const ids = new MemoryIds(
      Uint8Array.from({ length: long ? 20_000_000 : 1_000_000 }, (_, i) => Math.imul(i, i) >>> 27),
    );
    return () => TextIndex.of(ids);
  },
  'lines of a file, made known': async () => {
    writeFileSync(
      path('lines.txt'),
      Array.from({ length: long ? 3_000_000 : 100_000 }, (_, i) => `line ${i}\n`).join(''),
    );
    return async () => KnownLines.of(readLines(model, path('lines.txt'), {}, () => {}));
  },
  'known lines, as bytes and back': async () => {
    const known = await KnownLines.of(Array.from({ length: long ? 3_000_000 : 300_000 }, (_, i) => `line ${i}`));
    const sha256 = '0'.repeat(64);
    return async () => KnownLines.fromBytes(await known.toBytes(sha256), sha256);
  },
  'a written text, compared with a corpus': async () => {
    const ids = Uint8Array.from({ length: long ? 1_000_000 : 200_000 }, (_, i) => Math.imul(i, i) >>> 27);
    const corpus = new MemoryIds(Uint8Array.from({ length: 5 * ids.length }, (_, i) => Math.imul(i, 7 * i) >>> 27));
    return () => findCopies([ids], corpus);
  },
  'many lines to score': async () => {
    const lines = Array.from({ length: long ? 200_000 : 20_000 }, (_, i) => line.slice(0, 3 + (i % 12)));
    return () => model.scoreLines(lines);
  },
  'a corpus': async () => async () => (await openCorpus([path('text.txt')])).close(),
  loading: async () => load,
  saving: async () => {
    const loaded = await load();
    return () => loaded.save(path('saved.safetensors'));
  },
  'saving in 8 bits': async () => {
    const loaded = await LanguageModel.load(path('large.safetensors'), { device: 'cpu', threads: 1, weights: 'int8' });
    made.push(loaded);
    return () => loaded.save(path('saved.safetensors'));
  },
  'saving what has been sampled from': async () => {
    const loaded = await load();
    for await (const _ of loaded.generate({ length: 1 }));
    return () => loaded.save(path('saved.safetensors'));
  },
  // What a trainer's checkpoints need in addition.
  'moments, saved and restored': async () => {
    const loaded = await load();
    const native = nativeOf(loaded);
    const { epoch, step: stepCount } = loaded.metadata;
    const metadata = { ...loaded.metadata, training: { ...resumeState, epoch, stepCount } };
    const parameters = new Float32Array(native.parameterCount);
    return async () => {
      for (const slot of ['parameters', 'firstMoments', 'secondMoments'] as const)
        await writeSlot(native, slot, parameters);
      const firstMoments = await readSlot(native, 'firstMoments');
      const secondMoments = await readSlot(native, 'secondMoments');
      await saveCheckpoint(
        path('last.safetensors'),
        { metadata, parameters, firstMoments, secondMoments },
        native.parameters,
      );
    };
  },
  'a large header': async () => () => failing(readCheckpointMetadata(path('header.safetensors'))),
};

eachWhole(
  test,
  Object.keys(calls).map((name) => [name]),
  (i) => i % 2 === 1,
)('the event loop turns beside %s', async (name) => {
  const prepare = calls[name] as (typeof calls)[string];
  if (!long) {
    const work = await prepare();
    const turns = countTurns();
    await work();
    // A blocked loop would have one or two.
    expect(turns()).toBeGreaterThan(10);
    return;
  }
  const gap = await longestGap(await prepare());
  const idle = await longestGap(() => pause(1000));
  const longest = await longestWork(await prepare());
  for (const each of made.splice(1)) each.dispose();
  process.stdout.write(
    `${name}: gap ${gap.toFixed(1)} ms, ${idle.toFixed(1)} idle; ${longest?.toFixed(1)} ms of processor time\n`,
  );
  // Other processes can make a gap as long as they like.
  if (longest !== undefined) expect(longest).toBeLessThan(50);
  else expect(gap).toBeLessThan(Math.max(50, 4 * idle));
});

test('an abort is heard while a text is encoded', async () => {
  const controller = new AbortController();
  const unknown = `${text(10)}€`;
  for (const call of [
    () => model.score(unknown, { signal: controller.signal }),
    () => model.generate({ prompt: unknown, signal: controller.signal })[Symbol.asyncIterator]().next(),
    () => model.scoreLines(new Array(1_000_000).fill('€'), { signal: controller.signal, unknown: 'skip' }),
  ]) {
    const result = call();
    setImmediate(() => controller.abort(new Error('enough')));
    await expect(result).rejects.toThrow('enough');
  }
});
