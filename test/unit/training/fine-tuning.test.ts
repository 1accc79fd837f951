/** Fine-tuning: how a model grows for a larger vocabulary, what stays as it was, and what a run reports. */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { type CheckpointMetadata, loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { canonicalLayout, layoutSize } from '../../../lib/checkpoint/layout';
import { openCorpus } from '../../../lib/corpus/corpus';
import { MemoryIds } from '../../../lib/corpus/ids';
import { grownVocabulary, Vocabulary } from '../../../lib/corpus/vocabulary';
import type { GateActivation, InputCoding } from '../../../lib/device/native';
import { LanguageModel, nativeOf } from '../../../lib/model';
import { divideCorpus } from '../../../lib/training/division';
import type { BaselineEvent, EndEvent, EpochEvent, StartEvent, TrainingEvent } from '../../../lib/training/events';
import { growParameters } from '../../../lib/training/fine-tuning';
import { keptSequences } from '../../../lib/training/mixed-batches';
import type { TrainingOptions } from '../../../lib/training/options';
import { presetOptions } from '../../../lib/training/presets';
import { type TrainRequest, train } from '../../../lib/training/train';
import { trainerOf } from '../../../lib/training/training';
import { eachWhole, share } from '../../fixtures/child';
import { followedSizes } from '../../fixtures/followed-sizes';
import { expectSame } from '../../fixtures/same';
import { randomIds } from '../../parity/harness';

const oldText = 'a rose is a rose is a rose\n'.repeat(40);
const newText = 'the fox saw a rösé 🌹\n'.repeat(40);
const small: TrainRequest = {
  batchSize: 4,
  seqLength: 9,
  epochs: 2,
  sampleLength: 0,
  saveEvery: 0,
  device: 'cpu',
  threads: 1,
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fine-tuning-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function run(request: TrainRequest): Promise<TrainingEvent[]> {
  await using training = await train({ ...small, ...request });
  const events: TrainingEvent[] = [];
  for await (const event of training) events.push(event);
  return events;
}

const find = <T extends TrainingEvent>(events: TrainingEvent[], type: T['type']) =>
  events.find((event): event is T => event.type === type) as T;

/** Saves an untrained model with the given shape and normalization. */
async function saveModel(
  path: string,
  text: string,
  given: Partial<CheckpointMetadata['model']> = {},
  normalization: CheckpointMetadata['normalization'] = { lowercase: false },
): Promise<void> {
  const vocabulary = Vocabulary.of([text]);
  const shape = { layers: 2, hidden: 8, input: 'onehot' as InputCoding, embedding: 0, dropout: 0.1, ...given };
  using model = await LanguageModel.create({ ...shape, vocabulary: vocabulary.size }, vocabulary, {
    device: 'cpu',
    threads: 1,
    seed: 5,
    normalization,
    seqLength: 9,
  });
  await model.save(path);
}

describe('a larger vocabulary', () => {
  const names = (count: number) => Array.from({ length: count }, (_, i) => String.fromCodePoint(0x100 + i));
  const codings: [InputCoding, GateActivation][] = [
    ['onehot', 'sigmoid'],
    ['embedding', 'sigmoid'],
    ['onehot', 'hard_sigmoid'],
    ['embedding', 'hard_sigmoid_relu6'],
  ];

  eachWhole(
    it,
    codings,
    (i) => i < 2,
  )('leaves the logits of the old symbols as they were, bit for bit: %s, %s', async (input, gates) => {
    for (const [old, size] of [
      [2, 3],
      [15, 16],
      [16, 17],
      [17, 50],
      [31, 33],
      [64, 65],
      [255, 257],
    ] as const) {
      for (const hidden of [7, 16, 33]) {
        const shape = {
          layers: 2,
          hidden,
          input,
          embedding: input === 'embedding' ? 5 : 0,
          dropout: 0,
          gateActivation: gates,
        };
        const create = (V: number, parameters?: Float32Array) =>
          LanguageModel.create({ ...shape, vocabulary: V }, new Vocabulary(names(V)), {
            device: 'cpu',
            threads: 1,
            seed: 3,
            parameters,
          });
        using model = await create(old);
        const weights = nativeOf(model).read('parameters');
        // Makes sure that the biases are not all zero.
        for (let k = 0; k < weights.length; k++) weights[k] = (weights[k] as number) + 0.01 * Math.sin(k);
        nativeOf(model).write('parameters', weights);
        using grown = await create(size, growParameters({ ...shape, vocabulary: old }, weights, size));
        for (const streams of [1, 3, 20]) {
          const ids = randomIds(4 * streams, old, hidden);
          const [before, after] = [
            await nativeOf(model).logits({ ids, streams }),
            await nativeOf(grown).logits({ ids, streams }),
          ];
          const kept = after.filter((_, i) => i % size < old);
          expect([kept.length, kept]).toEqual([4 * streams * old, before]);
          let apart = 0;
          for (let row = 0; row < 4 * streams; row++) {
            // A new symbol's logit is the mean of the old ones: its probability is their geometric mean, so no more than the average.
            const known = before.subarray(row * old, (row + 1) * old);
            const mean = known.reduce((sum: number, logit: number) => sum + logit, 0) / old;
            for (const logit of after.subarray(row * size + old, (row + 1) * size))
              apart = Math.max(apart, Math.abs(logit - mean));
          }
          expect(apart).toBeLessThan(5e-5);
        }
      }
    }
  });

  it('is as it was where it need not grow', () => {
    const shape = { vocabulary: 4, layers: 1, hidden: 3, input: 'scalar', embedding: 0, dropout: 0 } as const;
    const parameters = new Float32Array(layoutSize(canonicalLayout(shape))).fill(1);
    expect(growParameters(shape, parameters, 4)).toBe(parameters);
    expect(() => growParameters(shape, parameters, 5)).toThrow('scalar input');
  });

  it('has the old symbols first and in their order', () => {
    const old = new Vocabulary(['b', 'a']);
    expect(grownVocabulary(old, 'abcza').symbols).toEqual(['b', 'a', 'c', 'z']);
    expect(grownVocabulary(old, 'ab')).toBe(old);
  });
});

describe('a run with --from', () => {
  it('begins with the weights, keeps everything that is the model’s, and tells what was known before and after', async () => {
    const base = join(folder, 'base.safetensors');
    await saveModel(
      base,
      oldText,
      { gateActivation: 'hard_sigmoid' },
      {
        lowercase: true,
        form: 'nfc',
        lineBreaks: 'keep',
        byteOrderMark: 'keep',
      },
    );
    const out = join(folder, 'run');
    const text = `${newText}WITH CRLF\r\n`;
    const events = await run({ corpus: { text }, from: base, out, epochs: 3 });
    const start = find<StartEvent>(events, 'start');
    expect(start.from).toEqual({
      checkpoint: base,
      newSymbols: [...'\rcfhltwxé🌹ö'].sort(byCodePoint),
      frozenParameters: 0,
    });
    const baseline = find<BaselineEvent>(events, 'baseline');
    const end = find<EndEvent>(events, 'end');
    expect(end.fineTuning).toEqual({ before: baseline.validationBitsPerCharacter, after: end.best?.bitsPerCharacter });
    expect(end.fineTuning?.after).toBeLessThan(baseline.validationBitsPerCharacter);

    const { metadata } = await loadCheckpoint(end.best?.path as string);
    expect(metadata.model).toMatchObject({ gateActivation: 'hard_sigmoid', hidden: 8, layers: 2, input: 'onehot' });
    expect(metadata.normalization).toEqual({ lowercase: true, form: 'nfc', lineBreaks: 'keep', byteOrderMark: 'keep' });
    const known = (await loadCheckpoint(base)).metadata.vocabulary;
    expect(metadata.vocabulary).toEqual([...known, ...start.from!.newSymbols]);
    // A resumed run has the same model, though no option says so.
    const resumed = await run({ corpus: { text }, resume: out, epochs: 4 });
    expect(find<EndEvent>(resumed, 'end').fineTuning?.before).toBe(baseline.validationBitsPerCharacter);
    const last = await loadCheckpoint(find<EndEvent>(resumed, 'end').best?.path as string);
    expect(last.metadata.model).toEqual(metadata.model);
    expect(last.metadata.normalization).toEqual(metadata.normalization);
  });

  it('measures what the model knew as the model itself would be scored', async () => {
    const base = join(folder, 'base.safetensors');
    await saveModel(base, oldText, { input: 'embedding', embedding: 5 });
    const text = 'rose a is so rare as is air\n'.repeat(30).replaceAll(/[^\naeiors ]/g, '');
    const events = await run({ corpus: { text }, from: base, out: false });
    const corpus = await openCorpus({ text }, { vocabulary: Vocabulary.of([oldText]) });
    using model = await LanguageModel.load(base, { device: 'cpu', threads: 1 });
    const options = { ...presetOptions('fast'), ...small } as TrainingOptions;
    const { loss } = await (await divideCorpus(corpus, options)).score(nativeOf(model));
    expect(find<BaselineEvent>(events, 'baseline').validationLoss).toBe(loss);
    expect(find<StartEvent>(events, 'start').from?.newSymbols).toEqual([]);
  });

  it.each([1, 2])('leaves %i frozen layers and the coding of the input as they are', async (freeze) => {
    const base = join(folder, 'base.safetensors');
    await saveModel(base, oldText + newText, { input: 'embedding', embedding: 5 });
    const out = join(folder, 'run');
    const events = await run({
      corpus: { text: newText },
      from: base,
      freeze,
      out,
      optimizer: 'adamw',
      weightDecay: 0.1,
    });
    const { parameters: before, metadata } = await loadCheckpoint(base);
    const { parameters: after } = await loadCheckpoint(find<EndEvent>(events, 'end').best?.path as string);
    const layout = canonicalLayout({ ...metadata.model, vocabulary: metadata.vocabulary.length });
    const { offset: frozen } = layout.find(
      ({ name }) => name === (freeze === 1 ? 'lstm.weight_ih_l1' : 'output.weight'),
    )!;
    expect(find<StartEvent>(events, 'start').from?.frozenParameters).toBe(frozen);
    expect(after.subarray(0, frozen)).toEqual(before.subarray(0, frozen));
    for (const { name, offset, size } of layout) {
      if (offset < frozen) continue;
      expect([name, after.subarray(offset, offset + size)]).not.toEqual([name, before.subarray(offset, offset + size)]);
    }
  });

  it('is resumed in mid-epoch to the same bits, with frozen layers and a text that is kept', async () => {
    const base = join(folder, 'base.safetensors');
    await saveModel(base, oldText);
    const request: TrainRequest = {
      corpus: { text: newText },
      keep: { text: oldText },
      keepShare: 0.5,
      freeze: 1,
      epochs: 3,
    };
    const whole = await run({ ...request, from: base, out: join(folder, 'whole') });
    const out = join(folder, 'cut');
    const controller = new AbortController();
    await using first = await train({ ...small, ...request, from: base, out, signal: controller.signal });
    let steps = 0;
    await expect(
      (async () => {
        for await (const event of first) if (event.type === 'step' && ++steps === 2) controller.abort(new Error('cut'));
      })(),
    ).rejects.toThrow('cut');
    await first.dispose();
    await expect(run({ corpus: { text: newText }, resume: out })).rejects.toThrow("keep: ['FILE']`");
    await expect(run({ corpus: { text: newText }, keep: { text: newText }, resume: out })).rejects.toThrow(
      'The text to keep is not the one',
    );
    const rest = await run({ corpus: { text: newText }, keep: { text: oldText }, resume: out, epochs: 3 });
    const [a, b] = [find<EndEvent>(whole, 'end'), find<EndEvent>(rest, 'end')];
    expect(b.fineTuning).toEqual(a.fineTuning);
    expect(b.fineTuning?.keptAfter).toBeDefined();
    const epochs = (events: TrainingEvent[]) =>
      events.flatMap((event) => (event.type === 'epoch' ? [(event as EpochEvent).keptLoss, event.validationLoss] : []));
    expect(epochs(rest)).toEqual(epochs(whole).slice(-epochs(rest).length));
    expect((await loadCheckpoint(b.best?.path as string)).parameters).toEqual(
      (await loadCheckpoint(a.best?.path as string)).parameters,
    );
    // A run that was begun without a text to keep cannot get one later.
    await run({ corpus: { text: oldText }, hidden: 8, layers: 1, out: join(folder, 'plain') });
    await expect(
      run({ corpus: { text: oldText }, keep: { text: oldText }, resume: join(folder, 'plain') }),
    ).rejects.toThrow('without a text to keep');
  });

  it('forgets less with the old text than without it', async () => {
    const base = join(folder, 'base');
    await run({ corpus: { text: oldText }, hidden: 16, layers: 1, epochs: 12, out: base });
    const request = { corpus: { text: newText }, from: base, epochs: 6, out: false } as const;
    const end = find<EndEvent>(await run({ ...request, keep: { text: oldText }, keepShare: 0.25 }), 'end');
    const { keptBefore, keptAfter, before, after } = end.fineTuning!;
    expect(after).toBeLessThan(before);
    await using training = await train({ ...small, ...request });
    for await (const _ of training);
    const forgotten = await training.model.score(oldText.slice(-splitLength));
    expect(forgotten.bitsPerCharacter).toBeGreaterThan(keptAfter! + 0.1);
    expect(keptAfter).toBeLessThan(keptBefore! + 0.3);
  });

  it('reads its parts back from config.json, by which it is begun again too', async () => {
    const base = join(folder, 'base.safetensors');
    await saveModel(base, oldText);
    const [corpus, keep] = [join(folder, 'new.txt'), join(folder, 'old.txt')];
    await writeFile(corpus, newText);
    await writeFile(keep, oldText);
    const out = join(folder, 'run');
    const first = await run({ corpus: [corpus], keep: [keep], from: base, out });
    const written = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
    expect(written).toMatchObject({ corpus: [corpus], keep: [keep], from: base, keepShare: 0.2 });
    const { metadata } = await loadCheckpoint(find<EndEvent>(first, 'end').best?.path as string);
    expect(JSON.stringify(metadata)).not.toContain(folder); // A model that is passed on must not reveal local paths.
    const again = await run({ configFile: join(out, 'config.json'), out: join(folder, 'again') });
    expect(find<EndEvent>(again, 'end').fineTuning).toEqual(find<EndEvent>(first, 'end').fineTuning);
    expect(find<EndEvent>(await run({ resume: out, epochs: 3 }), 'end').newSteps).toBeGreaterThan(0);
  });

  it.each<[TrainRequest, string]>([
    [{ hidden: 9 }, 'option hidden: the model of BASE was begun with 8, so 9 is impossible'],
    [{ layers: 3 }, 'option layers: the model of BASE was begun with 2, so 3 is impossible'],
    [{ input: 'embedding' }, 'option input: the model of BASE was begun with onehot, so embedding is impossible'],
    [{ lowercase: true }, 'option lowercase: the model of BASE was begun with false, so true is impossible'],
    [{ normalize: 'nfc' }, 'option normalize: the model of BASE was begun with none, so nfc is impossible'],
    [{ freeze: 3 }, 'option freeze: the model has 2 layers, so 3 cannot be frozen; give at most 2.'],
    [{ keep: { text: oldText }, batchSize: 1 }, 'give `batchSize: 2` or more'],
    [{ keep: { text: 'aa' } }, 'too short'],
    [{ keep: { text: 'XYZ' } }, 'no character that the model knows'],
    [{ resume: true }, 'give one of them'],
    [{ from: 'nowhere' }, 'nowhere'],
  ])('refuses %j', async (wrong, message) => {
    const base = join(folder, 'base.safetensors');
    await saveModel(base, oldText);
    await expect(run({ corpus: { text: newText }, from: base, out: false, ...wrong })).rejects.toThrow(
      message.replace('BASE', base),
    );
  });

  it('takes another target, length and dropout, and those of the model where none is given', async () => {
    const base = join(folder, 'base.safetensors');
    await saveModel(base, oldText + newText, { input: 'scalar' });
    const { seqLength: _, ...rest } = small;
    const request = { ...rest, corpus: { text: newText }, from: base, out: false } as const;
    await using same = await train(request);
    expect(trainerOf(same).options).toMatchObject({ target: 'every', seqLength: 9, dropout: 0.1, input: 'scalar' });
    await using other = await train({
      ...request,
      target: 'last',
      seqLength: 5,
      dropout: 0.3,
      keep: { text: oldText },
    });
    expect(other.model.shape).toMatchObject({ dropout: 0.3 });
    for await (const _ of other);
    await expect(train({ ...request, corpus: { text: `${newText}Q` } })).rejects.toThrow(
      'scalar input cannot learn new symbols',
    );
  });

  it('trains on single lines where the model is of single lines, and not otherwise', async () => {
    const base = join(folder, 'base');
    const names = (a: string, b: string) =>
      Array.from({ length: 200 }, (_, i) => `${a.repeat(1 + (i % 3))}${b}`).join('\n');
    await run({ corpus: { text: names('an', 'na') }, lines: true, hidden: 8, layers: 1, out: base });
    const out = join(folder, 'run');
    const request = { from: base, keep: { text: names('an', 'na') }, keepShare: 0.5 } as const;
    const end = find<EndEvent>(await run({ ...request, corpus: { text: names('ob', 'tö') }, out }), 'end');
    expect(end.fineTuning?.keptAfter).toBeDefined();
    expect(end.fineTuning?.after).toBeLessThan(end.fineTuning!.before);
    const { metadata } = await loadCheckpoint(end.best?.path as string);
    expect(metadata.model.resetId).toBe(metadata.vocabulary.indexOf('\n'));
    await expect(run({ ...request, corpus: { text: newText }, lines: false, out: false })).rejects.toThrow(
      'was begun with true, so false is impossible',
    );
  });

  it('needs a model for what is frozen or kept', async () => {
    await expect(run({ corpus: { text: newText }, freeze: 1, out: false })).rejects.toThrow("`from: 'CHECKPOINT'`");
    await expect(run({ corpus: { text: newText }, keep: { text: oldText }, out: false })).rejects.toThrow(
      "`from: 'CHECKPOINT'`",
    );
    const [configFile, keep] = [join(folder, 'keep.json'), join(folder, 'old.txt')];
    await writeFile(keep, oldText);
    await writeFile(configFile, JSON.stringify({ keep: [keep] }));
    await expect(run({ corpus: { text: newText }, configFile, out: false })).rejects.toThrow("`from: 'CHECKPOINT'`");
  });
});

const splitLength = 200;
const byCodePoint = (a: string, b: string) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number);

describe('batches of two texts', () => {
  const options = {
    ...presetOptions('fast'),
    batchSize: 5,
    seqLength: 3,
    keepShare: 0.4,
    validation: 0,
  } as TrainingOptions;
  // The ids of one text are even, those of the other odd.
  const ids = (length: number, odd: number) => ({
    length,
    ids: new MemoryIds(Uint16Array.from({ length }, (_, i) => 2 * i + odd)),
  });

  it('one that is too short for its part of a step: the remedy works, and names the whole batch', async () => {
    const tooShort = divideCorpus(ids(100, 0), options, { kept: ids(5, 1) });
    await expect(tooShort).rejects.toThrow(
      'the text of `keep` cannot be used: The corpus is too short: 5 characters, and 2 of `batchSize: 5` times `seqLength: 3` ' +
        'takes 6 to train on; give a longer text, or `batchSize: 3, seqLength: 2`.',
    );
    const size = fc.integer({ min: 1, max: 9 });
    let remedies = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(fc.integer({ min: 2, max: 60 }), fc.integer({ min: 2, max: 60 })),
        fc.record({
          batchSize: fc.integer({ min: 2, max: 40 }),
          seqLength: size,
          keepShare: size.map((tenths) => tenths / 10),
          validation: fc.constantFrom(0, 0.1, 0.3),
          target: fc.constantFrom('every', 'last'),
        }),
        async ([length, kept], asked) => {
          let sizes = { ...options, ...asked };
          const problem = () =>
            divideCorpus(ids(length, 0), sizes, { kept: ids(kept, 1) }).then(
              () => undefined,
              (error: Error) => error.message,
            );
          let message = await problem();
          // The corpus is tried first; what fits it may leave the other text too short, which takes another remedy.
          for (const ofKept of [false, true]) {
            if (message === undefined || message.startsWith('the text of `keep`') !== ofKept) continue;
            sizes = followedSizes(message, sizes);
            remedies++;
            const next = await problem();
            if (next !== undefined) expect(next.startsWith('the text of `keep`')).toBe(!ofKept);
            message = next;
          }
          expect(message).toBeUndefined();
        },
      ),
      { numRuns: share(2000) },
    );
    expect(remedies).toBeGreaterThan(share(500));
  });

  it.each([
    ['every', 100, 40],
    ['every', 31, 200],
    ['every', 16, 6],
    ['last', 30, 12],
    ['last', 11, 100],
    ['last', 4, 5],
  ] as const)('%s: %i characters beside %i, the same however they are cut', async (target, length, kept) => {
    const [first, second] = [ids(length, 0), ids(kept, 1)];
    const { batches } = await divideCorpus(first, { ...options, target, seqLength: 3 }, { kept: second });
    const K = keptSequences(5, 0.4);
    expect(K).toBe(2);
    const steps = async (most: number) => {
      const all: number[][] = [];
      for (let epoch = 0; epoch < 3; epoch++) {
        for (let step = 0; step < batches.stepsPerEpoch; ) {
          const cut = await batches.cut(epoch, step, most);
          expect(cut.ids).toHaveLength(cut.count * 4 * cut.batch);
          for (let k = 0; k < cut.count; k++) {
            const matrix = cut.ids.subarray(k * 4 * cut.batch, (k + 1) * 4 * cut.batch);
            for (let i = 0; i < matrix.length; i++) {
              const column = i % cut.batch;
              expectSame((matrix[i] as number) % 2, column >= cut.batch - K ? 1 : 0);
              // Each column continues in its own text; a stream that reaches the end wraps around to the beginning.
              const next = matrix[i + cut.batch];
              const size = column >= cut.batch - K ? kept : length;
              if (next !== undefined)
                expectSame(next, ((((matrix[i] as number) >> 1) + 1) % size) * 2 + ((matrix[i] as number) % 2));
            }
            all.push([...matrix]);
          }
          step += cut.count;
        }
      }
      return all;
    };
    const whole = await steps(1000);
    expect(await steps(1)).toEqual(whole);
    expect(await steps(3)).toEqual(whole);
  });

  it('takes at least one sequence from each', () => {
    expect([keptSequences(16, 0.001), keptSequences(16, 0.2), keptSequences(16, 0.999)]).toEqual([1, 3, 15]);
    expect(() => keptSequences(1, 0.5)).toThrow('`batchSize: 2`');
  });
});
