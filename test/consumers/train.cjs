// Trains a little on the text that comes with the package and saves the model: by require, in a user's project.
const { train } = require('cudnn-lstm');

async function main() {
  const training = await train({
    hidden: 16,
    layers: 1,
    batchSize: 16,
    seqLength: 50,
    epochs: 1,
    seed: 1,
    out: 'run',
  });
  try {
    for await (const event of training) if (event.type === 'end') console.error(`trained: ${event.reason}`);
    await training.model.save('model.safetensors');
  } finally {
    await training.dispose();
  }
}

main();
