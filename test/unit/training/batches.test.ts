import fc from 'fast-check';
import { type BatchSource, createBatches } from '../../../lib/training/batches';
import { arrayIds } from '../../fixtures/array-ids';
import { countTurns } from '../../fixtures/turns';

const text = Array.from({ length: 200 }, (_, i) => i);

/** Column b of step k: T + 1 ids. */
function column(ids: Int32Array, steps: number, batch: number, k: number, b: number): number[] {
  return Array.from({ length: steps + 1 }, (_, t) => ids[k * (steps + 1) * batch + t * batch + b] as number);
}

async function wholeEpoch(source: BatchSource, epoch: number, perCall: number, steps: number): Promise<number[][]> {
  const columns: number[][] = [];
  for (let step = 0; step < source.stepsPerEpoch; ) {
    const cut = await source.cut(epoch, step, perCall);
    for (let k = 0; k < cut.count; k++) {
      for (let b = 0; b < cut.batch; b++) columns.push(column(cut.ids, steps, cut.batch, k, b));
    }
    step += cut.count;
  }
  return columns;
}

describe('streams (target every)', () => {
  const options = { target: 'every', batchSize: 3, seqLength: 7, seed: 11 } as const;

  it('gives each character of the ring at most once a target, and all but the remainder', async () => {
    const source = createBatches(() => arrayIds(text), text.length, options);
    expect(source.stepsPerEpoch).toBe(Math.floor(200 / 21));
    for (const epoch of [0, 1, 2]) {
      const targets = (await wholeEpoch(source, epoch, 4, 7)).flatMap((ids) => ids.slice(1));
      expect(targets.length).toBe(source.targetsPerEpoch);
      expect(new Set(targets).size).toBe(targets.length);
      expect(targets.length).toBeGreaterThan(200 - 21);
    }
  });

  it('follows each stream from step to step', async () => {
    const source = createBatches(() => arrayIds(text), text.length, options);
    const { ids, count } = await source.cut(0, 0, 100);
    expect(count).toBe(source.stepsPerEpoch);
    for (let b = 0; b < 3; b++) {
      const stream = Array.from({ length: count }, (_, k) => column(ids, 7, 3, k, b).slice(0, 7)).flat();
      expect(stream).toEqual(stream.map((_, i) => ((stream[0] as number) + i) % 200));
      for (let k = 0; k + 1 < count; k++) expect(column(ids, 7, 3, k, b)[7]).toBe(column(ids, 7, 3, k + 1, b)[0]);
    }
  });

  it('moves the borders from epoch to epoch, so that no character is always left out', async () => {
    const source = createBatches(() => arrayIds(text), text.length, options);
    const first = new Set<number>();
    const trained = new Set<number>();
    for (let epoch = 0; epoch < 30; epoch++) {
      const columns = await wholeEpoch(source, epoch, 5, 7);
      first.add(columns[0]?.[0] as number);
      for (const ids of columns) for (const id of ids.slice(1)) trained.add(id);
    }
    expect(first.size).toBeGreaterThan(20);
    expect(trained.size).toBe(200);
  });

  it('never reads beyond the training part', async () => {
    const source = createBatches(() => arrayIds(text), 150, options);
    for (let epoch = 0; epoch < 20; epoch++) {
      for (const ids of await wholeEpoch(source, epoch, 3, 7)) expect(Math.max(...ids)).toBeLessThan(150);
    }
  });

  it('says what would fit a text that is too short', () => {
    const make = () => createBatches(() => arrayIds(text), 200, { ...options, batchSize: 16, seqLength: 50 });
    expect(make).toThrow(
      'The corpus is too short: 200 characters, and `batchSize: 16` times `seqLength: 50` takes 800 to train on; ' +
        'give a longer text, or `batchSize: 1, seqLength: 25`.',
    );
    const fits = createBatches(() => arrayIds(text), 200, { ...options, batchSize: 1, seqLength: 25 });
    expect(fits.stepsPerEpoch).toBe(8);
  });
});

describe('windows (target last)', () => {
  const options = { target: 'last', batchSize: 8, seqLength: 10, seed: 3 } as const;

  it('shows every window once an epoch, in another order each time, the last batch smaller', async () => {
    const source = createBatches(() => arrayIds(text), text.length, options);
    expect(source.targetsPerEpoch).toBe(190);
    expect(source.stepsPerEpoch).toBe(24);
    const orders = [];
    for (const epoch of [0, 1]) {
      const windows = await wholeEpoch(source, epoch, 5, 10);
      for (const ids of windows) expect(ids).toEqual(ids.map((_, i) => (ids[0] as number) + i));
      const starts = windows.map((ids) => ids[0] as number);
      expect([...starts].sort((a, b) => a - b)).toEqual(Array.from({ length: 190 }, (_, i) => i));
      orders.push(starts.join());
    }
    expect(orders[0]).not.toBe(orders[1]);
    const last = await source.cut(0, 23, 10);
    expect([last.count, last.batch, last.targetsPerStep]).toEqual([1, 6, 6]);
  });

  it("has the reference's 2,256 steps for its 144,424 characters", () => {
    const source = createBatches(() => arrayIds(new Uint8Array(144_424)), 144_424, {
      ...options,
      batchSize: 64,
      seqLength: 100,
    });
    expect(source.targetsPerEpoch).toBe(144_324);
    expect(source.stepsPerEpoch).toBe(2256);
  });

  it('refuses a text that has no window', () => {
    expect(() => createBatches(() => arrayIds(text), 10, options)).toThrow(
      'The corpus is too short: 10 characters, and a window of `seqLength: 10` and the character after it take 11 to train on; ' +
        'give a longer text, or `seqLength: 5`.',
    );
  });
});

describe('any batches', () => {
  it('are the same however many steps a call takes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('every' as const, 'last' as const),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 5 }),
        async (target, batchSize, seqLength, perCall, epoch) => {
          const source = createBatches(() => arrayIds(text), 199, { target, batchSize, seqLength, seed: 5 });
          const single = await wholeEpoch(source, epoch, 1, seqLength);
          expect(await wholeEpoch(source, epoch, perCall, seqLength)).toEqual(single);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('give way while a large one is cut', async () => {
    const ids = arrayIds(new Uint8Array(3_000_000));
    const source = createBatches(() => ids, ids.length, { target: 'every', batchSize: 512, seqLength: 1000, seed: 1 });
    // The clock advances 1 ms per reading, i.e. per column of 1,001 ids, of which there are 2,560; the loop yields after 5 ms.
    let now = 0;
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => ++now);
    const turns = countTurns();
    await source.cut(0, 0, 5).finally(() => clock.mockRestore());
    const taken = turns();
    expect(now).toBeGreaterThan(2560);
    expect(taken).toBeGreaterThan(now / 20); // The promise: never 20 ms at a stretch.
  });
});
