/** Weights of 8 and 16 bits: how they are rounded, that an exported file is the same model as `weights` makes, and what is refused. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { byteScale, roundRows, rowToBytes, toBf16 } from '../../../lib/checkpoint/weight-form';
import { reportError } from '../../../lib/cli/command';
import { main } from '../../../lib/cli/main';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { exportModel } from '../../../lib/export/export';
import { LanguageModel, nativeOf } from '../../../lib/model';
import { itWhole } from '../../fixtures/child';
import { sinks } from '../../fixtures/sink';

const symbols = [...'abcdefghijklmnopqrstuvwxyz \n'];
const text = Array.from({ length: 700 }, (_, i) => symbols[(i * i + 3 * i) % symbols.length]).join('');
const options = { device: 'cpu', threads: 2 } as const;

let folder: string;
let path: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'weights-'));
  path = await save('plain', 'onehot');
});
afterAll(() => rmSync(folder, { recursive: true }));

async function save(name: string, input: 'onehot' | 'scalar' | 'embedding', hidden = 37): Promise<string> {
  const embedding = input === 'embedding' ? 6 : 0;
  const shape = { vocabulary: symbols.length, layers: 2, hidden, input, embedding, dropout: 0 } as const;
  using model = await LanguageModel.create(shape, new Vocabulary(symbols), { ...options, seed: 3 });
  const native = nativeOf(model);
  native.write(
    'parameters',
    native.read('parameters').map((value, i) => 2 * value + Math.sin(i) / 5),
  );
  const file = join(folder, `${name}.safetensors`);
  await model.save(file);
  return file;
}

/** A hash of the model's parameters. */
const held = (model: LanguageModel) => createHash('sha256').update(nativeOf(model).read('parameters')).digest('hex');

async function command(...argv: string[]) {
  const io = sinks();
  const code = await main(argv, io).catch((error) => reportError(error, io.stderr));
  return { code, out: io.stdout.text, err: io.stderr.text };
}

describe('rounding', () => {
  const floats = fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e30), max: Math.fround(1e30) });

  test('a row is at most half a step away, its largest is the last step, and what lies on a grid stays there', () => {
    fc.assert(
      fc.property(fc.array(floats, { minLength: 1, maxLength: 40 }), (values) => {
        const row = Float32Array.from(values);
        const steps = new Int8Array(row.length);
        const scale = rowToBytes(row, steps);
        const largest = Math.max(...row.map(Math.abs));
        if (largest < 1e-30) return expect([scale, ...steps]).toEqual([0, ...row.map(() => 0)]);
        expect(Math.max(...steps.map(Math.abs))).toBe(127);
        for (const [i, value] of row.entries())
          expect(Math.abs((steps[i] as number) * scale - value)).toBeLessThanOrEqual(scale * 0.502);
        const rounded = row.slice();
        roundRows(rounded, row.length, 'int8');
        const again = rounded.slice();
        roundRows(again, row.length, 'int8');
        expect(again).toEqual(rounded);
        // The products are exact in floats, so nothing was rounded twice.
        for (const [i, step] of steps.entries()) expect(rounded[i]).toBe(step * scale);
      }),
    );
    expect(byteScale(Number.NaN)).toBe(0);
    // To nearest, ties to even. The largest value is 127, so a step is 1 and the halves are ties.
    const halves = Float32Array.of(127, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 126.5, -126.5, 0.25, -0.75, 0);
    const steps = new Int8Array(halves.length);
    expect([rowToBytes(halves, steps), ...steps]).toEqual([1, 127, 0, 0, 2, -2, 2, -2, 126, -126, 0, -1, 0]);
  });

  test('bfloat16 is the nearest, ties to even, and never infinite', () => {
    const float = (half: number) => new Float32Array(Uint32Array.of(half << 16).buffer)[0] as number;
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const half = toBf16(value);
        const found = Math.abs(float(half) - value);
        for (const other of [half - 1, half + 1]) {
          const beside = float(other);
          if (Number.isFinite(beside) && Math.sign(beside) === Math.sign(value))
            expect(found).toBeLessThanOrEqual(Math.abs(beside - value));
        }
        expect(Number.isFinite(float(half))).toBe(true);
      }),
    );
    expect(toBf16(1 + 2 ** -8)).toBe(0x3f80);
    expect(toBf16(1 + 3 * 2 ** -8)).toBe(0x3f82);
  });
});

test.each(['onehot', 'scalar', 'embedding'] as const)(
  '%s: an exported file is the model that --weights makes, and writes and scores alike',
  async (input) => {
    const plain = await save(input, input, 64);
    for (const form of ['int8', 'bf16'] as const) {
      const out = join(folder, `${input}.${form}`);
      expect(await exportModel(plain, { to: form, out })).toEqual([out]);
      if (form === 'int8') expect(statSync(out).size).toBeLessThan(statSync(plain).size / 3);
      using exported = await LanguageModel.load(out, options);
      using rounded = await LanguageModel.load(plain, { ...options, weights: form });
      using floats = await LanguageModel.load(out, { ...options, weights: 'fp32' });
      expect(exported.description).toContain(`${form} weights`);
      expect(exported.metadata.weights).toBe(form);
      expect(held(exported)).toBe(held(rounded));
      expect(held(exported)).toBe(held(floats));
      const [one, two, three] = await Promise.all(
        [exported, rounded, floats].map((model) => model.score(text).then(({ loss }) => loss)),
      );
      expect(one).toBe(two);
      expect(one).toBeCloseTo(three as number, 5);
      using original = await LanguageModel.load(plain, options);
      // The weights are random, and ten times as large as a trained model's.
      expect(Math.abs((one as number) - (await original.score(text)).loss)).toBeLessThan(0.05);
      const write = async (model: LanguageModel, count: number) => {
        const texts = Array.from({ length: count }, () => '');
        for await (const piece of model.generateMany(count, { length: 60, seed: 4 })) texts[piece.stream] += piece.text;
        return texts;
      };
      expect((await write(exported, 5))[0]).toBe((await write(rounded, 1))[0]);
      // Saved again, it is the same checkpoint.
      const again = join(folder, 'again.safetensors');
      await exported.save(again);
      expect(await loadCheckpoint(again)).toEqual(await loadCheckpoint(out));
      rmSync(again);
    }
  },
);

itWhole('a large model, whose panels alone hold its weights, gives them back as they were', async () => {
  const plain = await save('large', 'onehot', 400);
  for (const weights of ['int8', 'bf16'] as const) {
    using model = await LanguageModel.load(plain, { ...options, weights });
    const before = held(model);
    const { loss } = await model.score(text.slice(0, 60));
    expect(held(model)).toBe(before);
    await model.score(text, { streams: 9 });
    expect((await model.score(text.slice(0, 60))).loss).toBe(loss);
  }
});

test('is not trained further', async () => {
  const out = join(folder, 'narrow.safetensors');
  await exportModel(path, { to: 'int8', out });
  using model = await LanguageModel.load(out, options);
  const ids = Int32Array.from({ length: 21 }, (_, i) => i % 5);
  const shape = { ids, count: 1, steps: 20, batch: 1, target: 'every', carryState: false } as const;
  const step = { ...shape, learningRates: Float64Array.of(0.1), beta1: 0.9, beta2: 0.999, epsilon: 1e-7, clip: 0 };
  await expect(nativeOf(model).trainSteps(step)).rejects.toThrow(/kept in 8 or 16 bits cannot be trained/);
  const corpus = join(folder, 'corpus.txt');
  writeFileSync(corpus, text.repeat(3));
  const run = join(folder, 'run');
  const args = ['--hidden', '8', '--epochs', '1', '--device', 'cpu', '--threads', '1', '--quiet'];
  expect((await command('train', corpus, '--out', run, ...args.slice(0, -1))).code).toBe(0);
  const last = join(run, readFileSync(join(run, 'latest'), 'utf8').trim());
  const narrow = join(folder, 'last.safetensors');
  await exportModel(last, { to: 'int8', out: narrow });
  writeFileSync(last, readFileSync(narrow));
  const further = [
    ['--resume', run, '--epochs', '2'],
    [corpus, '--from', out, '--out', join(folder, 'tuned'), '--device', 'cpu'],
  ];
  for (const argv of further) {
    const { code, err } = await command('train', ...argv);
    const said =
      /holds int8 weights, which cannot be trained further: take the checkpoint that it was exported from\.\n$/;
    expect([code, err]).toEqual([3, expect.stringMatching(said)]);
  }
  expect(existsSync(join(folder, 'tuned'))).toBe(false);
});

test('of rounded weights no others are made, and what is no such file is refused', async () => {
  const out = join(folder, 'first.int8');
  await exportModel(path, { to: 'int8', out });
  const other = join(folder, 'other.bf16');
  const refused = await command('export', out, '--to', 'bf16', '--out', other);
  expect([refused.code, refused.err, existsSync(other)]).toEqual([
    2,
    expect.stringContaining('of which no bf16 can be made'),
    false,
  ]);
  expect((await command('score', out, out, '--weights', 'bf16')).code).toBe(2);
  expect((await command('sample', out, '--weights', 'int4')).code).toBe(2);
  // Altered files: the metadata does not mention int8, or a scale is missing or too large.
  const bytes = readFileSync(out);
  const length = Number(bytes.readBigUInt64LE());
  const header = bytes.subarray(8, 8 + length).toString();
  const alter = async (change: (header: string) => string, data = bytes.subarray(8 + length)) => {
    const file = join(folder, 'altered.safetensors');
    const changed = Buffer.from(
      change(header)
        .replace(/"dataSha256":"[^"]*"/, '"_":""')
        .trimEnd(),
    );
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(changed.length));
    writeFileSync(file, Buffer.concat([size, changed, data]));
    return LanguageModel.load(file, options).then(
      () => 'loaded',
      (error: Error) => error.message,
    );
  };
  expect(await alter((same) => same)).toBe('loaded');
  expect(await alter((same) => same.replace('"weights":"int8"', '"x":"int8"'))).toMatch(/is of the type I8/);
  expect(await alter((same) => same.replace('_scale.output.weight', '_scale.output.height'))).toMatch(
    /'_scale.output.weight' is missing/,
  );
  const huge = Buffer.from(bytes.subarray(8 + length));
  const at = JSON.parse(header)['_scale.output.weight'].data_offsets[0];
  huge.writeFloatLE(3e38, at);
  expect(await alter((same) => same, huge)).toMatch(/has the scale 3\S+ in row 0, which is too large/);
});
