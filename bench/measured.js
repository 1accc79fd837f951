// Shared by the benchmarks: busy processes, statistics, the description of the machine, and the result file.
const { spawn } = require('node:child_process');
const { mkdirSync, readFileSync, writeFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;

const median = (list) => {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** The sample standard deviation: n - 1 in the denominator. */
const standardDeviation = (list) => {
  const centre = mean(list);
  return Math.sqrt(list.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (list.length - 1));
};

const rounded = (value, digits) => Number(value.toPrecision(digits));

/** The processor's name, with the numbers that identify it, since a hypervisor may report only its make. */
function processor() {
  const name = os.cpus()[0]?.model.trim() ?? 'unknown';
  let about = '';
  try {
    about = readFileSync('/proc/cpuinfo', 'utf8');
  } catch {} // Not Linux.
  const number = (field) => new RegExp(`^${field}\\s*: (\\d+)$`, 'm').exec(about)?.[1];
  const [family, model] = [number('cpu family'), number('model')];
  return family === undefined ? name : `${name} (family ${family}, model ${model})`;
}

const machine = () => ({
  cpu: processor(),
  cores: os.availableParallelism(),
  memoryGiB: Math.round(os.totalmem() / 2 ** 30),
  platform: `${process.platform}-${process.arch}`,
  node: process.version,
});

/** Starts processes that spin; returns a function that ends them. */
function startBusy(count) {
  const processes = Array.from({ length: count }, () =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
  const end = () => {
    for (const each of processes) each.kill('SIGKILL');
  };
  process.on('exit', end);
  return () => {
    end();
    process.off('exit', end);
  };
}

/** Writes bench/results/<kind>-<cpu>-<threads>.json if `save` is set; returns a line that says whether it did. */
function writeResult(kind, threads, result, { save = false } = {}) {
  const directory = path.join(__dirname, 'results');
  const cpu = result.machine.cpu
    .replace(/[^A-Za-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .toLowerCase();
  const name = `${kind}-${cpu}-${threads}.json`;
  const shown = path.join('bench', 'results', name);
  if (!save) return `not kept; --save writes it to ${shown}`;
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, name), `${JSON.stringify(result, null, 2)}\n`);
  return `written to ${shown}`;
}

module.exports = { machine, mean, median, rounded, standardDeviation, startBusy, writeResult };
