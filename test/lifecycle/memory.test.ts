/** Models created and given up: their memory comes back, through dispose() or through the garbage collector. */
import { join } from 'node:path';
import { itWhole, long, run, whole } from '../fixtures/child';

interface Report {
  /** Growth of resident memory in MiB after a warm-up of 20 models, the largest on the way, and what all models held together. */
  growth: number;
  peak: number;
  held: number;
  /** Model objects that the garbage collector freed. */
  collected: number;
}

async function useModels(count: number, how: 'dispose' | 'drop' | 'unasked'): Promise<Report> {
  const program = join(__dirname, 'programs', 'memory.js');
  const argv = ['--expose-gc', program, String(count), how];
  const { code, stdout, stderr } = await run(process.execPath, argv);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as Report;
}

/** What the allocator and the JavaScript heap may keep, in MiB; one of these models holds about as much. */
const tolerance = 24;

const disposed = long ? 1000 : whole ? 60 : 30;
it(`${disposed} models made and disposed of`, async () => {
  const { growth, peak, held } = await useModels(disposed, 'dispose');
  expect(held).toBeGreaterThan((whole ? 20 : 10) * tolerance); // Otherwise the rest would show nothing.
  expect(growth).toBeLessThan(tolerance);
  expect(peak).toBeLessThan(2 * tolerance); // Each is freed at once, not when it is collected.
});

const dropped = long ? 1000 : whole ? 40 : 20;
it(`${dropped} models dropped without dispose() are freed by their finalizers`, async () => {
  const { growth, held, collected } = await useModels(dropped, 'drop');
  expect(held).toBeGreaterThan(10 * tolerance);
  expect(collected).toBeGreaterThanOrEqual(dropped - 1); // The last one may still be on the stack.
  expect(growth).toBeLessThan(tolerance);
});

itWhole('the collector knows how much a dropped model holds, and runs by itself', async () => {
  const { peak, held } = await useModels(long ? 1000 : 60, 'unasked');
  expect(held).toBeGreaterThan(10 * tolerance);
  expect(peak).toBeLessThan(held / 3);
});
