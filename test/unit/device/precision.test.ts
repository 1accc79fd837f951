/** The precision: tf32 by default, which a CPU computes in fp32; bf16 on a CPU in training only. A model's description says which. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { loadNative } from '../../../lib/device/native';
import { LanguageModel } from '../../../lib/model';
import { presetOptions, presets } from '../../../lib/training/presets';

const vocabulary = new Vocabulary(['a', 'b', 'c']);
const shape = { vocabulary: 3, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 } as const;

it('is tf32 in every preset', () => {
  for (const preset of Object.keys(presets) as (keyof typeof presets)[]) {
    expect(presetOptions(preset).precision).toBe('tf32');
  }
});

it.each([undefined, 'fp32', 'tf32', 'fp16'] as const)('is fp32 on a CPU where %s is asked for', async (precision) => {
  using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, precision });
  expect(model.description).toMatch(/^CPU .*fp32/);
  expect(await model.gpuUsage()).toBeNull();
});

it('is bf16 on a CPU in training alone, and says where that is emulated', async () => {
  using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, precision: 'bf16' });
  const { isa } = loadNative().cpuInfo();
  expect(model.description).toMatch(
    isa === 'avx512bf16' ? /^CPU .*bf16 in training\)$/ : /^CPU .*bf16 in training, emulated\)$/,
  );
  const place = join(mkdtempSync(join(tmpdir(), 'cudnn-lstm-precision-')), 'model.safetensors');
  await model.save(place);
  using loaded = await LanguageModel.load(place, { device: 'cpu', threads: 1, precision: 'bf16' });
  expect(loaded.description).toMatch(/^CPU .*fp32\)$/);
});

it('is refused by the addon where it is none, on a CPU as on a GPU', async () => {
  const options = { device: 'cpu', precision: 'bf17' as 'bf16' } as const;
  const made = async () => loadNative().createModel({ ...shape, seed: 1 }, options);
  await expect(made()).rejects.toThrow('precision must be fp32, tf32, bf16 or fp16');
});
