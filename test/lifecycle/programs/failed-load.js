/**
 * Loads the addon where its start fails at each place at which it runs JavaScript: `failed-load.js ADDON`. Each failure is tried in this
 * thread and in a worker, which then ends; two more workers are terminated there. Last, the addon is loaded where nothing fails. Prints what
 * happened as JSON.
 */
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const { process } = globalThis;
const { on } = process;
const refuse = () => {
  throw new Error('refused');
};
const replace = (property) => {
  Object.defineProperty(process, 'on', { configurable: true, ...property });
};
/** A process.on that adds the listener and then does this. */
const addAnd = (then) => ({
  value(...args) {
    Reflect.apply(on, this, args);
    then();
  },
});

/** Each makes the next load fail, and may return the object that it exports to. */
const failures = {
  'process cannot be read': () => {
    Object.defineProperty(globalThis, 'process', { configurable: true, get: refuse });
  },
  'process.on cannot be read': () => replace({ get: refuse }),
  'process.on throws': () => replace({ value: refuse }),
  'process.on throws when it has added the listener': () => replace(addAnd(refuse)),
  'the exports take nothing': () => Object.freeze({}),
};

const wait = () => {
  parentPort.postMessage('waiting');
  for (;;);
};

/** Each makes the next load wait for the end of its worker. */
const waits = {
  'in process.on': () => replace({ value: wait }),
  'in process.on, when it has added the listener': () => replace(addAnd(wait)),
};

/** The message of the error, or undefined if the addon has been loaded. */
function load(module) {
  try {
    process.dlopen(module, addon);
    return undefined;
  } catch (error) {
    return error.message;
  }
}

function loadWith(prepare) {
  const message = load({ exports: prepare() ?? {} });
  Object.defineProperty(globalThis, 'process', { configurable: true, value: process });
  replace({ value: on });
  return message;
}

function inWorker(name) {
  const worker = new Worker(__filename, { argv: [addon], workerData: name });
  return new Promise((resolve, reject) => {
    let message;
    worker.on('message', (text) => {
      message = text;
      if (text === 'waiting') worker.terminate();
    });
    worker.on('error', reject);
    worker.on('exit', (code) => resolve({ name, message, code }));
  });
}

async function main() {
  const here = Object.entries(failures).map(([name, prepare]) => ({ name, message: loadWith(prepare) }));
  const workers = [];
  for (const name of [...Object.keys(failures), ...Object.keys(waits)]) workers.push(await inWorker(name));
  const module = { exports: {} };
  const last = load(module);
  const { isa } = module.exports.cpuInfo();
  console.log(JSON.stringify({ here, workers, last, isa }));
  process.exit(); // Calls every listener that a failed load has added.
}

const addon = process.argv[2];
if (isMainThread) void main();
else parentPort.postMessage(loadWith({ ...failures, ...waits }[workerData]));
