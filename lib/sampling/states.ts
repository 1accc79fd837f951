/**
 * The recurrent states of streams that join a call and leave it: one [L, 2, H] each, put together as the [L, 2, S, H] that a call
 * takes and gives. Shapes: L layers, S streams, H hidden.
 */

/** States of S streams, [L, 2, H] each, as one [L, 2, S, H]; of a stream that has none yet, zeros. */
export function gatherStates(
  states: readonly (Float32Array | undefined)[],
  layers: number,
  hidden: number,
): Float32Array {
  const streams = states.length;
  const together = new Float32Array(layers * 2 * streams * hidden);
  for (const [s, state] of states.entries()) {
    if (!state) continue;
    for (let row = 0; row < layers * 2; row++) {
      together.set(state.subarray(row * hidden, (row + 1) * hidden), (row * streams + s) * hidden);
    }
  }
  return together;
}

/** The states [L, 2, H] of each of `streams` streams out of one [L, 2, S, H]. */
export function scatterStates(together: Float32Array, streams: number, hidden: number): Float32Array[] {
  const rows = together.length / streams / hidden;
  return Array.from({ length: streams }, (_, s) => {
    const state = new Float32Array(rows * hidden);
    for (let row = 0; row < rows; row++) {
      const from = (row * streams + s) * hidden;
      state.set(together.subarray(from, from + hidden), row * hidden);
    }
    return state;
  });
}
