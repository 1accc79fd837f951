import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { readSafetensors, SafetensorsFile, writeSafetensors } from '../../../lib/checkpoint/safetensors';
import { fileOf, memoryFolder } from '../../fixtures/checkpoints';
import { canRun, itWhere, share } from '../../fixtures/child';
import { codePoint } from '../../fixtures/texts';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(memoryFolder, 'safetensors-'));
  path = join(folder, 'file.safetensors');
});
afterAll(() => rm(folder, { recursive: true }));

const bits = (data: Float32Array) => [...new Uint32Array(data.buffer, data.byteOffset, data.length)];

describe('a round trip', () => {
  const finite = fc.float({ noNaN: true, noDefaultInfinity: true });
  const tensor = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 }).chain((shape) => {
    const size = shape.reduce((product, extent) => product * extent, 1);
    return fc.record({
      shape: fc.constant(shape),
      data: fc.array(finite, { minLength: size, maxLength: size }).map((values) => Float32Array.from(values)),
    });
  });
  const name = fc.string({ unit: 'grapheme', maxLength: 12 }).filter((n) => n !== '__metadata__' && n !== '__proto__');
  const text = fc.oneof(fc.string({ unit: 'grapheme' }), fc.string({ unit: codePoint }), fc.constant('\u2028"\\\n\0'));

  it('gives back every bit, name, shape and string', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(name, tensor), { selector: ([n]) => n, maxLength: 6 }),
        fc.dictionary(name, text, { maxKeys: 5 }),
        async (named, metadata) => {
          await writeSafetensors(
            path,
            named.map(([n, t]) => ({ name: n, ...t })),
            metadata,
          );
          const read = await readSafetensors(path);
          expect(read.metadata).toEqual(metadata);
          expect([...read.tensors.keys()].sort()).toEqual(named.map(([n]) => n).sort());
          for (const [n, { shape, data }] of named) {
            expect(read.tensors.get(n)?.shape).toEqual(shape);
            expect(bits(read.tensors.get(n)?.data as Float32Array)).toEqual(bits(data));
          }
        },
      ),
      { numRuns: share(1000) },
    );
  });

  it('takes tensors of more than one piece, and subarrays', async () => {
    const all = Float32Array.from({ length: 700_001 }, (_, i) => Math.fround(Math.sin(i)));
    const tensors = [
      { name: 'whole', shape: [700_001], data: all },
      { name: 'part', shape: [2, 300_000], data: all.subarray(7, 600_007) },
    ];
    await writeSafetensors(path, tensors, {});
    const read = await readSafetensors(path);
    for (const { name: n, data } of tensors)
      expect(
        Buffer.compare(
          Buffer.from(new Float32Array(data).buffer),
          Buffer.from(read.tensors.get(n)?.data.buffer as ArrayBuffer),
        ),
      ).toBe(0);
  });

  it('aligns the data to 8 bytes', async () => {
    for (const key of ['', 'a', 'ab', 'abc']) {
      await writeSafetensors(path, [{ name: 't', shape: [1], data: Float32Array.of(1) }], { key });
      expect(Number((await readFile(path)).readBigUInt64LE()) % 8).toBe(0);
    }
  });
});

it('refuses to write what could not be read back, and leaves what was there', async () => {
  const one = (name: string, shape = [1], data = Float32Array.of(1)) => ({ name, shape, data });
  await writeSafetensors(path, [one('a')], {});
  const before = await readFile(path);
  const cases: [Parameters<typeof writeSafetensors>[1], Record<string, string>, string, RegExp][] = [
    [[one('a'), one('a')], {}, 'ERR_CHECKPOINT', /'a'.*taken/],
    [[one('__metadata__')], {}, 'ERR_CHECKPOINT', /taken/],
    [[one('__proto__')], {}, 'ERR_CHECKPOINT', /taken/],
    [[one('a', [2])], {}, 'ERR_CHECKPOINT', /1 numbers cannot have the shape \[2\]/],
    [[one('a')], { text: 'x'.repeat(17 << 20) }, 'ERR_CHECKPOINT', /more than a checkpoint can hold/],
    [[one('a'), one('b', [2], Float32Array.of(0, Number.NaN))], {}, 'ERR_TRAINING', /'b' holds NaN at index 1/],
    [[one('b', [1], Float32Array.of(-Infinity))], {}, 'ERR_TRAINING', /'b' holds -Infinity at index 0/],
  ];
  for (const [tensors, metadata, code, message] of cases) {
    await expect(writeSafetensors(path, tensors, metadata)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
    expect(await readFile(path)).toEqual(before);
  }
});

describe('import', () => {
  async function read(dtype: string, data: Buffer, count: number): Promise<number[]> {
    await writeFile(path, fileOf({ t: { dtype, shape: [count], data_offsets: [0, data.length] } }, data));
    const tensor = (await readSafetensors(path)).tensors.get('t');
    if (!tensor) throw new Error('the tensor is not there');
    return [...tensor.data];
  }

  // IEEE 754-2008, table 3.5: binary16 has 5 bits of exponent (bias 15) and 10 of fraction.
  it('F16: normals, subnormals, extremes and signed zero', async () => {
    const halves: [number, number][] = [
      [0x0000, 0],
      [0x8000, -0],
      [0x3c00, 1],
      [0xc000, -2],
      [0x3555, 0.333251953125],
      [0x7bff, 65504],
      [0xfbff, -65504],
      [0x0400, 2 ** -14],
      [0x03ff, 1023 * 2 ** -24],
      [0x0001, 2 ** -24],
      [0x8001, -(2 ** -24)],
    ];
    const data = Buffer.alloc(halves.length * 2);
    for (const [i, [half]] of halves.entries()) data.writeUInt16LE(half, 2 * i);
    expect(await read('F16', data, halves.length)).toEqual(halves.map(([, value]) => value));
  });

  it('F16: every finite half, by its definition', async () => {
    const halves = Array.from({ length: 65_536 }, (_, i) => i).filter((half) => ((half >> 10) & 31) !== 31);
    const data = Buffer.from(Uint16Array.from(halves).buffer);
    const values = await read('F16', data, halves.length);
    for (const [i, half] of halves.entries()) {
      const sign = half >> 15 ? -1 : 1;
      const e = (half >> 10) & 31;
      const expected = sign * (e === 0 ? (half & 1023) / 2 ** 24 : 2 ** (e - 25) * (1024 + (half & 1023)));
      if (!Object.is(values[i], expected)) throw new Error(`${half.toString(16)}: ${values[i]}, not ${expected}`);
    }
  });

  it('BF16: the upper half of a float', async () => {
    const values = [0, -0, 1, -1.5, 2 ** 127, -(2 ** -126), 2 ** -133, 3.140625];
    const data = Buffer.alloc(values.length * 2);
    for (const [i, value] of values.entries()) {
      const float = Buffer.alloc(4);
      float.writeFloatLE(value);
      float.copy(data, 2 * i, 2, 4);
    }
    expect(await read('BF16', data, values.length)).toEqual(values);
  });

  it('F64: rounded to the nearest float', async () => {
    const values = [0, -0, 1 / 3, -Math.PI, 2 ** -149, 2 ** -160, 3.4028234663852886e38];
    const data = Buffer.alloc(values.length * 8);
    for (const [i, value] of values.entries()) data.writeDoubleLE(value, 8 * i);
    expect(await read('F64', data, values.length)).toEqual(values.map(Math.fround));
  });

  it.each([
    ['F32', 'nan', [0, 0, 0xc0, 0x7f], 'NaN'],
    ['F32', 'infinity', [0, 0, 0x80, 0xff], '-Infinity'],
    ['F16', 'nan', [1, 0x7c], 'NaN'],
    ['F16', 'infinity', [0, 0x7c], 'Infinity'],
    ['BF16', 'nan', [0xc0, 0x7f], 'NaN'],
    ['F64', 'what a float cannot hold', [0, 0, 0, 0, 0, 0, 0xf0, 0x7e], 'Infinity'],
  ])('refuses %s %s by the name of the tensor', async (dtype, _, bytes, shown) => {
    const data = Buffer.concat([Buffer.alloc(bytes.length), Buffer.from(bytes)]);
    await expect(read(dtype, data, 2)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringContaining(`tensor 't' holds ${shown} at index 1`),
    });
  });
});

describe('refuses', () => {
  const t = (options: Record<string, unknown> = {}) => ({ dtype: 'F32', shape: [2], data_offsets: [0, 8], ...options });
  const eight = new Uint8Array(8);
  const deep = (depth: number) => `{"t":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const cases: [string, Uint8Array, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /too short/],
    ['a file of seven bytes', Buffer.alloc(7), /too short/],
    [
      'a header without end',
      Buffer.concat([Buffer.from([200, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(100)]),
      /cut short in the header/,
    ],
    ['a header length of 2^64 - 1', Buffer.alloc(64, 255), /cut short in the header/],
    [
      'a header length of 2^63',
      Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 0, 0, 128]), Buffer.alloc(100)]),
      /cut short/,
    ],
    ['an empty header', fileOf(''), /does not begin/],
    ['a header that is not JSON', fileOf('{hello}'), /not the JSON/],
    ['a header with a byte order mark', fileOf('\uFEFF{}'), /does not begin/],
    ['a header that begins with a space', fileOf(' {}'), /does not begin/],
    ['a list', fileOf('[]'), /does not begin/],
    ['bad UTF-8', fileOf({}, eight).fill(0xff, 8, 9), /does not begin/],
    [
      'bad UTF-8 in a name',
      Buffer.concat([
        Buffer.from([7, 0, 0, 0, 0, 0, 0, 0]),
        Buffer.from('{"'),
        Buffer.from([0xc3, 0x28]),
        Buffer.from('":0'),
      ]),
      /not the JSON/,
    ],
    ['text after the header', fileOf('{}{}'), /text after the end/],
    ['deep nesting', fileOf(deep(100_000)), /nested too deeply/],
    ['many values', fileOf(`{"t":[${'0,'.repeat(300_000)}0]}`), /more than 131072 values/],
    ['a duplicate name', fileOf(`{"t":${JSON.stringify(t())},"t":${JSON.stringify(t())}}`, eight), /"t" stands twice/],
    [
      'a duplicate name, escaped',
      fileOf(`{"t":${JSON.stringify(t())},"\\u0074":${JSON.stringify(t())}}`, eight),
      /"t" stands twice/,
    ],
    ['a duplicate in a tensor', fileOf('{"t":{"dtype":"F32","dtype":"F32"}}'), /stands twice/],
    ['__proto__', fileOf(`{"__proto__":${JSON.stringify(t())}}`, eight), /__proto__/],
    ['__proto__, escaped', fileOf(`{"\\u005f_proto__":${JSON.stringify(t())}}`, eight), /__proto__/],
    ['__proto__ in the metadata', fileOf('{"__metadata__":{"__proto__":"x"}}'), /__proto__/],
    ['metadata that is no object', fileOf({ __metadata__: ['a'] }), /metadata is not an object/],
    ['metadata that is null', fileOf({ __metadata__: null }), /metadata is not an object/],
    ['metadata of numbers', fileOf({ __metadata__: { a: 1 } }), /'a' is not a string/],
    ['metadata of lists', fileOf({ __metadata__: { a: [] } }), /'a' is not a string/],
    ['a tensor that is null', fileOf({ t: null }), /type undefined/],
    ['a tensor that is a number', fileOf({ t: 5 }), /type undefined/],
    ['an unknown type', fileOf({ t: t({ dtype: 'I64', shape: [1] }) }, eight), /type "I64"/],
    ['a type of another type', fileOf({ t: t({ dtype: ['F32'] }) }, eight), /the type \["F32"\]/],
    ['a type from the prototype', fileOf({ t: t({ dtype: 'toString' }) }, eight), /type "toString"/],
    ['no shape', fileOf({ t: { dtype: 'F32', data_offsets: [0, 8] } }, eight), /impossible shape/],
    ['a shape of strings', fileOf({ t: t({ shape: ['2'] }) }, eight), /impossible shape/],
    ['a shape of nine extents', fileOf({ t: t({ shape: [2, 1, 1, 1, 1, 1, 1, 1, 1] }) }, eight), /impossible shape/],
    ['a negative extent', fileOf({ t: t({ shape: [-2] }) }, eight), /impossible shape/],
    ['two negative extents', fileOf({ t: t({ shape: [-1, -2] }) }, eight), /impossible shape/],
    ['a fractional extent', fileOf({ t: t({ shape: [2.5] }) }, eight), /impossible shape/],
    ['a shape that overflows 2^64 to 2', fileOf({ t: t({ shape: [2 ** 33, 2 ** 32] }) }, eight), /impossible shape/],
    ['a shape that overflows with the size of a number', fileOf({ t: t({ shape: [2 ** 52] }) }, eight), /should take/],
    [
      'an extent of 1e400',
      fileOf('{"t":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}', eight),
      /impossible shape/,
    ],
    ['no offsets', fileOf({ t: { dtype: 'F32', shape: [2] } }, eight), /no offsets/],
    ['three offsets', fileOf({ t: t({ data_offsets: [0, 8, 8] }) }, eight), /no offsets/],
    ['negative offsets', fileOf({ t: t({ data_offsets: [-8, 0] }) }, eight), /offsets -8 to 0/],
    ['fractional offsets', fileOf({ t: t({ data_offsets: [0.5, 8.5] }) }, eight), /no offsets/],
    ['offsets the wrong way round', fileOf({ t: t({ data_offsets: [8, 0] }) }, eight), /should take 8 bytes/],
    [
      'offsets of another size than the shape',
      fileOf({ t: t({ data_offsets: [0, 4] }) }, eight),
      /should take 8 bytes/,
    ],
    ['offsets beyond 2^53', fileOf({ t: t({ data_offsets: [2 ** 60, 2 ** 60 + 8] }) }, eight), /no offsets/],
    ['offsets beyond the end', fileOf({ t: t({ data_offsets: [0, 8] }) }, eight.subarray(1)), /cut short or altered/],
    ['bytes after the last tensor', fileOf({ t: t() }, Buffer.alloc(9)), /cut short or altered/],
    ['data without a tensor', fileOf({}, eight), /cut short or altered/],
    ['a hole at the beginning', fileOf({ t: t({ data_offsets: [8, 16] }) }, Buffer.alloc(16)), /begins at 8, where 0/],
    ['a hole', fileOf({ a: t(), b: t({ data_offsets: [16, 24] }) }, Buffer.alloc(24)), /'b' begins at 16, where 8/],
    ['an overlap', fileOf({ a: t(), b: t({ data_offsets: [4, 12] }) }, Buffer.alloc(12)), /'b' begins at 4, where 8/],
    ['two tensors in one place', fileOf({ a: t(), b: t() }, eight), /'b' begins at 0, where 8/],
  ];

  it.each(cases)('%s', async (_, bytes, message) => {
    await writeFile(path, bytes);
    await expect(readSafetensors(path)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(message),
    });
  });

  it('a file cut at any byte', async () => {
    const whole = fileOf({ a: t(), b: t({ data_offsets: [8, 16] }) }, Buffer.alloc(16));
    for (let length = 0; length < whole.length; length++) {
      await writeFile(path, whole.subarray(0, length));
      await expect(readSafetensors(path)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT' });
    }
    await writeFile(path, whole);
    expect((await readSafetensors(path)).tensors.size).toBe(2);
  });

  it('a header beyond its limit, though the file is as long as it says', async () => {
    await writeFile(path, Buffer.from([1, 0xe1, 0xf5, 5, 0, 0, 0, 0])); // 100,000,001
    await truncate(path, 200_000_000); // Sparse: nothing is stored.
    await expect(readSafetensors(path)).rejects.toThrow(/header of 100000001 bytes is larger than 16777216/);
  });

  it('a folder, a missing file, and a tensor that is not there', async () => {
    await expect(readSafetensors(folder)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(/not a file/),
    });
    await expect(readSafetensors(join(folder, 'none'))).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(/no checkpoint at .*: name a \.safetensors file that is there$/),
    });
    await writeFile(path, fileOf({ t: t() }, eight));
    const file = await SafetensorsFile.open(path);
    await expect(file.tensor('u')).rejects.toThrow("tensor 'u' is missing");
    await file.close();
  });

  itWhere(canRun('mkfifo', ['--version']), 'no mkfifo')('a pipe, without waiting for its writer', async () => {
    const pipe = join(folder, 'pipe');
    canRun('mkfifo', [pipe]);
    await expect(readSafetensors(pipe)).rejects.toThrow(/not a file/);
  });

  it('by a message of one line that a terminal does not obey, however long and strange the name', async () => {
    for (const name of ['\u001b[2J\u009b31m\n\r\u202e\u2028x', 'n'.repeat(1 << 20), '\ud800']) {
      for (const bytes of [
        fileOf({ [name]: { dtype: 'I64' } }),
        fileOf({ __metadata__: { [name]: 1 } }),
        fileOf(`{${JSON.stringify(name)}:0,${JSON.stringify(name)}:0}`),
      ]) {
        await writeFile(path, bytes);
        const { message } = await readSafetensors(path).then(
          () => new Error('read'),
          (error: Error) => error,
        );
        expect(message).toMatch(/is not a usable checkpoint/);
        expect(message).not.toMatch(/[\p{Cc}\p{Cs}\u202e\u2028]/u);
        expect(message.length).toBeLessThan(1000);
      }
    }
  });
});

it('takes tensors in any order of the header, and empty ones', async () => {
  const header = {
    b: { dtype: 'F32', shape: [1], data_offsets: [4, 8] },
    empty: { dtype: 'F32', shape: [3, 0], data_offsets: [4, 4] },
    a: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
  };
  await writeFile(path, fileOf(header, Buffer.from(Float32Array.of(1, 2).buffer)));
  const { tensors } = await readSafetensors(path);
  expect(Object.fromEntries([...tensors].map(([name, { shape, data }]) => [name, [shape, [...data]]]))).toEqual({
    a: [[], [1]],
    b: [[1], [2]],
    empty: [[3, 0], []],
  });
});
