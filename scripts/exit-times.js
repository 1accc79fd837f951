#!/usr/bin/env node
/**
 * Ends programs at random moments, N times in each way, and measures how long that takes: `exit-times.js N [SHARE]`. SHARE shortens the
 * pauses before the ends, for a short test; at 1 they are full length, up to one and a half seconds, for Ctrl-C up to four. The ways:
 * process.exit(), a worker that is terminated or calls process.exit(), and Ctrl-C twice, each also while a model large enough to take
 * seconds is being created. Prints JSON with, for each way, the count and the longest time in milliseconds, and how often the second
 * Ctrl-C came while the first was being handled; exits with 1 if an exit code was wrong, a process ended in some other way, or an end
 * took longer than two seconds.
 */
const { spawn } = require('node:child_process');
const { rmSync, writeSync } = require('node:fs');
const { availableParallelism } = require('node:os');
const { join } = require('node:path');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { reportTimes } = require('./longest-times.js');

const limit = 2000;
/** The fraction of the longest pause. */
const share = Number(process.argv[3] ?? 1);
const vocabulary = 31;
const ids = (length) => Int32Array.from({ length }, (_, i) => (i * i) % vocabulary);
const long = { target: 'every', carryState: false, dropout: false };

/** What is running when the end comes: each takes seconds or minutes. */
const activities = {
  create: async (addon) => (await make(addon, 1024)).initialize(),
  train: async (addon) => {
    const rates = { learningRates: new Float64Array(1), beta1: 0.9, beta2: 0.999, epsilon: 1e-7, clip: 1 };
    const model = await make(addon, 512);
    return model.trainSteps({ ids: ids(401 * 32), count: 1, steps: 400, batch: 32, ...long, ...rates });
  },
  evaluate: async (addon) => (await make(addon, 512)).evaluate({ ...long, ids: ids(401 * 64), steps: 400, batch: 64 }),
  'evaluate one': async (addon) =>
    (await make(addon, 512)).evaluate({ ...long, ids: ids(100_001), steps: 100_000, batch: 1 }),
  sample: async (addon) =>
    (await make(addon, 512)).sample({ ids: ids(400), streams: 1, count: 2000, window: 400, sampling: {} }),
};
const names = Object.keys(activities);

function make(addon, hidden) {
  const spec = { vocabulary, layers: 2, hidden, input: 'onehot', embedding: 0, dropout: 0, seed: 1 };
  return addon.createModel(spec, { device: 'cpu', threads: 2 });
}

const pauseBefore = () => share * Math.random() * 1500;

function begin(activity) {
  const { loadNative } = require('../dist/device/native');
  void activities[activity](loadNative()).then(() => setInterval(() => {}, 1000)); // Stays alive until it is ended.
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Starts a program; `ended` resolves to how it ended, and when. */
function start(argv) {
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const ended = new Promise((resolve) => {
    let at;
    child.on('exit', () => {
      at = Date.now();
    });
    child.on('close', (code, signal) => resolve({ code, signal, at, stdout, stderr }));
  });
  return { child, ended };
}

async function processExit(index) {
  const { ended } = start([__filename, 'exit', names[index % names.length], String(pauseBefore())]);
  const { code, signal, at, stdout, stderr } = await ended;
  if (code !== 7 || stderr !== '') throw new Error(`${names[index % names.length]}: ${code ?? signal}, ${stderr}`);
  return at - Number(stdout);
}

async function workerEnd(index) {
  const how = index % 2 === 0 ? 'terminate' : 'exit';
  const activity = names[(index >> 1) % names.length];
  const worker = new Worker(__filename, {
    workerData: { activity, exitAfter: how === 'exit' ? pauseBefore() : 0 },
  });
  let asked;
  worker.on('message', () => {
    asked = Date.now();
  });
  const ended = new Promise((resolve, reject) => worker.once('error', reject).once('exit', resolve));
  if (how === 'terminate') {
    await Promise.race([pause(pauseBefore()), ended]);
    asked = Date.now();
    await worker.terminate();
  }
  const code = await ended;
  if (how === 'exit' && code !== 3) throw new Error(`${activity}: a worker ended with ${code}`);
  return Date.now() - asked;
}

/**
 * Ctrl-C twice: the second comes while the first is being handled, which takes as long as writing a checkpoint of a large model, 200 MB
 * with its moments. A Ctrl-C before the program listens for signals, or after the checkpoint is written, is counted separately.
 */
async function interrupt(index, corpus, folder) {
  const out = join(folder, `run-${Math.random().toString(36).slice(2)}`);
  const shape = ['--hidden', '256', '--layers', '1', '--input', 'embedding', '--embedding-size', '16384'];
  const options = ['--out', out, ...shape, '--seq-length', '5', '--validation', '0', '--sample-length', '0'];
  const machine = ['--device', 'cpu', '--threads', '2', '--json'];
  const { child, ended } = start([join(__dirname, '..', 'dist', 'train.js'), corpus, ...options, ...machine]);
  // Every other time only once it trains, so that there is something to save; otherwise at any moment, model creation included.
  const begun = new Promise((resolve) => child.stdout.once('data', resolve));
  await Promise.race([
    index % 2 === 0 ? begun.then(() => pause(pauseBefore())) : pause(share * Math.random() * 4000),
    ended,
  ]);
  let asked = Date.now();
  child.kill('SIGINT');
  const gone = await Promise.race([pause(Math.random() * 60), ended]);
  if (gone === undefined) {
    asked = Date.now();
    child.kill('SIGINT');
  }
  const { code, signal, at, stderr } = await ended;
  rmSync(out, { recursive: true, force: true });
  // Before the program listens for signals, Ctrl-C ends it as it would any program.
  if (code !== 130 && signal !== 'SIGINT') throw new Error(`train: ${code ?? signal}, ${stderr}`);
  return { milliseconds: Math.max(0, at - asked), asPlanned: gone === undefined && signal === null };
}

async function measure(count, corpus, folder) {
  const report = {};
  for (const [name, once] of Object.entries({
    'process.exit': processExit,
    worker: workerEnd,
    'two Ctrl-C': interrupt,
  })) {
    let next = 0;
    let longest = 0;
    let twice = 0;
    const series = async () => {
      while (next < count) {
        const ended = await once(next++, corpus, folder);
        const { milliseconds, asPlanned } =
          typeof ended === 'number' ? { milliseconds: ended, asPlanned: false } : ended;
        longest = Math.max(longest, milliseconds);
        twice += asPlanned ? 1 : 0;
      }
    };
    await Promise.all(Array.from({ length: Math.min(4, availableParallelism()) }, series));
    report[name] = { ended: next, longest, ...(name === 'two Ctrl-C' ? { bySecond: twice } : {}) };
  }
  return report;
}

if (!isMainThread) {
  begin(workerData.activity);
  if (workerData.exitAfter > 0) {
    setTimeout(() => {
      parentPort.postMessage('ends');
      process.exit(3);
    }, workerData.exitAfter);
  }
} else if (process.argv[2] === 'exit') {
  begin(process.argv[3]);
  setTimeout(() => {
    writeSync(1, String(Date.now()));
    process.exit(7);
  }, Number(process.argv[4]));
} else {
  const count = Number(process.argv[2] ?? 20);
  void reportTimes(limit, (corpus, folder) => measure(count, corpus, folder));
}
