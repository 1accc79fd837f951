import fc from 'fast-check';
import { LineIndex } from '../../../lib/corpus/lines';
import type { NativeEvaluateCall } from '../../../lib/device/native';
import { divideLines, LineBatches, scoreHeldOutLines } from '../../../lib/training/lines';
import { arrayIds } from '../../fixtures/array-ids';

/** '.' ends a line. */
const idsOf = (text: string) => [...text].map((symbol) => (symbol === '.' ? 0 : symbol.charCodeAt(0)));
const textOf = (ids: Iterable<number>) => [...ids].map((id) => (id === 0 ? '.' : String.fromCharCode(id))).join('');
const indexOf = (text: string) => LineIndex.find(arrayIds(idsOf(text)), 0);
const linesOf = (index: LineIndex) => Array.from({ length: index.count }, (_, i) => textOf(index.read(i)));

describe('LineIndex', () => {
  it.each([
    ['', [], 0],
    ['.', [], 1],
    ['..', [], 2],
    ['a', ['a'], 0],
    ['a.', ['a'], 0],
    ['.a', ['a'], 1],
    ['ab..c.', ['ab', 'c'], 1],
    ['ab.c', ['ab', 'c'], 0],
  ])('%j', async (text, lines, empty) => {
    const index = await indexOf(text);
    expect([linesOf(index), index.emptyLines]).toEqual([lines, empty]);
  });

  it('finds lines across pieces, and more of them than it has room for at first', async () => {
    const lines = Array.from({ length: 30_000 }, (_, i) => 'x'.repeat(1 + ((i * 7) % 11)));
    lines[20] = 'y'.repeat(200_000);
    const index = await indexOf(lines.join('.'));
    expect(index.count).toBe(30_000);
    expect(linesOf(index)).toEqual(lines);
  });
});

const options = { batchSize: 3, seqLength: 4, seed: 5 };

/** What each stream reads in an epoch, including the last target. */
async function streamsOf(
  batches: LineBatches,
  epoch: number,
  perCall: number,
  { batchSize: B, seqLength: T } = options,
) {
  const streams = Array.from({ length: B }, () => [] as number[]);
  for (let step = 0; step < batches.stepsPerEpoch; ) {
    const { ids, count } = await batches.cut(epoch, step, perCall);
    for (let k = 0; k < count; k++) {
      for (let b = 0; b < B; b++) {
        const column = Array.from({ length: T + 1 }, (_, t) => ids[(k * (T + 1) + t) * B + b] as number);
        const stream = streams[b] as number[];
        if (stream.length > 0) expect(stream.pop()).toBe(column[0]);
        stream.push(...column);
      }
    }
    step += count;
  }
  return streams.map(textOf);
}

const names = Array.from({ length: 60 }, (_, i) => `${String.fromCharCode(97 + (i % 26))}${'z'.repeat(i % 7)}${i}`);

describe('LineBatches', () => {
  it('holds lines out from all over the text, the same whatever the seed', async () => {
    const index = await indexOf(names.join('.'));
    const divided = await divideLines(index, 0.2);
    expect(divided.validation).toHaveLength(12);
    expect([...divided.training, ...divided.validation].sort((a, b) => a - b)).toEqual([...names.keys()]);
    // Not just the tail: some are from each third.
    for (const third of [0, 1, 2]) {
      expect([...divided.validation].some((line) => Math.floor(line / 20) === third)).toBe(true);
    }
    const total = names.reduce((sum, name) => sum + name.length + 1, 0);
    expect(divided.split.training + divided.split.validation).toBe(total);
  });

  it('gives whole lines, each once in an epoch but for what the cut into streams leaves over or repeats', async () => {
    const index = await indexOf(names.join('.'));
    const divided = await divideLines(index, 0.1);
    const batches = new LineBatches(index, divided, options);
    const trained = new Set([...divided.training].map((line) => names[line]));
    const orders: string[] = [];
    const seen = new Map<string, number>();
    for (const epoch of [0, 1, 2, 3]) {
      const streams = await streamsOf(batches, epoch, 3);
      orders.push(streams.join());
      const starts: number[] = [];
      for (const stream of streams) {
        expect(stream).toMatch(/^\./);
        const whole = stream.slice(1).split('.');
        whole.pop(); // The last line may be cut off.
        for (const line of whole) {
          expect(trained.has(line)).toBe(true);
          seen.set(line, (seen.get(line) ?? 0) + 1);
        }
        starts.push(whole.length);
      }
    }
    expect(new Set(orders).size).toBe(4);
    expect(seen.size).toBe(trained.size);
    // At most twice an epoch: at the end of one stream and the beginning of the next.
    expect(Math.max(...seen.values())).toBeLessThanOrEqual(8);
  });

  it('gives the same whatever the calls, and wherever a run is resumed', async () => {
    const index = await indexOf(names.join('.'));
    const divided = await divideLines(index, 0);
    const batches = () => new LineBatches(index, divided, options);
    const whole = await streamsOf(batches(), 2, 1000);
    expect(await streamsOf(batches(), 2, 1)).toEqual(whole);
    const other = batches();
    await other.cut(1, 3, 2);
    await other.cut(2, 7, 2);
    expect(await streamsOf(other, 2, 4)).toEqual(whole);
    const { ids } = await batches().cut(2, 5, 1);
    const again = await batches().cut(2, 4, 2);
    expect([...ids]).toEqual([...again.ids.subarray(again.ids.length / 2)]);
    // Another seed gives another order.
    expect(await streamsOf(new LineBatches(index, divided, { ...options, seed: 6 }), 2, 4)).not.toEqual(whole);
  });

  it('works with lines longer than an epoch of a stream, and with one line', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 9 }),
        async (lengths, batchSize, seqLength) => {
          const lines = lengths.map((length, i) => String.fromCharCode(97 + i).repeat(length));
          const index = await indexOf(lines.join('.'));
          const divided = await divideLines(index, 0);
          const total = lengths.reduce((sum, length) => sum + length + 1, 0);
          const sizes = { batchSize, seqLength, seed: 1 };
          if (total < batchSize * seqLength) {
            expect(() => new LineBatches(index, divided, sizes)).toThrow('The lines are too few');
            return;
          }
          const batches = new LineBatches(index, divided, sizes);
          for (const stream of await streamsOf(batches, 0, 2, sizes)) {
            const parts = stream.split('.');
            expect(parts.shift()).toBe('');
            const last = parts.pop() as string;
            for (const part of parts) expect(lines).toContain(part);
            expect(last === '' || lines.some((line) => line.startsWith(last))).toBe(true);
          }
        },
      ),
    );
  });

  it('says what is wrong with too few lines, with a remedy that works', async () => {
    const few = await indexOf('ab.c');
    await expect(divideLines(few, 0.1)).rejects.toThrow(
      'The corpus has 2 lines, of which `validation: 0.1` leaves none to validate on; give more lines, or `validation: 0`.',
    );
    const divided = await divideLines(few, 0);
    const make = (batchSize: number, seqLength: number) =>
      new LineBatches(few, divided, { batchSize, seqLength, seed: 1 });
    expect(() => make(16, 20)).toThrow(
      'The lines are too few: 5 characters to train on, with an end for each line, and `batchSize: 16` times `seqLength: 20` ' +
        'takes 320; give more lines, or `batchSize: 1, seqLength: 1`.',
    );
    expect(make(1, 1).stepsPerEpoch).toBe(5);
    expect(() => make(1, 20)).toThrow('takes 20; give more lines, or `seqLength: 1`.');
  });
});

/** Records its calls; the loss of each character is its id. */
class Recorder {
  readonly calls: NativeEvaluateCall[] = [];
  resetEvaluationState(): void {}
  async evaluate(call: NativeEvaluateCall): Promise<Float32Array> {
    this.calls.push(call);
    return Float32Array.from(call.ids.subarray(call.batch));
  }
}

describe('the held-out lines', () => {
  it.each([1, 2, 3, 20, 1000])('are scored whole, each character and each end once, T = %i', async (T) => {
    const index = await indexOf(names.join('.'));
    const divided = await divideLines(index, 0.3);
    const native = new Recorder();
    const { nats, characters } = await scoreHeldOutLines(native as never, index, divided, T, { rank: 0, size: 1 });
    const held = [...divided.validation].map((line) => names[line] as string);
    const expected = held.flatMap(idsOf).reduce((sum, id) => sum + id, 0);
    expect(characters).toBe(divided.split.validation);
    expect(nats).toBeCloseTo(expected, 3);
    let shared = 0;
    for (let rank = 0; rank < 3; rank++)
      shared += (await scoreHeldOutLines(new Recorder() as never, index, divided, T, { rank, size: 3 })).nats;
    expect(shared).toBeCloseTo(expected, 3);
    expect(native.calls[0]?.batch).toBeLessThanOrEqual(Math.max(1, Math.floor(characters / (4 * T))));
    // Each stream starts at the beginning of a line.
    expect([...(native.calls[0] as NativeEvaluateCall).ids.subarray(0, native.calls[0]?.batch)]).toEqual(
      new Array(native.calls[0]?.batch).fill(0),
    );
    expect(native.calls.every((call) => call.carryState && !call.dropout)).toBe(true);
  });
});
