/**
 * Damaged files of every format that can be imported: each is read, or refused with an error of this package, in bounded memory. This
 * tries some of each; scripts/fuzz-import.js tries as many as it is told to.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { CudnnLstmError } from '../../../lib/errors';
import { exportModel } from '../../../lib/export/export';
import { stateDictPickle } from '../../../lib/export/torch';
import { Hdf5Thread, writeHdf5 } from '../../../lib/import/hdf5';
import { importBy } from '../../../lib/import/import';
import { LanguageModel } from '../../../lib/model';
import { share } from '../../fixtures/child';
import {
  biasOf,
  headOf,
  kernelOf,
  torchStream,
  weightsOf,
  writeLayersModel,
  writeMl5,
  writeTorchModule,
} from '../../fixtures/foreign-files';

const count = Number(process.env.FUZZ_IMPORT ?? share(100));
const symbols = [...'\n abcdefghij'];
const cpu = { device: 'cpu', threads: 1 } as const;

let folder: string;
let text: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
  text = join(folder, 'text.txt');
  writeFileSync(text, 'abba cab\nfig hide jade\n'.repeat(20));
  writeFileSync(join(folder, 'symbols.json'), JSON.stringify(symbols));
});
afterAll(() => rmSync(folder, { recursive: true }));

function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const nasty = [0, 1, 0x2e, 0x28, 0x52, 0x62, 0x63, 0x7f, 0x80, 0xff];

/** Flips, overwrites, removes, repeats or cuts off bytes, mostly near the beginning and the end, where the file's structure is. */
function mutate(bytes: Buffer, random: (below: number) => number): Buffer {
  let out = Buffer.from(bytes);
  for (let n = 1 + random(4); n > 0 && out.length > 0; n--) {
    const where = random(3);
    const at =
      where === 0
        ? random(out.length)
        : where === 1
          ? random(Math.min(out.length, 1200))
          : out.length - 1 - random(Math.min(out.length, 1200));
    const length = 1 + random(random(4) === 0 ? 64 : 4);
    switch (random(7)) {
      case 0:
        out[at] = (out[at] as number) ^ (1 << random(8));
        break;
      case 1:
        out[at] = nasty[random(nasty.length)] as number;
        break;
      case 2:
        out.fill(random(2) * 255, at, Math.min(out.length, at + length));
        break;
      case 3:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + length)]);
        break;
      case 4:
        out = Buffer.concat([out.subarray(0, at + length), out.subarray(at)]);
        break;
      case 5:
        if (random(8) === 0) out = out.subarray(0, at);
        break;
      default:
        if (at + 8 <= out.length) out.writeBigUInt64LE(BigInt(2 ** random(63)), at);
    }
  }
  return out;
}

/** Makes an intact file of each format. `parts` are the files to damage, and `known` says that the model's symbols are in them. */
const formats: Record<string, () => Promise<{ file: string; parts: string[]; known?: boolean }>> = {
  'our checkpoint': async () => {
    const file = await savedModel('own.safetensors');
    return { file, parts: [file] };
  },
  'PyTorch, zip': async () => {
    const file = await exported('pytorch', 'zip.pt');
    return { file, parts: [file] };
  },
  'PyTorch, module': async () => {
    const file = writeTorchModule(join(folder, 'module.pt'), symbols);
    return { file, parts: [file], known: true };
  },
  'PyTorch, stream': async () => {
    const tensors = [
      ...stackOf('lstm', symbols.length, 5),
      { name: 'fc.weight', shape: [symbols.length, 5], data: new Float32Array(symbols.length * 5).fill(0.1) },
      { name: 'fc.bias', shape: [symbols.length], data: new Float32Array(symbols.length) },
    ];
    const keys = tensors.map((_, key) => `X${String.fromCharCode(String(key).length)}\0\0\0${key}`).join('');
    const file = join(folder, 'model.net');
    writeFileSync(
      file,
      torchStream(
        stateDictPickle(tensors),
        `](${keys}e`,
        tensors.map(({ data }) => data),
      ),
    );
    return { file, parts: [file] };
  },
  'Keras, archive': async () => {
    const file = await exported('keras', 'archive.keras');
    return { file, parts: [file] };
  },
  'Keras, weights in HDF5': async () => {
    const file = join(folder, 'weights.h5');
    writeFileSync(file, await writeHdf5(kerasTensors('')));
    return { file, parts: [file] };
  },
  'Keras, model in HDF5': async () => {
    const file = join(folder, 'model.h5');
    const lstm = { name: 'lstm_1', units: 5, return_sequences: true, recurrent_activation: 'hard_sigmoid' };
    const layers = [
      { class_name: 'LSTM', config: { ...lstm, batch_input_shape: [null, 20, symbols.length] } },
      { class_name: 'Dense', config: { name: 'dense_1', activation: 'softmax' } },
    ];
    const config = { class_name: 'Sequential', config: { name: 'sequential_1', layers } };
    const attributes = { model_config: JSON.stringify(config), keras_version: '2.2.4', backend: 'tensorflow' };
    writeFileSync(file, await writeHdf5(kerasTensors('model_weights/'), attributes));
    return { file, parts: [file] };
  },
  'TensorFlow.js': async () => {
    const file = writeLayersModel(join(folder, 'tfjs'), symbols.length);
    return { file, parts: [file, join(folder, 'tfjs', 'weights.bin')] };
  },
  ml5: async () => {
    const file = writeMl5(join(folder, 'ml5'), symbols);
    const parts = [file, join(folder, 'ml5', 'vocab.json'), join(folder, 'ml5', 'rnnlm_softmax_w')];
    return { file, parts, known: true };
  },
};

/** The tensors of a Keras 2 model with one-hot input and H = 5. */
function kerasTensors(group: string) {
  const V = symbols.length;
  const tensors = [
    { path: `${group}lstm_1/lstm_1/kernel:0`, shape: [V, 20], data: kernelOf(V, V, 5, 0) },
    { path: `${group}lstm_1/lstm_1/recurrent_kernel:0`, shape: [5, 20], data: kernelOf(5, 0, 5, 1) },
    { path: `${group}lstm_1/lstm_1/bias:0`, shape: [20], data: biasOf(5, 1, 2) },
    { path: `${group}dense_1/dense_1/kernel:0`, shape: [5, V], data: headOf(5 * V, 3) },
    { path: `${group}dense_1/dense_1/bias:0`, shape: [V], data: weightsOf(V, 4) },
  ];
  return tensors;
}

function stackOf(prefix: string, features: number, hidden: number) {
  const tensor = (name: string, ...shape: number[]) => ({
    name: `${prefix}.${name}`,
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.1),
  });
  return [
    tensor('weight_ih_l0', 4 * hidden, features),
    tensor('weight_hh_l0', 4 * hidden, hidden),
    tensor('bias_ih_l0', 4 * hidden),
  ];
}

async function savedModel(name: string): Promise<string> {
  const shape = {
    vocabulary: symbols.length,
    layers: 1,
    hidden: 5,
    input: 'onehot',
    embedding: 0,
    dropout: 0,
  } as const;
  using model = await LanguageModel.create(shape, new Vocabulary(symbols), { ...cpu, seed: 1 });
  const file = join(folder, name);
  await model.save(file);
  return file;
}

async function exported(to: 'pytorch' | 'keras', name: string): Promise<string> {
  const checkpoint = await savedModel(`${to}.safetensors`);
  const out = join(folder, name);
  await exportModel(checkpoint, { to, out });
  return out;
}

/** Reads all HDF5 files: starting the library anew for each of 10,000 would take an hour. */
const thread = new Hdf5Thread();
/** The thread is replaced after this many files, so that the library never has very many of them behind it. */
const filesPerThread = 2000;
afterAll(() => thread.end());

for (const [name, make] of Object.entries(formats)) {
  test(
    `${name}: ${count} mutations`,
    async () => {
      const { file, parts, known = false } = await make();
      const whole = parts.map((part) => readFileSync(part));
      const random = generator(Number(process.env.FUZZ_SEED ?? 1));
      const vocabulary = known ? {} : { vocabulary: join(folder, 'symbols.json') };
      const read = (bytes: Uint8Array, signal?: AbortSignal) => thread.read(bytes, signal);
      const open = async () => {
        if (name !== 'our checkpoint') return void (await importBy(read, file, { ...cpu, text, ...vocabulary }));
        using model = await LanguageModel.load(file, cpu);
        await model.generateText({ length: 3 });
      };
      let [accepted, unproved, refused, slowest, memory] = [0, 0, 0, 0, 0];
      const one = async () => {
        const began = performance.now();
        try {
          await open();
          accepted++;
        } catch (error) {
          // Anything else is a bug in the reader: the test fails, and keeps the files that caused it.
          if (!(error instanceof CudnnLstmError) || /[\n\r]/.test(error.message)) {
            mkdirSync(join(tmpdir(), 'fuzz-import'), { recursive: true });
            for (const [i, part] of parts.entries())
              writeFileSync(join(tmpdir(), 'fuzz-import', `${name}-${i}`), readFileSync(part));
            throw error;
          }
          if (/ it predicts /.test(error.message)) unproved++;
          else refused++;
        }
        slowest = Math.max(slowest, performance.now() - began);
        memory = Math.max(memory, process.memoryUsage().rss);
      };
      await one();
      // The intact file can be read; if it is refused, it is only because its model predicts badly.
      expect(accepted + unproved).toBe(1);
      [accepted, unproved, slowest] = [0, 0, 0];
      const before = process.memoryUsage().rss;
      for (let n = 0; n < count; n++) {
        const damaged = random(parts.length);
        for (const [i, part] of parts.entries())
          writeFileSync(part, i === damaged ? mutate(whole[i] as Buffer, random) : (whole[i] as Buffer));
        await one();
        if (n % filesPerThread === filesPerThread - 1) await thread.end();
      }
      const grown = Math.round((memory - before) / 2 ** 20);
      console.log(
        `${name}: ${count} mutations, ${refused} refused, ${unproved} read but no better than counting letters, ${accepted} accepted; ` +
          `memory grew by ${grown} MiB at most, to ${Math.round(memory / 2 ** 20)}, slowest ${(slowest / 1000).toFixed(2)} s`,
      );
      expect(grown).toBeLessThan(1024);
      // Some mutations must be harmless, or the code after the first checks would never be tested.
      expect(Math.min(refused, accepted + unproved)).toBeGreaterThan(0);
    },
    process.env.FUZZ_IMPORT === undefined ? undefined : 6 * 3600_000,
  );
}
