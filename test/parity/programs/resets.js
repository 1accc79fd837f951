/**
 * Runs a line after others, in a model that resets at each line, and alone, in one that does not: the numbers must agree to the bit, on
 * the instruction set that CUDNN_LSTM_CPU_ISA names. Prints the number of kinds of batches run.
 */
const assert = require('node:assert');
const { loadNative } = require('../../../dist/device/native');

const spec = { vocabulary: 7, layers: 2, hidden: 40, input: 'onehot', embedding: 0, dropout: 0, seed: 1 };
const resetId = 2;
const line = [resetId, 4, 0, 6, 1, resetId];
const others = [5, 3, ...line.slice(0, 5)];

async function main() {
  let count = 0;
  for (const [batch, threads] of [
    [1, 1],
    [2, 2],
    [3, 1],
    [20, 3],
    [40, 2],
  ]) {
    const options = { device: 'cpu', threads, team: 'fixed' };
    const model = await loadNative().createModel({ ...spec, resetId }, options);
    const plain = await loadNative().createModel(spec, options);
    for (const each of [model, plain]) await each.initialize();
    /** Gives every stream the same ids. */
    const rows = (column) => Int32Array.from({ length: column.length * batch }, (_, i) => column[Math.floor(i / batch)]);
    const scored = (which, column, carryState = false) =>
      which.evaluate({
        ids: rows(column),
        steps: column.length - 1,
        batch,
        target: 'every',
        carryState,
        dropout: false,
      });
    const alone = await scored(plain, line);
    const together = await scored(model, [...others, ...line]);
    assert.deepStrictEqual(together.slice(2 * batch, 7 * batch), alone);
    assert.deepStrictEqual(together.slice(7 * batch), alone);
    await scored(model, [5, 3, 1], true);
    assert.deepStrictEqual(await scored(model, line, true), alone);

    const logits = await plain.logits({ ids: rows(line.slice(0, 5)), streams: batch });
    const after = await model.logits({ ids: rows(others), streams: batch });
    assert.deepStrictEqual(after.slice(2 * batch * spec.vocabulary), logits);
    const drawing = { streams: batch, count: 3, sampling: { seed: 3, temperature: 1, allowed: Int32Array.of(0, 1, 4) } };
    const drawn = await plain.sample({ ...drawing, ids: rows([resetId]) });
    const later = await model.sample({ ...drawing, ids: rows([5, 3, resetId]) });
    assert.deepStrictEqual(later, drawn);
    count++;
    model.dispose();
    plain.dispose();
  }
  console.log(count);
}

void main();
