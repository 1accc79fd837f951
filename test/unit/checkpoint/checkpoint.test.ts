import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import {
  type Checkpoint,
  type CheckpointMetadata,
  loadCheckpoint,
  readCheckpointMetadata,
  saveCheckpoint,
} from '../../../lib/checkpoint/checkpoint';
import { canonicalLayout, layoutSize, type ModelShape } from '../../../lib/checkpoint/layout';
import { largestVocabulary } from '../../../lib/corpus/vocabulary';
import { loadNative } from '../../../lib/device/native';
import {
  fileOf,
  memoryFolder,
  partsOf,
  tinyCheckpoint,
  tinyLayout,
  tinyMetadata,
  tinyShape,
  withoutChecksum,
} from '../../fixtures/checkpoints';
import { whole } from '../../fixtures/child';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(memoryFolder, 'checkpoint-'));
  path = join(folder, 'file.safetensors');
});
afterAll(() => rm(folder, { recursive: true }));

const shapes: fc.Arbitrary<ModelShape> = fc
  .record({
    vocabulary: fc.integer({ min: 1, max: 6 }),
    layers: fc.integer({ min: 1, max: 3 }),
    hidden: fc.integer({ min: 1, max: 5 }),
    input: fc.constantFrom('scalar' as const, 'onehot' as const, 'embedding' as const),
    embedding: fc.integer({ min: 1, max: 4 }),
    dropout: fc.constantFrom(0, 0.5),
  })
  .map((shape) => (shape.input === 'embedding' ? shape : { ...shape, embedding: 0 }));

function metadataOf(shape: ModelShape, extra: Partial<CheckpointMetadata> = {}): CheckpointMetadata {
  const { vocabulary, ...model } = shape;
  const symbols = Array.from({ length: vocabulary }, (_, i) => String.fromCodePoint(0x1f600 + i));
  return { ...tinyMetadata(), vocabulary: symbols, model, ...extra };
}

/** Numbers of every magnitude and both signs, from a small generator because fast-check is slow at them. */
function floats(length: number, seed: number): Float32Array {
  const bits = new Uint32Array(length);
  for (let i = 0; i < length; i++) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    const random = seed ^ (seed >>> 13);
    bits[i] = (random & 0x7f80_0000) === 0x7f80_0000 ? random ^ 0x4000_0000 : random; // No NaN, no infinity.
  }
  return new Float32Array(bits.buffer);
}
const bitsOf = (values: Float32Array | undefined) =>
  values && Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex');

/** A copy without prototypes. */
const plain = (value: unknown) => JSON.parse(JSON.stringify(value)) as unknown;

it('gives back what was saved, of every shape, with and without training state', async () => {
  await fc.assert(
    fc.asyncProperty(
      shapes,
      fc.nat({ max: 2 ** 31 }),
      fc.boolean(),
      fc.nat({ max: 4 }),
      async (shape, seed, moments, batch) => {
        const layout = canonicalLayout(shape);
        const size = layoutSize(layout);
        const training = {
          ...(tinyCheckpoint().metadata.training as object),
          batch: Math.max(1, batch),
        } as Checkpoint['metadata']['training'];
        const checkpoint: Checkpoint = {
          metadata: metadataOf(shape, moments ? { training } : {}),
          parameters: floats(size, seed).map((value) => value + 0), // No -0: as a bias, it would be read back as -0 + 0, which is 0.
        };
        if (moments) {
          checkpoint.firstMoments = floats(size, seed + 1);
          checkpoint.secondMoments = floats(size, seed + 2);
          if (batch > 0) checkpoint.trainingState = floats(shape.layers * 2 * batch * shape.hidden, seed + 3);
        }
        await saveCheckpoint(path, checkpoint, layout);
        const read = await loadCheckpoint(path);
        expect(Object.keys(read).sort()).toEqual(Object.keys(checkpoint).sort());
        for (const name of ['parameters', 'firstMoments', 'secondMoments', 'trainingState'] as const)
          expect(bitsOf(read[name])).toBe(bitsOf(checkpoint[name]));
        expect(isDeepStrictEqual(plain(read.metadata), plain(checkpoint.metadata))).toBe(true);
      },
    ),
    { numRuns: whole ? 1000 : 100 },
  );
});

it('gives back the metadata alone', async () => {
  await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
  expect(await readCheckpointMetadata(path)).toEqual(tinyCheckpoint().metadata);
});

it('keeps what other programs and newer versions have written into the metadata, and reads none of it', async () => {
  await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
  const { header, data } = partsOf(path);
  const others = { createdAt: '2031', note: 'not JSON: {', __proto__2: 'x', others: '{"loss": 9}', toString: '1' };
  const training = { ...tinyCheckpoint().metadata.training, later: [1] };
  Object.assign(header.__metadata__ as object, others, { training: JSON.stringify(training) });
  await writeFile(path, fileOf(header, data));
  const read = await loadCheckpoint(path);
  expect(read.metadata).toEqual({ ...tinyCheckpoint().metadata, training, others });
  await saveCheckpoint(path, read, tinyLayout);
  expect(partsOf(path).header.__metadata__).toMatchObject(others);
  expect((await loadCheckpoint(path)).metadata).toEqual(read.metadata);
});

it('lays parameters out as the addon does', async () => {
  const addon = loadNative();
  for (const shape of fc.sample(shapes, { numRuns: 30, seed: 1 })) {
    const model = await addon.createModel({ ...shape, seed: 1 }, { device: 'cpu', threads: 1 });
    expect(canonicalLayout(shape)).toEqual(model.parameters);
    model.dispose();
  }
});

it('holds the largest vocabulary there is', async () => {
  const vocabulary = Array.from({ length: largestVocabulary }, (_, i) => String.fromCodePoint(0x20000 + i));
  const shape: ModelShape = { ...tinyShape, vocabulary: largestVocabulary, layers: 1, hidden: 1, input: 'scalar' };
  const layout = canonicalLayout(shape);
  const parameters = new Float32Array(layoutSize(layout));
  await saveCheckpoint(path, { metadata: metadataOf(shape, { vocabulary }), parameters }, layout);
  expect((await loadCheckpoint(path)).metadata.vocabulary).toEqual(vocabulary);
});

it('adds a second bias to the first', async () => {
  await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
  const { header, data } = partsOf(path);
  const [begin, end] = (header['lstm.bias_hh_l1'] as { data_offsets: [number, number] }).data_offsets;
  const second = new Float32Array((end - begin) / 4).map((_, i) => i + 0.5);
  Buffer.from(second.buffer).copy(data, begin);
  await writeFile(path, fileOf(withoutChecksum(header), data));
  const bias = tinyLayout.find(({ name }) => name === 'lstm.bias_ih_l1') as (typeof tinyLayout)[number];
  const expected = tinyCheckpoint().parameters;
  for (const [i, value] of second.entries()) {
    const at = bias.offset + i;
    expected[at] = (expected[at] as number) + value;
  }
  expect((await loadCheckpoint(path)).parameters).toEqual(expected);
});

it('does without a second bias', async () => {
  await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
  const { header, data } = partsOf(path);
  let removed = 0;
  const kept: Buffer[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const tensor = value as { data_offsets: [number, number] };
    const [begin, end] = tensor.data_offsets;
    if (name.includes('bias_hh')) {
      delete header[name];
      removed += end - begin;
    } else {
      tensor.data_offsets = [begin - removed, end - removed];
      kept.push(data.subarray(begin, end));
    }
  }
  await writeFile(path, fileOf(withoutChecksum(header), Buffer.concat(kept)));
  expect((await loadCheckpoint(path)).parameters).toEqual(tinyCheckpoint().parameters);
});

it('refuses two biases that add up to infinity, by name', async () => {
  const checkpoint = tinyCheckpoint();
  const bias = tinyLayout.find(({ name }) => name === 'lstm.bias_ih_l0') as (typeof tinyLayout)[number];
  checkpoint.parameters[bias.offset + 3] = 3e38;
  await saveCheckpoint(path, checkpoint, tinyLayout);
  const { header, data } = partsOf(path);
  const [begin] = (header['lstm.bias_hh_l0'] as { data_offsets: [number, number] }).data_offsets;
  data.writeFloatLE(3e38, begin + 12);
  await writeFile(path, fileOf(header, data));
  await expect(loadCheckpoint(path)).rejects.toMatchObject({
    code: 'ERR_CHECKPOINT',
    message: expect.stringContaining("'lstm.bias_hh_l0' adds up to Infinity at index 3"),
  });
});

it('never replaces a whole checkpoint by one whose numbers have exploded', async () => {
  await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
  const before = await readFile(path);
  const checkpoint = tinyCheckpoint();
  (checkpoint.secondMoments as Float32Array)[5] = Infinity;
  await expect(saveCheckpoint(path, checkpoint, tinyLayout)).rejects.toMatchObject({
    code: 'ERR_TRAINING',
    message: expect.stringContaining("'training.second_moments' holds Infinity at index 5"),
  });
  expect(await readFile(path)).toEqual(before);
});

describe('refuses', () => {
  type Header = { __metadata__: Record<string, string>; [name: string]: unknown };
  async function edited(edit: (header: Header) => void): Promise<string> {
    await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
    const { header, data } = partsOf(path);
    edit(header as Header);
    await writeFile(path, fileOf(header, data));
    return loadCheckpoint(path).then(
      () => 'loaded',
      (error: { code: string; message: string }) => {
        expect(error.code).toBe('ERR_CHECKPOINT');
        expect(error.message).not.toContain('\n');
        return error.message;
      },
    );
  }
  const metadata = (key: string, value: string | undefined) => (header: Header) => {
    if (value === undefined) delete header.__metadata__[key];
    else header.__metadata__[key] = value;
  };
  const model = (options: object) => metadata('model', JSON.stringify({ ...tinyMetadata().model, ...options }));
  const training = (options: object) =>
    metadata('training', JSON.stringify({ ...tinyCheckpoint().metadata.training, ...options }));
  const cases: [string, (header: Header) => void, RegExp][] = [
    ['a foreign file', metadata('format', 'pt'), /not one of this package/],
    ['a file without a format', metadata('format', undefined), /not one of this package/],
    ['a later format', metadata('formatVersion', '2'), /format version 2; this package reads 1/],
    ['metadata that is not JSON', metadata('vocabulary', '["a"'), /'vocabulary' is not JSON/],
    ['metadata with a key twice', metadata('model', '{"layers":1,"layers":1}'), /'model' is not JSON.*stands twice/],
    ['no vocabulary', metadata('vocabulary', undefined), /'vocabulary' is wrong/],
    ['a vocabulary of numbers', metadata('vocabulary', '[1,2,3]'), /'vocabulary\.0' is wrong/],
    ['a vocabulary of words', metadata('vocabulary', '["ab","c","d"]'), /"ab" is not one character/],
    ['a vocabulary of half characters', metadata('vocabulary', '["\\ud83e","c","d"]'), /is not one character/],
    ['a symbol twice', metadata('vocabulary', '["a","b","a"]'), /names a symbol twice/],
    [
      'a smaller vocabulary',
      metadata('vocabulary', '["a","b"]'),
      /'lstm.weight_ih_l0' is \[16,3\] where the model needs \[16,2\]/,
    ],
    ['more layers', model({ layers: 3 }), /'lstm.weight_ih_l2' is missing/],
    ['fewer layers', model({ layers: 1 }), /is \[\d+\] where|that this format does not know/],
    ['another width', model({ hidden: 65_536 }), /where the model needs/],
    ['a width out of range', model({ hidden: 65_537 }), /'model.hidden' is wrong/],
    ['a width of no whole number', model({ hidden: 4.5 }), /'model.hidden' is wrong/],
    ['dropout of 1', model({ dropout: 1 }), /'model.dropout' is wrong/],
    ['an unknown coding', model({ input: 'bytes' }), /'model.input' is wrong/],
    ['an embedding of nothing', model({ input: 'embedding' }), /input is embedding, with an embedding of 0/],
    ['an embedding that is not used', model({ embedding: 4 }), /input is onehot, with an embedding of 4/],
    ['something more about the model', model({ gates: 3 }), /'model' is wrong/],
    [
      'another way of reading text',
      metadata('normalization', '{"lowercase":true,"reversed":true}'),
      /'normalization' is wrong/,
    ],
    ['a negative step', metadata('step', '-1'), /'step' is wrong/],
    ['a step beyond 2^53', metadata('step', '9007199254740993'), /'step' is wrong/],
    ['an unknown target', metadata('target', 'some'), /'target' is wrong/],
    ['a loss that is text', metadata('loss', '"low"'), /'loss' is wrong/],
    [
      'training state of another batch',
      training({ batch: 6 }),
      /'training.state' is \[2,2,5,4\] where the model needs \[2,2,6,4\]/,
    ],
    [
      'training state without its metadata',
      metadata('training', undefined),
      /training\.state, and nothing says of which training/,
    ],
    ['a batch of nothing', training({ batch: 0 }), /'training.batch' is wrong/],
    [
      'a tensor it does not know',
      (header) => {
        header.more = { dtype: 'F32', shape: [0], data_offsets: [0, 0] };
      },
      /a tensor 'more' that this format does not know/,
    ],
    [
      'a tensor that is missing',
      (header) => {
        header['lstm.strange'] = header['output.bias'];
        delete header['output.bias'];
      },
      /'output.bias' is missing/,
    ],
    [
      'a tensor turned on its side',
      (header) => {
        (header['output.weight'] as { shape: number[] }).shape.reverse();
      },
      /'output.weight' is \[4,3\] where the model needs \[3,4\]/,
    ],
  ];
  it.each(cases)('%s', async (_, edit, message) => {
    expect(await edited(edit)).toMatch(message);
  });

  it('a single flipped bit in any tensor', async () => {
    await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
    const { header, data } = partsOf(path);
    for (const [name, entry] of Object.entries(header)) {
      if (name === '__metadata__') continue;
      const flipped = Buffer.from(data);
      const at = (entry as { data_offsets: [number, number] }).data_offsets[0];
      flipped[at] = (flipped[at] as number) ^ 1; // The lowest bit of a fraction: the value stays finite.
      await writeFile(path, fileOf(header, flipped));
      await expect(loadCheckpoint(path)).rejects.toThrow(/not those that were written.*damaged/);
    }
  });

  it('but not tensors that a program changed, where it left the checksum out', async () => {
    await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
    const { header, data } = partsOf(path);
    expect(header.__metadata__).toHaveProperty('dataSha256', expect.stringMatching(/^[0-9a-f]{64}$/));
    data[0] = (data[0] as number) ^ 1;
    await writeFile(path, fileOf(withoutChecksum(header), data));
    await expect(loadCheckpoint(path)).resolves.toBeDefined();
  });

  it('weights that are not finite, each by name', async () => {
    for (const { name } of tinyLayout) {
      await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
      const { header, data } = partsOf(path);
      const [begin] = (header[name] as { data_offsets: [number, number] }).data_offsets;
      data.writeFloatLE(Number.NaN, begin + 4);
      await writeFile(path, fileOf(header, data));
      await expect(loadCheckpoint(path)).rejects.toThrow(`tensor '${name}' holds NaN at index 1`);
    }
  });
});
