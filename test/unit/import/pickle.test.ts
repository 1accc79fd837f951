/** The pickle reader, with streams written by hand; torch.test.ts reads what Python's own pickle writes. */
import fc from 'fast-check';
import { type Pickled, type PickledCall, PickledGlobal, PickleReader } from '../../../lib/import/pickle';
import { share } from '../../fixtures/child';

const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'));
const read = (text: string): Pickled => new PickleReader(bytes(text)).read();

test('values of every protocol', () => {
  expect(read('N.')).toBeNull();
  expect(read('\x80\x02\x88.')).toBe(true);
  expect(read('I00\n.')).toBe(false);
  expect(read('I-7\n.')).toBe(-7);
  expect(read('L12345678901234567890L\n.')).toBe(12345678901234567890n);
  expect(read('K\xff.')).toBe(255);
  expect(read('M\x01\x02.')).toBe(513);
  expect(read('J\xfe\xff\xff\xff.')).toBe(-2);
  expect(read('\x8a\x02\xff\x7f.')).toBe(32767);
  expect(read('\x8a\x00.')).toBe(0);
  expect(read('\x8a\x01\xff.')).toBe(-1);
  expect(read('G\x3f\xf8\x00\x00\x00\x00\x00\x00.')).toBe(1.5);
  expect(read('F2.5\n.')).toBe(2.5);
  expect(read("S'a\\n\\x41\\''\n.")).toBe("a\nA'");
  expect(read('V\\u00e9\\U0001F98A\n.')).toBe('é🦊');
  expect(read('X\x02\x00\x00\x00\xc3\xa9.')).toBe('é');
  expect(read('U\x01\xe9.')).toBe('é'); // A byte string of Python 2.
  expect(read('\x8c\x01a.')).toBe('a');
  expect(read('C\x02ab.')).toEqual(bytes('ab'));
  expect(read('](K\x01K\x02e.')).toEqual([1, 2]);
  expect(read('(K\x01K\x02l.')).toEqual([1, 2]);
  expect(read('(K\x01K\x02t.')).toEqual([1, 2]);
  expect(read('K\x01K\x02K\x03\x87.')).toEqual([1, 2, 3]);
  expect(read('}(U\x01aK\x01U\x01bK\x02u.')).toEqual(
    new Map([
      ['a', 1],
      ['b', 2],
    ]),
  );
  expect(read('\x8f(K\x01K\x01\x90.')).toEqual(new Set([1]));
  expect(read(']q\x000h\x00.')).toEqual([]); // A list that is memoised, dropped and fetched again.
  expect(read('\x80\x04]\x94(h\x00e.')).toEqual([expect.anything()]); // A list that contains itself.
});

test('a global is a name and a call a record; containers mean what they mean', () => {
  expect(read('cos\nsystem\n.')).toEqual(new PickledGlobal('os', 'system'));
  const call = read('cos\nsystem\nU\x02ls\x85R.') as PickledCall;
  expect([call.path, call.args]).toEqual(['os.system', ['ls']]);
  expect(read('(U\x02lsios\nsystem\n.')).toEqual(call);
  expect(read('(cos\nsystem\nU\x02lso.')).toEqual(call);
  const object = read('cm\nC\n)\x81}U\x01aK\x01sb.') as PickledCall;
  expect([object.path, object.state]).toEqual(['m.C', new Map([['a', 1]])]);
  expect(read('ccollections\nOrderedDict\n)RU\x01aK\x05s.')).toEqual(new Map([['a', 5]]));
  expect(read('ccollections\nOrderedDict\n]]U\x01aaK\x05aa\x85R.')).toEqual(new Map([['a', 5]]));
});

test('a damaged stream is refused with the byte where it went wrong', () => {
  for (const [text, message] of [
    ['', 'cut short'],
    ['K', 'cut short'],
    ['X\xff\xff\xff\xffa.', 'cut short'],
    ['.', 'a value is missing'],
    ['K\x01K\x02.', 'values left over'],
    ['h\x07.', 'nothing was kept under 7'],
    ['e.', 'a mark is missing'],
    ['(.', 'a value is missing'],
    ['K\x01(K\x02e.', 'items for what is no list'],
    ['K\x01K\x02K\x03s.', 'entries for what is no dict'],
    ['}(K\x01u.', 'entries for what is no dict'],
    ['\x82\x01.', 'an instruction 0x82'],
    ['\x80\x06N.', 'newer than 5'],
    ['Pabc\n.', 'a reference to something outside'],
    ['\x8b\xff\xff\xff\x7f.', 'a number of 2147483647 bytes'],
    ['Iabc\n.', 'a whole number that is none'],
  ] as const) {
    expect(() => read(text)).toThrow(message);
    expect(() => read(text)).toThrow(/^the pickle at byte 0 is damaged at byte \d+: /);
  }
});

test('what is copied again and again is counted', () => {
  // A dict of 60,000 entries, and then a copy of it for every seven bytes.
  const entries = Array.from({ length: 60_000 }, (_, i) => `M${String.fromCharCode(i & 255, i >> 8)}N`).join('');
  const head = `ccollections\nOrderedDict\nq\x01}(${entries}uq\x02`;
  expect(() => read(`${head}${'h\x01h\x02\x85R0'.repeat(5000)}.`)).toThrow('it asks for more than');
});

test('any bytes give a value or a refusal', () => {
  const opcodes = fc.constantFrom(...'(.012IJKMNRTUXabcdeghilopqrstu)}]\x80\x81\x85\x86\x87\x8a\x8c\x8f\x90\x93\x94Q');
  const streams = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .array(fc.oneof(opcodes, fc.constantFrom('\x00', '\x01', 'a\n')), { maxLength: 100 })
      .map((parts) => bytes(parts.join(''))),
  );
  fc.assert(
    fc.property(streams, (input) => {
      try {
        new PickleReader(input).read();
      } catch (error) {
        expect((error as Error).message).toMatch(/^the pickle at byte 0 is damaged at byte/);
      }
    }),
    { numRuns: share(3000) },
  );
});
