// Trains a small model on the text that comes with the package, prints what it writes, and saves it for the other example:
// node examples/train-and-sample.cjs [SECONDS] [CHECKPOINT]
const { train } = require('cudnn-lstm');

async function main() {
  const [seconds = '10', checkpoint = 'example.safetensors'] = process.argv.slice(2);
  const training = await train({
    hidden: 64,
    layers: 1,
    seqLength: 50,
    epochs: 100,
    maxTime: Number(seconds),
    out: false, // No directory of checkpoints and metrics: the model is saved below.
  });
  try {
    for await (const event of training) {
      if (event.type === 'epoch')
        console.error(`epoch ${event.epoch}: ${event.bitsPerCharacter.toFixed(3)} bits a character`);
    }
    console.log(await training.model.generateText({ length: 300, temperature: 0.7, seed: 1 }));
    await training.model.save(checkpoint);
  } finally {
    await training.dispose();
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = error.exitCode ?? 1;
});
