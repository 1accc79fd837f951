// The job that every peer is given: a recipe of this package, spelled out as one JSON object that needs no knowledge of the package.
//
// A job: { recipe, target: 'last' | 'every', input: 'scalar' | 'onehot', vocabulary, layers, hidden, dropout, batch, steps,
// learningRate, beta1, beta2, epsilon, clip, threads, ids: path of a file with one byte per id }. Target 'last': windows of
// `steps`, a loss at the last position, zero state. Target 'every': contiguous streams, a loss at every position, the state
// carried from step to step, the gradient's global norm clipped at `clip`.
const { presetOptions } = require('../../dist/training/presets.js');

// The length of the reference's corpus, and its number of symbols.
const characters = 144_424;
const vocabulary = 47;

/** Uniform pseudo-random ids: their values do not change how long a step takes. */
function syntheticIds() {
  let state = 12345;
  return Uint8Array.from({ length: characters }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * vocabulary);
  });
}

/** The job of a preset; `batch` replaces its batch size. */
function jobOf(recipe, { batch, threads, ids }) {
  const options = presetOptions(recipe);
  return {
    recipe,
    target: options.target,
    input: options.input,
    vocabulary,
    layers: options.layers,
    hidden: options.hidden,
    dropout: options.dropout,
    batch: batch ?? options.batchSize,
    steps: options.seqLength,
    learningRate: options.learningRate,
    beta1: options.beta1,
    beta2: options.beta2,
    epsilon: options.epsilon,
    clip: options.clip,
    threads,
    ids,
  };
}

/** Optimiser steps in an epoch of the reference's corpus: 2,256 with the reference's recipe. */
function stepsPerEpoch(job) {
  return job.target === 'last'
    ? Math.ceil((characters - job.steps) / job.batch)
    : Math.floor(characters / (job.batch * job.steps));
}

module.exports = { jobOf, stepsPerEpoch, syntheticIds };
