/** Reading a large text leaves the event loop its turns. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCorpus } from '../../../lib/corpus/corpus';
import { whole } from '../../fixtures/child';
import { longestTurn } from '../../fixtures/turns';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'event-loop-'));
});
afterAll(() => rm(folder, { recursive: true }));

it.each([
  ['in memory', { streamAbove: 1e9 }],
  ['through an id file', { streamAbove: 0 }],
  ['in a normal form and lower-cased', { streamAbove: 1e9, normalize: 'nfc', lowercase: true }],
] as const)('a text is opened %s in turns of the event loop that do not grow with it', async (_, options) => {
  const line = 'The café was late, and über alles the night went on and on.\n';
  const measured = async (megabytes: number) => {
    const path = join(folder, `${megabytes}.txt`);
    await writeFile(path, line.repeat((megabytes * 1e6) / Buffer.byteLength(line)));
    return () => longestTurn(async () => (await openCorpus([path], options)).close());
  };
  const sizes = whole ? { small: 4, large: 60 } : { small: 2, large: 30 };
  const opened = { small: await measured(sizes.small), large: await measured(sizes.large) };
  // The least of three: a collection of garbage falls into one turn or another.
  const small = Math.min(await opened.small(), await opened.small(), await opened.small());
  // Fifteen times the text: what is done to all of it at once would take fifteen times as long. 20 ms are what the package promises.
  const bound = 5 * small + 20;
  // The least of three as well; none is made when that is certain to be below.
  let large = await opened.large();
  for (let i = 1; i < 3 && large >= bound; i++) large = Math.min(large, await opened.large());
  process.stdout.write(
    `longest turn: ${small.toFixed(1)} ms of ${sizes.small} MB, ${large.toFixed(1)} of ${sizes.large} MB\n`,
  );
  expect(large).toBeLessThan(bound);
});
