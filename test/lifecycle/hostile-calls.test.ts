/** Arguments that run JavaScript while the addon reads them, that vanish, or that have a wrong type: no crash and no hang. */
import { join } from 'node:path';
import { long, run } from '../fixtures/child';

const cases = long ? 30_000 : 300;

it(`every entry point of the addon with every hostile argument, and ${cases} random mixtures`, async () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const argv = ['--expose-gc', join(__dirname, 'programs', 'hostile-calls.js'), String(cases), String(seed)];
  const { code, signal, stdout, stderr } = await run(process.execPath, argv);
  expect({ seed, code, signal, stderr }).toEqual({ seed, code: 0, signal: null, stderr: '' });
  const counts = JSON.parse(stdout) as Record<string, { cases: number; ran: number }>;
  // Where arguments are objects, their getters ran; elsewhere, at least the hooks and the prototypes' setters could run.
  for (const name of ['createModel', 'trainSteps', 'evaluate', 'sample', 'logits']) {
    expect(counts[name]?.ran).toBeGreaterThan(90);
  }
  expect(Object.values(counts).every((each) => each.cases > 20)).toBe(true);
});
