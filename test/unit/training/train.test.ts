/** `train` as a program calls it: with texts in memory, with or without a directory, and ignoring the environment. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCorpus } from '../../../lib/corpus/corpus';
import { LanguageModel } from '../../../lib/model';
import type { TrainingEvent } from '../../../lib/training/events';
import { type TrainRequest, train } from '../../../lib/training/train';

const text = 'a rose is a rose is a rosé 🌹\n'.repeat(40);
const small: TrainRequest = {
  hidden: 8,
  layers: 1,
  batchSize: 4,
  seqLength: 9,
  epochs: 2,
  sampleLength: 0,
  device: 'cpu',
  threads: 1,
};

let folder: string;
let before: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'train-'));
  before = process.cwd();
  process.chdir(folder);
});
afterEach(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

async function eventsOf(request: TrainRequest): Promise<TrainingEvent[]> {
  await using training = await train(request);
  const events: TrainingEvent[] = [];
  for await (const event of training) events.push(event);
  expect([...(await training.model.generateText({ length: 7, seed: 1 }))]).toHaveLength(7);
  return events;
}

const losses = (events: readonly TrainingEvent[]) =>
  events.flatMap((event) => (event.type === 'epoch' ? [event.loss, event.validationLoss] : []));

it('trains on a text in memory, in pieces of any size and in a file, and learns the same', async () => {
  const whole = losses(await eventsOf({ ...small, corpus: { text }, out: false }));
  expect(whole).toHaveLength(4);
  for (const size of [1, 3, 1000]) {
    const corpus = (async function* () {
      // Slices code units, so surrogate pairs are cut apart.
      for (let at = 0; at < text.length; at += size) yield text.slice(at, at + size);
    })();
    expect(losses(await eventsOf({ ...small, corpus, out: false }))).toEqual(whole);
  }
  expect(readdirSync(folder)).toEqual([]);
});

it('writes a run where it is told to, and resumes it with the text given again', async () => {
  await eventsOf({ ...small, corpus: { text, name: 'roses' }, out: 'run' });
  expect(readdirSync('run')).toEqual(expect.arrayContaining(['config.json', 'latest', 'metrics.jsonl']));
  expect(JSON.parse(await readFile(join('run', 'config.json'), 'utf8')).corpus).toBeUndefined();
  const events = await eventsOf({ corpus: { text }, resume: 'run', epochs: 3, device: 'cpu' });
  expect(losses(events)).toHaveLength(2);
  await expect(train({ resume: 'run', epochs: 4, device: 'cpu' })).rejects.toThrow(
    /where the text .* lies is not known/,
  );
  await expect(train({ corpus: { text: `${text}.` }, resume: 'run' })).rejects.toThrow('The corpus is not the one');
});

it.each(['HIDDEN', 'DEVICE', 'THREADS', 'CHECK', 'SEED'])('takes no option from the environment: %s', async (name) => {
  const { threads: _, device: __, ...plain } = small;
  const variable = `CUDNN_LSTM_${name}`;
  process.env[variable] = 'nonsense';
  try {
    await using training = await train({ ...plain, corpus: { text }, out: false });
    expect(training.configuration.options).toMatchObject({ hidden: 8, device: 'auto', seed: 1 });
    for await (const _ of training);
    const file = join(folder, 'model.safetensors');
    await training.model.save(file);
    using loaded = await LanguageModel.load(file);
    expect(loaded.deviceReason).toBe(training.model.deviceReason);
    // An environment that is passed in does count.
    const given = LanguageModel.load(file, { env: process.env });
    if (name === 'DEVICE' || name === 'THREADS') await expect(given).rejects.toThrow(`${variable} must be`);
    else (await given).dispose();
  } finally {
    delete process.env[variable];
  }
});

it('hands on the error of what yields the text', async () => {
  const corpus = (async function* () {
    yield text;
    throw new RangeError('no more');
  })();
  await expect(train({ ...small, corpus, out: false })).rejects.toThrow(RangeError);
});

it('knows every option of every call, and no other', async () => {
  await expect(openCorpus({ text }, { lowerCase: true } as object)).rejects.toThrow(
    "Unknown option 'lowerCase' of openCorpus; did you mean 'lowercase'?",
  );
  await using training = await train({ ...small, corpus: { text }, out: false });
  const { model } = training;
  const wrong = { topk: 3, unknwon: 'skip' } as object;
  expect(() => model.generate(wrong)).toThrow("Unknown option 'topk' of generate; did you mean 'topK'?");
  expect(() => model.generate({ topK: 1.5 })).toThrow('topK must be a whole number');
  await expect(model.generateText({ unknwon: 'skip' } as object)).rejects.toThrow(
    "Unknown option 'unknwon' of generateText; did you mean 'unknown'?",
  );
  expect(() => model.generateMany(1, wrong)).toThrow("Unknown option 'topk' of generateMany;");
  await expect(model.generateBest(1, wrong)).rejects.toThrow("Unknown option 'topk' of generateBest;");
  await expect(model.score(text, { stream: 2 } as object)).rejects.toThrow("did you mean 'streams'?");
  await expect(model.scoreLines([text], { unknwon: 'skip' } as object)).rejects.toThrow("did you mean 'unknown'?");
  await expect(model.scoreWindows(text, { windows: 2 } as object)).rejects.toThrow("did you mean 'window'?");
  await expect(model.inspect(text, { rival: 2 } as object)).rejects.toThrow("did you mean 'rivals'?");
  await expect(LanguageModel.load('x', { devise: 'cpu' } as object)).rejects.toThrow("did you mean 'device'?");
});
