const { LanguageModel } = require('cudnn-lstm');

test('a model loads, writes and is freed in jest', async () => {
  const model = await LanguageModel.load('model.safetensors');
  let text = '';
  for await (const piece of model.generate({ prompt: 'The ', length: 60, seed: 1 })) text += piece;
  model.dispose();
  expect(text).toBe(JSON.parse(require('node:fs').readFileSync('expected.json', 'utf8')).text);
});
