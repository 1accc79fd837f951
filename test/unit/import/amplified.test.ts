/** Small files that ask for much work or memory: repeated references are followed once, and overlong lists refused. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stateDictPickle } from '../../../lib/export/torch';
import { importModel } from '../../../lib/import/import';
import { torchStream, writeLayersModel, writeTorchModule } from '../../fixtures/foreign-files';

const symbols = [...'\n abcdefghij'];
let folder: string;
const at = (name: string) => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'amplified-'));
  writeFileSync(at('text.txt'), 'abba cab\nfig hide jade\n'.repeat(20));
});
afterAll(() => rmSync(folder, { recursive: true }));

const options = { device: 'cpu', threads: 1 } as const;
const imported = (file: string) => importModel(file, { ...options, text: at('text.txt') });
const code = (instructions: string) => Buffer.from(instructions, 'latin1');

/** Pickle instructions for a string; `whole` gives those for an integer. */
function text(value: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  return `X${length.toString('latin1')}${value}`;
}
function whole(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return `J${bytes.toString('latin1')}`;
}

const [V, H] = [symbols.length, 5];
const tensor = (name: string, ...shape: number[]) => ({
  ...{ name, shape },
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.1),
});
const lstm = [
  tensor('lstm.weight_ih_l0', 4 * H, V),
  tensor('lstm.weight_hh_l0', 4 * H, H),
  tensor('lstm.bias_ih_l0', 4 * H),
  tensor('fc.weight', V, H),
  tensor('fc.bias', V),
];
const keys = `](${lstm.map((_, key) => text(String(key))).join('')}e`;
const storages = lstm.map(({ data }) => data);

test('PyTorch: a key of storages that is a list of lists that hold one another twice', async () => {
  writeFileSync(at('keys.net'), torchStream(code('\x80\x02}.'), `]N${'2\x86'.repeat(60)}a`, storages));
  await expect(imported(at('keys.net'))).rejects.toThrow('a storage without a key');
});

test('PyTorch: a large dict in very many places', async () => {
  const entries = Array.from({ length: 50_000 }, (_, i) => `${whole(i)}N`).join('');
  const places = `(${'h\x00'.repeat(200_000)}t`;
  const state = stateDictPickle(lstm).subarray(2, -1);
  const root = Buffer.concat([code(`\x80\x02(}(${entries}uq\x00`), state, code(`${places}t.`)]);
  writeFileSync(at('places.net'), torchStream(root, keys, storages));
  await expect(imported(at('places.net'))).rejects.toThrow('its vocabulary of 12 symbols is not in it');
});

test('PyTorch: more layers than a model has', async () => {
  const names = Array.from({ length: 60_000 }, (_, i) => `${text(`part${i}.weight_ih_l0`)}h\x00`).join('');
  const weight = stateDictPickle(lstm.slice(0, 1)).subarray(0, -1);
  const root = Buffer.concat([weight, code(`(${text('again')}`), weightOf(), code(`q\x00${names}u.`)]);
  writeFileSync(at('layers.net'), torchStream(root, `](${text('0')}e`, storages.slice(0, 1)));
  await expect(imported(at('layers.net'))).rejects.toThrow('more than 64 layers');
});

/** Pickle instructions for one tensor. */
function weightOf(): Buffer {
  const pickle = stateDictPickle(lstm.slice(0, 1)).toString('latin1');
  return code(pickle.slice(pickle.indexOf('ctorch._utils'), -2));
}

test('PyTorch: modules with names that are too long to be joined', async () => {
  const file = writeTorchModule(at('module.pt'), symbols, 'n'.repeat(1001));
  await expect(imported(file)).rejects.toThrow('a part of its modules has a name of 1001 characters');
});

test('TensorFlow.js: one file of weights that is named often', async () => {
  const file = writeLayersModel(at('often'), V);
  const model = JSON.parse(readFileSync(file, 'utf8'));
  model.weightsManifest[0].paths = new Array(50_000).fill('weights.bin');
  writeFileSync(file, JSON.stringify(model));
  await expect(imported(file)).rejects.toThrow('its list of weights names "weights.bin" twice');
});

test('TensorFlow.js: more layers and tensors than a model has', async () => {
  const file = writeLayersModel(at('many'), V);
  const whole = readFileSync(file, 'utf8');
  const layers = JSON.parse(whole);
  layers.modelTopology.config.layers = new Array(20_000).fill({ class_name: 'Dense', config: { name: 'd' } });
  writeFileSync(file, JSON.stringify(layers));
  await expect(imported(file)).rejects.toThrow('a configuration of 20000 layers');
  const tensors = JSON.parse(whole);
  tensors.weightsManifest[0].weights = new Array(20_001).fill({ name: 'a/b', shape: [0], dtype: 'float32' });
  writeFileSync(file, JSON.stringify({ ...tensors, modelTopology: undefined }));
  await expect(imported(file)).rejects.toThrow('it holds more than 20000 tensors');
});
