/** Checkpoints read and written by PyTorch. CUDNN_LSTM_PYTHON names the Python interpreter, by default python3. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import type { ModelShape } from '../../../lib/checkpoint/layout';
import { readSafetensors } from '../../../lib/checkpoint/safetensors';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { itWithPython, runPython } from '../../fixtures/interop';

/** Reads checkpoints as docs/checkpoint-format.md describes, scores ids with them, and writes them again in several types. */
const script = `
import json, sys, torch
from safetensors import safe_open
from safetensors.torch import save_file
def use(path, rewritten, ids):
    ids = torch.tensor(ids)
    with safe_open(path, "pt") as f:
        metadata = f.metadata()
        weights = {k: f.get_tensor(k) for k in f.keys()}
    vocabulary, model = json.loads(metadata["vocabulary"]), json.loads(metadata["model"])
    V, H, L = len(vocabulary), model["hidden"], model["layers"]
    part = lambda name: {k[len(name) + 1:]: v for k, v in weights.items() if k.startswith(name + ".")}
    if model["input"] == "embedding":
        embedding = torch.nn.Embedding(V, model["embedding"])
        embedding.load_state_dict(part("embedding"), strict=True)
        x = embedding(ids[:-1])
    elif model["input"] == "onehot":
        x = torch.nn.functional.one_hot(ids[:-1], V).float()
    else:
        x = (ids[:-1].float() / V)[:, None]
    lstm = torch.nn.LSTM(x.shape[1], H, num_layers=L)
    lstm.load_state_dict(part("lstm"), strict=True)
    output = torch.nn.Linear(H, V)
    output.load_state_dict(part("output"), strict=True)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(output(lstm(x)[0]), ids[1:]).item()
    save_file(weights, rewritten, metadata=metadata)
    for dtype in [torch.float16, torch.bfloat16, torch.float64]:
        typed = {k: v.to(dtype) for k, v in weights.items()}
        name = str(dtype).split(".")[1]
        save_file(typed, f"{rewritten}.{name}")
        save_file({k: v.float() for k, v in typed.items()}, f"{rewritten}.{name}.float32")
    return {"vocabulary": vocabulary, "loss": loss}
print(json.dumps([use(*given) for given in json.loads(sys.argv[1])]))
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'interop-'));
});
afterAll(() => rm(folder, { recursive: true }));

const vocabulary = new Vocabulary([...'\nabcdé🦊']);
const inputs: [ModelShape['input'], number][] = [
  ['onehot', 0],
  ['scalar', 0],
  ['embedding', 5],
];
const itWithTorch = itWithPython('safetensors', 'torch');
itWithTorch('torch loads every form of input strictly, scores alike, and what it writes is read', async () => {
  const text = 'abba cab\nbad 🦊 déd\n'.replaceAll(' ', '').repeat(5);
  const ids = [...vocabulary.encode(text)];
  const losses: number[] = [];
  const given: [path: string, rewritten: string, ids: number[]][] = [];
  for (const [input, embedding] of inputs) {
    const path = join(folder, `${input}.safetensors`);
    const shape = { vocabulary: vocabulary.size, layers: 2, hidden: 16, input, embedding, dropout: 0.1 };
    using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, seed: 3 });
    await model.save(path);
    losses.push((await model.score(text)).loss);
    given.push([path, join(folder, `${input}-rewritten.safetensors`), ids]);
  }
  // All in one process, because PyTorch takes seconds to load.
  const seen = await runPython<{ vocabulary: string[]; loss: number }[]>(script, [JSON.stringify(given)]);
  for (const [i, [path, rewritten]] of given.entries()) {
    expect([path, seen[i]?.vocabulary]).toEqual([path, vocabulary.symbols]);
    expect(seen[i]?.loss).toBeCloseTo(losses[i] as number, 5);
    expect(await loadCheckpoint(rewritten)).toEqual(await loadCheckpoint(path));
    for (const type of ['float16', 'bfloat16', 'float64']) {
      const typed = await readSafetensors(`${rewritten}.${type}`);
      expect(typed.tensors).toEqual((await readSafetensors(`${rewritten}.${type}.float32`)).tensors);
      expect(typed.tensors.size).toBeGreaterThan(8);
    }
  }
});
