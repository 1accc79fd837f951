#!/usr/bin/env node
/**
 * The search behind `--preset best` (docs/best.md): trains many sizes, for several lengths of training, on several texts, and appends each
 * result to a file as one JSON object per line. The same command run again does what is missing, cheapest first; --max-time ends it after
 * the training in progress. Losses depend neither on the number of threads nor on what else the machine does, so it may run in the
 * background of anything: nice -n 19.
 *
 *   node bench/search.js --texts a.txt:50000,b.txt --max-time 3600     the first 50,000 characters of a.txt, and all of b.txt
 *   node bench/search.js --texts a.txt,b.txt --part 2/3                every third training from the second on, to run three side by side
 *   node bench/search.js --texts a.txt --hidden 64,128 --epochs 8      only these; --batch 16x20 and --rate 0.02 select as well
 *   node bench/search.js --table                                       fits the law to the file and writes lib/training/best-table.ts
 */
const { appendFileSync, existsSync, readFileSync, writeFileSync } = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { train } = require('../dist');

const { values } = parseArgs({
  options: {
    texts: { type: 'string', default: '' },
    part: { type: 'string', default: '1/1' },
    hidden: { type: 'string', default: '' },
    batch: { type: 'string' },
    rate: { type: 'string' },
    epochs: { type: 'string', default: '1,2,4,8,16,32' },
    'max-time': { type: 'string', default: '1e9' },
    out: { type: 'string', default: path.join(__dirname, 'results', 'best-search.jsonl') },
    table: { type: 'boolean', default: false },
  },
});

/** The candidates. Each is trained for each number of epochs on each text; --hidden, --batch and --rate select some of them. */
const recipes = [
  { layers: 1, hidden: 64, dropout: 0.1, batchSize: 16, seqLength: 16, learningRate: 0.04, weightDecay: 0 },
  { layers: 1, hidden: 128, dropout: 0.1, batchSize: 16, seqLength: 16, learningRate: 0.03, weightDecay: 0 },
  { layers: 1, hidden: 256, dropout: 0.1, batchSize: 16, seqLength: 16, learningRate: 0.02, weightDecay: 0 },
  { layers: 1, hidden: 256, dropout: 0.25, batchSize: 16, seqLength: 16, learningRate: 0.02, weightDecay: 0 },
  { layers: 1, hidden: 256, dropout: 0.4, batchSize: 16, seqLength: 16, learningRate: 0.015, weightDecay: 0 },
  { layers: 1, hidden: 384, dropout: 0.2, batchSize: 16, seqLength: 16, learningRate: 0.02, weightDecay: 0 },
  { layers: 1, hidden: 512, dropout: 0.2, batchSize: 16, seqLength: 16, learningRate: 0.02, weightDecay: 0 },
  { layers: 2, hidden: 128, dropout: 0.1, batchSize: 16, seqLength: 16, learningRate: 0.02, weightDecay: 0 },
  { layers: 2, hidden: 128, dropout: 0.3, batchSize: 16, seqLength: 16, learningRate: 0.012, weightDecay: 0 },
  { layers: 2, hidden: 256, dropout: 0.2, batchSize: 16, seqLength: 16, learningRate: 0.012, weightDecay: 0 },
  { layers: 2, hidden: 256, dropout: 0.2, batchSize: 16, seqLength: 20, learningRate: 0.005, weightDecay: 0.05 },
];
const fixed = { schedule: 'wsd', validation: 0.1, patience: 0, sampleLength: 0, seed: 1, threads: 1, device: 'cpu' };
const numbers = (list) => list.split(',').filter(Boolean).map(Number);
const epochCounts = numbers(values.epochs);

/** Multiply-adds of a training step per character: three times those of a forward pass. */
function work({ layers, hidden }, symbols) {
  return 3 * (4 * hidden * hidden * (2 * layers - 1) + hidden * symbols);
}

const keyOf = (row) => [row.text, row.epochs, ...Object.values(recipeOf(row))].join();

function texts() {
  return values.texts
    .split(',')
    .filter(Boolean)
    .map((each) => {
      const [, file, first] = /^(.*?)(?::(\d+))?$/.exec(each);
      const characters = [...readFileSync(file, 'utf8')].slice(0, first ? Number(first) : undefined);
      const name = `${path.basename(file)}${first ? `, the first ${Number(first).toLocaleString('en')} characters` : ''}`;
      return { name, text: characters.join(''), characters: characters.length, symbols: new Set(characters).size };
    });
}

const readRows = () =>
  existsSync(values.out)
    ? readFileSync(values.out, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line))
    : [];

function jobs() {
  const [part, parts] = values.part.split('/').map(Number);
  const sizes = numbers(values.hidden);
  const all = texts().flatMap((text) =>
    recipes
      .filter(({ hidden }) => sizes.length === 0 || sizes.includes(hidden))
      .filter((recipe) => [undefined, `${recipe.batchSize}x${recipe.seqLength}`].includes(values.batch))
      .filter((recipe) => [undefined, String(recipe.learningRate)].includes(values.rate))
      .flatMap((recipe) =>
        epochCounts.map((epochs) => ({
          text,
          recipe,
          epochs,
          cost: epochs * text.characters * work(recipe, text.symbols),
        })),
      ),
  );
  return all.sort((a, b) => a.cost - b.cost).filter((_, i) => i % parts === part - 1);
}

async function measure({ text, recipe, epochs }) {
  const began = { cpu: process.cpuUsage(), clock: performance.now() };
  const training = await train({
    corpus: { text: text.text },
    ...fixed,
    ...recipe,
    epochs,
    out: false,
  });
  const losses = [];
  let best;
  for await (const event of training) {
    if (event.type === 'epoch') losses.push(Number(event.validationLoss.toFixed(4)));
    if (event.type === 'end') best = event.best;
  }
  await training.dispose();
  const { user, system } = process.cpuUsage(began.cpu);
  return {
    text: text.name,
    characters: text.characters,
    symbols: text.symbols,
    ...recipe,
    epochs,
    loss: Number(best.loss.toFixed(4)),
    bestEpoch: best.epoch,
    losses,
    processorSeconds: Number(((user + system) / 1e6).toFixed(1)),
    seconds: Number(((performance.now() - began.clock) / 1000).toFixed(1)),
  };
}

const recipeOf = ({ layers, hidden, dropout, batchSize, seqLength, learningRate, weightDecay = 0 }) => ({
  layers,
  hidden,
  dropout,
  batchSize,
  seqLength,
  learningRate,
  weightDecay,
});
const nameOf = ({ layers, hidden, dropout, batchSize, seqLength, learningRate, weightDecay = 0 }) =>
  `${layers} x ${hidden}, dropout ${dropout}, ${batchSize} x ${seqLength}, rate ${learningRate}, decay ${weightDecay}`;
const distinct = (list) => [...new Set(list)];

/** With fewer updates, or a loss further above the text's lowest, little more is learned than which characters are frequent. */
const [leastUpdates, mostLoss] = [200, 0.4];
/** The number of characters for which a recipe's terms of the law are stated. */
const stated = 1e5;

/**
 * The law: loss = E + C + A (D / 100,000)^-a + O e (100,000 / N), D = N (1 + R (1 - exp(-(e - 1) / R))) for e epochs of N characters of
 * training text. E is the text's; C, A and O are the recipe's: what it never learns, what it has yet to learn, and how soon it memorises a
 * text. Characters seen again are worth less each time (Muennighoff et al. 2023). For each a and R the other parameters are a weighted
 * least-squares solution, in which rows with a better loss count more, since the law is for choosing among good recipes.
 */
function fitLaw(rows) {
  const texts = distinct(rows.map(({ text }) => text));
  const tried = distinct(rows.map(nameOf));
  const least = new Map(texts.map((text) => [text, leastLoss(rows, text)]));
  const weigh = (row) => 1 / (0.02 + row.loss - least.get(row.text));
  const total = rows.reduce((sum, row) => sum + weigh(row), 0);
  const [capacity, data, overfit] = [0, 1, 2].map((i) => texts.length + i * tried.length);
  const solve = (law, harmless = new Set()) => {
    const terms = rows.map((row) => {
      const recipe = tried.indexOf(nameOf(row));
      return [
        [texts.indexOf(row.text), 1],
        [capacity + recipe, 1],
        [data + recipe, (seen(row, law.repetitions) / stated) ** -law.dataPower],
        [overfit + recipe, harmless.has(recipe) ? 0 : (row.epochs * stated) / trainingText(row)],
      ];
    });
    const solution = leastSquares(
      terms,
      rows.map(({ loss }) => loss),
      rows.map(weigh),
      overfit + tried.length,
    );
    // No recipe gains from further passes as such: where so few rows say so, that is noise.
    const gaining = [...tried.keys()].filter((i) => solution[overfit + i] < 0);
    if (gaining.length > 0) return solve(law, new Set([...harmless, ...gaining]));
    const fitted = terms.map((of) => of.reduce((sum, [i, value]) => sum + solution[i] * value, 0));
    const meanSquare = rows.reduce((sum, row, i) => sum + (weigh(row) * (row.loss - fitted[i]) ** 2) / total, 0);
    return { law, fitted, rootMeanSquare: Math.sqrt(meanSquare), solution };
  };
  let best;
  for (let dataPower = 0.3; dataPower <= 1.2; dataPower += 0.025) {
    for (let repetitions = 2; repetitions <= 64; repetitions *= 1.1) {
      const one = solve({ dataPower, repetitions });
      if (!best || one.rootMeanSquare < best.rootMeanSquare) best = one;
    }
  }
  const { solution } = best;
  const first = Math.min(...solution.slice(capacity, data));
  const curves = tried.map((name, i) => [
    name,
    { capacity: solution[capacity + i] - first, data: solution[data + i], overfit: solution[overfit + i] },
  ]);
  return { ...best, curves: new Map(curves) };
}

const trainingText = ({ characters }) => 0.9 * characters;
const seen = (row, repetitions) =>
  trainingText(row) * (1 + repetitions * (1 - Math.exp(-(row.epochs - 1) / repetitions)));
const leastLoss = (rows, text) => Math.min(...rows.filter((row) => row.text === text).map(({ loss }) => loss));

/**
 * Minimises the weighted squares of values minus sums of terms, each an index of an unknown and its factor. The texts' and the recipes'
 * parts are only determined up to a constant, so a small ridge keeps the unknowns small.
 */
function leastSquares(terms, values, weights, unknowns) {
  const rows = Array.from({ length: unknowns }, (_, i) =>
    Array.from({ length: unknowns + 1 }, (_, j) => (i === j ? 1e-6 : 0)),
  );
  for (const [row, of] of terms.entries()) {
    for (const [i, a] of of) {
      rows[i][unknowns] += weights[row] * a * values[row];
      for (const [j, b] of of) rows[i][j] += weights[row] * a * b;
    }
  }
  for (let i = 0; i < unknowns; i++) {
    for (let below = i + 1; below < unknowns; below++) {
      const factor = rows[below][i] / rows[i][i];
      for (let j = i; j <= unknowns; j++) rows[below][j] -= factor * rows[i][j];
    }
  }
  const solution = new Array(unknowns).fill(0);
  for (let i = unknowns - 1; i >= 0; i--) {
    const known = solution.reduce((sum, value, j) => sum + (j > i ? rows[i][j] * value : 0), 0);
    solution[i] = (rows[i][unknowns] - known) / rows[i][i];
  }
  return solution;
}

const stepsOf = ({ characters, epochs, batchSize, seqLength }) =>
  Math.round((0.9 * characters * epochs) / (batchSize * seqLength));

function writeTable() {
  const all = readRows();
  const good = all.filter((row) => stepsOf(row) >= leastUpdates && row.loss < leastLoss(all, row.text) + mostLoss);
  // A recipe has three unknowns: fewer than four rows make no fit.
  const rows = good.filter((row) => good.filter((other) => nameOf(other) === nameOf(row)).length >= 4);
  const { law, rootMeanSquare, curves, fitted } = fitLaw(rows);
  const round = (value) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value);
  const rounded = (object) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, round(value)]));
  const table = {
    trainings: rows.length,
    texts: distinct(rows.map(({ characters }) => characters)).sort((a, b) => a - b),
    mostCharacters: Math.max(...rows.map(({ characters, epochs }) => Math.round(0.9 * characters * epochs))),
    rootMeanSquare: round(rootMeanSquare),
    law: rounded(law),
    recipes: recipes
      .filter((recipe) => curves.has(nameOf(recipe)))
      .map((recipe) => ({ recipe, curve: rounded(curves.get(nameOf(recipe))) })),
  };
  const file = path.join(__dirname, '..', 'lib', 'training', 'best-table.ts');
  writeFileSync(
    file,
    `/** Written by \`node bench/search.js --table\` from bench/results/best-search.jsonl; docs/best.md says what it covers. */\nexport const bestTable = ${JSON.stringify(table, null, 2)};\n`,
  );
  for (const [i, row] of rows.entries()) {
    console.log(`${row.text}: ${nameOf(row)}, ${row.epochs} epochs: ${row.loss}, by the law ${fitted[i].toFixed(3)}`);
  }
  console.log(JSON.stringify(table));
}

async function main() {
  if (values.table) return writeTable();
  const end = performance.now() + 1000 * Number(values['max-time']);
  for (const job of jobs()) {
    if (performance.now() >= end) break;
    const done = new Set(readRows().map(keyOf));
    if (done.has(keyOf({ ...job.recipe, text: job.text.name, epochs: job.epochs }))) continue;
    const row = await measure(job);
    appendFileSync(values.out, `${JSON.stringify(row)}\n`);
    console.log(
      `${row.text}: ${row.layers} x ${row.hidden}, ${row.epochs} epochs: ${row.loss} after ${row.bestEpoch}, ${row.processorSeconds} s of a processor`,
    );
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
