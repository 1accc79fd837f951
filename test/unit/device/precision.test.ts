/** The default precision: tf32 wherever a GPU is, fp32 on every CPU, and the description says which. */
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { presetOptions, presets } from '../../../lib/training/presets';

const vocabulary = new Vocabulary(['a', 'b', 'c']);
const shape = { vocabulary: 3, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 } as const;

it('is tf32 in every preset', () => {
  for (const preset of Object.keys(presets) as (keyof typeof presets)[]) {
    expect(presetOptions(preset).precision).toBe('tf32');
  }
});

it.each([undefined, 'tf32', 'bf16'] as const)('is fp32 on a CPU whatever is asked for: %s', async (precision) => {
  using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, precision });
  expect(model.description).toMatch(/^CPU .*fp32/);
  expect(await model.gpuUsage()).toBeNull();
});
