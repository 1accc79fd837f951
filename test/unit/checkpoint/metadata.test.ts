/** Every key of a checkpoint's metadata, with a value of every JSON type: it loads, or the error is the package's own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadCheckpoint, readCheckpointMetadata, saveCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { CheckpointError } from '../../../lib/errors';
import { fileOf, memoryFolder, partsOf, tinyCheckpoint, tinyLayout } from '../../fixtures/checkpoints';
import { whole } from '../../fixtures/child';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(memoryFolder, 'metadata-'));
  path = join(folder, 'file.safetensors');
});
afterAll(() => rm(folder, { recursive: true }));

/** At least one of each type, extreme numbers and depths, and what is not JSON. */
const values = [
  ...[
    'null',
    'true',
    'false',
    '0',
    '-0',
    '1',
    '-1',
    '1.5',
    '1e400',
    '9007199254740993',
    '""',
    '"x"',
    '"\\u0000"',
    '"\\ud800"',
  ],
  ...['[]', '[null]', '[[[]]]', '{}', '{"a":{"b":{}}}', '{"toString":1}', '{"constructor":null,"valueOf":{}}'],
  ...[
    '{"__proto__":{}}',
    `${'['.repeat(40)}${']'.repeat(40)}`,
    '',
    ' ',
    'undefined',
    'NaN',
    '{',
    "'x'",
    '1 2',
    '\u001b[2J',
  ],
];

it('of any type, at any key, or below one', async () => {
  await saveCheckpoint(path, tinyCheckpoint(), tinyLayout);
  const { header, data } = partsOf(path);
  const metadata = header.__metadata__ as Record<string, string>;
  let changes: [string, Record<string, string | undefined>][] = [];
  for (const key of [...Object.keys(metadata), 'unheard of']) {
    for (const value of values) changes.push([`${key} = ${value}`, { ...metadata, [key]: value }]);
    changes.push([`no ${key}`, { ...metadata, [key]: undefined }]);
    const object: unknown = metadata[key]?.startsWith('{') ? JSON.parse(metadata[key]) : undefined;
    for (const below of Object.keys(object ?? {})) {
      for (const value of [...values, undefined]) {
        const others = Object.entries(object as object).filter(([name]) => name !== below);
        const parts = others.map(([name, other]) => `${JSON.stringify(name)}:${JSON.stringify(other)}`);
        if (value !== undefined) parts.push(`${JSON.stringify(below)}:${value}`);
        changes.push([`${key}.${below} = ${value}`, { ...metadata, [key]: `{${parts.join()}}` }]);
      }
    }
  }
  expect(changes.length).toBeGreaterThan(1000);
  // There are 32 changes per key, so that taking every fifth tries other values at each key.
  if (!whole) changes = changes.filter((_, i) => i % 5 === 0);
  const tally = { loaded: 0, refused: 0 };
  const wrong: [string, unknown][] = [];
  for (const [what, changed] of changes) {
    await writeFile(path, fileOf({ ...header, __metadata__: changed }, data));
    for (const read of [readCheckpointMetadata, loadCheckpoint]) {
      try {
        await read(path);
        tally.loaded++;
      } catch (error) {
        const { message } = error as Error;
        if (!(error instanceof CheckpointError && /^[^\p{Cc}]{20,900}$/u.test(message))) wrong.push([what, error]);
        tally.refused++;
      }
    }
  }
  expect(wrong).toEqual([]);
  expect(tally.refused).toBeGreaterThan(whole ? 1000 : 200);
  expect(tally.loaded).toBeGreaterThan(whole ? 20 : 2);
});
