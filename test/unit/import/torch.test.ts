/** Files made by PyTorch, in every form that torch.save writes: its logits against ours. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importModel } from '../../../lib/import/import';
import { saveImported } from '../../../lib/import/save';
import { node } from '../../fixtures/child';
import { runCommand as run } from '../../fixtures/command';
import { itWithPython, largestDifference, learnableText, logitsOf, pythonHas, runPython } from '../../fixtures/interop';

const itWithTorch = itWithPython('torch');
const cpu = { device: 'cpu', threads: 1 } as const;

/**
 * One run for all tests: trains a small model with each input coding on the text, and saves it in every form in a folder of its own; then
 * writes models that cannot be represented. Prints each coding's logits for the first 40 ids.
 */
const script = `
import json, os, sys, torch, torch.nn as nn
torch.manual_seed(1); torch.set_num_threads(1)
base = sys.argv[1]
text = open(base + "/text.txt", newline="").read()
chars = sorted(set(text)); V = len(chars); H = 24
ids = torch.tensor([chars.index(c) for c in text])
class CharRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.chars = tuple(chars)
        if coding == "embedding": self.encoder = nn.Embedding(V, H)
        self.rnn = nn.LSTM({"embedding": H, "onehot": V, "scalar": 1}[coding], H, 2, dropout=0.25, batch_first=True)
        self.decoder = nn.Linear(H, V)
    def forward(self, x):
        if coding == "embedding": x = self.encoder(x)
        elif coding == "onehot": x = nn.functional.one_hot(x, V).float()
        else: x = (x.float() / V)[..., None]
        return self.decoder(self.rnn(x)[0])
logits = {}
for coding in ["onehot", "embedding", "scalar"]:
    folder = base + "/" + coding; os.mkdir(folder)
    m = CharRNN(); opt = torch.optim.Adam(m.parameters(), 2e-2)
    for s in range(120 if coding == "scalar" else 50):
        b = torch.stack([ids[j:j+33] for j in torch.randint(0, len(ids) - 33, (16,))])
        loss = nn.functional.cross_entropy(m(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten())
        opt.zero_grad(); loss.backward(); opt.step()
    m.eval()
    sd = m.state_dict()
    old = dict(_use_new_zipfile_serialization=False)
    torch.save(sd, folder + "/dict.pt")
    torch.save(m, folder + "/module.pt")
    torch.save(m, folder + "/module-old.pt", **old)
    torch.save({"n_hidden": H, "optimizer": opt.state_dict(), "state_dict": sd, "tokens": m.chars}, folder + "/wrapped-old.net", **old)
    torch.save([sd, {c: i for i, c in enumerate(chars)}], folder + "/list.pt")
    torch.save({"model": {k: v.double() for k, v in sd.items()}, "vocab": dict(enumerate(chars))}, folder + "/double.pt")
    torch.save({"model": sd, "idx": "".join(chars)}, folder + "/string.pt", pickle_protocol=4)
    torch.jit.trace(m, ids[None, :5]).save(folder + "/script.pt")
    with torch.no_grad(): out = m(ids[None, :40])[0]
    logits[coding] = out.flatten().tolist()
folder = base
class Net(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for k, v in parts.items(): setattr(self, k, v)
V, H = 20, 8
save = lambda name, m: torch.save(m.state_dict(), folder + "/" + name)
save("gru.pt", Net(rnn=nn.GRU(V, H), fc=nn.Linear(H, V)))
save("rnn.pt", Net(rnn=nn.RNN(V, H), fc=nn.Linear(H, V)))
save("bidirectional.pt", Net(rnn=nn.LSTM(V, H, bidirectional=True), fc=nn.Linear(2 * H, V)))
save("projections.pt", Net(rnn=nn.LSTM(V, H, proj_size=4), fc=nn.Linear(4, V)))
save("attention.pt", Net(rnn=nn.LSTM(V, H), attn=nn.MultiheadAttention(H, 2), fc=nn.Linear(H, V)))
save("sizes.pt", Net(rnn=nn.LSTM(V, H), rnn2=nn.LSTM(H, 6), fc=nn.Linear(6, V)))
save("heads.pt", Net(rnn=nn.LSTM(V, H), a=nn.Linear(H, H), b=nn.Linear(H, V)))
save("norm.pt", Net(rnn=nn.LSTM(V, H), norm=nn.LayerNorm(H), fc=nn.Linear(H, V)))
save("none.pt", Net(fc=nn.Linear(H, V)))
save("transformer.pt", Net(layer=nn.TransformerEncoderLayer(8, 2)))
nan = Net(rnn=nn.LSTM(V, H), fc=nn.Linear(H, V))
with torch.no_grad(): nan.fc.bias[3] = float("nan")
save("nan.pt", nan)
# A vocabulary that would run a command if it were unpickled by Python.
class Evil:
    def __reduce__(self): return (os.system, ("touch " + folder + "/owned",))
torch.save([Net(rnn=nn.LSTM(V, H), fc=nn.Linear(H, V)).state_dict(), Evil()], folder + "/evil.pt")
torch.save(torch.zeros(3), folder + "/tensor.pt")
print(json.dumps(logits))
`;

let folder: string;
let logits: Record<string, number[]>;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'import-torch-'));
  writeFileSync(join(folder, 'text.txt'), learnableText());
  if (pythonHas('torch')) logits = await runPython(script, [folder]);
});
afterAll(() => rmSync(folder, { recursive: true }));

for (const coding of ['onehot', 'embedding', 'scalar'] as const) {
  itWithTorch(`${coding}: every form that torch.save writes, with its logits`, async () => {
    const theirs = logits[coding] as number[];
    const at = (name: string) => join(folder, coding, name);
    const text = join(folder, 'text.txt');
    const characters = learnableText();
    const symbols = [...new Set(characters)].sort();
    const ids = [...characters.slice(0, 40)].map((symbol) => symbols.indexOf(symbol));
    const forms: [string, string, string][] = [
      ['dict.pt', 'a PyTorch state dict', `${text} (as it is)`],
      ['module.pt', 'a PyTorch module', "the file's 'chars'"],
      ['module-old.pt', 'a PyTorch module', "the file's 'chars'"],
      ['wrapped-old.net', 'a PyTorch state dict', "the file's 'tokens'"],
      ['list.pt', 'a PyTorch state dict', "the file's '1'"],
      ['double.pt', 'a PyTorch state dict', "the file's 'vocab'"],
      ['string.pt', 'a PyTorch state dict', "the file's 'idx'"],
      ['script.pt', 'a PyTorch module', `${text} (as it is)`],
    ];
    for (const [name, kind, vocabulary] of forms) {
      const imported = await importModel(at(name), { ...cpu, corpus: text });
      expect([name, imported.kind, imported.vocabularySource.replace(/^.*\.(?=chars')/, "the file's '")]).toEqual([
        name,
        kind,
        vocabulary,
      ]);
      const { model, vocabulary: found, configuration } = imported.checkpoint.metadata;
      expect(model).toMatchObject({ layers: 2, hidden: 24, input: coding, embedding: coding === 'embedding' ? 24 : 0 });
      expect(found).toEqual(symbols);
      expect(configuration).toMatchObject({ importedFrom: name, importedKind: kind });
      expect(imported.proof.loss).toBeLessThan(imported.proof.letterLoss);
      const path = await saveImported(imported, at(`${name}.safetensors`));
      const difference = largestDifference(await logitsOf(path, ids), theirs);
      if (name === 'dict.pt')
        console.log(`PyTorch, ${coding}: largest difference of logits ${difference.toExponential(1)}`);
      expect(difference).toBeLessThan(1e-5);
    }
    expect((await importModel(at('module.pt'), { ...cpu, text })).checkpoint.metadata.model.dropout).toBe(0.25);
  });
}

itWithTorch('the command: a directory or a file, refusals in one line, and nothing replaced', async () => {
  const at = (name: string) => join(folder, 'onehot', name);
  const text = join(folder, 'text.txt');
  const run1 = await run('import', at('module.pt'), '--text', text, '--out', at('run'), '--device', 'cpu');
  expect(run1).toMatchObject({ code: 0, out: expect.stringMatching(/imported-\d\.\d{4}\.safetensors\n$/) });
  expect(run1.err).toMatch(
    /^model: a PyTorch module, LSTM, 2 × 24, input onehot\nvocabulary: \d+ symbols, from the file's 'chars'\nproof: /,
  );
  const json = await run(
    'import',
    at('dict.pt'),
    '--corpus',
    text,
    '--out',
    at('a.safetensors'),
    '--json',
    '--device',
    'cpu',
  );
  expect(JSON.parse(json.out)).toMatchObject({
    path: at('a.safetensors'),
    kind: 'a PyTorch state dict',
    normalization: { lowercase: false },
  });
  // A pipe can be read only once: the vocabulary and the part that is scored come from the same pass.
  const piped = await node(
    'cli/main.js',
    ['import', at('dict.pt'), '--corpus', '-', '--out', at('piped.safetensors'), '--json', '--device', 'cpu'],
    { input: readFileSync(text) },
  );
  expect(piped).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(piped.stdout).proof.loss).toBe(JSON.parse(json.out).proof.loss);
  const sample = await run('sample', at('run'), '--length', '50', '--device', 'cpu');
  expect([sample.code, sample.out.length > 40]).toEqual([0, true]);

  const again = await run('import', at('dict.pt'), '--corpus', text, '--out', at('a.safetensors'));
  expect(again).toEqual({ code: 2, out: '', err: `${at('a.safetensors')} is there already: name another --out.\n` });
  const without = await run('import', at('dict.pt'), '--out', at('b.safetensors'));
  expect([without.code, without.err]).toEqual([
    3,
    expect.stringContaining('name the text it was trained on, --corpus FILE'),
  ]);
  // The right number of symbols in the wrong order: only scoring finds that.
  const symbols = [...new Set(learnableText())].sort().reverse();
  writeFileSync(at('wrong.json'), JSON.stringify(symbols));
  const wrong = await run(
    'import',
    at('dict.pt'),
    '--vocabulary',
    at('wrong.json'),
    '--text',
    text,
    '--out',
    at('b'),
    '--device',
    'cpu',
  );
  expect([wrong.code, wrong.err]).toEqual([
    3,
    expect.stringMatching(/no better than the \d\.\d{3} of counting letters/),
  ]);
  writeFileSync(
    at('right.json'),
    JSON.stringify(Object.fromEntries(symbols.reverse().map((symbol, id) => [symbol, id]))),
  );
  const right = await run(
    'import',
    at('dict.pt'),
    '--vocabulary',
    at('right.json'),
    '--text',
    text,
    '--out',
    at('b'),
    '--device',
    'cpu',
  );
  expect([right.code, right.err]).toEqual([0, expect.stringContaining('right.json')]);
  expect(readFileSync(at('b/best'), 'utf8')).toMatch(/^imported-/);
});

itWithTorch('what cannot be represented is named; what would run a command in Python is data', async () => {
  const corpus = join(folder, 'letters.txt');
  writeFileSync(corpus, 'abcdefghijklmnopqrst'.repeat(60));
  const refusals: [string, RegExp][] = [
    ['gru.pt', /it has a GRU \('rnn\.weight_hh_l0' has 3H rows\), which this package's models/],
    ['rnn.pt', /a plain RNN/],
    ['bidirectional.pt', /a bidirectional LSTM/],
    ['projections.pt', /projections \(proj_size\)/],
    ['attention.pt', /attention \('attn\./],
    ['sizes.pt', /LSTM layers of different sizes \(8, 6\)/],
    ['heads.pt', /several linear layers \('a\.weight', 'b\.weight'\)/],
    ['norm.pt', /normalisation layers \('norm\./],
    ['none.pt', /it holds no LSTM: its tensors are fc\.weight, fc\.bias/],
    ['transformer.pt', /attention \('layer\.self_attn/],
    ['nan.pt', /'fc\.bias' holds NaN at index 3/],
    ['tensor.pt', /holds no tensors under names/],
    // Untrained: it can be read, and is refused because it predicts nothing.
    ['evil.pt', /no better than/],
  ];
  for (const [name, message] of refusals) {
    const path = join(folder, name);
    await expect([name, await importModel(path, { ...cpu, corpus }).catch((error: Error) => error.message)]).toEqual([
      name,
      expect.stringMatching(message),
    ]);
  }
  expect(() => readFileSync(join(folder, 'owned'))).toThrow('ENOENT');
});
