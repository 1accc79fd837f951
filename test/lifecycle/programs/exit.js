/** Calls process.exit(7) in the middle of a step: `exit.js short|long`. Prints the time at which it does. */
const { writeSync } = require('node:fs');
const { createModel, createSlowModel, slowCall, trainCall, trainForever } = require('./model');

async function main(kind) {
  const [model, call] =
    kind === 'long' ? [await createSlowModel(), slowCall()] : [await createModel(), trainCall({ count: 8 })];
  await trainForever(model, call, () =>
    setTimeout(() => {
      writeSync(1, String(Date.now()));
      process.exit(7);
    }, Math.random() * 60),
  );
}

void main(process.argv[2]);
