import { readFileSync } from 'node:fs';
import { LanguageModel } from 'cudnn-lstm';
import { expect, test } from 'vitest';

test('a model loads, writes and is freed in vitest', async () => {
  const model = await LanguageModel.load('model.safetensors');
  let text = '';
  for await (const piece of model.generate({ prompt: 'The ', length: 60, seed: 1 })) text += piece;
  model.dispose();
  expect(text).toBe(JSON.parse(readFileSync('expected.json', 'utf8')).text);
});
