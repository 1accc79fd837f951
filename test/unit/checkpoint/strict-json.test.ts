import fc from 'fast-check';
import { parseStrictJson, parseStrictJsonInTurns } from '../../../lib/checkpoint/strict-json';
import { share } from '../../fixtures/child';
import { processorTime } from '../../fixtures/turns';

/** Whether two values are equal, apart from their prototypes. */
const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

it('reads what JSON.stringify writes', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom(undefined, 1, '\t'), (value, space) => {
      fc.pre(!JSON.stringify(value).includes('"__proto__"'));
      expect(same(parseStrictJson(JSON.stringify(value, null, space)), value)).toBe(true);
    }),
    { numRuns: share(2000) },
  );
});

it('accepts nothing that JSON.parse refuses, and reads what it accepts alike', () => {
  const soup = fc.string({ unit: fc.constantFrom(...'{}[]",:\\ \n\t01.eE+-tfnuralsb/x\u0001é'), maxLength: 30 });
  const mutated = fc
    .tuple(fc.jsonValue({ maxDepth: 3 }), fc.nat(), fc.constantFrom(...'{}[]",:\\ 0e-.n'))
    .map(([value, at, put]) => {
      const text = JSON.stringify(value);
      const i = at % (text.length + 1);
      return text.slice(0, i) + put + text.slice(i + (at % 2));
    });
  fc.assert(
    fc.property(fc.oneof(soup, mutated), (text) => {
      let strict: { value: unknown } | undefined;
      try {
        strict = { value: parseStrictJson(text) };
      } catch (error) {
        expect(error).toBeInstanceOf(SyntaxError);
        expect((error as Error).message).toMatch(/ at character \d+$/);
      }
      if (strict) expect(same(strict.value, JSON.parse(text))).toBe(true);
    }),
    { numRuns: share(5000) },
  );
});

it.each([
  ['', 'no value at character 0'],
  ['{"a":1,"a":2}', 'the key "a" stands twice'],
  ['{"a":1,}', 'no string at character 7'],
  ['[1,]', 'no value'],
  ['"\\x"', 'an impossible escape'],
  ['"\\u12"', 'an impossible escape'],
  ['"a\nb"', 'a control character in a string at character 2'],
  ['"abc', 'a string without an end at character 4'],
  ['"abc\\', 'a string without an end at character 5'],
  ['01', 'no value'],
  ['1.', 'no value'],
  ['NaN', 'no value'],
  ['-', 'no value'],
  ['1 2', 'text after the end'],
  ['{"__proto__":1}', '__proto__'],
  ['{"constructor":{"__proto__":1}}', '__proto__'],
  [`${'['.repeat(18)}${']'.repeat(18)}`, 'nested too deeply'],
  [`[${'0,'.repeat(1 << 17)}0]`, 'more than 131072 values'],
  ['9'.repeat(100), 'text after the end'],
])('refuses %.40s', (text, message) => {
  expect(() => parseStrictJson(text)).toThrow(message);
});

it('reads long strings, which it takes in pieces, as JSON.parse does', async () => {
  const units = ['\\n', '\\\\', '\\u0041', '\\ud83e\\udd8a', '\\"', '🦊', 'é', 'x'];
  for (const unit of units) {
    for (let before = (1 << 16) - 13; before < (1 << 16) + 2; before++) {
      const text = `{"k":["${'a'.repeat(before)}${unit.repeat(20_000)}"]}`;
      expect(JSON.stringify(parseStrictJson(text))).toBe(JSON.stringify(JSON.parse(text)));
    }
    const text = `["${unit.repeat(100_000)}"]`;
    expect(await parseStrictJsonInTurns(text)).toEqual(JSON.parse(text));
  }
  for (const wrong of ['\\u00', '\\x', '\\ud83', '\n']) {
    for (const before of [0, (1 << 16) - 4, (1 << 16) - 1, 1 << 16]) {
      expect(() => parseStrictJson(`"${'a'.repeat(before)}${wrong}"`)).toThrow(/impossible escape|control character/);
    }
  }
});

it('takes keys of every prototype as plain keys', () => {
  expect(parseStrictJson('{"constructor":1,"toString":2,"hasOwnProperty":3}')).toEqual(
    Object.assign(Object.create(null) as object, { constructor: 1, toString: 2, hasOwnProperty: 3 }),
  );
});

it.each([
  ['one string', (n: number) => `"${'a'.repeat(n)}"`],
  ['one string of escapes', (n: number) => `"${'\\u0041'.repeat(n / 6)}"`],
  ['lists', (n: number) => `[${'[],'.repeat(n / 3)}0]`],
  ['objects', (n: number) => `[${'{"a":1},'.repeat(n / 8)}0]`],
  ['spaces', (n: number) => `${' '.repeat(n)}0`],
  ['digits', (n: number) => '9'.repeat(n)],
  ['backslashes', (n: number) => `"${'\\'.repeat(n)}`],
])('takes time in proportion to its length for %s', async (_, make) => {
  const timeOf = (text: string) =>
    processorTime(() => {
      try {
        parseStrictJson(text);
      } catch (error) {
        expect(error).toBeInstanceOf(SyntaxError);
      }
    });
  const short = await timeOf(make(1 << 20));
  // Sixteen times the length: if the time were quadratic, it would be 256 times as long.
  expect(await timeOf(make(16 << 20))).toBeLessThan(64 * Math.max(short, 10));
});
