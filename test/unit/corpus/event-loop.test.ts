/** Reading a large text leaves the event loop its turns. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCorpus } from '../../../lib/corpus/corpus';
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
  const turns: number[] = [];
  for (const megabytes of [4, 60]) {
    const path = join(folder, `${megabytes}.txt`);
    await writeFile(path, line.repeat((megabytes * 1e6) / Buffer.byteLength(line)));
    const open = async () => (await openCorpus([path], options)).close();
    // The least of three: a collection of garbage falls into one turn or another.
    const tries = [];
    for (let i = 0; i < 3; i++) tries.push(await longestTurn(open));
    turns.push(Math.min(...tries));
  }
  const [small, large] = turns as [number, number];
  process.stdout.write(`longest turn: ${small.toFixed(1)} ms of 4 MB, ${large.toFixed(1)} of 60 MB\n`);
  // Fifteen times the text: what is done to all of it at once would take fifteen times as long. 20 ms are what the package promises.
  expect(large).toBeLessThan(5 * small + 20);
});
