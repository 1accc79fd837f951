/** Weighted texts, which an epoch has more or less often than once. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { openCorpus } from '../../../lib/corpus/corpus';
import { LineIndex } from '../../../lib/corpus/lines';
import type { IdRange } from '../../../lib/corpus/pieced-ids';
import { readWeighted } from '../../../lib/corpus/weighted';
import { divideCorpus } from '../../../lib/training/division';
import type { EndEvent, StartEvent, TrainingEvent } from '../../../lib/training/events';
import { divideLines, LineBatches } from '../../../lib/training/lines';
import type { TrainingOptions } from '../../../lib/training/options';
import { presetOptions } from '../../../lib/training/presets';
import { type TrainRequest, train } from '../../../lib/training/train';
import { WeightedLines, WeightedText } from '../../../lib/training/weights';
import { arrayIds } from '../../fixtures/array-ids';

const weights = fc.oneof(fc.integer({ min: 1, max: 4 }), fc.double({ min: 0.01, max: 3, noNaN: true }));

/** The fewest and the most times that each of `count` items should come in so many epochs. */
const expected = (weight: number, count: number, epochs: number): [number, number] => {
  const each = Math.max(1, Math.round(count * weight)) / count;
  return [Math.floor(each * epochs - 1e-9), Math.ceil(each * epochs + 1e-9)];
};

test('every character that is trained on is seen as often as its weight says, none that is held out', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 40 }), weights), { minLength: 1, maxLength: 5 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 9 })), {
        minLength: 1,
        maxLength: 6,
      }),
      fc.integer({ min: 1, max: 9 }),
      (given, pattern, epochs) => {
        const parts = given.map(([length, weight]) => ({ length, weight }));
        const total = parts.reduce((sum, { length }) => sum + length, 0);
        const training: IdRange[] = [];
        for (let at = 0, i = 0; at < total; i++) {
          const [length, gap] = pattern[i % pattern.length] as [number, number];
          training.push({ start: at, length: Math.min(length, total - at) });
          at += length + gap;
        }
        const trained = new Set(training.flatMap(({ start, length }) => Array.from({ length }, (_, i) => start + i)));
        const ownOf = (part: number) => {
          const start = parts.slice(0, part).reduce((sum, { length }) => sum + length, 0);
          return Array.from({ length: parts[part]?.length ?? 0 }, (_, i) => start + i).filter((at) => trained.has(at));
        };
        if (parts.some((_, part) => ownOf(part).length === 0)) {
          expect(() => new WeightedText(parts, training)).toThrow('held out to validate on');
          return;
        }
        const text = new WeightedText(parts, training);
        const seen = new Map<number, number>();
        for (let epoch = 0; epoch < epochs; epoch++) {
          let length = 0;
          for (const range of text.rangesOf(epoch)) {
            length += range.length;
            for (let at = range.start; at < range.start + range.length; at++) seen.set(at, (seen.get(at) ?? 0) + 1);
          }
          expect(length).toBe(text.length);
        }
        for (const [part, { weight }] of parts.entries()) {
          const own = ownOf(part);
          const [least, most] = expected(weight, own.length, epochs);
          for (const at of own) {
            expect(seen.get(at) ?? 0).toBeGreaterThanOrEqual(least);
            expect(seen.get(at) ?? 0).toBeLessThanOrEqual(most);
            seen.delete(at);
          }
        }
        expect([...seen]).toEqual([]);
      },
    ),
  );
});

test('every line that is trained on is seen as often as its weight says, none that is held out', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 9 }), weights), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.constantFrom(0, 0.3),
      fc.integer({ min: 1, max: 7 }),
      async (given, share, epochs) => {
        const texts = given.map(([lengths]) => lengths.flatMap((length) => [...Array(length).fill(1), 0]));
        const parts = given.map(([, weight], i) => ({ length: texts[i]?.length ?? 0, weight }));
        const index = await LineIndex.find(arrayIds(texts.flat()), 0);
        if (index.count === 0 || (share > 0 && index.count * share < 1)) return;
        const { training } = await divideLines(index, share);
        const ends = parts.map((_, i) => parts.slice(0, i + 1).reduce((sum, { length }) => sum + length, 0));
        const partOf = (line: number) => ends.findIndex((end) => index.startOf(line) < end);
        if (parts.some((_, part) => ![...training].some((line) => partOf(line) === part))) {
          expect(() => new WeightedLines(parts, index, training, 1)).toThrow('held out to validate on');
          return;
        }
        const lines = new WeightedLines(parts, index, training, 1);
        const seen = new Map<number, number>();
        for (let epoch = 0; epoch < epochs; epoch++)
          for (const line of lines.linesOf(epoch)) seen.set(line, (seen.get(line) ?? 0) + 1);
        for (const [part, { weight }] of parts.entries()) {
          const own = [...training].filter((line) => partOf(line) === part);
          const [least, most] = expected(weight, own.length, epochs);
          for (const line of own) {
            expect(seen.get(line) ?? 0).toBeGreaterThanOrEqual(least);
            expect(seen.get(line) ?? 0).toBeLessThanOrEqual(most);
            seen.delete(line);
          }
        }
        expect([...seen]).toEqual([]);
      },
    ),
  );
});

describe('the batches', () => {
  const options = { ...presetOptions('fast'), batchSize: 3, seqLength: 5, validation: 0, seed: 4 } as TrainingOptions;
  const ids = arrayIds(Array.from({ length: 200 }, (_, i) => i));
  const parts = [
    { length: 60, weight: 2 },
    { length: 90, weight: 1 },
    { length: 50, weight: 0.5 },
  ];
  const kindOf = (id: number) => (id < 60 ? 0 : id < 150 ? 1 : 2);

  it.each([
    ['every', 120 + 90 + 25, 3 * 5],
    // The first T characters have no window before them, so they are not counted.
    ['last', 120 + 90 + 25 - 5, 5],
  ] as const)('target %s: %i targets an epoch, each text by its weight', async (target, targets, left) => {
    const { batches, split } = await divideCorpus({ ids, length: 200, parts }, { ...options, target });
    expect(split).toEqual({ training: 200, validation: 0 });
    const halves: number[][] = [];
    for (const epoch of [0, 1]) {
      const counts = [0, 0, 0];
      const half: number[] = [];
      for (let step = 0; step < batches.stepsPerEpoch; ) {
        const cut = await batches.cut(epoch, step, 4);
        const rows = target === 'every' ? [1, 2, 3, 4, 5] : [5];
        for (let k = 0; k < cut.count; k++)
          for (const row of rows)
            for (let b = 0; b < cut.batch; b++) {
              const id = cut.ids[(k * 6 + row) * cut.batch + b] as number;
              counts[kindOf(id)] = (counts[kindOf(id)] ?? 0) + 1;
              if (kindOf(id) === 2) half.push(id);
            }
        step += cut.count;
      }
      const total = counts.reduce((sum, count) => sum + count, 0);
      expect(total).toBe(batches.targetsPerEpoch);
      expect(targets - total).toBeLessThan(15);
      for (const [kind, wanted] of [120, 90, 25].entries()) {
        expect(counts[kind]).toBeGreaterThanOrEqual(wanted - left);
        expect(counts[kind]).toBeLessThanOrEqual(wanted);
      }
      halves.push(half);
    }
    // The second epoch has the other half.
    expect(halves[0]?.filter((id) => halves[1]?.includes(id))).toEqual([]);
  });

  it('gives the lines of a weighted text that much more often', async () => {
    const text = [...Array(30).fill([1, 1, 1, 0]), ...Array(30).fill([2, 2, 2, 0])].flat();
    const index = await LineIndex.find(arrayIds(text), 0);
    const sizes = { ...options, batchSize: 2, seqLength: 4 };
    const weighted = [
      { length: 120, weight: 3 },
      { length: 120, weight: 0.5 },
    ];
    const batches = new LineBatches(index, await divideLines(index, 0), sizes, weighted);
    expect(batches.charactersPerEpoch).toBe(3 * 120 + 60 - ((3 * 120 + 60) % 8));
    const counts = new Map<number, number>();
    for (let step = 0; step < batches.stepsPerEpoch; step++) {
      const { ids: cut } = await batches.cut(0, step, 1);
      for (const id of cut.subarray(2)) counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    expect(counts.get(1)).toBeGreaterThan(3 * 90 - 8);
    expect(counts.get(1)).toBeLessThanOrEqual(3 * 90);
    expect(counts.get(2)).toBeGreaterThan(45 - 8);
    expect(counts.get(2)).toBeLessThanOrEqual(45);
  });
});

describe('weights of a corpus', () => {
  let folder: string;
  const at = (...names: string[]) => join(folder, ...names);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'weights-'));
    writeFileSync(at('a.txt'), 'a rose is a rose\n'.repeat(30));
    writeFileSync(at('b.txt'), 'the fox saw it\n'.repeat(50));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const small: TrainRequest = {
    batchSize: 4,
    seqLength: 9,
    hidden: 8,
    layers: 1,
    epochs: 3,
    sampleLength: 0,
    saveEvery: 0,
  };
  async function run(request: TrainRequest): Promise<TrainingEvent[]> {
    await using training = await train({ device: 'cpu', threads: 1, ...request });
    const events: TrainingEvent[] = [];
    for await (const event of training) events.push(event);
    return events;
  }
  const endOf = (events: TrainingEvent[]) => events.at(-1) as EndEvent;
  const bestOf = async (events: TrainingEvent[]) =>
    (await loadCheckpoint(endOf(events).best?.path as string)).parameters;

  it('are read behind a name, unless there is a file of that name', async () => {
    expect(readWeighted(at('a.txt:2'))).toEqual({ name: at('a.txt'), weight: 2 });
    writeFileSync(at('a.txt:2'), 'another text, which is called so\n');
    expect(readWeighted(at('a.txt:2'))).toEqual({ name: at('a.txt:2') });
    const corpus = await openCorpus([at('a.txt:2')], { weights: true });
    expect([corpus.parts, corpus.sources, corpus.length]).toEqual([undefined, [at('a.txt:2')], 33]);
    expect(readWeighted(at('a.txt:x'))).toEqual({ name: at('a.txt:x') });
    // Without the option it is just a file name: no text is repeated unless asked for.
    rmSync(at('a.txt:2'));
    await expect(openCorpus([at('a.txt:2')])).rejects.toThrow(`no such file: ${at('a.txt:2')}`);
  });

  it.each([
    [['a.txt:2', 'b.txt'], [510, 2, 750, 1], 'a.txt twice, b.txt once'],
    [['b.txt', 'a.txt:0.5'], [750, 1, 510, 0.5], 'b.txt once, a.txt 0.5 times'],
    [['a.txt:1', 'b.txt:1.0'], undefined, undefined],
    // Neighbours with the same whole weight are one part; with a fractional one, each argument is a part with its own turns.
    [['a.txt:3', 'b.txt:3', 'a.txt'], [1260, 3, 510, 1], 'a.txt 3 times, b.txt 3 times, a.txt once'],
    [['a.txt:.5', 'b.txt:0.5'], [510, 0.5, 750, 0.5], 'a.txt 0.5 times, b.txt 0.5 times'],
    [['.:0.5', 'b.txt'], [1260, 0.5, 750, 1], 'a.txt, b.txt 0.5 times, b.txt once'],
    [['*.txt:2'], [1260, 2], 'a.txt, b.txt twice'],
  ])('%j', async (names, parts, note) => {
    const corpus = await openCorpus(
      names.map((name) => at(name)),
      { weights: true },
    );
    const read = corpus.parts?.flatMap(({ length, weight }) => [length, weight]);
    expect(read).toEqual(parts);
    const notes = corpus.notes.map((line) => line.replaceAll(`${folder}/`, '')).filter((line) => /an epoch/.test(line));
    expect(notes).toEqual(note === undefined ? [] : [`an epoch has ${note}`]);
    // They are the same when streamed from disk.
    const streamed = await openCorpus(
      names.map((name) => at(name)),
      { weights: true, streamAbove: 0 },
    );
    expect(streamed.parts).toEqual(corpus.parts);
    streamed.close();
  });

  it.each(['0', '0.0', '1001', '1e9'])('of %s is refused', async (weight) => {
    await expect(openCorpus([at(`a.txt:${weight}`)], { weights: true })).rejects.toThrow(
      `${at(`a.txt:${weight}`)}: a weight is a number above 0 and at most 1,000`,
    );
  });

  it('are recorded, and a run that is resumed in mid-epoch comes to the same bits', async () => {
    for (const more of [{}, { lines: true }, { target: 'last' }] as const) {
      const request: TrainRequest = { ...small, ...more, corpus: [at('a.txt:2.5'), at('b.txt:0.5')] };
      const whole = await run({ ...request, out: at('whole') });
      expect((whole[0] as StartEvent).corpus.notes.join()).toMatch(
        /an epoch has .*a\.txt 2\.5 times, .*b\.txt 0\.5 times/,
      );
      const controller = new AbortController();
      const out = at('cut');
      const first = await train({ device: 'cpu', threads: 1, ...request, out, signal: controller.signal });
      let steps = 0;
      await expect(
        (async () => {
          for await (const event of first)
            if (event.type === 'step' && event.epoch === 2 && ++steps === 1) controller.abort(new Error('cut'));
        })(),
      ).rejects.toThrow('cut');
      await first.dispose();
      expect(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')).corpus).toEqual(request.corpus);
      for (const other of [
        ['a.txt', 'b.txt'],
        ['a.txt:2', 'b.txt:0.5'],
        ['a.txt:2.5', 'b.txt'],
      ])
        await expect(run({ corpus: other.map((name) => at(name)), resume: out })).rejects.toThrow(
          /other weights than .* was trained with \(2\.5 for 510 characters, 0\.5 for 750 characters\)/,
        );
      const rest = await run({ resume: out });
      expect(endOf(rest).best?.loss).toBe(endOf(whole).best?.loss);
      expect(await bestOf(rest)).toEqual(await bestOf(whole));
      for (const name of ['whole', 'cut']) rmSync(at(name), { recursive: true });
    }
  });

  it('change what is learned', async () => {
    const bits = async (weight: number) => {
      await using training = await train({
        ...small,
        device: 'cpu',
        epochs: 6,
        corpus: [at(`a.txt:${weight}`), at('b.txt')],
        out: false,
      });
      for await (const _ of training);
      return (await training.model.score('a rose is a rose\n'.repeat(9))).bitsPerCharacter;
    };
    expect(await bits(4)).toBeLessThan((await bits(0.25)) - 0.2);
  });

  it('name the run after the text, and are refused where a run is resumed without them', async () => {
    const cwd = process.cwd();
    mkdirSync(at('here'));
    process.chdir(at('here'));
    try {
      writeFileSync('names', 'a rose is a rose\n'.repeat(30));
      const events = await run({ ...small, epochs: 1, corpus: ['names:2'] });
      expect(basename((events[0] as StartEvent).out as string)).toMatch(/^names-\d{8}-\d{6}$/);
      await expect(run({ corpus: ['names'], resume: true })).rejects.toThrow('2 for 510 characters');
      // A run without weights cannot be resumed with any.
      const plain = await run({ ...small, epochs: 1, corpus: ['names'], out: 'plain' });
      await expect(run({ corpus: ['names:2'], resume: (plain[0] as StartEvent).out })).rejects.toThrow(
        'was trained with (1 for 510 characters)',
      );
    } finally {
      process.chdir(cwd);
    }
  });
});
