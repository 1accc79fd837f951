/**
 * Damaged files of every format that is imported: each is read, or refused by an error of this package, in bounded memory,
 * and by none of its own faults. A few hundred of each here; scripts/fuzz-import.js makes as many as asked.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { CudnnLstmError } from '../../../lib/errors';
import { exportModel } from '../../../lib/export/export';
import { stateDictPickle } from '../../../lib/export/torch';
import { writeHdf5 } from '../../../lib/import/hdf5';
import { importModel } from '../../../lib/import/import';
import { LanguageModel } from '../../../lib/model';
import { writeLayersModel, writeMl5 } from '../../fixtures/foreign-files';

const count = Number(process.env.FUZZ_IMPORT ?? 300);
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

/** Flips, overwrites, drops, doubles or cuts; mostly near the beginning and the end, where structure is. */
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

/** One whole file of each format, and the names of the files whose bytes are damaged. */
const formats: Record<string, () => Promise<{ file: string; parts: string[] }>> = {
  'PyTorch, zip': async () => {
    const file = await exported('pytorch', 'zip.pt');
    return { file, parts: [file] };
  },
  'PyTorch, stream': async () => {
    const tensors = [
      ...stackOf('lstm', symbols.length, 5),
      { name: 'fc.weight', shape: [symbols.length, 5], data: new Float32Array(symbols.length * 5).fill(0.1) },
      { name: 'fc.bias', shape: [symbols.length], data: new Float32Array(symbols.length) },
    ];
    const pickle = (code: string) => Buffer.from(code, 'latin1');
    const keys = tensors.map((_, key) => `X${String.fromCharCode(String(key).length)}\0\0\0${key}`).join('');
    const bytes = Buffer.concat([
      pickle('\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.'),
      stateDictPickle(tensors),
      pickle(`\x80\x02](${keys}e.`),
      ...tensors.flatMap(({ data }) => {
        const length = Buffer.alloc(8);
        length.writeBigInt64LE(BigInt(data.length));
        return [length, Buffer.from(data.buffer)];
      }),
    ]);
    const file = join(folder, 'model.net');
    writeFileSync(file, bytes);
    return { file, parts: [file] };
  },
  'Keras, archive': async () => {
    const file = await exported('keras', 'archive.keras');
    return { file, parts: [file] };
  },
  'Keras, HDF5': async () => {
    const file = join(folder, 'weights.h5');
    const lstm = { kernel: [12, 20], recurrent_kernel: [5, 20], bias: [20] };
    const tensors = [
      ...Object.entries(lstm).map(([name, shape]) => ({ path: `lstm_1/lstm_1/${name}:0`, shape })),
      { path: 'dense_1/dense_1/kernel:0', shape: [5, 12] },
      { path: 'dense_1/dense_1/bias:0', shape: [12] },
    ];
    const filled = tensors.map((each) => ({
      ...each,
      data: new Float32Array(each.shape.reduce((a, b) => a * b, 1)).fill(0.2),
    }));
    writeFileSync(file, await writeHdf5(filled));
    return { file, parts: [file] };
  },
  'TensorFlow.js': async () => {
    const file = writeLayersModel(join(folder, 'tfjs'), symbols.length);
    return { file, parts: [file, join(folder, 'tfjs', 'weights.bin')] };
  },
  ml5: async () => {
    const file = writeMl5(join(folder, 'ml5'), symbols);
    return { file, parts: [file, join(folder, 'ml5', 'vocab.json'), join(folder, 'ml5', 'rnnlm_softmax_w')] };
  },
};

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

async function exported(to: 'pytorch' | 'keras', name: string): Promise<string> {
  const shape = {
    vocabulary: symbols.length,
    layers: 1,
    hidden: 5,
    input: 'onehot',
    embedding: 0,
    dropout: 0,
  } as const;
  using model = await LanguageModel.create(shape, new Vocabulary(symbols), { ...cpu, seed: 1 });
  const checkpoint = join(folder, `${to}.safetensors`);
  await model.save(checkpoint);
  const out = join(folder, name);
  await exportModel(checkpoint, { to, out });
  return out;
}

for (const [name, make] of Object.entries(formats)) {
  // HDF5 files take a thread each.
  const threads = name.startsWith('Keras');
  const times = threads && process.env.FUZZ_IMPORT === undefined ? Math.ceil(count / 40) : count;
  test(
    `${name}: ${times} mutations`,
    async () => {
      const { file, parts } = await make();
      const whole = parts.map((part) => readFileSync(part));
      const random = generator(Number(process.env.FUZZ_SEED ?? 1));
      const vocabulary = join(folder, 'symbols.json');
      let [read, slowest, memory] = [0, 0, 0];
      const kinds = new Map<string, number>();
      const one = async () => {
        const began = performance.now();
        try {
          await importModel(file, { ...cpu, text, ...(name === 'ml5' ? {} : { vocabulary }) });
          read++;
        } catch (error) {
          // Anything else is a fault of the reader: it is shown, with the file that brought it about.
          if (!(error instanceof CudnnLstmError) || /[\n\r]/.test(error.message)) {
            mkdirSync(join(tmpdir(), 'fuzz-import'), { recursive: true });
            for (const [i, part] of parts.entries())
              writeFileSync(join(tmpdir(), 'fuzz-import', `${name}-${i}`), readFileSync(part));
            throw error;
          }
          kinds.set(error.code, (kinds.get(error.code) ?? 0) + 1);
        }
        slowest = Math.max(slowest, performance.now() - began);
        memory = Math.max(memory, process.memoryUsage().rss);
      };
      await one();
      // The whole file is understood: it is refused, if at all, because it predicts nothing.
      expect(read === 1 || kinds.get('ERR_CHECKPOINT') === 1).toBe(true);
      const before = process.memoryUsage().rss;
      for (let n = 0; n < times; n++) {
        const damaged = random(parts.length);
        for (const [i, part] of parts.entries())
          writeFileSync(part, i === damaged ? mutate(whole[i] as Buffer, random) : (whole[i] as Buffer));
        await one();
      }
      const grown = Math.round((memory - before) / 2 ** 20);
      console.log(
        `${name}: ${times} mutations, ${read} read, memory grew by ${grown} MiB at most, slowest ${(slowest / 1000).toFixed(2)} s`,
      );
      expect(grown).toBeLessThan(1024);
    },
    process.env.FUZZ_IMPORT === undefined ? undefined : 6 * 3600_000,
  );
}
