/**
 * Calls process.exit(7): `exit.js short` between and during short calls, `exit.js long` in the middle of a long step, `exit.js before`
 * before such a step, `exit.js after` when it is done.
 */
const { createModel, createSlowModel, slowCall, trainCall, trainForever } = require('./model');

async function main(kind) {
  const model = kind === 'short' ? await createModel() : await createSlowModel();
  if (kind === 'after') await model.trainSteps(slowCall());
  if (kind === 'before' || kind === 'after') process.exit(7);
  const call = kind === 'short' ? trainCall({ count: 8 }) : slowCall();
  await trainForever(model, call, () => setTimeout(() => process.exit(7), Math.random() * 60));
}

void main(process.argv[2]);
