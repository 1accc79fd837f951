#!/usr/bin/env node
/**
 * Bits a character on the last tenth of tiny-shakespeare at two sizes, as rows of a table, with the command and the time of each.
 * nanoGPT's README gives, for its character-level Transformers on the same split, 1.4697 nats (a GPU) and 1.88 nats (a small one, a CPU).
 *
 *   node bench/shakespeare.js tinyshakespeare.txt [--quick]
 */
const { existsSync } = require('node:fs');
const { train } = require('../dist');

const [corpus, quick] = process.argv.slice(2);
if (corpus === undefined || !existsSync(corpus)) {
  console.error('name the file of tiny-shakespeare: node bench/shakespeare.js tinyshakespeare.txt');
  process.exit(3);
}
const sizes = [
  { hidden: 128, layers: 2, epochs: quick === '--quick' ? 1 : 20 },
  { hidden: 512, layers: 2, epochs: quick === '--quick' ? 1 : 20, dropout: 0.4 },
];

async function main() {
  console.log('| model | nats | bits a character | seconds | command |\n|---|---|---|---|---|');
  for (const size of sizes) {
    const options = { ...size, batchSize: 32, seqLength: 64, validation: 0.1, sampleLength: 0, patience: 3 };
    const training = await train({ corpus: [corpus], ...options, out: false });
    let end;
    for await (const event of training) if (event.type === 'end') end = event;
    await training.dispose();
    const flags = Object.entries(options).map(
      ([name, value]) => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)} ${value}`,
    );
    console.log(
      `| ${size.layers} x ${size.hidden} | ${end.best.loss.toFixed(4)} | ${end.best.bitsPerCharacter.toFixed(4)} | ` +
        `${end.elapsedSeconds.toFixed(0)} | \`train ${corpus} ${flags.join(' ')}\` |`,
    );
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
