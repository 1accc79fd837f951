/**
 * Every remedy in code that a message of the library names works: each case makes a mistake that a program could make, takes the options
 * from the message as they are written there, and succeeds with them. test/unit/cli/remedies.test.ts does the same for commands.
 */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportModel, KnownLines, loadKnownLines, openCorpus, openTraining } from '../../lib/advanced';
import { type GenerateOptions, LanguageModel, type TrainRequest, train, Vocabulary } from '../../lib/index';

const folder = mkdtempSync(join(tmpdir(), 'remedies in code, '));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]) => join(folder, ...names);
const file = (name: string, content: string | Buffer) => {
  writeFileSync(at(name), content);
  return at(name);
};
let made = 0;
const fresh = () => at(`out-${++made}`);

const text = 'The sheep and the goats went over the hill.\n'.repeat(30);
const tiny = { hidden: 8, layers: 1, epochs: 1, batchSize: 2, seqLength: 5, sampleLength: 0, device: 'cpu' } as const;
const run = at("the shepherd's run"); // The apostrophe makes messages escape it.
const kept = at('kept');

async function finish(request: TrainRequest): Promise<void> {
  await using training = await train(request);
  for await (const _ of training);
}

beforeAll(async () => {
  await finish({ ...tiny, corpus: [file('text.txt', text)], out: run });
  await finish({ ...tiny, corpus: [at('text.txt')], from: run, keep: [file('old.txt', text)], out: kept });
});

type Options = Record<string, unknown>;

/** The options that a message names, with their values; `standsFor` replaces placeholders such as `FILE`. */
function named(message: string, of: RegExp, standsFor: Record<string, unknown> = {}): Options {
  const code = message.match(of)?.[1];
  if (code === undefined) throw new Error(`${of} finds nothing in: ${message}`);
  const options = new Function(`return { ${code} }`)() as Options;
  const put = (value: unknown): unknown =>
    Array.isArray(value) ? value.map(put) : typeof value === 'string' ? (standsFor[value] ?? value) : value;
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [name, put(value)]));
}

async function messageOf(job: Promise<unknown>): Promise<string> {
  const error = await job.then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  );
  if (error === undefined) throw new Error('nothing went wrong');
  return error.message;
}

const inMemory = { ...tiny, corpus: { text }, out: false } as const;

/**
 * The request, a pattern that captures the options to set from its error, and if needed the values of placeholders and the options of the
 * request to leave out.
 */
const trainings: Record<
  string,
  [() => TrainRequest, RegExp, { standsFor?: Options; without?: (keyof TrainRequest)[] }?]
> = {
  'a text that is too short': [
    () => ({ ...inMemory, corpus: { text: 'ab'.repeat(20) }, batchSize: 16 }),
    /give a longer text, or `([^`]+)`\.$/,
  ],
  'a text too short for windows': [
    () => ({ ...inMemory, corpus: { text: 'abcdefg' }, target: 'last', seqLength: 90, validation: 0 }),
    /give a longer text, or `([^`]+)`\.$/,
  ],
  'lines that are too few': [
    () => ({ ...inMemory, corpus: { text: 'ab\nba\ncd\n' }, lines: true, validation: 0, batchSize: 16 }),
    /give more lines, or `([^`]+)`\.$/,
  ],
  'no line to validate on': [
    () => ({ ...inMemory, corpus: { text: 'abcdefghijkl\nba\n'.repeat(2) }, lines: true }),
    /give more lines, or `([^`]+)`\.$/,
  ],
  'a text of another encoding': [
    () => ({
      ...inMemory,
      corpus: [file('latin.txt', Buffer.from('Ein Caf\xe9 f\xfcr Zo\xeb.\n'.repeat(30), 'latin1'))],
    }),
    /`(encoding: '[^']+')`$/,
  ],
  'a text with a mark of UTF-16': [
    () => ({ ...inMemory, corpus: [file('wide.txt', Buffer.from(`\uFEFF${text}`, 'utf16le'))] }),
    /it begins as UTF-16 does: `([^`]+)`$/,
  ],
  'a step of one sequence for two texts': [
    () => ({ ...inMemory, from: run, keep: { text }, batchSize: 1 }),
    /give `([^`]+)` or more\.$/,
  ],
  'a text to keep, of no model': [
    () => ({ ...inMemory, keep: { text } }),
    /name the model to begin with: `([^`]+)`\.$/,
    { standsFor: { CHECKPOINT: run } },
  ],
  'frozen layers, of no model': [
    () => ({ ...inMemory, freeze: 1 }),
    /name the model to begin with: `([^`]+)`\.$/,
    { standsFor: { CHECKPOINT: run } },
  ],
  'a plan for no time': [
    () => ({ ...inMemory, preset: 'best', maxTime: 1e-9 }),
    /or have nothing planned: `([^`]+)`\.$/,
  ],
  'a device that is not there': [() => ({ ...inMemory, device: 'cuda:99' }), /`(device: 'cpu')` works\.$/],
  'a directory with a run': [
    () => ({ ...tiny, corpus: [at('text.txt')], out: run }),
    /resume it with `(.+)`, or choose another `out`\.$/,
    { without: ['out', 'device', 'epochs'] },
  ],
  'no run to resume': [
    () => ({ ...tiny, resume: at('nowhere') }),
    /say which: `([^`]+)`\.$/,
    { standsFor: { DIR: run } },
  ],
  'a text to keep, of a run that has none': [
    () => ({ resume: run, keep: { text }, device: 'cpu', epochs: 2 }),
    /leave `keep` out, or begin a new run with `(.+)`\.$/,
    { without: ['resume'] },
  ],
  'a text to keep that is gone': [
    () => {
      renameSync(at('old.txt'), at('moved.txt'));
      return { resume: kept, device: 'cpu', epochs: 2 };
    },
    /name its new place: `([^`]+)`$/,
    { standsFor: { FILE: at('moved.txt') } },
  ],
};

test.each(Object.entries(trainings))('train: %s', async (_, [asked, remedy, { standsFor = {}, without = [] } = {}]) => {
  const request = asked();
  const options = named(await messageOf(train(request)), remedy, standsFor);
  const rest = Object.fromEntries(Object.entries(request).filter(([name]) => !without.includes(name as never)));
  await (await train({ ...rest, ...options })).dispose();
});

test('openTraining: an option of the environment, the file or the run is named by its place, and left out', async () => {
  const configFile = file('config.json', JSON.stringify({ keep: [at('text.txt')], validation: 0.2 }));
  const all = { options: tiny, corpus: { text }, save: false } as const;
  const opened = async (request: Parameters<typeof openTraining>[0]) => (await openTraining(request)).dispose();
  expect(await messageOf(opened({ ...all, configFile }))).toMatch(/^keep in .*config\.json keeps what a model knows/);
  expect(await messageOf(opened({ ...all, env: { CUDNN_LSTM_FREEZE: '1' } }))).toMatch(/^CUDNN_LSTM_FREEZE: fresh/);
  expect(await messageOf(opened({ ...all, configFile, from: run, validationFile: { text } }))).toMatch(
    /^validation in .*config\.json: it holds a part of the corpus out, and `validationFile` names another text/,
  );
  expect(await messageOf(opened({ ...all, resume: run, env: { CUDNN_LSTM_SEED: '7' } }))).toMatch(
    /^CUDNN_LSTM_SEED: a resumed run stays as it was begun, with 1, so 7 is impossible; leave it out/,
  );
});

test('generate: characters that the model does not know', async () => {
  using model = await LanguageModel.load(run, { device: 'cpu' });
  const asked: GenerateOptions = { prompt: 'sheep!', length: 5 };
  const options = named(await messageOf(model.generateText(asked)), /leave them out with `([^`]+)`$/);
  expect(await model.generateText({ ...asked, ...options })).toHaveLength(5);
  const vocabulary = new Vocabulary(['a', 'b']);
  const inVocabulary = named(
    await messageOf((async () => vocabulary.encode('abc'))()),
    /leave them out with `([^`]+)`$/,
  );
  expect([...vocabulary.encode('abc', inVocabulary)]).toEqual([0, 1]);
});

test('openCorpus: two normal forms, and headers that are left out', async () => {
  const mixed = { text: 'Caf\u00e9, cafe\u0301.\n'.repeat(9) };
  const first = await openCorpus(mixed);
  const options = named(first.notes.join('\n'), /`([^`]+)` makes them the same$/);
  const second = await openCorpus(mixed, options);
  expect([first.notes.length, second.notes]).toEqual([1, []]);
  const book = `*** START OF THE PROJECT GUTENBERG EBOOK A ***\n${text}*** END OF THE PROJECT GUTENBERG EBOOK A ***\n`;
  const without = await openCorpus({ text: book });
  const whole = await openCorpus({ text: book }, named(without.notes.join('\n'), /\(`([^`]+)` to have them in\)/));
  expect([without.length < book.length, whole.length]).toEqual([true, book.length]);
});

test('exportModel: an option of another format, and a file that is there', async () => {
  const asked = { to: 'onnx', out: fresh(), half: true } as const;
  const options = named(await messageOf(exportModel(run, asked)), /goes with `([^`]+)`\.$/);
  await exportModel(run, { ...asked, ...options });
  const { half: _, ...again } = { ...asked, ...options };
  expect(await messageOf(exportModel(run, again))).toMatch(/ is there already: name another `out`\.$/);
  await exportModel(run, { ...again, out: fresh() });
});

test('LanguageModel.load: weights of more bits than there are', async () => {
  const out = `${fresh()}.safetensors`;
  await exportModel(run, { to: 'int8', out });
  expect(await messageOf(LanguageModel.load(out, { device: 'cpu', weights: 'bf16' }))).toMatch(
    /leave out `weights`\.$/,
  );
  (await LanguageModel.load(out, { device: 'cpu' })).dispose();
});

test('loadKnownLines: a run that has kept none', async () => {
  using model = await LanguageModel.load(run, { device: 'cpu' });
  const message = await messageOf(loadKnownLines(run, model.metadata));
  expect(message).toMatch(/give the lines of the text .*: `known: await KnownLines\.of\(lines\)`$/);
  const known = await KnownLines.of(text.trimEnd().split('\n'));
  for await (const line of model.generateLines(1, { length: 50, known })) expect(known.has(line)).toBe(false);
});
