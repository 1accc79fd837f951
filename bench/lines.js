#!/usr/bin/env node
/**
 * Single lines (--lines) against the same characters as one text: training, taking turns, as the ratio of what the same number of
 * characters costs; the novelty filter, in nanoseconds per character; and how well a model trained on a list knows how its lines begin:
 * the Kullback-Leibler divergence of the first characters, in bits, for the model's probabilities and for sampled lines.
 *
 *   node bench/lines.js [--corpus names.txt] [--hidden 256] [--layers 2] [--threads 2] [--rounds 9] [--steps 40] [--epochs 8] [--known 200000] [--quick]
 *
 * Without --corpus the list is 6,000 made-up names, sorted. Times are processor time, which other processes do not lengthen, with
 * wall-clock time next to it. --quick leaves out training the model.
 */
const { readFileSync } = require('node:fs');
const { parseArgs } = require('node:util');
const { train } = require('../dist');
const { KnownLines, openTraining } = require('../dist/advanced');
const { nativeOf } = require('../dist/model');
const { trainerOf } = require('../dist/training/training');
const { machine, median } = require('./measured');

const number = (value) => ({ type: 'string', default: String(value) });
const { values } = parseArgs({
  options: {
    corpus: { type: 'string' },
    quick: { type: 'boolean', default: false },
    hidden: number(256),
    layers: number(2),
    threads: number(2),
    rounds: number(9),
    steps: number(40),
    epochs: number(8),
    /** Lines in the novelty filter. */
    known: number(200_000),
  },
});
const [hidden, layers, threads, rounds, steps, epochs] = [
  'hidden',
  'layers',
  'threads',
  'rounds',
  'steps',
  'epochs',
].map((name) => Number(values[name]));

/** Made-up names without duplicates, sorted as lists are. */
function madeUp(count) {
  let state = 4;
  const pick = (list) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return list[Math.floor((state / 2 ** 32) * list.length)];
  };
  const consonants = [...'bdfgklmnprstvz', '', '', ''];
  const names = new Set();
  while (names.size < count) {
    let name = '';
    for (let n = pick([2, 3, 4]); n > 0; n--) name += pick(consonants) + pick('aeiou');
    names.add(name + pick(['', 'n', 'l', 's']));
  }
  return [...names].sort();
}

const text = values.corpus === undefined ? `${madeUp(6000).join('\n')}\n` : readFileSync(values.corpus, 'utf8');
const lines = text.split('\n').filter((line) => line !== '');
const options = { hidden, layers, threads, device: 'cpu', sampleLength: 0 };

/** Cuts and trains steps of one kind, and measures how long they take. */
class Steps {
  constructor(training) {
    this.training = training;
    this.step = 0;
  }

  async measure() {
    const native = nativeOf(this.training.model);
    const { batches, options } = trainerOf(this.training);
    const [cpu, clock] = [process.cpuUsage(), performance.now()];
    for (let done = 0; done < steps; ) {
      if (this.step >= batches.stepsPerEpoch) this.step = 0;
      const cut = await batches.cut(0, this.step, Math.min(8, steps - done));
      await native.trainSteps({
        ids: cut.ids,
        count: cut.count,
        batch: cut.batch,
        steps: options.seqLength,
        target: batches.target,
        carryState: batches.carryState,
        learningRates: new Float64Array(cut.count).fill(1e-4),
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-7,
        clip: 5,
      });
      this.step += cut.count;
      done += cut.count;
    }
    const { user, system } = process.cpuUsage(cpu);
    const characters = steps * options.batchSize * options.seqLength;
    return { cpu: (user + system) / characters, clock: ((performance.now() - clock) * 1000) / characters };
  }
}

async function trainingSpeed() {
  const open = (more) => openTraining({ corpus: { text }, options: { ...options, ...more }, save: false });
  const kinds = { stream: new Steps(await open({})), lines: new Steps(await open({ lines: true })) };
  const found = { stream: [], lines: [] };
  for (let round = 0; round <= rounds; round++) {
    // The first round allocates memory and is not counted; the order alternates from round to round.
    const order = round % 2 === 0 ? ['stream', 'lines'] : ['lines', 'stream'];
    for (const name of order) {
      const took = await kinds[name].measure();
      if (round > 0) found[name].push(took);
    }
  }
  for (const { training } of Object.values(kinds)) await training.dispose();
  for (const unit of ['cpu', 'clock']) {
    const each = Object.fromEntries(
      Object.entries(found).map(([name, list]) => [name, list.map((took) => took[unit])]),
    );
    const ratios = each.lines.map((took, i) => took / each.stream[i]).sort((a, b) => a - b);
    console.log(
      `training, ${unit === 'cpu' ? 'processor time' : 'clock'}: ${median(each.stream).toFixed(2)} us a character as one text, ` +
        `${median(each.lines).toFixed(2)} as lines; ratio ${median(ratios).toFixed(3)} (${ratios[0].toFixed(3)} to ${ratios.at(-1).toFixed(3)}, ${rounds} rounds)`,
    );
  }
}

async function filterSpeed() {
  const count = Number(values.known);
  const many = madeUp(count);
  const began = process.cpuUsage();
  const known = await KnownLines.of(many);
  const built = process.cpuUsage(began);
  const half = many.slice(0, count / 2);
  const asked = [...half, ...half.map((line) => `${line}x`)];
  const characters = asked.reduce((sum, line) => sum + line.length, 0);
  const times = [];
  let held = 0;
  for (let round = 0; round < rounds; round++) {
    const cpu = process.cpuUsage();
    held = 0;
    for (const line of asked) if (known.has(line)) held++;
    const { user, system } = process.cpuUsage(cpu);
    times.push(((user + system) * 1000) / characters);
  }
  const bytes = await known.toBytes('0'.repeat(64));
  if (held < half.length) throw new Error(`only ${held} of ${half.length} known lines were found`);
  console.log(
    `novelty filter of ${known.size.toLocaleString('en')} lines: ${(bytes.length / known.size).toFixed(1)} bytes a line, ` +
      `built in ${((built.user + built.system) / known.size).toFixed(1)} us a line; ${median(times).toFixed(0)} ns a character asked ` +
      `(${((median(times) * characters) / asked.length).toFixed(0)} ns a line of ${(characters / asked.length).toFixed(1)})`,
  );
}

/** Bits by which `model` misses the shares of `list`. */
const divergence = (list, model) =>
  Object.entries(list).reduce((sum, [symbol, share]) => sum + share * Math.log2(share / (model[symbol] ?? 1e-9)), 0);

function sharesOf(all) {
  const shares = {};
  for (const line of all) {
    const [symbol] = line;
    shares[symbol] = (shares[symbol] ?? 0) + 1 / all.length;
  }
  return shares;
}

async function firstCharacters() {
  const began = performance.now();
  const training = await train({ corpus: { text }, ...options, lines: true, epochs, out: false });
  let last;
  for await (const event of training) if (event.type === 'epoch') last = event;
  const { model } = training;
  const list = sharesOf(lines);
  const probabilities = {};
  for (const symbol of Object.keys(list)) probabilities[symbol] = Math.exp(-(await model.score(`\n${symbol}`)).loss);
  const sampled = [];
  for await (const line of model.generateLines(20_000, { temperature: 1, seed: 1 })) sampled.push(line);
  const known = await KnownLines.of(lines);
  const held = sampled.filter((line) => known.has(line)).length;
  console.log(
    `${epochs} epochs in ${((performance.now() - began) / 1000).toFixed(0)} s, validation ${last.validationBitsPerCharacter?.toFixed(3)} bits per character; ` +
      `first characters: ${divergence(list, probabilities).toFixed(4)} bits from the list's by the model's probabilities, ` +
      `${divergence(list, sharesOf(sampled)).toFixed(4)} by ${sampled.length.toLocaleString('en')} sampled lines, of which the list holds ${((100 * held) / sampled.length).toFixed(1)} %`,
  );
  await training.dispose();
}

async function main() {
  const { cpu, node } = machine();
  console.log(
    `${cpu}, ${threads} threads, Node ${node}; ${layers} x ${hidden}, ${lines.length.toLocaleString('en')} lines`,
  );
  await trainingSpeed();
  await filterSpeed();
  if (!values.quick) await firstCharacters();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
