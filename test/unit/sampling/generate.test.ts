import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { type Generation, generatePieces } from '../../../lib/sampling/generate';
import { checkSamplingOptions, type SamplingOptions } from '../../../lib/sampling/options';
import { FakeNativeModel } from '../../fixtures/fake-native-model';
import { sampleCall } from '../../fixtures/sample-call';

const vocabulary = new Vocabulary(['a', 'b', 'c', 'd', '\u{1F407}', '\u{1F408}']);

function generation(options: Partial<Generation> = {}, sampling: SamplingOptions = {}): Generation {
  return {
    length: 300,
    window: 0,
    streams: 1,
    stop: [],
    keepStop: false,
    prompt: vocabulary.encode('abcab'),
    sampling: checkSamplingOptions({ seed: 11, temperature: 1, ...sampling }),
    ...options,
  };
}

/** The texts, how each ended, and the pieces they came in. */
async function collect(fake: FakeNativeModel, g: Generation) {
  const texts = Array.from({ length: g.streams }, () => '');
  const finished: Record<number, string> = {};
  const pieces: string[] = [];
  for await (const piece of generatePieces(fake, vocabulary, g)) {
    expect(finished[piece.stream]).toBeUndefined();
    texts[piece.stream] += piece.text;
    pieces.push(piece.text);
    if (piece.finished) finished[piece.stream] = piece.finished;
  }
  return { texts, finished, pieces };
}

/** The same texts, drawn in a single native call. */
async function reference(fake: FakeNativeModel, g: Generation): Promise<string[]> {
  const prompt = typeof g.prompt === 'function' ? await g.prompt() : g.prompt;
  const ids = new Int32Array(prompt.length * g.streams);
  for (const [row, id] of prompt.entries()) ids.fill(id, row * g.streams, (row + 1) * g.streams);
  const result = await fake.sample(sampleCall(ids, g.length, g.sampling, { streams: g.streams, window: g.window }));
  return Array.from({ length: g.streams }, (_, s) =>
    vocabulary.decode(result.ids.filter((_, i) => i % g.streams === s)),
  );
}

describe('generatePieces', () => {
  const cases: [string, Partial<Generation>, SamplingOptions][] = [
    ['carried state', {}, {}],
    ['several streams', { streams: 3 }, {}],
    ['a window shorter than the prompt', { window: 3 }, {}],
    ['a window longer than the prompt', { window: 40, streams: 2 }, {}],
    ['a repetition penalty', { streams: 2 }, { repetitionPenalty: 1.8, penaltyWindow: 20 }],
    [
      'a repetition penalty that looks back further than the window',
      { window: 4 },
      { repetitionPenalty: 3, penaltyWindow: 9 },
    ],
    ['greedy', {}, { greedy: true }],
    ['one character', { length: 1 }, {}],
    ['a prompt of one character', { prompt: vocabulary.encode('a'), window: 10 }, {}],
  ];

  it.each(cases)('draws in chunks what one call would draw: %s', async (_, options, sampling) => {
    const g = generation(options, sampling);
    const { texts, finished } = await collect(new FakeNativeModel(vocabulary.size), g);
    expect(texts).toEqual(await reference(new FakeNativeModel(vocabulary.size), g));
    expect(texts.map((text) => [...text].length)).toEqual(texts.map(() => g.length));
    expect(Object.values(finished)).toEqual(texts.map(() => 'length'));
  });

  it('feeds a long prompt in pieces, to the same end', async () => {
    const prompt = Int32Array.from({ length: 2000 }, (_, i) => (i * i) % vocabulary.size);
    for (const sampling of [{}, { repetitionPenalty: 2, penaltyWindow: 700 }]) {
      const g = generation({ prompt, streams: 2, length: 50 }, sampling);
      const fake = new FakeNativeModel(vocabulary.size);
      const { texts } = await collect(fake, g);
      expect(texts).toEqual(await reference(new FakeNativeModel(vocabulary.size), g));
      expect(Math.max(...fake.sampleCalls.map((call) => call.ids.length / 2))).toBeLessThanOrEqual(512);
    }
  });

  it('begins with one draw, so that the first character comes soon, and never draws more than 64 at once', async () => {
    const fake = new FakeNativeModel(vocabulary.size);
    await collect(fake, generation({ length: 400 }));
    expect(fake.sampleCalls[0]?.count).toBe(1);
    expect(Math.max(...fake.sampleCalls.map((call) => call.count))).toBe(64);
  });

  it('draws fewer at once where a draw is slow', async () => {
    const fake = new FakeNativeModel(vocabulary.size, 60);
    await collect(fake, generation({ length: 6 }));
    expect(fake.sampleCalls.length).toBeGreaterThan(3);
  });

  it('does not split a code point', async () => {
    const { pieces } = await collect(new FakeNativeModel(vocabulary.size), generation());
    expect(pieces.length).toBeGreaterThan(3);
    for (const piece of pieces) expect(Buffer.from(piece).toString()).toBe(piece);
  });

  it('gives a stream the same text whatever their number', async () => {
    const one = await collect(new FakeNativeModel(vocabulary.size), generation());
    const four = await collect(new FakeNativeModel(vocabulary.size), generation({ streams: 4 }));
    expect(four.texts[0]).toBe(one.texts[0]);
    expect(new Set(four.texts).size).toBe(4);
  });

  it('ends a stream at a stop string, and the others at theirs or at the length', async () => {
    const plain = await collect(new FakeNativeModel(vocabulary.size), generation({ streams: 3 }));
    const stop = [...(plain.texts[0] as string)].slice(100, 106).join('');
    const { texts, finished } = await collect(
      new FakeNativeModel(vocabulary.size),
      generation({ streams: 3, stop: [stop] }),
    );
    plain.texts.forEach((text, i) => {
      const at = text.indexOf(stop);
      expect(texts[i]).toBe(at < 0 ? text : text.slice(0, at));
      expect(finished[i]).toBe(at < 0 ? 'length' : 'stop');
    });
    expect(finished[0]).toBe('stop');
  });

  it('gives an empty text for length 0', async () => {
    const fake = new FakeNativeModel(vocabulary.size);
    expect(await collect(fake, generation({ length: 0, streams: 2 }))).toMatchObject({
      texts: ['', ''],
      finished: { 0: 'length', 1: 'length' },
    });
  });

  it('throws the reason of an abort, before the first draw and between two', async () => {
    const reason = new Error('enough');
    const early = collect(new FakeNativeModel(vocabulary.size), generation({ signal: AbortSignal.abort(reason) }));
    await expect(early).rejects.toBe(reason);

    const controller = new AbortController();
    const seen: string[] = [];
    const late = (async () => {
      const g = generation({ length: 1e6, signal: controller.signal });
      for await (const { text } of generatePieces(new FakeNativeModel(vocabulary.size), vocabulary, g)) {
        seen.push(text);
        if (seen.length === 5) controller.abort(reason);
      }
    })();
    await expect(late).rejects.toBe(reason);
    expect(seen).toHaveLength(5);
  });
});
