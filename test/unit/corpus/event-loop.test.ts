/** Reading a large text does not block the event loop. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCorpus } from '../../../lib/corpus/corpus';
import { eachWhole, whole } from '../../fixtures/child';
import { longestTurn } from '../../fixtures/turns';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'event-loop-'));
});
afterAll(() => rm(folder, { recursive: true }));

const ways = [
  ['in memory', { streamAbove: 1e9 }],
  ['through an id file', { streamAbove: 0 }],
  ['in a normal form and lower-cased', { streamAbove: 1e9, normalize: 'nfc', lowercase: true }],
] as const;
eachWhole(
  it,
  ways,
  (i) => i !== 1,
)('a text is opened %s in turns of the event loop that do not grow with it', async (_, options) => {
  const line = 'The café was late, and über alles the night went on and on.\n';
  const measured = async (megabytes: number) => {
    const path = join(folder, `${megabytes}.txt`);
    await writeFile(path, line.repeat((megabytes * 1e6) / Buffer.byteLength(line)));
    return () => longestTurn(async () => (await openCorpus([path], options)).close());
  };
  const sizes = whole ? { small: 4, large: 60 } : { small: 2, large: 30 };
  const opened = { small: await measured(sizes.small), large: await measured(sizes.large) };
  // The smallest of three measurements, because garbage collection lengthens one turn or another.
  const small = Math.min(await opened.small(), await opened.small(), await opened.small());
  // The text is fifteen times as long, and so would a turn be that processed all of it. The package promises 20 ms.
  const bound = 5 * small + 20;
  // The smallest of up to three again; one below the bound is enough.
  let large = await opened.large();
  for (let i = 1; i < 3 && large >= bound; i++) large = Math.min(large, await opened.large());
  process.stdout.write(
    `longest turn: ${small.toFixed(1)} ms of ${sizes.small} MB, ${large.toFixed(1)} of ${sizes.large} MB\n`,
  );
  expect(large).toBeLessThan(bound);
});
