// Microseconds per character of the runtime in exported pages (dist/browser.mjs), with WebAssembly and in JavaScript alone, compared with
// this package's native sampling and, if installed (npm install --no-save onnxruntime-web), onnxruntime-web's wasm on the graph that
// `export --to onnx` writes. All run in this process, on one thread, in turn: minimum and median of nine rounds of 300 characters each.
//
//   node bench/browser.js [HIDDEN] [LAYERS] [VOCABULARY]
const { mkdtempSync, readFileSync, rmSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { LanguageModel, Vocabulary } = require('..');
const { exportModel } = require('../dist/advanced.js');

const [hidden = 256, layers = 2, size = 83] = process.argv.slice(2).map(Number);
const characters = 300;
const rounds = 9;

async function main() {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'bench-browser-'));
  try {
    const vocabulary = new Vocabulary(Array.from({ length: size }, (_, i) => String.fromCodePoint(32 + i)));
    const shape = { vocabulary: size, layers, hidden, input: 'onehot', embedding: 0, dropout: 0 };
    const model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, seed: 1 });
    const checkpoint = path.join(folder, 'model.safetensors');
    await model.save(checkpoint);
    const { CharacterModel } = await import('../dist/browser.mjs');
    const runtime = new CharacterModel(readFileSync(checkpoint));
    const { WebAssembly } = globalThis;
    globalThis.WebAssembly = undefined;
    const plain = new CharacterModel(readFileSync(checkpoint));
    globalThis.WebAssembly = WebAssembly;
    const work = {
      native: async () => {
        for await (const _ of model.generate({ length: characters, seed: 1 }));
      },
      runtime: () => [...runtime.write({ length: characters, seed: 1 })],
      'without WebAssembly': () => [...plain.write({ length: characters, seed: 1 })],
    };
    const web = await import('onnxruntime-web').catch(() => undefined);
    if (web) {
      const ort = web.default ?? web;
      ort.env.wasm.numThreads = 1;
      const graph = path.join(folder, 'model.onnx');
      await exportModel(checkpoint, { to: 'onnx', out: graph });
      const session = await ort.InferenceSession.create(readFileSync(graph));
      work['onnxruntime-web'] = async () => {
        const zeros = () => new ort.Tensor('float32', new Float32Array(layers * hidden), [layers, 1, hidden]);
        let [h, c, id] = [zeros(), zeros(), 0];
        for (let i = 0; i < characters; i++) {
          const ids = new ort.Tensor('int64', BigInt64Array.of(BigInt(id)), [1, 1]);
          const { logits, h_out, c_out } = await session.run({ ids, h, c });
          [h, c] = [h_out, c_out];
          id = runtime.draw(logits.data, 0.8, 1, i);
        }
      };
    }
    const times = Object.fromEntries(Object.keys(work).map((name) => [name, []]));
    for (let round = 0; round <= rounds; round++) {
      for (const [name, run] of Object.entries(work)) {
        const began = process.cpuUsage();
        await run();
        const { user, system } = process.cpuUsage(began);
        if (round > 0) times[name].push((user + system) / characters); // The first round warms up.
      }
    }
    console.log(
      `${layers} x ${hidden}, ${size} symbols, ${os.cpus()[0].model}, Node ${process.version}: CPU microseconds per character, least and median`,
    );
    for (const [name, all] of Object.entries(times)) {
      all.sort((a, b) => a - b);
      const [least, median] = [all[0], all[all.length >> 1]].map((time) => time.toFixed(0).padStart(7));
      console.log(`${name.padEnd(22)}${least}${median}`);
    }
    model.dispose();
    if (!web) console.log('onnxruntime-web is not installed: npm install --no-save onnxruntime-web');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

main();
