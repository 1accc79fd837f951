/** Patterns, and texts drawn to match them, checked against JavaScript's own RegExp. */
import fc from 'fast-check';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { DataError, UsageError } from '../../../lib/errors';
import { LanguageModel } from '../../../lib/model';
import { Pattern } from '../../../lib/sampling/pattern';
import { sharpen } from '../../fixtures/sharpen';

const symbols = [...'\nabcA1 -.é', '\u{1F407}'];
const vocabulary = new Vocabulary(symbols);
const pattern = (source: string) => new Pattern(source, vocabulary);
const whole = (source: string) => new RegExp(`^(?:${source})$`, 'u');

/** The atoms of a pattern, all within the supported syntax. */
const atom = fc.constantFrom(
  ...['a', 'b', 'c', 'A', '1', ' ', '-', '\\.', '\u{1F407}', 'é', '.', '\\d', '\\w', '\\W', '\\s', '\\S', '\\D', '\\n'],
  ...[
    '[ab]',
    '[^a]',
    '[a-c1]',
    '[^\\w]',
    '[\\]-]',
    '[]',
    '[^]',
    '[\\u{1F407}a]',
    '\\u0061',
    '\\x62',
    '\\u{63}',
    '\\p{L}',
    '\\P{Lu}',
  ],
);
const count = fc.oneof(
  fc.constantFrom('', '', '', '?', '*', '+', '*?', '+?', '??', '{0}', '{2,}'),
  fc.tuple(fc.nat(2), fc.nat(2)).map(([low, more]) => `{${low},${low + more}}`),
);
const joined = (parts: fc.Arbitrary<string>, between: string, most: number) =>
  fc.array(parts, { minLength: between === '' ? 0 : 1, maxLength: most }).map((all) => all.join(between));
/** Groups nest two deep: some patterns three deep take RegExp itself forever. */
let part: fc.Arbitrary<string> = fc.tuple(atom, count).map((all) => all.join(''));
for (let level = 0; level < 2; level++) {
  const inner = joined(joined(part, '', 3), '|', 2);
  const group = fc
    .tuple(fc.constantFrom('(', '(?:', '(?<n>'), inner, fc.constantFrom('', '', '?', '*', '+', '{2}', '{0,2}'))
    .map(([open, middle, n]) => `${open}${middle})${n}`);
  part = fc.oneof({ arbitrary: part, weight: 2 }, { arbitrary: group, weight: 1 });
}
const source = joined(joined(part, '', 4), '|', 3);
const once = source.filter((text) => (text.match(/\(\?<n>/g) ?? []).length < 2);
const text = fc.array(fc.constantFrom(...symbols), { maxLength: 8 }).map((all) => all.join(''));

/** Null for a pattern that no text of these symbols matches. */
function made(from: string): Pattern | null {
  try {
    return pattern(from);
  } catch (error) {
    // A pattern with nested counts may be too large.
    if (error instanceof UsageError) fc.pre(false);
    expect(error).toBeInstanceOf(DataError);
    return null;
  }
}

it('matches what RegExp matches as a whole, and nothing else', () => {
  let both = 0;
  fc.assert(
    fc.property(once, fc.array(text, { minLength: 4, maxLength: 10 }), (from, texts) => {
      const mine = made(from);
      for (const each of ['', ...texts]) {
        const expected = whole(from).test(each);
        expect([from, each, mine?.matches(vocabulary.encode(each)) ?? false]).toEqual([from, each, expected]);
        if (expected) both++;
      }
    }),
    { numRuns: 250 },
  );
  expect(both).toBeGreaterThan(50);
});

it('says which characters may come: those of which a match can be made, within the length', () => {
  fc.assert(
    fc.property(once, fc.integer({ min: 0, max: 7 }), fc.infiniteStream(fc.nat()), (from, room, choices) => {
      const mine = made(from);
      if (mine === null || mine.least > room) return;
      // Any walk through allowed characters ends in a match.
      let [state, left] = [mine.start, room];
      const walked: number[] = [];
      while (!(state.accepting && (mine.allowed(state, left).length === 0 || walked.length > 4))) {
        const allowed = mine.allowed(state, left);
        expect([from, allowed.length > 0]).toEqual([from, true]);
        const id = allowed[(choices.next().value as number) % allowed.length] as number;
        state = mine.next(state, id)!;
        walked.push(id);
        left--;
      }
      expect([from, whole(from).test(vocabulary.decode(walked))]).toEqual([from, true]);
      expect(walked.length).toBeLessThanOrEqual(room);
    }),
    { numRuns: 300 },
  );
});

it('knows the shortest match', () => {
  for (const [from, least] of [
    ['', 0],
    ['a*', 0],
    ['a{3,}|bc', 2],
    ['(ab|c){2}1?', 2],
    ['^abc$', 3],
    ['^a|b+$', 1],
    ['[^]{7}', 7],
  ] as const)
    expect([from, pattern(from).least]).toEqual([from, least]);
});

it('refuses what it does not have, what is no pattern, and what nothing matches, each by one line', () => {
  for (const [from, message] of [
    ['(a)\\1', 'refers back to a group (\\1)'],
    ['(?<n>a)\\k<n>', 'refers back to a group (\\k)'],
    ['a(?=b)', 'looks ahead or behind'],
    ['(?!b)a', 'looks ahead or behind'],
    ['(?<=a)b', 'looks ahead or behind'],
    ['(?<!a)b', 'looks ahead or behind'],
    ['\\ba', 'has \\b'],
    ['a\\B', 'has \\B'],
    ['a^b', 'has ^ in the middle'],
    ['a$b', 'has $ in the middle'],
    ['(^a)', 'has ^ in the middle'],
    ['(a$)', 'has $ in the middle'],
    ['(a{1000}){1000}', 'is too large'],
    [`${'('.repeat(150)}a${')'.repeat(150)}`, 'more than 100 groups'],
    ['a'.repeat(10_001), '10,000 characters at most'],
    ['(a', 'is no regular expression'],
    ['a{2,1}', 'is no regular expression'],
    ['[b-a]', 'is no regular expression'],
    ['*', 'is no regular expression'],
    ['\\q', 'is no regular expression'],
  ] as const) {
    expect(() => pattern(from)).toThrow(UsageError);
    expect(() => pattern(from)).toThrow(message);
    expect(() => pattern(from)).toThrow(/^[^\n]*$/);
  }
  for (const from of ['x', 'a[xyz]', '[]', 'ax|b[]'])
    expect(() => pattern(from)).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
  // One alternative that can be written is enough.
  expect(pattern('ax|b').least).toBe(1);
  // The unknown symbol is never written.
  const folded = new Vocabulary(['a', '\uFFFD'], '\uFFFD');
  expect(() => new Pattern('[^a]', folded)).toThrow(DataError);
  const any = new Pattern('.*', folded);
  expect([...any.allowed(any.start, 9)]).toEqual([0]);
});

it('knows a text by any of its readings, however many states that comes to', () => {
  const mine = pattern('(a|b)*a(a|b){200}');
  const end = 'ab'.repeat(100);
  expect(mine.least).toBe(201);
  expect(mine.matches(vocabulary.encode(`bbba${end}`))).toBe(true);
  expect(mine.matches(vocabulary.encode(`aaab${end}`))).toBe(false);
});

it('bounds what it does at once: places, and symbols tried on classes', () => {
  const many = new Vocabulary(Array.from({ length: 60_000 }, (_, i) => String.fromCodePoint(0x10000 + i)));
  expect(() => new Pattern('[^a][^b][^c]', many)).not.toThrow();
  expect(() => new Pattern('[^a][^b][^c][^d][^e][^f][^g]', many)).toThrow(
    'too many different classes for a model of 60,000',
  );
  // A class used in many places counts once; literal characters do not count.
  expect(new Pattern('[^a]{5000}', many).least).toBe(5000);
  expect(new Pattern(many.symbols.slice(0, 4000).join(''), many).least).toBe(4000);
});

it('leaves out what may not be written, so that a match can still be made', () => {
  const mine = new Pattern('[a-c]{2}(1|A[^b]) ?', vocabulary, new Set(vocabulary.encode('abA ')));
  expect(mine.least).toBe(4);
  const after = (text: string) => {
    let state = mine.start;
    for (const id of vocabulary.encode(text)) state = mine.next(state, id)!;
    return [...vocabulary.decode(mine.allowed(state, 9))].sort().join('');
  };
  expect(['', 'ab', 'abA', 'abAa'].map(after)).toEqual(['ab', 'A', ' Aa', ' ']);
  expect(() => new Pattern('[a-c]', vocabulary, new Set(vocabulary.encode('A1')))).toThrow(
    "no text of the characters matches the pattern /[a-c]/; they are 'A' (U+0041), '1' (U+0031)",
  );
});

it('does not take long for what takes RegExp for ever', () => {
  const mine = pattern('(a+)+(a|a)*(a?){20}b');
  expect(mine.matches(vocabulary.encode('a'.repeat(5000)))).toBe(false);
  expect(mine.matches(vocabulary.encode(`${'a'.repeat(5000)}b`))).toBe(true);
});

describe('drawing', () => {
  let model: LanguageModel;
  beforeAll(async () => {
    const shape = { layers: 1, hidden: 10, input: 'onehot', embedding: 0, dropout: 0 } as const;
    model = await LanguageModel.create({ ...shape, vocabulary: symbols.length }, vocabulary, {
      ...{ device: 'cpu', threads: 1, seed: 3 },
    });
    sharpen(model, 3);
  });
  afterAll(() => model.dispose());

  async function draw(options: Parameters<typeof model.generate>[0], count = 6) {
    const texts = Array.from({ length: count }, () => ({ text: '', finished: '' }));
    for await (const { stream, text: piece, finished } of model.generateMany(count, { temperature: 1.2, ...options })) {
      texts[stream]!.text += piece;
      if (finished) texts[stream]!.finished = finished;
    }
    return texts;
  }

  it.each([
    '',
    'a{4}',
    '[a-c]+',
    '[A-Z][a-z]{2,5}( [a-c]+)*\\.',
    '1-1|abc|',
    '(ab|c)*1',
    '.*',
    '[^]{0,12}',
    'é?\u{1F407}+',
  ])('writes whole matches of /%s/, each by itself', async (from) => {
    const texts = await draw({ pattern: from, length: 15, seed: 1 });
    for (const { text: drawn, finished } of texts) {
      expect(drawn).toMatch(whole(from));
      expect([...drawn].length).toBeLessThanOrEqual(15);
      expect(finished).toBe('stop');
    }
    // A text does not depend on those drawn beside it.
    expect((await draw({ pattern: from, length: 15, seed: 1 }, 2)).map((each) => each.text)).toEqual(
      texts.slice(0, 2).map((each) => each.text),
    );
  });

  it('writes what RegExp matches as a whole, for any pattern, length and temperature', async () => {
    let drawn = 0;
    const options = { length: fc.nat(9), temperature: fc.constantFrom(0, 0.5, 3), seed: fc.nat(99) };
    await fc.assert(
      fc.asyncProperty(once, fc.record(options), async (from, rest) => {
        const mine = made(from);
        if (mine === null || mine.least > rest.length) {
          expect(() => model.generate({ pattern: from, ...rest })).toThrow(
            mine === null ? DataError : /^length must be/,
          );
          return;
        }
        for (const { text: each, finished } of await draw({ pattern: from, ...rest }, 3)) {
          expect([from, each, whole(from).test(each)]).toEqual([from, each, true]);
          expect([...each].length).toBeLessThanOrEqual(rest.length);
          // A text of full length may have been cut off there, in a match that could continue.
          if ([...each].length < rest.length) expect(finished).toBe('stop');
          drawn++;
        }
      }),
      { numRuns: 150 },
    );
    expect(drawn).toBeGreaterThan(100);
  });

  it('ends where the model writes what cannot follow, and draws as it would without', async () => {
    const free = (await draw({ length: 40, seed: 2 }, 1))[0]!.text;
    // Up to the first forbidden character, the text is the same as without a pattern.
    const held = (await draw({ pattern: '[^.A]*', length: 40, seed: 2 }, 1))[0]!.text;
    expect(held).toBe(free.replace(/[.A][\s\S]*/, ''));
    expect(held.length).toBeLessThan(free.length);
    // A pattern that everything matches changes nothing.
    expect((await draw({ pattern: '[^]*', length: 40, seed: 2 }, 1))[0]!.text).toBe(free);
  });

  it('goes together with what else ends or constrains a text', async () => {
    for (const { text: drawn } of await draw({ pattern: '[abc1]+\\.?', only: 'ab.', length: 20, seed: 4 }))
      expect(drawn).toMatch(/^[ab]+\.?$/);
    for (const { text: drawn, finished } of await draw({ pattern: '[abc]{18,}', stop: 'c', length: 20, seed: 4 }))
      expect([drawn, finished]).toEqual([expect.stringMatching(/^[ab]*$/), 'stop']);
    using session = model.session();
    expect(await session.draw({ pattern: 'a1|b1', seed: 1 })).toMatch(/^[ab]1$/);
    expect(session.text).toMatch(/^[ab]1$/);
  });

  it('refuses a length that no match fits into', () => {
    expect(() => model.generate({ pattern: 'a{9}', length: 8 })).toThrow(/at least 9 characters/);
    expect(() => model.generate({ pattern: 'x' })).toThrow(DataError);
    expect(() => model.generate({ pattern: '(?=a)' })).toThrow(UsageError);
  });
});
