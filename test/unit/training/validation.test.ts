import type { IdSource } from '../../../lib/corpus/ids';
import type { NativeEvaluateCall } from '../../../lib/device/native';
import { queued } from '../../../lib/device/queue';
import type { Split } from '../../../lib/training/sizes';
import {
  type Evaluator,
  scoreValidation as scoreShare,
  scoreTogether,
  scoreWholeText,
  splitCorpus,
} from '../../../lib/training/validation';
import { arrayIds } from '../../fixtures/array-ids';
import { FakeNativeModel } from '../../fixtures/fake-native-model';

/** Records its calls. The loss of each character is its id. */
class Recorder {
  readonly calls: NativeEvaluateCall[] = [];

  resetEvaluationState(): void {}

  evaluationSequence<T>(job: () => Promise<T>): Promise<T> {
    return job();
  }

  async evaluate(call: NativeEvaluateCall): Promise<Float32Array> {
    this.calls.push(call);
    const { ids, steps, batch } = call;
    if (call.target === 'last') return Float32Array.from({ length: batch }, (_, b) => ids[steps * batch + b] as number);
    return Float32Array.from(ids.subarray(batch));
  }
}

/** Scores as a single process does. */
const scoreValidation = (
  native: Evaluator,
  ids: IdSource,
  split: Split,
  options: Parameters<typeof scoreShare>[3],
  signal?: AbortSignal,
) => scoreTogether(native, signal, undefined, (place) => scoreShare(native, ids, split, options, place, signal));

const text = Array.from({ length: 250 }, (_, i) => i % 200);
const tailMean = (from: number) => text.slice(from).reduce((a, b) => a + b, 0) / (text.length - from);

describe('splitCorpus', () => {
  it('cuts the tail off', () => {
    const sizes = { target: 'every', batchSize: 2, seqLength: 50 } as const;
    expect(splitCorpus(1000, { ...sizes, validation: 0.1 })).toEqual({ training: 900, validation: 100 });
    expect(splitCorpus(1000, { ...sizes, validation: 0 })).toEqual({ training: 1000, validation: 0 });
  });
});

describe('scoreValidation', () => {
  it.each([
    [2, 100],
    [2, 17],
    [3, 100],
    [7, 50],
    [50, 1],
    [1, 249],
  ])('counts each character of the tail once, T = %i, V = %i', async (seqLength, validation) => {
    const native = new Recorder();
    const split = { training: text.length - validation, validation };
    const score = await scoreValidation(native, arrayIds(text), split, { target: 'every', seqLength });
    expect(score.characters).toBe(validation);
    expect(score.loss).toBeCloseTo(tailMean(split.training), 5);
    expect(native.calls[0]?.batch).toBe(Math.max(1, Math.min(64, Math.floor(validation / (4 * seqLength)))));
    expect(native.calls[0]?.steps).toBe(seqLength); // The warm-up, which is not counted.
    expect(native.calls.every((call) => call.carryState && !call.dropout)).toBe(true);
  });

  it.each([
    ['every', 1, 2],
    ['every', 2, 3],
    ['every', 2, 20],
    ['last', 5, 2],
    ['last', 20, 3],
  ] as const)(
    'is shared by ranks without gap or overlap, target %s, T = %i, %i ranks',
    async (target, seqLength, size) => {
      const split = { training: 50, validation: 200 };
      let nats = 0;
      for (let rank = 0; rank < size; rank++) {
        const part = await scoreShare(new Recorder(), arrayIds(text), split, { target, seqLength }, { rank, size });
        expect(part.characters).toBe(200);
        nats += part.nats;
      }
      expect(nats / 200).toBeCloseTo(tailMean(50), 5);
    },
  );

  it.each([
    ['every', 1, 1, 199],
    ['every', 2, 1, 199],
    ['every', 7, 1, 199],
    ['every', 100, 1, 199],
    ['every', 2, 3, 199],
    ['last', 5, 1, 195],
    ['last', 5, 2, 195],
  ] as const)(
    'counts each character of a text by itself once, target %s, T = %i, %i ranks',
    async (target, seqLength, size, characters) => {
      const own = text.slice(0, 200); // All ids differ.
      let nats = 0;
      for (let rank = 0; rank < size; rank++) {
        const native = new Recorder();
        const place = { rank, size };
        const part = await scoreWholeText(native, arrayIds(own), { target, seqLength }, place);
        expect(part.characters).toBe(characters);
        nats += part.nats;
        // The first stream starts with the first character.
        if (rank === 0 && native.calls[0]) expect(native.calls[0].ids[0]).toBe(0);
        if (target === 'last' || size > 1) continue;
        const lengths = native.calls.reduce((sum, { steps }) => sum + steps, 0);
        const streams = native.calls[0]?.batch as number;
        expect(lengths).toBe(Math.ceil((characters + (streams - 1) * seqLength) / streams));
      }
      const counted = own.slice(200 - characters);
      expect(nats).toBe(counted.reduce((a, b) => a + b, 0));
    },
  );

  it('works where the training text is as short as the warm-up', async () => {
    const split = { training: 5, validation: 245 };
    const score = await scoreValidation(new Recorder(), arrayIds(text), split, { target: 'every', seqLength: 5 });
    expect(score.loss).toBeCloseTo(tailMean(5), 5);
  });

  it('predicts each character of the tail from a window, for target last', async () => {
    const native = new Recorder();
    const split = { training: 100, validation: 150 };
    const score = await scoreValidation(native, arrayIds(text), split, { target: 'last', seqLength: 20 });
    expect(score).toEqual({ loss: tailMean(100), characters: 150 });
    expect(native.calls.map((call) => call.batch)).toEqual([64, 64, 22]);
    expect(native.calls.every((call) => !call.carryState)).toBe(true);
  });

  it('takes about 4,096 windows of a long tail', async () => {
    const ids = arrayIds(new Uint8Array(20_000));
    const split = { training: 10_000, validation: 10_000 };
    const score = await scoreValidation(new Recorder(), ids, split, { target: 'last', seqLength: 3 });
    expect(score.characters).toBe(3334);
  });

  it('lets no other scoring of the model come between its chunks', async () => {
    const split = { training: 100, validation: 150 };
    const ids = arrayIds(text.map((id) => id % 7));
    const score = (native: ReturnType<typeof queued>) =>
      scoreValidation(native, ids, split, { target: 'every', seqLength: 5 });
    const alone = await score(queued(new FakeNativeModel(7, 1)));
    const model = queued(new FakeNativeModel(7, 1));
    // Another sequence of carried calls, with as many streams: if they mixed, one would continue from the other's state.
    const carried = {
      ids: new Int32Array(6 * 7),
      steps: 5,
      batch: 7,
      target: 'every',
      carryState: true,
      dropout: false,
    };
    const others = () =>
      model.evaluationSequence(async () => {
        model.resetEvaluationState();
        const losses: number[] = [];
        for (let i = 0; i < 4; i++) losses.push(...(await model.evaluate(carried as NativeEvaluateCall)));
        return losses;
      });
    const [first, one, second, two, third] = await Promise.all([
      score(model),
      others(),
      score(model),
      others(),
      score(model),
    ]);
    expect([first, second, third]).toEqual([alone, alone, alone]);
    expect(one).toEqual(two);
  });

  it('gives up when it is aborted', async () => {
    const split = { training: 100, validation: 150 };
    const signal = AbortSignal.abort(new Error('enough'));
    const scored = scoreValidation(new Recorder(), arrayIds(text), split, { target: 'every', seqLength: 5 }, signal);
    await expect(scored).rejects.toThrow('enough');
  });
});
