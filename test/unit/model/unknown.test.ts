/** `minCount`: rare characters become one unknown symbol, which also stands for any character not seen, and is never generated. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { openCorpus } from '../../../lib/corpus/corpus';
import { Encoder, SymbolCounter } from '../../../lib/corpus/encoder';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { train } from '../../../lib/training/train';
import { codePoint } from '../../fixtures/texts';

const text = `${'abba cab\nbad dab\n'.repeat(40)}Zß🦊🦊\n`;
const cpu = { device: 'cpu', threads: 1 } as const;
let folder: string;
let model: LanguageModel;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'unknown-'));
  const sizes = { hidden: 8, layers: 1, batchSize: 4, seqLength: 10, epochs: 1, sampleLength: 300 };
  const training = await train({ corpus: { text }, minCount: 3, ...sizes, ...cpu, out: join(folder, 'run') });
  for await (const event of training) if (event.type === 'sample') expect(event.text).not.toContain('\uFFFD');
  expect(training.corpus.notes).toEqual(['3 rare symbols (4 characters) folded into one unknown symbol']);
  await training.dispose();
  model = await LanguageModel.load(join(folder, 'run'), cpu);
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
});

test('symbols that are rarer than that are one, and those that are not are kept', async () => {
  expect(model.vocabulary.symbols).toEqual(['\n', ' ', 'a', 'b', 'c', 'd', '\uFFFD']);
  expect(model.metadata.normalization).toEqual({ lowercase: false, unknown: '\uFFFD' });
  for (const [minCount, symbols] of [
    [1, '\n abcdZß🦊'],
    [2, '\n abcd\uFFFD🦊'],
    [3, '\n abcd\uFFFD'],
    [200, 'ab\uFFFD'],
  ] as const) {
    const corpus = await openCorpus({ text }, { minCount });
    expect([...corpus.vocabulary.symbols].sort()).toEqual([...symbols].sort());
    expect(corpus.length).toBe([...text].length);
  }
  // A model of single lines keeps its line break, however rare.
  const lines = await openCorpus({ text: 'aaaa\nbbbb' }, { minCount: 3, lines: true });
  expect(lines.vocabulary.symbols).toEqual(['\n', 'a', 'b', '\uFFFD']);
});

test('any text is encoded, and what is unknown has the id of the unknown symbol, by every way', () => {
  const { vocabulary } = model;
  const unknown = vocabulary.unknownId as number;
  fc.assert(
    fc.property(fc.string({ unit: codePoint, maxLength: 50 }), (given) => {
      const symbols = [...given];
      const expected = symbols.map((symbol) => vocabulary.idOf(symbol) ?? unknown);
      expect([...vocabulary.encode(given)]).toEqual(expected);
      const encoder = new Encoder(vocabulary, false);
      const out = new Int32Array(given.length);
      expect([...out.subarray(0, encoder.encode(given, out, 0))]).toEqual(expected);
      encoder.finish();
      expect(encoder.skipped).toBe(0);
      expect(encoder.folded).toBe(symbols.filter((symbol) => vocabulary.idOf(symbol) === undefined).length);
    }),
  );
});

test('a model never writes it, and takes prompts and texts of any characters', async () => {
  const written = await model.generateText({ prompt: '漢字 Zoë 🦊', length: 2000, temperature: 50, seed: 1 });
  expect(new Set(written)).toEqual(new Set('\n abcd'));
  expect((await model.score('漢字a')).characters).toBe(2);
  expect(await model.score('漢a字')).toEqual(await model.score('ßaZ'));
});

test('counts are exact, in pieces too', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'é', '🦊', '漢', '\0', '\uffff'), maxLength: 8 })),
      (pieces) => {
        const counter = new SymbolCounter();
        for (const piece of pieces) counter.count(piece);
        const all = [...pieces.join('')];
        const counts = new Map<string, number>();
        for (const symbol of all) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
        const rare = [...counts.values()].filter((count) => count < 3);
        expect(counter.rarer(3)).toEqual({ symbols: rare.length, characters: rare.reduce((a, b) => a + b, 0) });
        const frequent = [...counts].filter(([, count]) => count >= 3).map(([symbol]) => symbol);
        expect(counter.vocabulary(3).symbols).toEqual(Vocabulary.sorted([...frequent, '\uFFFD']).symbols);
      },
    ),
  );
});

test('a text of which every character would be folded is refused, with the most that can be asked for', async () => {
  const text = 'abcabcab\n\n\n\n';
  await expect(openCorpus({ text }, { minCount: 5 })).rejects.toThrow(
    'minCount must be at most 4, which is how often the most frequent character comes, not 5.',
  );
  expect((await openCorpus({ text }, { minCount: 4 })).vocabulary.symbols).toEqual(['\n', '\uFFFD']);
  // The end of a line does not count as one of its characters.
  await expect(openCorpus({ text }, { minCount: 4, lines: true })).rejects.toThrow('at most 3');
  expect((await openCorpus({ text }, { minCount: 3, lines: true })).vocabulary.symbols).toEqual([
    '\n',
    'a',
    'b',
    '\uFFFD',
  ]);
  // A given vocabulary still has its own symbols, so nothing is refused.
  const vocabulary = new Vocabulary(['x', '\uFFFD'], '\uFFFD');
  expect((await openCorpus({ text }, { minCount: 5, vocabulary, unknown: 'add' })).vocabulary.symbols).toHaveLength(2);
});

test('models that know nothing in common but the unknown symbol are not mixed', async () => {
  const of = (symbol: string) =>
    LanguageModel.create(
      { vocabulary: 2, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 },
      new Vocabulary([symbol, '\uFFFD'], '\uFFFD'),
      { device: 'cpu', threads: 1, normalization: { lowercase: false, unknown: '\uFFFD' } },
    );
  using a = await of('a');
  using b = await of('b');
  expect(() => LanguageModel.mix([{ model: a }, { model: b }])).toThrow('no character in common');
  expect(LanguageModel.mix([{ model: a }, { model: a }]).vocabulary.symbols).toEqual(['a', '\uFFFD']);
});

test('the symbol must be there', () => {
  expect(() => new Vocabulary(['a'], '\uFFFD')).toThrow('the vocabulary lacks');
});

test('rare characters cannot be folded into a vocabulary that has no symbol for them', async () => {
  const options = { vocabulary: new Vocabulary(['a', 'b']), unknown: 'add', minCount: 2 } as const;
  const few = { text: 'abababcdcdx' };
  await expect(openCorpus(few, options)).rejects.toThrow(
    'minCount must be 1 where the vocabulary that is added to has no unknown symbol.',
  );
  expect((await openCorpus(few, { ...options, minCount: 1 })).vocabulary.symbols.join('')).toBe('abcdx');
  const folding = { ...options, vocabulary: new Vocabulary(['a', '?'], '?') };
  const corpus = await openCorpus(few, folding);
  expect([corpus.vocabulary.unknownId, corpus.vocabulary.idOf('x')]).toEqual([1, undefined]);
});
