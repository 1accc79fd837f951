/**
 * Metadata whose parts are valid by themselves but contradict one another: such a checkpoint is never loaded or written, and no run is
 * resumed from one.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  type CheckpointMetadata,
  loadCheckpoint,
  type ResumeState,
  readCheckpointMetadata,
  saveCheckpoint,
} from '../../../lib/checkpoint/checkpoint';
import { canonicalLayout, layoutSize } from '../../../lib/checkpoint/layout';
import type { Normalization } from '../../../lib/corpus/normalization';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { CheckpointError, CudnnLstmError, UsageError } from '../../../lib/errors';
import { LanguageModel } from '../../../lib/model';
import { serveModels } from '../../../lib/serve/server';
import { openTraining } from '../../../lib/training/preparation';
import { fileOf, memoryFolder, partsOf, tinyCheckpoint, tinyMetadata } from '../../fixtures/checkpoints';
import { share } from '../../fixtures/child';

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(memoryFolder, 'contradictions-'));
  path = join(folder, 'file.safetensors');
});
afterAll(() => rmSync(folder, { recursive: true }));

const bytes = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));
const swapped = [...bytes.slice(0, 65), 'B', 'A', ...bytes.slice(67)];
const ofBytes: Normalization = { lowercase: false, lineBreaks: 'keep', byteOrderMark: 'keep', symbols: 'bytes' };
type Model = CheckpointMetadata['model'];
const cpu = { device: 'cpu', threads: 1 } as const;
const plain: Model = { layers: 1, hidden: 2, input: 'onehot', embedding: 0, dropout: 0 };

/** Generates the usual value more often than the others: about a third of all descriptions agree then. */
const often = <T>(usual: T, ...others: T[]) =>
  fc.oneof({ weight: 11, arbitrary: fc.constant(usual) }, { weight: 2, arbitrary: fc.constantFrom(...others) });
const vocabularies = fc.constantFrom(
  ['\n', 'a', 'b'],
  ['\n', 'A', 'a'],
  ['\n', '\r', 'a'],
  ['\n', 'a', '\uFFFD'],
  ['e', 'é', '\u0301', '\uFEFF'],
  ['\u2126', 'a'],
  ['a', '\uFB01'],
  ['İ', 'a'],
);
const training = fc.record({
  epoch: often(1, 0),
  stepCount: often(7, 8),
  corpusParts: often<ResumeState['corpusParts']>(
    undefined,
    [
      { length: 60, weight: 1 },
      { length: 40, weight: 2 },
    ],
    [{ length: 99, weight: 2 }],
  ),
});
const ofCharacters = fc.record({
  vocabulary: vocabularies,
  normalization: fc.record({
    lowercase: often(false, true),
    form: often<Normalization['form']>(undefined, 'nfc', 'nfkc'),
    lineBreaks: often<'keep' | undefined>(undefined, 'keep'),
    byteOrderMark: often<'keep' | undefined>(undefined, 'keep'),
    symbols: often<'bytes' | undefined>(undefined, 'bytes'),
    unknown: often<string | undefined>(undefined, '\n', '\uFFFD', 'q'),
  }),
});
const ofAllBytes = fc.record({
  vocabulary: fc.oneof(
    { weight: 4, arbitrary: fc.constant(bytes) },
    { weight: 1, arbitrary: fc.constantFrom(bytes.slice(1), swapped, [...bytes, '\u0100'], ['a']) },
  ),
  normalization: fc.record({
    lowercase: often(false, true),
    form: often<Normalization['form']>(undefined, 'nfc'),
    lineBreaks: often<'keep' | undefined>('keep', undefined),
    byteOrderMark: often<'keep' | undefined>('keep', undefined),
    symbols: fc.constant('bytes' as const),
    unknown: often<string | undefined>(undefined, '\n'),
  }),
});
const described = fc
  .tuple(
    fc.oneof({ weight: 3, arbitrary: ofCharacters }, { weight: 2, arbitrary: ofAllBytes }),
    fc.record({
      input: often<Model['input']>('onehot', 'embedding', 'scalar'),
      embedding: often(0, 2),
      resetId: often<number | undefined>(undefined, 0, 1, 300),
    }),
    fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: training }),
  )
  .map(([{ vocabulary, normalization }, model, state]): CheckpointMetadata => {
    const { training: whole } = tinyCheckpoint().metadata;
    return JSON.parse(
      JSON.stringify({
        ...tinyMetadata(),
        vocabulary,
        normalization,
        model: { ...plain, ...model },
        ...(state === undefined ? {} : { training: { ...whole, ...state } }),
      }),
    );
  });

type Slot = 'firstMoments' | 'secondMoments' | 'trainingState';
const namesOfSlots: Record<Slot, string> = {
  firstMoments: 'training.first_moments',
  secondMoments: 'training.second_moments',
  trainingState: 'training.state',
};
/** The arrays that an optimiser and a carried state may leave beside the weights. */
const slots = often<Slot[]>(
  [],
  ['firstMoments'],
  ['firstMoments', 'secondMoments'],
  ['firstMoments', 'secondMoments', 'trainingState'],
  ['trainingState'],
);

/** Whether all parts can be true of one model. Each claim stands alone, as in docs/checkpoint-format.md. */
function isConsistent(
  { vocabulary, normalization, model, training: state, epoch, step }: CheckpointMetadata,
  kept: readonly Slot[],
): boolean {
  const { lowercase, form, lineBreaks, byteOrderMark, symbols, unknown } = normalization;
  const { input, embedding, resetId } = model;
  const never = (symbol: string) =>
    (lowercase && /\p{Lu}/u.test(symbol)) ||
    (lineBreaks === undefined && symbol === '\r') ||
    (form !== undefined && symbol === '\u2126') ||
    (form === 'nfkc' && symbol === '\uFB01');
  const readAsTheyAre = !lowercase && !form && lineBreaks === 'keep' && byteOrderMark === 'keep' && !unknown;
  const claims = [
    input === 'embedding' ? embedding > 0 : embedding === 0,
    resetId === undefined || resetId < vocabulary.length,
    unknown === undefined || vocabulary.includes(unknown),
    symbols === 'bytes'
      ? vocabulary.join('') === bytes.join('') && readAsTheyAre && resetId === undefined
      : !vocabulary.some(never) && (resetId === undefined || vocabulary[resetId] !== unknown),
    state === undefined || (state.epoch === epoch && state.stepCount === step),
    state !== undefined || kept.length === 0,
    state?.corpusParts === undefined || state.corpusParts.reduce((sum, { length }) => sum + length, 0) === 100,
  ];
  return claims.every(Boolean);
}

/** The layout of the model's tensors, on which `resetId` has no influence. */
function layoutOf({ model: { resetId: _, ...model }, vocabulary }: CheckpointMetadata) {
  return canonicalLayout({ ...model, vocabulary: vocabulary.length });
}

/** How many floats an array of the training holds. */
function sizeOf(slot: Slot, metadata: CheckpointMetadata): number {
  const { layers, hidden } = metadata.model;
  return slot === 'trainingState'
    ? layers * 2 * hidden * (metadata.training?.batch ?? 3)
    : layoutSize(layoutOf(metadata));
}

/** Writes a file with this metadata and tensors of the right shapes. */
function write(metadata: CheckpointMetadata, kept: readonly Slot[] = []): void {
  const header: Record<string, unknown> = {
    __metadata__: Object.fromEntries(
      Object.entries(metadata).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
    ),
  };
  let offset = 0;
  for (const { name, shape: extents, size } of layoutOf(metadata)) {
    header[name] = { dtype: 'F32', shape: extents, data_offsets: [offset, offset + 4 * size] };
    offset += 4 * size;
  }
  for (const slot of kept) {
    const size = sizeOf(slot, metadata);
    const { layers, hidden } = metadata.model;
    const extents = slot === 'trainingState' ? [layers, 2, size / layers / 2 / hidden, hidden] : [size];
    header[namesOfSlots[slot]] = { dtype: 'F32', shape: extents, data_offsets: [offset, offset + 4 * size] };
    offset += 4 * size;
  }
  writeFileSync(path, fileOf(header, Buffer.alloc(offset)));
}

test('it loads, and is written, exactly where its parts agree', async () => {
  const tally = { agree: 0, contradict: 0 };
  await fc.assert(
    fc.asyncProperty(described, slots, async (metadata, kept) => {
      const consistent = isConsistent(metadata, kept);
      tally[consistent ? 'agree' : 'contradict']++;
      write(metadata, kept);
      const layout = layoutOf(metadata);
      const arrays = Object.fromEntries(kept.map((slot) => [slot, new Float32Array(sizeOf(slot, metadata))]));
      const saved = join(folder, 'saved.safetensors');
      for (const attempt of [
        () => loadCheckpoint(path),
        () => readCheckpointMetadata(path),
        () => saveCheckpoint(saved, { metadata, parameters: new Float32Array(layoutSize(layout)), ...arrays }, layout),
      ]) {
        const error: unknown = await attempt().then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        expect(error === undefined).toBe(consistent);
        if (error === undefined) continue;
        expect(error).toBeInstanceOf(CudnnLstmError);
        expect((error as Error).message).toMatch(/^[^\p{Cc}]{20,400}$/u);
      }
    }),
    { numRuns: share(700) },
  );
  expect(tally.agree).toBeGreaterThan(share(40));
  expect(tally.contradict).toBeGreaterThan(80);
});

test.each<[string, Partial<CheckpointMetadata>, RegExp]>([
  [
    'bytes that are 255',
    { vocabulary: bytes.slice(1), normalization: ofBytes },
    /its symbols are bytes, and its vocabulary is not the 256 bytes in order$/,
  ],
  ['bytes in another order', { vocabulary: swapped, normalization: ofBytes }, /not the 256 bytes in order$/],
  [
    'bytes whose line breaks change',
    { vocabulary: bytes, normalization: { lowercase: false, byteOrderMark: 'keep', symbols: 'bytes' } },
    /bytes, which are taken as they are, and its 'lineBreaks' says otherwise$/,
  ],
  [
    'lines of bytes',
    { vocabulary: bytes, normalization: ofBytes, model: { ...plain, resetId: 10 } },
    /its symbols are bytes, and it begins anew at one of them$/,
  ],
  [
    'a line break that stands for all else',
    { normalization: { lowercase: true, unknown: '\n' }, model: { ...plain, resetId: 0 } },
    /it begins anew at U\+000A, which stands for all that is unknown$/,
  ],
  [
    'capitals of lower-cased texts',
    { vocabulary: ['A', 'a'] },
    /its vocabulary has 'A' \(U\+0041\), which no text has that is read as its normalization says$/,
  ],
  ['a CR of texts without one', { vocabulary: ['\r', 'a'] }, /its vocabulary has U\+000D, which no text has/],
])('what is said of %s', async (_, changed, message) => {
  const metadata = { ...tinyMetadata(), model: plain, ...changed };
  write(metadata);
  await expect(loadCheckpoint(path)).rejects.toThrow(CheckpointError);
  await expect(loadCheckpoint(path)).rejects.toThrow(message);
  const { vocabulary, normalization, model } = metadata;
  const shape = { ...model, vocabulary: vocabulary.length };
  const made = LanguageModel.create(shape, new Vocabulary(vocabulary), { device: 'cpu', normalization });
  await expect(made).rejects.toThrow(UsageError);
  await expect(made).rejects.toThrow(/^The model would contradict itself: /);
});

test('moments of no training: what is said, and that the weights can be used without them', async () => {
  const metadata = { ...tinyMetadata(), model: plain };
  for (const [kept, message] of [
    [
      ['firstMoments'],
      /: it has training\.first_moments, and nothing says of which training; save it anew without it$/,
    ],
    [
      ['firstMoments', 'secondMoments', 'trainingState'],
      /: it has training\.first_moments, training\.second_moments, training\.state, and nothing .* anew without them$/,
    ],
  ] as [Slot[], RegExp][]) {
    write(metadata, kept);
    for (const read of [loadCheckpoint, readCheckpointMetadata, (file: string) => LanguageModel.load(file, cpu)])
      await expect(read(path)).rejects.toThrow(message);
    // Follows the advice: saves the file again without them, as another program would.
    const { header, data } = partsOf(path);
    const weights = layoutSize(layoutOf(metadata));
    for (const slot of kept) delete header[namesOfSlots[slot]];
    writeFileSync(path, fileOf(header, data.subarray(0, 4 * weights)));
    using model = await LanguageModel.load(path, cpu);
    expect(model.metadata.vocabulary).toEqual(metadata.vocabulary);
  }
});

test('a server refuses a model of bytes before it reads the parameters', async () => {
  write({ ...tinyMetadata(), model: plain, vocabulary: bytes, normalization: ofBytes });
  // With a wrong checksum, the file is found to be damaged as soon as its parameters are read.
  const { header, data } = partsOf(path);
  writeFileSync(
    path,
    fileOf({ ...header, __metadata__: { ...(header.__metadata__ as object), dataSha256: '0'.repeat(64) } }, data),
  );
  await expect(LanguageModel.load(path, { device: 'cpu' })).rejects.toThrow(/altered|damaged|checksum/);
  const load = jest.spyOn(LanguageModel, 'load');
  const server = await serveModels([path], { port: 0, device: 'cpu' });
  try {
    await expect(server.models.preload()).rejects.toThrow(/is a model of bytes, and the API carries text/);
    expect(load).not.toHaveBeenCalled();
  } finally {
    load.mockRestore();
    await server.close();
  }
});

describe('a run whose checkpoint has recorded other options than its model was trained with', () => {
  const small = { hidden: 8, layers: 1, batchSize: 2, seqLength: 5, sampleLength: 0, validation: 0 } as const;
  const options = { ...small, epochs: 1, device: 'cpu', threads: 1 } as const;
  let run: string;
  let corpus: string;
  beforeAll(async () => {
    corpus = join(folder, 'text.txt');
    writeFileSync(corpus, 'the sheep and the goats went over the hill\n'.repeat(10));
    run = join(folder, 'run');
    const training = await openTraining({ corpus: [corpus], options: { ...options, out: run } });
    for await (const _ of training);
    await training.dispose();
  });

  test.each<[string, unknown]>([
    ['layers', 2],
    ['hidden', 9],
    ['input', 'scalar'],
    ['dropout', 0.5],
    ['target', 'last'],
    ['seqLength', 6],
    ['batchSize', 3],
    ['seed', 12],
    ['lines', true],
    ['bytes', true],
    ['lowercase', true],
    ['normalize', 'nfc'],
  ])('%s', async (name, other) => {
    const copy = join(folder, `copy-${name}`);
    cpSync(run, copy, { recursive: true });
    for (const file of readdirSync(copy).filter((each) => /^checkpoint-\d+\.safetensors$/.test(each))) {
      const { header, data } = partsOf(join(copy, file));
      const metadata = header.__metadata__ as Record<string, string>;
      const configuration = JSON.parse(metadata.configuration as string);
      expect(configuration[name]).toBeDefined();
      const changed = JSON.stringify({ ...configuration, [name]: other });
      writeFileSync(
        join(copy, file),
        fileOf({ ...header, __metadata__: { ...metadata, configuration: changed } }, data),
      );
    }
    const before = readFileSync(join(copy, 'config.json'), 'utf8');
    const resumed = openTraining({ corpus: [corpus], resume: copy, options: { epochs: 2, device: 'cpu', threads: 1 } });
    await expect(resumed).rejects.toThrow(CheckpointError);
    await expect(resumed).rejects.toThrow(
      new RegExp(`its configuration has ${name} .*, and its model was trained with `),
    );
    expect(readFileSync(join(copy, 'config.json'), 'utf8')).toBe(before);
    expect(readdirSync(copy)).not.toContain('lock');
  });
});
