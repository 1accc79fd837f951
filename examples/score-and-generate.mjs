// Loads a checkpoint, scores a text with it, and writes on from there until the sentence ends:
// node examples/score-and-generate.mjs [CHECKPOINT] [TEXT]
import { LanguageModel } from 'cudnn-lstm';

const [checkpoint = 'example.safetensors', text = 'It was a cold morning, and the '] = process.argv.slice(2);
const model = await LanguageModel.load(checkpoint);
try {
  console.error(`device: ${model.deviceReason}`);
  const { bitsPerCharacter, characters } = await model.score(text, { unknown: 'skip' });
  console.log(`${bitsPerCharacter.toFixed(3)} bits a character over ${characters} characters`);

  process.stdout.write(text);
  const signal = AbortSignal.timeout(30_000);
  for await (const piece of model.generate({
    prompt: text,
    unknown: 'skip',
    stop: ['.', '\n'],
    length: 500,
    seed: 1,
    signal,
  })) {
    process.stdout.write(piece);
  }
  process.stdout.write('.\n');
} finally {
  model.dispose();
}
