#!/usr/bin/env node
/**
 * The search behind `--preset best` (docs/best.md): trains many sizes, for several lengths of training, on several texts, and adds what
 * came of each to a file, a JSON object a line. The same command again does what is missing, the cheapest first; --max-time ends it after
 * the training in progress. Losses depend neither on the number of threads nor on what else the machine does, so it may run in the
 * background of anything: nice -n 19.
 *
 *   node bench/search.js --texts a.txt:50000,b.txt --max-time 3600     the first 50,000 characters of a.txt, and all of b.txt
 *   node bench/search.js --texts a.txt,b.txt --part 2/3                every third training from the second on: three side by side
 *   node bench/search.js --texts a.txt --hidden 64,128 --epochs 8      these alone; so does --batch 16x20
 *   node bench/search.js --texts a.txt --weight-decay 0.1              these, to be compared with the same without it; --optimizer adamw, by that
 *   node bench/search.js --table                                       fits the law to the file and writes lib/training/best-table.ts
 */
const { appendFileSync, existsSync, readFileSync, writeFileSync } = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { train } = require('../dist');
const { parametersOf } = require('../dist/training/best');

const { values } = parseArgs({
  options: {
    texts: { type: 'string', default: '' },
    part: { type: 'string', default: '1/1' },
    hidden: { type: 'string', default: '' },
    batch: { type: 'string' },
    epochs: { type: 'string', default: '1,2,4,8,16,32' },
    'weight-decay': { type: 'string', default: '0' },
    optimizer: { type: 'string', default: 'adam' },
    'max-time': { type: 'string', default: '1e9' },
    out: { type: 'string', default: path.join(__dirname, 'results', 'best-search.jsonl') },
    table: { type: 'boolean', default: false },
  },
});

/** What may be chosen. Each is trained for each number of epochs on each text; `most` bounds the cost, in multiply-adds. */
const recipes = [
  { layers: 2, hidden: 64, dropout: 0.1, batchSize: 16, seqLength: 32, learningRate: 8e-3 },
  { layers: 2, hidden: 128, dropout: 0.2, batchSize: 16, seqLength: 32, learningRate: 5e-3 },
  { layers: 2, hidden: 256, dropout: 0.3, batchSize: 16, seqLength: 32, learningRate: 5e-3 },
  { layers: 2, hidden: 256, dropout: 0.2, batchSize: 16, seqLength: 20, learningRate: 5e-3 },
  { layers: 2, hidden: 256, dropout: 0.3, batchSize: 64, seqLength: 64, learningRate: 7e-3 },
  { layers: 2, hidden: 512, dropout: 0.5, batchSize: 16, seqLength: 32, learningRate: 3e-3 },
  { layers: 2, hidden: 512, dropout: 0.5, batchSize: 64, seqLength: 64, learningRate: 4e-3 },
];
const weightDecay = Number(values['weight-decay']);
const { optimizer } = values;
const fixed = { schedule: 'wsd', validation: 0.1, patience: 0, sampleLength: 0, seed: 1, threads: 1, device: 'cpu' };
const numbers = (list) => list.split(',').filter(Boolean).map(Number);
const epochCounts = numbers(values.epochs);

/** Multiply-adds of a step a character: three times those of a forward pass. */
function work({ layers, hidden }, symbols) {
  return 3 * (4 * hidden * hidden * (2 * layers - 1) + hidden * symbols);
}

const keyOf = ({ text, epochs, weightDecay = 0, optimizer = 'adam', ...recipe }) =>
  [text, epochs, weightDecay, optimizer, ...Object.values(recipeOf(recipe))].join();

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
    optimizer,
    weightDecay,
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
    ...(optimizer === 'adam' ? {} : { optimizer }),
    ...(weightDecay > 0 ? { weightDecay } : {}),
    epochs,
    loss: Number(best.loss.toFixed(4)),
    bestEpoch: best.epoch,
    losses,
    processorSeconds: Number(((user + system) / 1e6).toFixed(1)),
    seconds: Number(((performance.now() - began.clock) / 1000).toFixed(1)),
  };
}

const recipeOf = ({ layers, hidden, dropout, batchSize, seqLength, learningRate }) => ({
  layers,
  hidden,
  dropout,
  batchSize,
  seqLength,
  learningRate,
});
const batchOf = ({ batchSize, seqLength }) => `${batchSize} x ${seqLength}`;

/** Of so few updates hardly more is learned than which characters are frequent, which is another law. */
const leastUpdates = 200;

// The law. A text's own part, what a model of P parameters cannot learn, and what it has not learned from D characters, of which the
// repeated ones are worth less each time (Muennighoff et al. 2023), and those of large batches less than those of small ones, for they
// make fewer updates: loss = E + A P^-a + B D^-b P^-c, D = N (1 + R (1 - exp(-(e - 1) / R))) (batch size x length / 512)^-k.
function fitLaw(rows) {
  const texts = [...new Set(rows.map(({ text }) => text))];
  const unpack = (x) => ({
    capacity: Math.exp(x[0]),
    capacityPower: Math.exp(x[1]),
    data: Math.exp(x[2]),
    dataPower: Math.exp(x[3]),
    sizePower: Math.exp(x[4]),
    repetitions: Math.exp(x[5]),
    batchPower: Math.exp(x[6]),
  });
  // A text's own part has a best value for any law: the mean of what is left. It counts as no less than a nat.
  const meanSquare = (x) => {
    const law = unpack(x);
    const left = texts.map(() => []);
    for (const row of rows) left[texts.indexOf(row.text)].push(row.loss - reducible(law, row));
    let sum = 0;
    for (const each of left) {
      const own = Math.max(1, each.reduce((a, b) => a + b, 0) / each.length);
      for (const value of each) sum += (value - own) ** 2;
    }
    return sum / rows.length;
  };
  // Powers that so few trainings do not decide stay near those of other language models.
  const judge = (x) => {
    const { capacityPower, repetitions, batchPower } = unpack(x);
    const far = [capacityPower / 0.35, repetitions / 15, batchPower / 0.5].map((ratio) => Math.log(ratio) ** 2);
    return meanSquare(x) + 1e-4 * (far[0] + far[1] + far[2]);
  };
  const start = [
    Math.log(20),
    Math.log(0.35),
    Math.log(300),
    Math.log(0.4),
    Math.log(0.1),
    Math.log(15),
    Math.log(0.5),
  ];
  let best = start;
  for (let round = 0; round < 20; round++) best = nelderMead(judge, best);
  return { law: unpack(best), rootMeanSquare: Math.sqrt(meanSquare(best)) };
}

/**
 * For each recipe whose runs were tried with weight decay too: after how many steps and passes they end better with it. Decay keeps a model from
 * learning its text by heart, and shrinks what a step has taught: small models, and short runs, are only worse for it.
 */
function findWeightDecay(all) {
  const plain = new Map(all.filter((row) => !row.weightDecay).map((row) => [keyOf(row), row]));
  const pairs = all
    .flatMap((row) => {
      const without = row.weightDecay > 0 && plain.get(keyOf({ ...row, optimizer: 'adam', weightDecay: 0 }));
      return without ? [{ ...row, steps: stepsOf(row), gain: without.loss - row.loss }] : [];
    })
    .sort((a, b) => a.steps - b.steps);
  for (const { text, layers, hidden, epochs, steps, gain } of pairs) {
    console.log(`${text}: ${layers} x ${hidden}, ${epochs} epochs, ${steps} steps: decay gains ${gain.toFixed(4)}`);
  }
  const distinct = (list) => [...new Set(list)];
  return distinct(pairs.map((pair) => JSON.stringify(recipeOf(pair))))
    .flatMap((recipe) => {
      const tried = pairs.filter((pair) => JSON.stringify(recipeOf(pair)) === recipe);
      const values = distinct(tried.map((pair) => pair.weightDecay)).flatMap((value) => {
        const same = tried.filter((pair) => pair.weightDecay === value);
        const better = same.slice(same.findLastIndex(({ gain }) => gain <= 0) + 1);
        return better.length > 0 ? [{ value, gain: better.at(-1).gain, first: better[0] }] : [];
      });
      return values
        .sort((a, b) => b.gain - a.gain)
        .slice(0, 1)
        .map(({ value, first: { layers, hidden, steps, epochs } }) => ({
          layers,
          hidden,
          value,
          leastSteps: steps,
          leastPasses: epochs,
        }));
    })
    .sort((a, b) => a.layers - b.layers || a.hidden - b.hidden);
}

const stepsOf = ({ characters, epochs, batchSize, seqLength }) =>
  Math.round((0.9 * characters * epochs) / (batchSize * seqLength));

function reducible(law, row) {
  const parameters = parametersOf(row, row.symbols);
  const text = 0.9 * row.characters;
  const worth =
    text *
    (1 + law.repetitions * (1 - Math.exp(-(row.epochs - 1) / law.repetitions))) *
    ((row.batchSize * row.seqLength) / 512) ** -law.batchPower;
  return (
    law.capacity * parameters ** -law.capacityPower + law.data * worth ** -law.dataPower * parameters ** -law.sizePower
  );
}

function nelderMead(judge, start) {
  let simplex = [start, ...start.map((_, i) => start.map((x, j) => (i === j ? x + 0.3 : x)))].map((x) => ({
    x,
    y: judge(x),
  }));
  for (let step = 0; step < 2000; step++) {
    simplex.sort((a, b) => a.y - b.y);
    const worst = simplex.at(-1);
    const centre = start.map((_, j) => simplex.slice(0, -1).reduce((sum, { x }) => sum + x[j], 0) / start.length);
    const at = (share) => {
      const x = centre.map((c, j) => c + share * (c - worst.x[j]));
      return { x, y: judge(x) };
    };
    const reflected = at(1);
    if (reflected.y < simplex[0].y) {
      const further = at(2);
      simplex[simplex.length - 1] = further.y < reflected.y ? further : reflected;
    } else if (reflected.y < simplex.at(-2).y) simplex[simplex.length - 1] = reflected;
    else {
      const nearer = at(reflected.y < worst.y ? 0.5 : -0.5);
      if (nearer.y < Math.min(worst.y, reflected.y)) simplex[simplex.length - 1] = nearer;
      else
        simplex = simplex
          .map(({ x }) => x.map((value, j) => (value + simplex[0].x[j]) / 2))
          .map((x) => ({ x, y: judge(x) }));
    }
  }
  return simplex.sort((a, b) => a.y - b.y)[0].x;
}

function writeTable() {
  const all = readRows();
  const rows = all.filter((row) => !row.weightDecay && !row.optimizer && stepsOf(row) >= leastUpdates);
  const { law, rootMeanSquare } = fitLaw(rows);
  const recipes = [...new Map(rows.map((row) => [JSON.stringify(recipeOf(row)), recipeOf(row)])).values()].sort(
    (a, b) => parametersOf(a, 64) - parametersOf(b, 64) || a.batchSize - b.batchSize,
  );
  const round = (value) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value);
  const rounded = (object) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, round(value)]));
  const table = {
    trainings: rows.length,
    texts: [...new Set(rows.map(({ characters }) => characters))].sort((a, b) => a - b),
    mostCharacters: Math.max(...rows.map(({ characters, epochs }) => Math.round(0.9 * characters * epochs))),
    rootMeanSquare: round(rootMeanSquare),
    law: rounded(law),
    weightDecay: findWeightDecay(all),
    recipes,
  };
  const file = path.join(__dirname, '..', 'lib', 'training', 'best-table.ts');
  writeFileSync(
    file,
    `/** Written by \`node bench/search.js --table\` from bench/results/best-search.jsonl; docs/best.md says what it covers. */\nexport const bestTable = ${JSON.stringify(table, null, 2)};\n`,
  );
  for (const row of rows) {
    const own = rows.filter(({ text }) => text === row.text);
    const offset = own.reduce((sum, each) => sum + each.loss - reducible(law, each), 0) / own.length;
    const fitted = offset + reducible(law, row);
    console.log(
      `${row.text}: ${row.layers} x ${row.hidden}, ${batchOf(row)}, ${row.epochs} epochs: ${row.loss}, by the law ${fitted.toFixed(3)}`,
    );
  }
  console.log(JSON.stringify(table));
}

async function main() {
  if (values.table) return writeTable();
  const end = performance.now() + 1000 * Number(values['max-time']);
  for (const job of jobs()) {
    if (performance.now() >= end) break;
    const done = new Set(readRows().map(keyOf));
    if (done.has(keyOf({ ...job.recipe, optimizer, weightDecay, text: job.text.name, epochs: job.epochs }))) continue;
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
