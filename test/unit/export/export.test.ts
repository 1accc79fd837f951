/** Exported models in other programs: PyTorch, ONNX Runtime, Keras, and JavaScript without the package. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { halfToFloat } from '../../../lib/checkpoint/safetensors';
import { exportModel } from '../../../lib/export/export';
import { toHalf } from '../../../lib/export/html';
import { crc32 } from '../../../lib/export/zip-writer';
import { importModel } from '../../../lib/import/import';
import { LanguageModel, nativeOf } from '../../../lib/model';
import { compiled, run } from '../../fixtures/child';
import { runCommand } from '../../fixtures/command';
import { cases, ids, plainCases, saveCase, symbols, text } from '../../fixtures/exports';
import { itWithPython, largestDifference, logitsOf, runPython } from '../../fixtures/interop';

let folder: string;
const paths = new Map<string, string>();
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'export-'));
  for (const each of cases) paths.set(each.name, await saveCase(folder, each));
});
afterAll(() => rmSync(folder, { recursive: true }));

const pathOf = (name: string) => paths.get(name) as string;
const hard = ({ shape }: (typeof cases)[number]) => shape.gateActivation !== undefined;

async function ours(name: string): Promise<Float32Array> {
  return logitsOf(pathOf(name), ids);
}

const torchScript = `
import json, sys, torch
folder, names, ids = sys.argv[1], json.loads(sys.argv[2]), torch.tensor(json.loads(sys.argv[3]))
answers = {}
for name, model in names.items():
    weights = torch.load(f"{folder}/{name}.pt", weights_only=True)
    vocabulary = json.load(open(f"{folder}/{name}.vocabulary.json", encoding="utf8"))
    V = len(vocabulary)
    part = lambda key: {k[len(key) + 1:]: v for k, v in weights.items() if k.startswith(key + ".")}
    if model["input"] == "embedding": x = part("embedding")["weight"][ids]
    elif model["input"] == "onehot": x = torch.nn.functional.one_hot(ids, V).float()
    else: x = (ids / V)[:, None]
    lstm = torch.nn.LSTM(x.shape[1], model["hidden"], model["layers"])
    lstm.load_state_dict(part("lstm"), strict=True)
    head = torch.nn.Linear(model["hidden"], V)
    head.load_state_dict(part("output"), strict=True)
    with torch.no_grad(): answers[name] = head(lstm(x)[0]).flatten().tolist()
    assert all(v.is_contiguous() for v in weights.values())
    torch.load(f"{folder}/{name}.pt", weights_only=True, mmap=True)
print(json.dumps(answers))
`;

itWithPython('torch')('PyTorch: a state dict that torch.load(weights_only=True) opens', async () => {
  const models = Object.fromEntries(plainCases.filter((each) => !hard(each)).map(({ name, shape }) => [name, shape]));
  for (const name of Object.keys(models)) {
    const out = join(folder, `${name}.pt`);
    expect(await exportModel(pathOf(name), { to: 'pytorch', out })).toEqual([
      out,
      join(folder, `${name}.vocabulary.json`),
    ]);
  }
  const answers = await runPython<Record<string, number[]>>(torchScript, [
    folder,
    JSON.stringify(models),
    JSON.stringify(ids),
  ]);
  for (const name of Object.keys(models)) {
    const difference = largestDifference(answers[name] as number[], await ours(name));
    console.log(`PyTorch, ${name}: largest difference of logits ${difference.toExponential(1)}`);
    expect(difference).toBeLessThan(1e-5);
    rmSync(join(folder, `${name}.vocabulary.json`));
  }
});

const onnxScript = `
import json, sys, numpy as np, onnx, onnxruntime
folder, names, ids = sys.argv[1], json.loads(sys.argv[2]), np.array(json.loads(sys.argv[3]), dtype=np.int64)
answers = {}
for name, model in names.items():
    path = f"{folder}/{name}.onnx"
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 17)]
    properties = {p.key: p.value for p in graph.metadata_props}
    assert json.loads(properties["vocabulary"]) == json.load(open(f"{folder}/{name}.vocabulary.json", encoding="utf8"))
    options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    zeros = lambda S: np.zeros((model["layers"], S, model["hidden"]), np.float32)
    sequence = session.run(None, {"ids": ids[:, None], "h": zeros(1), "c": zeros(1)})
    h, c, steps = zeros(1), zeros(1), []
    for id in ids:
        logits, h, c = session.run(None, {"ids": np.array([[id]]), "h": h, "c": c})
        steps.append(logits)
    wide = session.run(["logits"], {"ids": np.stack([ids[::-1], ids, ids[::-1]], 1), "h": zeros(3), "c": zeros(3)})[0]
    states = float(max(np.abs(h - sequence[1]).max(), np.abs(c - sequence[2]).max()))
    answers[name] = [sequence[0].flatten().tolist(), np.concatenate(steps).flatten().tolist(), wide[:, 1].flatten().tolist(), states]
print(json.dumps(answers))
`;

itWithPython('onnx', 'onnxruntime')('ONNX: one graph for a step, a sequence and many streams', async () => {
  const models = Object.fromEntries(plainCases.map(({ name, shape }) => [name, shape]));
  for (const name of Object.keys(models))
    await exportModel(pathOf(name), { to: 'onnx', out: join(folder, `${name}.onnx`) });
  type Answer = [sequence: number[], steps: number[], wide: number[], states: number];
  const answers = await runPython<Record<string, Answer>>(onnxScript, [
    folder,
    JSON.stringify(models),
    JSON.stringify(ids),
  ]);
  for (const name of Object.keys(models)) {
    const [sequence, steps, wide, states] = answers[name] as Answer;
    const expected = await ours(name);
    const differences = [sequence, steps, wide].map((each) => largestDifference(each, expected));
    console.log(`ONNX Runtime, ${name}: largest difference of logits ${Math.max(...differences).toExponential(1)}`);
    expect(Math.max(...differences, states)).toBeLessThan(1e-5);
    rmSync(join(folder, `${name}.vocabulary.json`));
  }
});

const kerasScript = `
import importlib.util, json, os, sys
os.environ["KERAS_BACKEND"] = "torch" if importlib.util.find_spec("torch") else "tensorflow"
import keras, numpy as np
folder, names, ids = sys.argv[1], json.loads(sys.argv[2]), np.array(json.loads(sys.argv[3]))
answers = {}
for name, model in names.items():
    m = keras.models.load_model(f"{folder}/{name}.keras")
    V = len(json.load(open(f"{folder}/{name}.vocabulary.json", encoding="utf8")))
    x = ids if model["input"] == "embedding" else np.eye(V, dtype="float32")[ids] if model["input"] == "onehot" else (ids / V).astype("float32")[:, None]
    if len(m.output_shape) == 2: x = x[: m.input_shape[1]]
    answers[name] = keras.ops.convert_to_numpy(keras.ops.log(m(x[None]))).reshape(-1, V).tolist()
print(json.dumps(answers))
`;

itWithPython('keras')('Keras: an archive that load_model opens', async () => {
  const chosen = plainCases.filter(({ name }) => name !== 'hard');
  const models = Object.fromEntries(chosen.map(({ name, shape }) => [name, shape]));
  for (const { name } of chosen) await exportModel(pathOf(name), { to: 'keras', out: join(folder, `${name}.keras`) });
  const answers = await runPython<Record<string, number[][]>>(kerasScript, [
    folder,
    JSON.stringify(models),
    JSON.stringify(ids),
  ]);
  for (const { name, target } of chosen) {
    const V = symbols.length;
    const logits = await ours(name);
    // Probabilities determine a position's logits only up to a constant, so log-probabilities are compared.
    const rows = Array.from({ length: ids.length }, (_, i) => logits.subarray(i * V, (i + 1) * V)).map((row) => {
      const total = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
      return Array.from(row, (logit) => logit - total);
    });
    const expected = (target === 'last' ? [rows[11] as number[]] : rows).flat();
    const difference = largestDifference((answers[name] as number[][]).flat(), expected);
    console.log(`Keras, ${name}: largest difference of log-probabilities ${difference.toExponential(1)}`);
    expect(difference).toBeLessThan(1e-5);
    rmSync(join(folder, `${name}.vocabulary.json`));
  }
  await expect(exportModel(pathOf('hard'), { to: 'keras', out: join(folder, 'hard.keras') })).rejects.toThrow(
    'Keras 3 has no gates of the older hard_sigmoid',
  );
});

/** Runs in a process that loads only the runtime: reads models, computes logits, writes texts and scores one. */
const runtimeProgram = `
import { readFileSync } from 'node:fs';
const [, runtime, kernels, ids, prompt, ...files] = process.argv;
if (kernels === 'JavaScript') globalThis.WebAssembly = undefined;
const { CharacterModel } = await import(runtime);
const answers = files.map((file) => {
  const model = new CharacterModel(readFileSync(file));
  const state = model.state();
  const logits = JSON.parse(ids).flatMap((id) => [...model.step(id, state)]);
  const write = (options) => [...model.write({ prompt, length: 120, ...options })].join('');
  return { logits, texts: [write({ seed: 5 }), write({ seed: 2 ** 40 + 3, temperature: 1.3 }), write({ temperature: 0 })], bits: model.score(prompt), encoded: model.encode('\\uFEFFAB\\r\\nX'), simd: model.simd };
});
console.log(JSON.stringify(answers));
`;

test.each(['WebAssembly', 'JavaScript'])(
  'the runtime in %s: the same logits, and the same texts from the same seeds',
  async (kernels) => {
    const runtime = pathToFileURL(compiled('browser.mjs')).href;
    const prompt = text.slice(0, 30);
    const { stdout, stderr } = await run(process.execPath, [
      '--input-type=module',
      '-e',
      runtimeProgram,
      runtime,
      kernels,
      JSON.stringify(ids),
      prompt,
      ...paths.values(),
    ]);
    expect(stderr).toBe('');
    const answers = JSON.parse(stdout) as {
      logits: number[];
      texts: string[];
      bits: number;
      encoded: number[];
      simd: boolean;
    }[];
    for (const [i, { name, target }] of cases.entries()) {
      const { logits, texts, bits, encoded, simd } = answers[i] as (typeof answers)[number];
      const difference = largestDifference(logits, await ours(name));
      expect(simd).toBe(kernels === 'WebAssembly');
      console.log(`the runtime in ${kernels}, ${name}: largest difference of logits ${difference.toExponential(1)}`);
      expect(difference).toBeLessThan(1e-5);
      using model = await LanguageModel.load(pathOf(name), { device: 'cpu', threads: 1 });
      const expected: string[] = [];
      for (const options of [{ seed: 5 }, { seed: 2 ** 40 + 3, temperature: 1.3 }, { temperature: 0 }]) {
        let written = '';
        for await (const part of model.generate({ prompt, length: 120, unknown: 'skip', ...options })) written += part;
        expected.push(written);
      }
      expect(texts).toEqual(expected);
      if (target === 'every')
        expect(bits).toBeCloseTo((await model.score(prompt, { unknown: 'skip' })).bitsPerCharacter, 5);
      expect(encoded.map((id) => symbols[id])).toEqual(['a', 'b', '\n']);
    }
  },
);

/** Compares both kernels with plain loops in doubles, over many sizes and extreme values. */
const kernelsProgram = `
const [, url] = process.argv;
const { makeKernels } = await import(url);
const { WebAssembly } = globalThis;
const value = (i) => Math.sin(i * 12.9898) * 2;
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const answers = {};
for (const kind of ['WebAssembly', 'JavaScript']) {
  globalThis.WebAssembly = kind === 'WebAssembly' ? WebAssembly : undefined;
  let product = 0, cells = 0, other = 0, simd;
  for (const columns of [4, 8, 12, 252, 256, 300]) for (const rows of [8, 16, 24, 1024]) {
    const [a, x, y] = [8, 8 + rows * columns, 16 + (rows + 1) * columns];
    const kernels = makeKernels(y + rows + 8);
    const { memory } = kernels;
    simd = kernels.simd;
    for (let i = 0; i < y + rows + 8; i++) memory[i] = value(i);
    const before = memory.slice();
    kernels.product(a, x, y, columns, rows);
    for (let i = 0; i < memory.length; i++) {
      let expected = before[i];
      const r = i - y;
      if (r >= 0 && r < rows) for (let k = 0; k < columns; k++) expected += before[a + ((r >> 3) * columns + k) * 8 + (r & 7)] * before[x + k];
      if (r >= 0 && r < rows) product = Math.max(product, Math.abs(memory[i] - expected) / Math.sqrt(columns));
      else if (memory[i] !== expected) other++;
    }
  }
  const edges = [0, -0, 1e-30, -1e-7, 0.3465, -0.3466, 1, -5, 16, -16.6, 44, -44, 87, -88, 89, 1e4, -1e4, 3e38, -3e38, Infinity, -Infinity];
  for (const size of [4, 8, 20, 256]) {
    const kernels = makeKernels(6 * size + 8);
    const { memory } = kernels;
    for (let shift = 0; shift < 9 * edges.length; shift++) {
      for (let i = 0; i < 4 * size; i++) memory[i] = i % 3 ? edges[(i * (1 + (shift % 9)) + shift) % edges.length] : value(i + shift) * 4;
      for (let i = 4 * size; i < 6 * size + 8; i++) memory[i] = value(i + shift);
      const before = memory.slice();
      kernels.cells(0, 4 * size, 5 * size, size);
      for (let u = 0; u < size; u++) {
        const [i, f, g, o] = [0, 1, 2, 3].map((gate) => before[gate * size + u]);
        const c = sigmoid(f) * before[4 * size + u] + sigmoid(i) * Math.tanh(g);
        cells = Math.max(cells, Math.abs(memory[4 * size + u] - c), Math.abs(memory[5 * size + u] - sigmoid(o) * Math.tanh(c)));
        if (Number.isNaN(memory[4 * size + u])) cells = Infinity;
      }
      for (let i = 0; i < memory.length; i++) if ((i < 4 * size || i >= 6 * size) && !Object.is(memory[i], before[i])) other++;
    }
    memory.fill(0);
    memory[1] = NaN;
    kernels.cells(0, 4 * size, 5 * size, size);
    if (!Number.isNaN(memory[4 * size + 1]) || memory[4 * size] !== 0) other++;
  }
  answers[kind] = { simd, product, cells, other };
}
console.log(JSON.stringify(answers));
`;

test('the kernels of the runtime: products and cells of every size, and nothing beside them', async () => {
  const url = pathToFileURL(compiled('browser-kernels.mjs')).href;
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', kernelsProgram, url]);
  expect(stderr).toBe('');
  const answers = JSON.parse(stdout);
  console.log(stdout.trim());
  for (const kind of ['WebAssembly', 'JavaScript'])
    expect([kind, answers[kind]]).toEqual([
      kind,
      { simd: kind === 'WebAssembly', product: expect.any(Number), cells: expect.any(Number), other: 0 },
    ]);
  expect(Math.max(answers.WebAssembly.product, answers.JavaScript.product)).toBeLessThan(1e-5);
  expect(Math.max(answers.WebAssembly.cells, answers.JavaScript.cells)).toBeLessThan(1e-6);
});

test('the runtime refuses ids and states that are not its own', async () => {
  const program = `
    import { readFileSync } from 'node:fs';
    const [, runtime, file, larger] = process.argv;
    const { CharacterModel } = await import(runtime);
    const [model, other] = [file, larger].map((path) => new CharacterModel(readFileSync(path)));
    for (const call of [() => model.step(model.vocabulary.length, model.state()), () => model.step(-1, model.state()), () => model.step(0.5, model.state()), () => model.step(0, other.state())])
      try { call(); console.log('done'); } catch (error) { console.log(error.name, error.message); }
  `;
  const { stdout } = await run(process.execPath, [
    ...['--input-type=module', '-e', program, pathToFileURL(compiled('browser.mjs')).href],
    ...[pathOf('onehot'), pathOf('hard')],
  ]);
  expect(stdout.trim().split('\n')).toEqual([
    `RangeError no symbol has the id ${symbols.length}`,
    'RangeError no symbol has the id -1',
    'RangeError no symbol has the id 0.5',
    'RangeError the state is of another model',
  ]);
});

test('the runtime refuses what it cannot read', async () => {
  const whole = readFileSync(pathOf('onehot'));
  const other = Buffer.from(whole);
  other.write('"cudnn-lsXm"', whole.indexOf('"cudnn-lstm"'));
  const newer = Buffer.from(
    whole.toString('latin1').replace('{\\"lowercase\\":true}', '{\\"lowercasf\\":true}'),
    'latin1',
  );
  for (const [name, bytes] of [
    ['empty', whole.subarray(0, 0)],
    ['cut', whole.subarray(0, -1)],
    ['short', whole.subarray(0, 100)],
    ['other', other],
    ['newer', newer],
  ] as const) {
    writeFileSync(join(folder, name), bytes);
  }
  const program = `
    import { readFileSync } from 'node:fs';
    const [, runtime, ...files] = process.argv;
    const { CharacterModel } = await import(runtime);
    for (const file of files) try { new CharacterModel(readFileSync(file)); console.log('read'); } catch (error) { console.log(error.message); }
  `;
  const files = ['empty', 'cut', 'short', 'other', 'newer'].map((name) => join(folder, name));
  const { stdout } = await run(process.execPath, [
    '--input-type=module',
    '-e',
    program,
    pathToFileURL(compiled('browser.mjs')).href,
    ...files,
  ]);
  expect(stdout.trim().split('\n')).toEqual([
    expect.stringContaining('no safetensors file'),
    expect.stringContaining('output.bias is missing or damaged'),
    expect.stringContaining('no safetensors file'),
    expect.stringContaining('not a checkpoint of cudnn-lstm'),
    expect.stringContaining('a property lowercasf'),
  ]);
});

test('what is exported for PyTorch is imported again, bit for bit', async () => {
  // Import checks that the model predicts the text, starting anywhere in it. With these weights the next character depends on the last
  // one alone, so that a text that the model wrote itself passes.
  using model = await LanguageModel.load(pathOf('onehot'), { device: 'cpu', threads: 1 });
  const strong = nativeOf(model).read('parameters');
  for (const { name, offset, size } of nativeOf(model).parameters) {
    const part = strong.subarray(offset, offset + size);
    const factor = /weight_hh/.test(name) ? 0.05 : /weight/.test(name) ? 4 : 1;
    for (let k = 0; k < size; k++) part[k] = (part[k] as number) * factor;
    if (/bias_ih/.test(name)) part.fill(-6, size / 4, size / 2);
  }
  nativeOf(model).write('parameters', strong);
  const path = join(folder, 'large.safetensors');
  await model.save(path);
  const out = join(folder, 'again.pt');
  await exportModel(path, { to: 'pytorch', out });
  let own = '';
  for await (const part of model.generate({ length: 3000, temperature: 1, seed: 1 })) own += part;
  writeFileSync(join(folder, 'own.txt'), own);
  const vocabulary = join(folder, 'again.vocabulary.json');
  const imported = await importModel(out, { vocabulary, text: join(folder, 'own.txt'), device: 'cpu', threads: 1 });
  expect(imported.checkpoint.parameters).toEqual(strong);
  expect(imported.checkpoint.metadata.vocabulary).toEqual(symbols);
});

test('the command: files on stdout, nothing replaced, what cannot be is said', async () => {
  const command = (...argv: string[]) => runCommand('export', ...argv);
  const out = join(folder, 'c.pt');
  expect(await command(pathOf('onehot'), '--to', 'pytorch', '--out', out)).toEqual({
    code: 0,
    out: `${out}\n${join(folder, 'c.vocabulary.json')}\n`,
    err: '',
  });
  expect(JSON.parse(readFileSync(join(folder, 'c.vocabulary.json'), 'utf8'))).toEqual(symbols);
  expect(await command(pathOf('onehot'), '--to', 'onnx', '--out', out)).toMatchObject({
    code: 2,
    err: `${out} is there already: name another --out.\n`,
  });
  // A second format of the same model shares the vocabulary file; the file of another model is not overwritten.
  const graph = join(folder, 'c.onnx');
  expect(await command(pathOf('onehot'), '--to', 'onnx', '--out', graph)).toMatchObject({ code: 0, err: '' });
  rmSync(graph);
  writeFileSync(join(folder, 'c.vocabulary.json'), '["a"]\n');
  expect(await command(pathOf('onehot'), '--to', 'onnx', '--out', graph)).toMatchObject({
    code: 2,
    err: `${join(folder, 'c.vocabulary.json')} is there already: name another --out.\n`,
  });
  expect(readFileSync(join(folder, 'c.vocabulary.json'), 'utf8')).toBe('["a"]\n');
  expect(await command(pathOf('hard'), '--to', 'pytorch', '--out', join(folder, 'h.pt'))).toMatchObject({
    code: 2,
    err: "torch.nn.LSTM has sigmoid gates only, and the model's are hard_sigmoid; --to onnx and --to html have them.\n",
  });
  expect(await command(pathOf('onehot'), '--to', 'onnx', '--half', '--out', join(folder, 'h.onnx'))).toMatchObject({
    code: 2,
    err: '--half goes with --to html.\n',
  });
  expect((await command(pathOf('onehot'), '--to', 'tflite', '--out', 'x')).code).toBe(2);
  expect((await command(join(folder, 'none'), '--to', 'html', '--out', join(folder, 'x.html'))).code).toBe(3);
});

test('CRC-32 and half precision', () => {
  expect(crc32(Buffer.from('123456789'))).toBe(0xcbf43926);
  const wrong: number[] = [];
  for (let bits = 0; bits < 0x7c00; bits++) {
    const between = (halfToFloat(bits) + halfToFloat(bits + 1)) / 2;
    const tie = bits + 1 === 0x7c00 ? bits : toHalf(between); // Ties round to even.
    if (toHalf(halfToFloat(bits)) !== bits || tie !== bits + (bits + 1 === 0x7c00 ? 0 : bits & 1)) wrong.push(bits);
  }
  expect(wrong).toEqual([]);
  expect([toHalf(-0), toHalf(-1), toHalf(65519), toHalf(65520), toHalf(1e30), toHalf(1e-30)]).toEqual([
    0x8000, 0xbc00, 0x7bff, 0x7c00, 0x7c00, 0,
  ]);
});
