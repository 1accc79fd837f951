#!/usr/bin/env node
/**
 * The cost of loading a large checkpoint: the peak resident memory of the whole process, as a multiple of the parameters, and seconds,
 * each load in its own process, medians of several rounds. With --against, alternates with another built checkout of the package.
 * The checkpoint is a sparse file of zeros, which takes no disk space.
 *
 *   node bench/load.js [--hidden 2048] [--layers 2] [--rounds 3] [--against DIR]
 */
const { execFileSync } = require('node:child_process');
const { mkdtempSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const layouts = require('../dist/checkpoint/layout');
const { writeSparseCheckpoint } = require('../test/fixtures/sparse-checkpoint');
const { machine, median } = require('./measured');

const number = (value) => ({ type: 'string', default: String(value) });
const { values } = parseArgs({
  options: { hidden: number(2048), layers: number(2), rounds: number(3), against: { type: 'string' } },
});
const root = path.join(__dirname, '..');
const program = path.join(root, 'test', 'lifecycle', 'programs', 'loading.js');
const uses = { nothing: 'loading alone', stream: '+ 3 characters, 1 stream', streams: '+ 3 characters, 3 streams' };

const folder = mkdtempSync(path.join(tmpdir(), 'load-'));
try {
  const file = path.join(folder, 'model.safetensors');
  const shape = {
    layers: Number(values.layers),
    hidden: Number(values.hidden),
    input: 'onehot',
    embedding: 0,
    dropout: 0,
  };
  const bytes = writeSparseCheckpoint(file, shape, [...'abcdef'], layouts);
  const { cpu, cores, node } = machine();
  console.log(`${cpu}, ${cores} cores, node ${node}: ${(bytes / 2 ** 20).toFixed(0)} MiB of parameters`);
  const checkouts = values.against ? { [values.against]: [], 'this checkout': [] } : { 'this checkout': [] };
  for (const [use, title] of Object.entries(uses)) {
    const runs = Object.fromEntries(Object.keys(checkouts).map((name) => [name, []]));
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [name, list] of Object.entries(runs)) {
        const from = name === values.against ? path.resolve(name) : root;
        list.push(JSON.parse(execFileSync(process.execPath, [program, from, file, use], { encoding: 'utf8' })));
      }
    }
    for (const [name, list] of Object.entries(runs)) {
      const peak = median(list.map((run) => run.peak));
      const seconds = median(list.map((run) => run.withUse));
      const multiple = ((peak * 2 ** 20) / bytes).toFixed(2);
      console.log(
        `${title.padEnd(26)} ${name.padEnd(14)} ${peak.toFixed(0).padStart(5)} MiB, ${multiple} x the parameters, ${seconds.toFixed(2)} s`,
      );
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
