// Prints what the model writes and its score, which are the same under every tool: by import, in a user's project.
import { LanguageModel } from 'cudnn-lstm';

async function main() {
  const model = await LanguageModel.load('model.safetensors');
  let text = '';
  for await (const piece of model.generate({ prompt: 'The ', length: 60, seed: 1 })) text += piece;
  const { bitsPerCharacter } = await model.score('The lamp was lit.');
  model.dispose();
  console.log(JSON.stringify({ text, bitsPerCharacter }));
}

main();
