import fc from 'fast-check';
import { type ReadableIds, scoreIds, scoreMany, scoreOf } from '../../../lib/scoring/score';
import { scoreWindows } from '../../../lib/scoring/window-protocol';
import { FakeNativeModel } from '../../fixtures/fake-native-model';

const vocabulary = 9;

function idsOf(length: number, salt = 0): Int32Array {
  return Int32Array.from(
    { length },
    (_, i) => Math.floor(Math.abs(Math.sin((i + 1) * (salt + 1.3))) * 1000) % vocabulary,
  );
}

function readable(ids: Int32Array): ReadableIds {
  return { length: ids.length, read: (start, count) => ids.subarray(start, start + count) };
}

/** Mean nats from zero state, straight from the recurrence. */
function expected(ids: Int32Array): number {
  const fake = new FakeNativeModel(vocabulary);
  let state = 0;
  let nats = 0;
  for (let i = 0; i + 1 < ids.length; i++) {
    state = fake.next(state, ids[i] as number);
    nats += fake.nats(state, ids[i + 1] as number);
  }
  return nats / (ids.length - 1);
}

describe('scoreIds', () => {
  it.each([2, 3, 1024, 1025, 1026, 5000])(
    'scores %i ids as one stream exactly, the first not counted',
    async (length) => {
      const ids = idsOf(length);
      const score = await scoreIds(new FakeNativeModel(vocabulary), readable(ids), 1);
      expect(score.characters).toBe(length - 1);
      expect(score.loss).toBeCloseTo(expected(ids), 6);
      expect(score.bitsPerCharacter).toBeCloseTo(score.loss / Math.LN2, 12);
    },
  );

  it('scores several streams as the parts they are', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 0, max: 700 }), async (streams, extra) => {
        const ids = idsOf(2 * streams + extra, streams);
        const score = await scoreIds(new FakeNativeModel(vocabulary), readable(ids), streams);
        let nats = 0;
        for (let s = 0; s < streams; s++) {
          const part = ids.slice(Math.floor((s * ids.length) / streams), Math.floor(((s + 1) * ids.length) / streams));
          nats += expected(part) * (part.length - 1);
        }
        expect(score.characters).toBe(ids.length - streams);
        expect(score.loss).toBeCloseTo(nats / score.characters, 5);
      }),
      { numRuns: 100 },
    );
  });

  it('reports its progress up to the end', async () => {
    const seen: [number, number][] = [];
    await scoreIds(new FakeNativeModel(vocabulary), readable(idsOf(3000)), 2, { onProgress: (...p) => seen.push(p) });
    expect(seen.at(-1)).toEqual([2998, 2998]);
    expect(seen.length).toBeGreaterThan(1);
  });

  it('throws the reason of an abort', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    const options = { signal: controller.signal, onProgress: () => controller.abort(reason) };
    await expect(scoreIds(new FakeNativeModel(vocabulary), readable(idsOf(9000)), 1, options)).rejects.toBe(reason);
  });
});

describe('scoreOf', () => {
  it('refuses a sum that a stopped call has left unfinished', () => {
    expect(() => scoreOf(Number.NaN, 3)).toThrow(expect.objectContaining({ code: 'ERR_STOPPED' }));
  });
});

describe('scoreMany', () => {
  it('scores each text from zero state and leaves out those with nothing to predict', async () => {
    const texts = Array.from({ length: 75 }, (_, i) => idsOf((i * 37) % 300, i));
    const scores = await scoreMany(new FakeNativeModel(vocabulary), texts);
    scores.forEach((score, i) => {
      const text = texts[i] as Int32Array;
      if (text.length < 2) expect(score).toBeUndefined();
      else {
        expect(score?.characters).toBe(text.length - 1);
        expect(score?.loss).toBeCloseTo(expected(text), 5);
      }
    });
    expect(scores[0]).toBeUndefined();
  });
});

describe('scoreWindows', () => {
  it.each([
    [1, 7],
    [3, 128],
  ])('scores every window at stride %i, %i a call', async (stride, batch) => {
    const ids = idsOf(60);
    const window = 10;
    const fake = new FakeNativeModel(vocabulary);
    const score = await scoreWindows(fake, readable(ids), { window, stride, batch });
    let nats = 0;
    let windows = 0;
    for (let start = 0; start + window < ids.length; start += stride, windows++) {
      let state = 0;
      for (let i = 0; i < window; i++) state = fake.next(state, ids[start + i] as number);
      nats += fake.nats(state, ids[start + window] as number);
    }
    expect(score.windows).toBe(windows);
    expect(score.dropoutOff.loss).toBeCloseTo(nats / windows, 5);
    expect(score.dropoutOn.loss).toBeGreaterThan(score.dropoutOff.loss + 0.99);
    const masks = fake.evaluateCalls.filter((call) => call.dropout).map((call) => call.maskStep);
    expect(masks).toEqual(masks.map((_, i) => i));
  });

  it('scores a text of one window', async () => {
    const score = await scoreWindows(new FakeNativeModel(vocabulary), readable(idsOf(11)), { window: 10 });
    expect(score.windows).toBe(1);
  });
});
