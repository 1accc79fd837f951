// Trains a small model on the text that comes with the package, streams what it writes, and saves it for the other example:
// node examples/train-and-sample.cjs [SECONDS] [CHECKPOINT]
const { openTraining } = require('cudnn-lstm');

async function main() {
  const [seconds = '10', checkpoint = 'example.safetensors'] = process.argv.slice(2);
  const training = await openTraining({
    // Checkpoints and metrics go to runs/; `out` says where else.
    options: { hidden: 64, layers: 1, batchSize: 16, seqLength: 50, epochs: 100, maxTime: Number(seconds), seed: 1 },
  });
  try {
    for await (const event of training) {
      if (event.type === 'epoch')
        console.error(`epoch ${event.epoch}: ${event.bitsPerCharacter.toFixed(3)} bits a character`);
    }
    for await (const text of training.model.generate({ length: 300, temperature: 0.7, seed: 1 }))
      process.stdout.write(text);
    process.stdout.write('\n');
    await training.model.save(checkpoint);
  } finally {
    await training.dispose();
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = error.exitCode ?? 1;
});
