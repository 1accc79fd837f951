/** Finding and preventing copies of a corpus in generated texts, checked against brute-force searches. */
import fc from 'fast-check';
import { MemoryIds } from '../../../lib/corpus/ids';
import { suffixArray as sorting, TextIndex } from '../../../lib/corpus/text-index';
import { type LanguageModel, nativeOf } from '../../../lib/model';
import { findCopies, windowLength } from '../../../lib/sampling/copies';
import type { GenerateOptions } from '../../../lib/sampling/options';
import { train } from '../../../lib/training/train';
import { canRun, compiled, itWhere, itWhole, run, share } from '../../fixtures/child';

const idsOf = (text: string) => Uint8Array.from(text, (symbol) => symbol.charCodeAt(0));
const source = (text: string) => new MemoryIds(idsOf(text));

/** Texts of few symbols, in which runs repeat. */
const repetitive = fc
  .array(fc.constantFrom('a', 'b', 'ab', 'aab', 'abababab', 'c'), { maxLength: 60 })
  .map((parts) => parts.join(''));

/** Runs the sorting to its end. */
function suffixArray(text: ArrayLike<number>, symbols: number, atTurn = () => {}): Int32Array {
  const turns = sorting(text, symbols);
  for (;;) {
    const { done, value } = turns.next();
    if (done) return value;
    atTurn();
  }
}

describe('suffixArray', () => {
  const expected = (text: string) =>
    Array.from(text, (_, i) => i).sort((a, b) => (text.slice(a) < text.slice(b) ? -1 : 1));

  it.each(['', 'a', 'aa', 'ab', 'ba', 'banana', 'mississippi', 'abababab', 'bbbbb', 'cbacba'])('%j', (text) => {
    expect([...suffixArray(idsOf(text), 128)]).toEqual(expected(text));
  });

  it('orders any text', () => {
    fc.assert(
      fc.property(repetitive, (text) => expect([...suffixArray(idsOf(text), 128)]).toEqual(expected(text))),
      { numRuns: share(500) },
    );
  });

  it('orders long ones, that are all one symbol, or hardly repeat', () => {
    for (const text of [
      'a'.repeat(5000),
      'ab'.repeat(5000),
      Array.from({ length: 20_000 }, (_, i) => 'abcd'[(i * i * 7 + i) % 4]).join(''),
    ]) {
      const ids = idsOf(text);
      const order = suffixArray(ids, 128);
      expect(new Set(order).size).toBe(ids.length);
      for (let k = 1; k < order.length; k++) {
        const compared = Buffer.compare(ids.subarray(order[k - 1]), ids.subarray(order[k]));
        if (compared >= 0) throw new Error(`place ${k}`);
      }
    }
  });
});

itWhole('sorts a text in turns that do not grow with it', async () => {
  for (const [text, symbols] of [
    [Array.from({ length: 300_000 }, (_, i) => (i * i * 7 + i) % 61), 61],
    [Array.from({ length: 300_000 }, (_, i) => i % 2), 2],
  ] as const) {
    let [reads, most, all] = [0, 0, 0];
    const counted = new Proxy(text, {
      get(target, key) {
        reads++;
        return target[key as unknown as number];
      },
    });
    const atTurn = () => {
      most = Math.max(most, reads);
      all += reads;
      reads = 0;
    };
    suffixArray(counted, symbols, atTurn);
    atTurn();
    // However long the text, a turn is at most 2 * 2^13 steps of a few reads each, well below this.
    expect(most).toBeLessThan(16 * 2 ** 13);
    expect(all).toBeGreaterThan(2 * 16 * 2 ** 13);
  }
});

it('leaves an index unmade at an abort', async () => {
  const ids = new MemoryIds(Uint8Array.from({ length: 2_000_000 }, (_, i) => (i * i * 7 + i) % 61));
  const controller = new AbortController();
  // After the text is read, which takes a turn or two: while it is being sorted.
  setTimeout(() => controller.abort(new Error('enough')), 50);
  await expect(TextIndex.of(ids, controller.signal)).rejects.toThrow('enough');
});

describe('TextIndex', () => {
  it('knows what follows any run', async () => {
    await fc.assert(
      fc.asyncProperty(
        repetitive,
        fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 }),
        async (text, run) => {
          const index = await TextIndex.of(source(text));
          const after = new Set<number>();
          for (let at = 0; at + run.length <= text.length; at++) {
            if (!text.startsWith(run, at)) continue;
            const next = text.charCodeAt(at + run.length);
            if (!Number.isNaN(next)) after.add(next);
          }
          expect(index.after(idsOf(run))).toEqual([...after].sort((a, b) => a - b));
          if (text !== '') expect(index.has(idsOf(run))).toBe(text.includes(run));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('takes five bytes a character, six above 256 symbols', async () => {
    expect((await TextIndex.of(source('abc'))).bytes).toBe(15);
    expect((await TextIndex.of(new MemoryIds(Uint16Array.of(300, 5, 300)))).bytes).toBe(18);
  });
});

itWhere(canRun('prlimit', ['--version']), 'it needs prlimit')(
  'an index that there is no memory for is an error of this package',
  async () => {
    const script = `
      const { readFileSync } = require('node:fs');
      const { execFileSync } = require('node:child_process');
      const { TextIndex } = require(${JSON.stringify(compiled('corpus/text-index.js'))});
      const length = 3e7;
      const read = (from, count) => new Uint8Array(count);
      const kibibytes = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
      // Room for the text, and not for the order of its places.
      execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + (1024 * kibibytes + 2.5 * length)]);
      TextIndex.of({ length, bytesPerId: 1, read }).then(
        () => console.log('made'),
        ({ name, code, message }) => console.log(JSON.stringify({ name, code, message })),
      );`;
    const { stdout, stderr } = await run(process.execPath, ['-e', script]);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({
      name: 'OutOfMemoryError',
      code: 'ERR_OUT_OF_MEMORY',
      message: expect.stringMatching(
        /^there is not enough memory for an index of 30,000,000 characters \(.*allocation failed\); give a part of the text$/,
      ),
    });
  },
);

describe('findCopies', () => {
  /** The longest common run and the number of copied windows, found by brute force. */
  function search(texts: string[], corpus: string) {
    let [longest, windows, copied] = [0, 0, 0];
    for (const text of texts) {
      for (let i = 0; i < text.length; i++) {
        while (i + longest < text.length && corpus.includes(text.slice(i, i + longest + 1))) longest++;
        if (i + windowLength > text.length) continue;
        windows++;
        if (corpus.includes(text.slice(i, i + windowLength))) copied++;
      }
    }
    return { longest, windows, copied };
  }

  it('finds what a search finds', async () => {
    let [some, none] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.array(repetitive, { maxLength: 3 }), repetitive, async (texts, part) => {
        const corpus = `${part}c${texts[0]?.slice(5, part.length % 2 === 0 ? 60 : 20) ?? ''}c${part}`;
        const found = await findCopies(texts.map(idsOf), source(corpus));
        const { longest, windows, copied } = search(texts, corpus);
        expect([found.longest.length, found.windows, found.copiedWindows]).toEqual([longest, windows, copied]);
        const { text, at, inCorpus, length } = found.longest;
        expect((texts[text] ?? '').slice(at, at + length)).toBe(corpus.slice(inCorpus, inCorpus + length));
        if (copied > 0) some++;
        else none++;
      }),
      { numRuns: 300, seed: 5 },
    );
    expect(Math.min(some, none)).toBeGreaterThan(0);
  });

  it('takes a text that repeats itself a hundred thousand times in its stride', async () => {
    // Climbing from each state to that of its last 30 characters anew would take 10^10 steps here.
    const text = 'ab'.repeat(100_000);
    const found = await findCopies([idsOf(text)], source(`${text}c`));
    expect(found.longest.length).toBe(text.length);
    expect([found.windows, found.copiedWindows]).toEqual([text.length - 29, text.length - 29]);
  });

  it('ends at an abort, whatever it is at', async () => {
    const text = Uint8Array.from({ length: 300_000 }, (_, i) => (i * i * 7 + i) % 251);
    const reason = new Error('enough');
    // At each of the first few of the dozens of times that it yields.
    for (let before = 0; before < 4; before++) {
      const controller = new AbortController();
      let left = before;
      const turn = () => (left-- > 0 ? setImmediate(turn) : controller.abort(reason));
      setImmediate(turn);
      await expect(findCopies([text], source('abc'), controller.signal)).rejects.toBe(reason);
    }
  });

  it('takes no run across two texts for a copy', async () => {
    const found = await findCopies([idsOf('abc'), idsOf('def')], source('abcdef'));
    expect(found.longest).toEqual({ length: 3, text: 0, at: 0, inCorpus: 0 });
    expect(found.windows).toBe(0);
  });
});

describe('a model that must not copy, or writes some characters alone', () => {
  const text = 'a rose is a rose is a rose\n'.repeat(30);

  async function trained(): Promise<LanguageModel> {
    const training = await train({
      corpus: { text },
      hidden: 16,
      layers: 1,
      batchSize: 4,
      seqLength: 9,
      epochs: 8,
      sampleLength: 0,
      device: 'cpu',
      threads: 1,
      out: false,
    });
    for await (const _ of training);
    return training.model;
  }

  it('writes no longer copy than it may, and one that long', async () => {
    using model = await trained();
    const index = await model.indexText({ text: `${text}Qé` }); // Characters that the model does not know do no harm.
    const corpus = source(text);
    const longest = async (options: GenerateOptions) => {
      const texts = ['', '', ''];
      for await (const piece of model.generateMany(3, { length: 200, seed: 4, temperature: 0.5, ...options }))
        texts[piece.stream] += piece.text;
      expect(texts.map((each) => each.length)).toEqual([200, 200, 200]);
      return (await findCopies(texts.map(idsOf), corpus)).longest.length;
    };
    expect(await longest({})).toBeGreaterThan(30);
    for (const length of [2, 5, 12]) expect(await longest({ maxCopy: { index, length } })).toBe(length);
    expect(await longest({ maxCopy: { index, length: 5 }, window: 6 })).toBe(5);
    // A limit that is never reached changes nothing.
    const free = { length: 100, seed: 4 };
    expect(await model.generateText({ ...free, maxCopy: { index, length: 1000 } })).toBe(
      await model.generateText(free),
    );
    const rs = await model.indexText({ text: 'rrs' });
    await expect(model.generateText({ length: 50, maxCopy: { index: rs, length: 1 }, only: 'r' })).rejects.toThrow(
      'nothing is left',
    );
  });

  it('writes what it may', async () => {
    using model = await trained();
    const only = await model.generateText({ length: 100, seed: 1, only: 'aeos Z', temperature: 3 });
    expect(only).toMatch(/^[aeos ]{100}$/);
    expect(new Set(only).size).toBe(5);
    await expect(model.generateText({ only: 'XYZ' })).rejects.toThrow(
      "'X' (U+0058), 'Y' (U+0059), 'Z' (U+005A), the model knows none",
    );
  });

  it('gives the likeliest of several texts', async () => {
    using model = await trained();
    const options = { length: 60, seed: 3, temperature: 1.5, prompt: 'a ' };
    const texts = ['', '', '', '', ''];
    for await (const { stream, text: piece } of model.generateMany(5, options)) texts[stream] += piece;
    const scores = [];
    for (const each of texts) scores.push((await model.score(`a ${each}`)).bitsPerCharacter);
    const best = await model.generateBest(5, options);
    const least = scores.indexOf(Math.min(...scores));
    expect(best.text).toBe(texts[least]);
    expect(best.finished).toBe('length');
    expect((await model.generateBest(3, { ...options, stop: [' '] })).finished).toBe('stop');
    expect(best.bitsPerCharacter).toBeCloseTo(scores[least] as number, 5);
    expect(new Set(scores).size).toBe(5);
    await expect(model.generateBest(2, { length: 0 })).rejects.toThrow('No text was written');
  });

  it('keeps no more of them at a time than memory is meant for, and gives the same', async () => {
    using model = await trained();
    const options = { seed: 3, temperature: 1.5, stop: [' '] };
    const drawn: number[] = [];
    const native = nativeOf(model);
    const sample = native.sample.bind(native);
    jest.spyOn(native, 'sample').mockImplementation((call, signal) => {
      drawn.push(call.streams);
      return sample(call, signal);
    });
    const best = await model.generateBest(7, { ...options, length: 1000 });
    expect(Math.max(...drawn)).toBe(7);
    drawn.length = 0;
    // A third of the 4,194,304 characters kept at a time: the seven texts come three at a time, then the last one alone.
    expect(await model.generateBest(7, { ...options, length: 1_398_101 })).toEqual({
      ...best,
      bitsPerCharacter: expect.closeTo(best.bitsPerCharacter, 6),
    });
    expect([...new Set(drawn)]).toEqual([3, 1]);
    await expect(model.generateBest(7, { length: 4_194_305 })).rejects.toThrow('length must be at most 4,194,304');
  });
});
