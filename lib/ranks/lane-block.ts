/** Sequences that the CPU's kernels compute side by side, and so the fewest worth giving to a rank. */
export const laneBlock = 16;
