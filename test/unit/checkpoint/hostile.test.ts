/** Malicious files: many mutated checkpoints, and a few that claim to hold more than they do. */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { loadCheckpoint, saveCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { readSafetensors } from '../../../lib/checkpoint/safetensors';
import { CudnnLstmError } from '../../../lib/errors';
import { fileOf, partsOf, tinyCheckpoint, tinyLayout, tinyMetadata } from '../../fixtures/checkpoints';
import { compiled, eachWhole, itWhole, long, run, share, whole } from '../../fixtures/child';
import { codePoint } from '../../fixtures/texts';
import { processorTime } from '../../fixtures/turns';

let folder: string;
let path: string;
let header: Record<string, unknown>;
let data: Buffer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hostile-'));
  path = join(folder, 'file.safetensors');
  await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
  ({ header, data } = partsOf(path));
});
afterAll(() => rm(folder, { recursive: true }));

/** Numbers at which arithmetic goes wrong. */
const numbers = fc.constantFrom(
  '-1',
  '0',
  '0.5',
  '1e308',
  '4294967296',
  '9007199254740991',
  '9223372036854775808',
  '18446744073709551615',
  '2147483648',
);
const jsonParts = fc.oneof(
  numbers,
  fc.constantFrom(
    'null',
    'true',
    '""',
    '[]',
    '{}',
    '{"a":',
    '[[[[',
    '"__proto__"',
    '"constructor"',
    '\\u0000',
    '\\ud800',
    ',',
    '}',
    ']',
  ),
);

type Mutation = (bytes: Buffer) => Buffer;

const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const headerLength = (bytes: Buffer) =>
  bytes.length < 8 ? bytes.length : Math.min(bytes.length, 8 + Number(bytes.readBigUInt64LE() % 1_000_000n));
const at = (bytes: Buffer, where: number, inHeader: boolean) =>
  Math.floor(where * (inHeader ? headerLength(bytes) : bytes.length));

const flips: fc.Arbitrary<Mutation> = fc
  .array(fc.tuple(fraction, fc.boolean(), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 8 })
  .map((places) => (bytes) => {
    for (const [where, inHeader, mask] of places) {
      const i = at(bytes, where, inHeader);
      bytes[i] = (bytes[i] as number) ^ mask;
    }
    return bytes;
  });
const cuts: fc.Arbitrary<Mutation> = fraction.map((where) => (bytes) => bytes.subarray(0, at(bytes, where, false)));
const splices: fc.Arbitrary<Mutation> = fc
  .tuple(fraction, fc.boolean(), fc.nat({ max: 40 }), fc.uint8Array({ maxLength: 40 }))
  .map(([where, inHeader, removed, added]) => (bytes) => {
    const i = at(bytes, where, inHeader);
    return Buffer.concat([bytes.subarray(0, i), added, bytes.subarray(i + removed)]);
  });
const lengths: fc.Arbitrary<Mutation> = fc
  .oneof(fc.bigInt({ min: 0n, max: 5000n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
  .map((length) => (bytes) => {
    if (bytes.length >= 8) bytes.writeBigUInt64LE(length);
    return bytes;
  });
/**
 * Replaces numbers, strings or brackets of the header, and corrects the header's length so that the checks after that one are reached.
 */
const tokens: fc.Arbitrary<Mutation> = fc
  .array(fc.tuple(fraction, jsonParts), { minLength: 1, maxLength: 3 })
  .map((changes) => (bytes) => {
    const end = headerLength(bytes);
    let json = bytes.toString('latin1', 8, end);
    for (const [where, put] of changes) {
      const found = [...json.matchAll(/-?\d+|"(?:[^"\\]|\\.)*"|[[\]{}]/g)];
      const token = found[Math.floor(where * found.length)];
      if (token) json = json.slice(0, token.index) + put + json.slice(token.index + token[0].length);
    }
    return Buffer.concat([fileOf(json), bytes.subarray(end)]);
  });
const valuesChanged: fc.Arbitrary<Mutation> = fc
  .tuple(fraction, fc.constantFrom('dtype', 'shape', 'data_offsets'), fc.jsonValue({ maxDepth: 2 }))
  .map(([where, key, value]) => () => {
    const names = Object.keys(header).filter((name) => name !== '__metadata__');
    const name = names[Math.floor(where * names.length)] as string;
    return fileOf({ ...header, [name]: { ...(header[name] as object), [key]: value } }, data);
  });
const metadataChanged: fc.Arbitrary<Mutation> = fc
  .tuple(fraction, fc.oneof(jsonParts, fc.json({ maxDepth: 3 }), fc.string({ unit: codePoint })))
  .map(([where, value]) => () => {
    const metadata = header.__metadata__ as Record<string, string>;
    const keys = Object.keys(metadata);
    return fileOf(
      { ...header, __metadata__: { ...metadata, [keys[Math.floor(where * keys.length)] as string]: value } },
      data,
    );
  });

it('of mutated checkpoints none does more than fail with a typed error, within a second of processor time', async () => {
  const tally = { loaded: 0, refused: 0, slowest: 0 };
  const mutation = fc.oneof(flips, cuts, splices, lengths, tokens, tokens, valuesChanged, metadataChanged);
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (mutations) => {
      let bytes = fileOf(header, data);
      for (const mutate of mutations) bytes = mutate(bytes);
      await writeFile(path, bytes);
      for (const read of [loadCheckpoint, readSafetensors]) {
        const took = await processorTime(async () => {
          try {
            await read(path);
            tally.loaded++;
          } catch (error) {
            tally.refused++;
            if (!(error instanceof CudnnLstmError)) throw error;
            expect(error.message).not.toMatch(/[\p{Cc}]/u);
            expect(error.message.length).toBeLessThan(1000);
          }
        });
        tally.slowest = Math.max(tally.slowest, took);
        expect(took).toBeLessThan(1000);
      }
    }),
    { numRuns: long ? 10_000 : share(1000) },
  );
  // Unless both outcomes occur, the test has tested nothing.
  expect(tally.refused).toBeGreaterThan(share(500));
  expect(tally.loaded).toBeGreaterThan(whole ? 10 : 0);
});

interface Told {
  code: string;
  message: string;
  /** How much the peak memory use grew, in bytes. */
  grown: number;
  /** Processor time. */
  milliseconds: number;
  /** A second, or three quarters of the time that this machine takes now to parse 16 MiB of JSON: our reader takes less than half of it. */
  usual: number;
}

/** Loads a file in a separate process. */
async function loadApart(file: string): Promise<Told> {
  const { stdout, stderr } = await run(process.execPath, [
    '-e',
    `
    const { loadCheckpoint } = require(${JSON.stringify(compiled('checkpoint/checkpoint.js'))});
    const { peakMemory } = require(${JSON.stringify(join(__dirname, '..', '..', 'fixtures', 'peak-memory'))});
    const before = peakMemory();
    const began = process.cpuUsage();
    const milliseconds = () => { const { user, system } = process.cpuUsage(began); return (user + system) / 1000; };
    loadCheckpoint(process.argv[1]).then(() => ({ code: 'loaded', message: '' }), (error) => error).then(({ code, message }) => {
      const told = { code, message, grown: peakMemory() - before, milliseconds: milliseconds(), usual: 1000 };
      if (told.milliseconds > told.usual) {
        JSON.parse('[' + '0,'.repeat(2 ** 23) + '0]');
        told.usual = Math.max(told.usual, 0.75 * (milliseconds() - told.milliseconds));
      }
      console.log(JSON.stringify(told));
    });
    `,
    file,
  ]);
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as Told;
}

const MiB = 2 ** 20;

describe('memory', () => {
  const huge = (options: object) => ({
    ...Object.fromEntries(
      Object.entries(tinyMetadata()).map(([k, v]) => [k, typeof v === 'string' ? v : JSON.stringify(v)]),
    ),
    ...options,
  });
  const giant = JSON.stringify({ layers: 64, hidden: 65_536, input: 'onehot', embedding: 0, dropout: 0 });
  const bracketed = (text: string, count: number) => `{"t":[${text.repeat(count)}0]}`;
  const cases: [string, () => Buffer, number][] = [
    [
      'a tensor of 4 TB in a file of a few hundred bytes',
      () => fileOf({ t: { dtype: 'F32', shape: [2 ** 40], data_offsets: [0, 2 ** 42] } }),
      0,
    ],
    ['a model of 8 TB', () => fileOf({ __metadata__: huge({ model: giant }) }), 0],
    ['a header of 16 MiB of small objects', () => fileOf(bracketed('{"a":1},', 2 * MiB - 10)), 16 * MiB],
    [
      'a header of 16 MiB with objects that have a key of their own each',
      () => fileOf(`{"t":[${Array.from({ length: 2 ** 17 }, (_, i) => `{"k${i}":1}`).join()}]}`.padEnd(16 * MiB)),
      16 * MiB,
    ],
    ['a header of 16 MiB of empty lists', () => fileOf(bracketed('[],', 5 * MiB)), 16 * MiB],
    ['a header of 16 MiB in one string', () => fileOf(`{"${'a'.repeat(16 * MiB - 10)}":1}`), 16 * MiB],
    [
      'metadata of 8 MiB of escapes',
      () => fileOf({ __metadata__: huge({ vocabulary: '["\\u0041"]'.repeat(MiB / 2) }) }),
      8 * MiB,
    ],
  ];
  eachWhole(
    it,
    cases,
    (i) => i === 0 || i === 2,
  )('%s: at most 64 MiB and twice the file', async (_, make, size) => {
    const file = join(folder, 'hostile.safetensors');
    await writeFile(file, make());
    const { code, grown, milliseconds, usual } = await loadApart(file);
    expect(code).toBe('ERR_CHECKPOINT');
    expect(grown).toBeLessThan(64 * MiB + 2 * size);
    expect(milliseconds).toBeLessThan(usual);
  });

  itWhole('a whole checkpoint: little more than its weights', async () => {
    const hidden = 2048;
    const file = join(folder, 'large.safetensors');
    const tensors: [string, number[]][] = [
      ['lstm.weight_ih_l0', [4 * hidden, 1]],
      ['lstm.weight_hh_l0', [4 * hidden, hidden]],
      ['lstm.bias_ih_l0', [4 * hidden]],
      ['output.weight', [3, hidden]],
      ['output.bias', [3]],
    ];
    const model = JSON.stringify({ layers: 1, hidden, input: 'scalar', embedding: 0, dropout: 0 });
    const described: Record<string, unknown> = { __metadata__: huge({ model }) };
    let offset = 0;
    for (const [name, shape] of tensors) {
      const bytes = 2 * shape.reduce((a, b) => a * b, 1);
      described[name] = { dtype: 'F16', shape, data_offsets: [offset, offset + bytes] };
      offset += bytes;
    }
    await writeFile(file, fileOf(described, Buffer.alloc(offset)));
    const { code, grown } = await loadApart(file);
    expect(code).toBe('loaded');
    // As floats, half-precision weights take twice the file's size: the limit leaves no room for half of them a second time.
    expect(grown).toBeLessThan(32 * MiB + 2 * offset);
  });

  it('a file that is as long as it claims, because nothing is stored: a typed error', async () => {
    const hidden = 65_536;
    const model = JSON.stringify({ layers: 1, hidden, input: 'scalar', embedding: 0, dropout: 0 });
    const described: Record<string, unknown> = { __metadata__: huge({ model, vocabulary: '["a"]' }) };
    let offset = 0;
    for (const [name, shape] of [
      ['lstm.weight_ih_l0', [4 * hidden, 1]],
      ['lstm.weight_hh_l0', [4 * hidden, hidden]],
      ['lstm.bias_ih_l0', [4 * hidden]],
      ['output.weight', [1, hidden]],
      ['output.bias', [1]],
    ] as const) {
      const bytes = 4 * shape.reduce((a, b) => a * b, 1);
      described[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes] };
      offset += bytes;
    }
    const file = join(folder, 'sparse.safetensors');
    const head = fileOf(described);
    await writeFile(file, head);
    await truncate(file, head.length + offset);
    const { stdout } = await run('bash', [
      '-c',
      `ulimit -v 8388608; ${JSON.stringify(process.execPath)} -e "
      require('${compiled('advanced.js')}').loadCheckpoint(process.argv[1]).catch(({ code }) => console.log(code))" ${JSON.stringify(file)}`,
    ]);
    expect(stdout).toBe('ERR_OUT_OF_MEMORY\n');
  });
});
