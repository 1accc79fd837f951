#!/usr/bin/env node
/**
 * Bits per character on the last tenth of a text, for models trained on the rest, as rows of a table with the command and the time of each.
 * With --bytes these are bits per byte, followed by those of bzip2, zstd, xz and 7z (PPMd), if installed: for the whole file, and for its
 * last tenth after the rest, which is the compressed size of the whole minus that of the rest.
 *
 *   node bench/bits.js tinyshakespeare.txt --hidden 128,256 --epochs 8
 *   node bench/bits.js dictionary.txt --bytes --hidden 256 --epochs 1 --time 1h
 *
 * The best checkpoint scores the text from the beginning of the tenth to its end, carrying the state. Other programs that run at the same
 * time do not lengthen the processor seconds.
 */
const { spawnSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { LanguageModel, train } = require('../dist');
const { MemoryIds } = require('../dist/corpus/ids');
const { machine } = require('./measured');

const number = (value) => ({ type: 'string', default: String(value) });
const {
  values,
  positionals: [file],
} = parseArgs({
  allowPositionals: true,
  options: {
    bytes: { type: 'boolean', default: false },
    /** One size per row. */
    hidden: number('128,256'),
    layers: number(2),
    dropout: number(0.2),
    epochs: number(8),
    'batch-size': number(32),
    'seq-length': number(64),
    /** How long to train, such as 30m, if the epochs would take longer: the learning rate decays by then. */
    time: { type: 'string' },
    threads: number(os.availableParallelism()),
    /** Only the compressors. */
    'no-models': { type: 'boolean', default: false },
  },
});
if (file === undefined) {
  console.error('name a text: node bench/bits.js tinyshakespeare.txt');
  process.exit(3);
}

const content = readFileSync(file);
const unit = values.bytes ? 'byte' : 'character';
const load = () => os.loadavg()[0].toFixed(1);

/** The last `count` symbols, in the form that a model of them takes. */
function tailOf(count) {
  if (values.bytes) return new MemoryIds(Uint8Array.from(content.subarray(content.length - count)));
  return [...content.toString('utf8').replace(/\r\n?/g, '\n')].slice(-count).join('');
}

async function trainedModel(hidden, folder) {
  const options = {
    hidden,
    ...Object.fromEntries(['layers', 'dropout', 'epochs'].map((name) => [name, Number(values[name])])),
    batchSize: Number(values['batch-size']),
    seqLength: Number(values['seq-length']),
  };
  if (values.time !== undefined) options.scheduleTime = values.time;
  const flags = Object.entries(options).map(
    ([name, value]) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} ${value}`,
  );
  const bytes = values.bytes ? { bytes: true } : {};
  const command = ['train', path.basename(file), ...(values.bytes ? ['--bytes'] : []), ...flags].join(' ');
  const out = path.join(folder, String(hidden));
  const [began, cpu, loadBefore] = [performance.now(), process.cpuUsage(), load()];
  const threads = Number(values.threads);
  const training = await train({ corpus: [file], ...options, ...bytes, device: 'cpu', threads, sampleLength: 0, out });
  let [held, stepsPerEpoch, passes] = [0, 1, 0];
  let told = began;
  for await (const event of training) {
    if (event.type === 'step' && performance.now() > told + 60_000) {
      told = performance.now();
      const done = `step ${event.step} of ${event.stepsPerEpoch}, loss ${event.loss.toFixed(4)}`;
      console.error(
        `epoch ${event.epoch}, ${done}, ${event.charactersPerSecond.toFixed(0)} ${unit}s/s, load ${load()}`,
      );
    }
    if (event.type === 'start') ({ validationCharacters: held, stepsPerEpoch } = event);
    if (event.type === 'end') passes = event.totalSteps / stepsPerEpoch;
    if (event.type === 'epoch')
      console.error(
        `${options.layers} x ${hidden}: epoch ${event.epoch}, validation ${event.validationBitsPerCharacter.toFixed(4)} bits, ` +
          `${event.charactersPerSecond.toFixed(0)} ${unit}s/s, ${event.elapsedSeconds.toFixed(0)} s, load ${load()}`,
      );
  }
  await training.dispose();
  const { user, system } = process.cpuUsage(cpu);
  const clock = (performance.now() - began) / 1000;
  const model = await LanguageModel.load(out, { device: 'cpu', threads });
  const { loss, bitsPerCharacter } = await model.score(tailOf(held));
  model.dispose();
  console.log(
    `| LSTM of ${options.layers} x ${hidden} | ${loss.toFixed(4)} | ${bitsPerCharacter.toFixed(4)} | ${passes.toFixed(2)} epochs, ${clock.toFixed(0)} s, ` +
      `${((user + system) / 1e6).toFixed(0)} s of a processor; load ${loadBefore} to ${load()} | \`${command}\` |`,
  );
}

/** A program that compresses its input to its output: the compressed size in bytes, or undefined if there is no such program. */
const filter = (program, ...args) => ({
  name: [program, ...args].join(' '),
  size(bytes) {
    const result = spawnSync(program, args, { input: bytes, maxBuffer: 2 ** 30 });
    if (result.error?.code === 'ENOENT') return undefined;
    if (result.status !== 0) throw new Error(`${program}: ${result.error ?? result.stderr}`);
    return result.stdout.length;
  },
});

/** 7z takes files only. */
const ppmd = (folder) => ({
  name: '7z a -m0=PPMd:o=16:mem=1g',
  size(bytes) {
    const [input, archive] = [path.join(folder, 'input'), path.join(folder, 'archive.7z')];
    writeFileSync(input, bytes);
    const result = spawnSync('7z', ['a', '-m0=PPMd:o=16:mem=1g', archive, input]);
    if (result.error?.code === 'ENOENT') return undefined;
    if (result.status !== 0) throw new Error(`7z: ${result.error ?? result.stdout}`);
    const { size } = statSync(archive);
    rmSync(archive);
    return size;
  },
});

function printCompressors(folder) {
  const rest = content.subarray(0, content.length - Math.floor(content.length / 10));
  console.log('\n| compressor | bits a byte of the whole file | of its last tenth, after the rest |\n|---|---|---|');
  const programs = [
    filter('bzip2', '-9'),
    filter('zstd', '-19', '--long=27'),

    filter('xz', '-9e'),
    ppmd(folder),
  ];
  for (const { name, size } of programs) {
    const whole = size(content);
    if (whole === undefined) {
      console.error(`not there: ${name}`);
      continue;
    }
    const last = whole - size(rest);
    const bits = [(whole * 8) / content.length, (last * 8) / (content.length - rest.length)];
    console.log(`| \`${name}\` | ${bits[0].toFixed(4)} | ${bits[1].toFixed(4)} |`);
  }
}

async function main() {
  const { cpu, cores, node } = machine();
  const sha256 = createHash('sha256').update(content).digest('hex');
  console.log(`${path.basename(file)}: ${content.length.toLocaleString('en')} bytes, SHA-256 ${sha256}`);
  console.log(`${cpu}, ${values.threads} threads of ${cores}, Node ${node}\n`);
  const folder = mkdtempSync(path.join(os.tmpdir(), 'bench-bits-'));
  try {
    console.log(`| model | nats | bits a ${unit} | time | command |\n|---|---|---|---|---|`);
    if (!values['no-models']) for (const hidden of values.hidden.split(',')) await trainedModel(Number(hidden), folder);
    if (values.bytes) printCompressors(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
