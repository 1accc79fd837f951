import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { PiecedIds } from '../../../lib/corpus/pieced-ids';
import { LanguageModel, nativeOf } from '../../../lib/model';
import { spreadOut } from '../../../lib/training/division';
import { train } from '../../../lib/training/train';
import { trainerOf } from '../../../lib/training/training';
import { arrayIds } from '../../fixtures/array-ids';

test('ranges of ids read as one sequence', () => {
  const all = Array.from({ length: 100 }, (_, i) => i);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 90 }), fc.integer({ min: 0, max: 10 })), { maxLength: 6 }),
      fc.integer({ min: 0, max: 60 }),
      fc.integer({ min: 0, max: 60 }),
      (ranges, start, count) => {
        const given = ranges.map(([begin, length]) => ({ start: begin, length }));
        const expected = given.flatMap(({ start, length }) => all.slice(start, start + length));
        const ids = new PiecedIds(arrayIds(all), given);
        expect(ids.length).toBe(expected.length);
        if (start + count > expected.length) expect(() => ids.read(start, count)).toThrow('there are no');
        else expect([...ids.read(start, count)]).toEqual(expected.slice(start, start + count));
      },
    ),
  );
});

test('every id is trained on or held out, never both, and each place holds its share', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 100_000 }),
      fc.integer({ min: 1, max: 40 }),
      fc.double({ min: 0, max: 0.89, noNaN: true }),
      fc.integer({ min: 1, max: 50 }),
      (length, validationPlaces, validation, seqLength) => {
        const spread = spreadOut(length, { validation, validationPlaces, seqLength });
        if (spread === undefined) return;
        const { training, held } = spread;
        expect(held.length).toBeGreaterThan(1);
        expect(held.length).toBeLessThanOrEqual(validationPlaces);
        let at = 0;
        for (const [i, range] of training.entries()) {
          expect(range.start).toBe(at);
          expect(held[i]?.start).toBe(at + range.length);
          at += range.length + (held[i]?.length ?? 0);
        }
        expect(at).toBe(length);
        for (const { start, length: count } of held) {
          expect(count).toBeGreaterThanOrEqual(Math.min(seqLength, Math.floor(4 * seqLength) - 1));
          expect(start).toBeGreaterThanOrEqual(seqLength);
        }
      },
    ),
  );
});

describe('training', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'places-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const small = {
    hidden: 6,
    layers: 1,
    batchSize: 2,
    seqLength: 5,
    epochs: 1,
    sampleLength: 0,
    device: 'cpu',
    threads: 1,
  } as const;
  const chapter = (letter: string) => `${`${letter}ab `.repeat(60)}\n`;

  it.each(['every', 'last'] as const)('target %s: the loss is that of all places', async (target) => {
    const text = ['x', 'y', 'z', 'w'].map(chapter).join('');
    const training = await train({ corpus: { text }, ...small, target, validationPlaces: 4, out: false });
    const trainer = trainerOf(training);
    expect(trainer.split.places).toBe(4);
    let loss = Number.NaN;
    for await (const event of training) if (event.type === 'epoch') loss = event.validationLoss as number;
    const { held } = spreadOut(training.corpus.length, { validation: 0.1, validationPlaces: 4, seqLength: 5 }) ?? {
      held: [],
    };
    let [nats, count] = [0, 0];
    const native = nativeOf(training.model);
    for (const { start, length } of held) {
      // For target every, a place is short enough here for one stream, which starts from zero state T + 1 characters before it.
      for (let i = start; i < start + length; i++) {
        const from = target === 'last' ? i - 5 : Math.max(0, start - 6);
        const ids = Int32Array.from(training.corpus.ids.read(from, i - from));
        const logits = (await native.logits({ ids, streams: 1 })).slice(-training.corpus.vocabulary.size);
        const wanted = training.corpus.ids.read(i, 1)[0] as number;
        const total = logits.reduce((sum, value) => sum + Math.exp(value), 0);
        nats += Math.log(total) - (logits[wanted] as number);
        count++;
      }
    }
    expect(count).toBe(trainer.split.validation);
    expect(nats / count).toBeCloseTo(loss, 4);
    await training.dispose();
  });

  it('of several files the validation text is from all of them, and a resumed run keeps it so', async () => {
    for (const [i, letter] of ['x', 'y', 'z'].entries()) writeFileSync(join(folder, `${i}.txt`), chapter(letter));
    const out = join(folder, 'run');
    const first = await train({ corpus: [folder], ...small, out });
    expect(trainerOf(first).split.places).toBe(3);
    for await (const event of first) {
      if (event.type === 'start') expect(event.validationPlaces).toBe(3);
    }
    await first.dispose();
    const again = await train({ resume: out, epochs: 2, device: 'cpu' });
    expect(trainerOf(again).split).toEqual(trainerOf(first).split);
    await again.dispose();
    const tail = await train({ corpus: [folder], ...small, validationPlaces: 1, out: false });
    expect(trainerOf(tail).split.places).toBeUndefined();
    await tail.dispose();
    const one = await train({ corpus: [join(folder, '0.txt')], ...small, out: false });
    expect(trainerOf(one).split.places).toBeUndefined();
    await one.dispose();
    using model = await LanguageModel.load(out, { device: 'cpu' });
    expect(model.metadata.configuration.validationPlaces).toBe(10);
  });
});
