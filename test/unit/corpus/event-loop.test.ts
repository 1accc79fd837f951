/** Reading a large text leaves the event loop its turns. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { openCorpus } from '../../../lib/corpus/corpus';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'event-loop-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** The longest gap, in milliseconds, while something is done. */
async function longestGap(work: () => Promise<unknown>): Promise<number> {
  const histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  await setTimeout(20); // Its first sample.
  histogram.reset();
  await work();
  await setTimeout(5); // A gap that ends with the work is counted too.
  histogram.disable();
  return histogram.max / 1e6;
}

it.each([
  ['in memory', { streamAbove: 1e9 }],
  ['through an id file', { streamAbove: 0 }],
  ['in a normal form and lower-cased', { streamAbove: 1e9, normalize: 'nfc', lowercase: true }],
] as const)(
  'a text is opened %s with gaps that do not grow with it',
  async (_, options) => {
    const line = 'The café was late, and über alles the night went on and on.\n';
    const gaps: number[] = [];
    for (const megabytes of [4, 60]) {
      const path = join(folder, `${megabytes}.txt`);
      await writeFile(path, line.repeat((megabytes * 1e6) / Buffer.byteLength(line)));
      const open = async () => (await openCorpus([path], options)).close();
      // The least of three: what a busy machine adds is not the package's.
      const tries = [];
      for (let i = 0; i < 3; i++) tries.push(await longestGap(open));
      gaps.push(Math.min(...tries));
    }
    // An idle loop beside the same machine, for as long.
    const idle = await longestGap(() => setTimeout(1000));
    const [small, large] = gaps as [number, number];
    process.stdout.write(
      `gaps: ${small.toFixed(1)} ms of 4 MB, ${large.toFixed(1)} of 60 MB, ${idle.toFixed(1)} idle\n`,
    );
    expect(large).toBeLessThan(4 * small + 10 * idle);
  },
  300_000,
);
