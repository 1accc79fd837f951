/** A separate validation text: how it is scored, what a run records of it, and what is refused. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { LanguageModel } from '../../../lib/model';
import { openText } from '../../../lib/scoring/text';
import type { BaselineEvent, EndEvent, StartEvent, TrainingEvent } from '../../../lib/training/events';
import { describePlan, planTraining } from '../../../lib/training/plan';
import { openTraining } from '../../../lib/training/preparation';
import { type TrainRequest, train } from '../../../lib/training/train';
import { trainerOf } from '../../../lib/training/training';

const text = 'a rose is a rose is a rose\n'.repeat(40);
const others = 'is a rose a rose? so it is.\n'.repeat(20);
const known = others.replaceAll(/[^aeiors \n]/g, '');
const small: TrainRequest = {
  hidden: 8,
  layers: 1,
  batchSize: 4,
  seqLength: 9,
  epochs: 2,
  sampleLength: 0,
  saveEvery: 0,
  schedule: 'constant',
  device: 'cpu',
  threads: 1,
};

let folder: string;
const at = (...names: string[]) => join(folder, ...names);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'validation-'));
  writeFileSync(at('corpus.txt'), text);
  writeFileSync(at('others.txt'), others);
});
afterEach(() => rmSync(folder, { recursive: true }));

async function run(request: TrainRequest): Promise<TrainingEvent[]> {
  await using training = await train({ ...small, corpus: [at('corpus.txt')], ...request });
  const events: TrainingEvent[] = [];
  for await (const event of training) events.push(event);
  return events;
}
const find = <T extends TrainingEvent>(events: TrainingEvent[], type: T['type']) =>
  events.find((event): event is T => event.type === type) as T;
const lossesOf = (events: TrainingEvent[]) =>
  events.flatMap((event) => (event.type === 'epoch' ? [event.validationLoss] : []));

describe('what it scores', () => {
  // With one stream, the default of `score`, only the rounding of the sum may differ.
  it.each([
    ['of one stream', { seqLength: 200, batchSize: 1 }, 6],
    ['of several streams, which begin with fewer characters before them', {}, 2],
  ])('is what score says of the file: %s', async (_, sizes, digits) => {
    const out = at('run');
    const events = await run({ ...sizes, validationFile: [at('others.txt')], out });
    const start = find<StartEvent>(events, 'start');
    expect(start).toMatchObject({
      trainingCharacters: text.length,
      validationCharacters: known.length - 1,
      validation: { sources: [at('others.txt')], characters: known.length },
    });
    // Unknown characters are left out, with a note.
    expect(start.validation?.notes).toEqual([
      expect.stringMatching(/^60 characters that the model does not know left out: .*\?/),
    ]);
    using model = await LanguageModel.load(out, { device: 'cpu' });
    const file = await openText(model, at('others.txt'), { unknown: 'skip' });
    const score = await model.score(file.ids);
    expect(score.characters).toBe(start.validationCharacters);
    expect(find<EndEvent>(events, 'end').best?.loss).toBeCloseTo(score.loss, digits);
    file.close();
  });

  it('is what the window protocol says of the file, for target last', async () => {
    const out = at('run');
    const events = await run({ target: 'last', validationFile: [at('others.txt')], out });
    expect(find<StartEvent>(events, 'start').validationCharacters).toBe(known.length - 9);
    using model = await LanguageModel.load(out, { device: 'cpu' });
    const { dropoutOff, windows } = await model.scoreWindows(known, { window: 9 });
    expect(windows).toBe(known.length - 9);
    expect(find<EndEvent>(events, 'end').best?.loss).toBeCloseTo(dropoutOff.loss, 5);
  });

  it('is what score --lines says of the file, for single lines', async () => {
    const out = at('run');
    const events = await run({ lines: true, validationFile: { text: known } as never, out });
    using model = await LanguageModel.load(out, { device: 'cpu' });
    const scores = await model.scoreLines(known.split('\n').slice(0, -1));
    const characters = scores.reduce((sum, score) => sum + (score?.characters ?? 0), 0);
    const nats = scores.reduce((sum, score) => sum + (score?.loss ?? 0) * (score?.characters ?? 0), 0);
    expect(find<StartEvent>(events, 'start').validationCharacters).toBe(characters);
    expect(find<EndEvent>(events, 'end').best?.loss).toBeCloseTo(nats / characters, 5);
  });

  it('has the unknown symbol for what the corpus has not, where there is one', async () => {
    const events = await run({
      corpus: { text: `${text}x` },
      minCount: 2,
      validationFile: { text: others },
      out: false,
    });
    const { validation, validationCharacters } = find<StartEvent>(events, 'start');
    expect(validationCharacters).toBe(others.length - 1);
    expect(validation?.notes).toEqual([
      expect.stringMatching(/^60 characters that the model does not know read as its/),
    ]);
  });

  it('of bytes are bytes', async () => {
    writeFileSync(at('data.bin'), Buffer.from([255, 0, 13, 10, 97, 255]));
    const events = await run({ bytes: true, validationFile: [at('data.bin')], out: false });
    expect(find<StartEvent>(events, 'start')).toMatchObject({ validationCharacters: 5, validation: { characters: 6 } });
  });
});

describe('a run with a validation text', () => {
  it('is trained on all of the corpus, and nothing of the other text is trained on', async () => {
    await using training = await openTraining({
      corpus: { text },
      options: { ...(small as object), validation: 0 },
      validationFile: { text: 'rose\n'.repeat(20) },
      save: false,
    });
    const { split, batches, options } = trainerOf(training);
    expect([split.training, split.validation]).toEqual([text.length, 99]);
    expect([options.validation, options.validationPlaces]).toEqual([0, undefined]);
    expect(batches.stepsPerEpoch).toBe(Math.floor(text.length / 36));
    const plan = await planTraining(training);
    expect(plan.validation).toEqual({ sources: ['the text'], characters: 100, notes: [] });
    expect(describePlan(plan)).toContain('validation the text: 100 characters');
  });

  it('has it in config.json and its checkpoint, and is resumed with it alone, to the same bits', async () => {
    const whole = await run({ epochs: 3, validationFile: [at('others.txt')], out: at('whole') });
    const out = at('cut');
    await run({ epochs: 2, validationFile: [at('others.txt')], out });
    const written = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
    expect(written).toMatchObject({ validationFile: [at('others.txt')], validation: 0 });
    expect(written).not.toHaveProperty('validationPlaces');
    writeFileSync(at('more.txt'), `${others}!`);
    const resume = { resume: out, corpus: undefined, epochs: 3 };
    await expect(run({ ...resume, validationFile: [at('corpus.txt')] })).rejects.toThrow(
      'The validation text is not the one of',
    );
    const rest = await run(resume);
    expect(lossesOf(rest)).toEqual(lossesOf(whole).slice(2));
    const best = async (events: TrainingEvent[]) =>
      (await loadCheckpoint(find<EndEvent>(events, 'end').best?.path as string)).parameters;
    expect(await best(rest)).toEqual(await best(whole));
    // The run's configuration file begins the same run.
    const again = await run({ corpus: undefined, configFile: join(out, 'config.json'), epochs: 3, out: at('again') });
    expect(lossesOf(again)).toEqual(lossesOf(whole));
    // If the file is gone, the error says how to name its new place.
    rmSync(at('others.txt'));
    await expect(run({ ...resume, epochs: 4 })).rejects.toThrow(
      /others\.txt is not there, which the run in .*cut is validated on; name its new place: `resume: '.*cut', validationFile: \['FILE'\]`/,
    );
    await run({ epochs: 1, out: at('plain') });
    await expect(run({ corpus: undefined, resume: at('plain'), validationFile: { text: others } })).rejects.toThrow(
      'trained without a validation text of its own: leave `validationFile` out',
    );
  });

  it('measures a fine-tuning by it, before and after', async () => {
    await run({ out: at('base') });
    const request = { corpus: { text: others }, from: at('base'), validationFile: { text: others }, out: at('tuned') };
    const events = await run({ ...request, keep: { text } } as TrainRequest);
    const baseline = find<BaselineEvent>(events, 'baseline');
    const end = find<EndEvent>(events, 'end');
    expect(end.fineTuning).toEqual({ before: baseline.validationBitsPerCharacter, after: end.best?.bitsPerCharacter });
    expect(end.fineTuning?.after).toBeLessThan(baseline.validationBitsPerCharacter);
  });

  it.each<[string, TrainRequest, string]>([
    [
      'a share besides',
      { validation: 0.2 },
      'option validation: it holds a part of the corpus out, and `validationFile`',
    ],
    ['places besides', { validationPlaces: 3 }, 'option validationPlaces: it holds a part of the corpus out'],
    ['nothing in it', { validationFile: { text: '' } }, 'the text is empty'],
    ['nothing known in it', { validationFile: { text: '!?' } }, 'the text has no character that the model knows'],
    [
      'one character',
      { validationFile: { text: 'a' } },
      'The validation text is too short: 1 character, of which the first has',
    ],
    [
      'no window in it',
      { validationFile: { text: 'rose rose' }, target: 'last' },
      'The validation text is too short: 9 characters, of which the first 9 have no window before it; give a longer one.',
    ],
    [
      'no line in it',
      { validationFile: { text: '\n\n' }, lines: true },
      'The validation text has no line that is not empty',
    ],
    ['no such file', { validationFile: ['/nowhere/at all'] }, 'no such file: /nowhere/at all'],
  ])('is refused for %s', async (_, request, message) => {
    await expect(run({ validationFile: { text: others }, out: false, ...request })).rejects.toThrow(message);
  });

  it.each(['every', 'last'] as const)(
    'takes the shortest text that has something to count, target %s',
    async (target) => {
      const shortest = target === 'every' ? 'as' : 'rose rose ';
      const events = await run({ target, validationFile: { text: shortest }, out: false });
      expect(find<StartEvent>(events, 'start').validationCharacters).toBe(1);
      expect(lossesOf(events).every((loss) => (loss as number) > 0)).toBe(true);
    },
  );

  it('takes a folder', async () => {
    mkdirSync(at('held'));
    for (const name of ['1.txt', '2.txt']) writeFileSync(at('held', name), known);
    const events = await run({ validationFile: [at('held')], out: false });
    expect(find<StartEvent>(events, 'start').validation?.characters).toBe(2 * known.length);
  });
});
