/** A server under requests of every kind: its memory does not grow. */
import { join } from 'node:path';
import { itWhere, long, run } from '../fixtures/child';

interface Report {
  requests: number;
  rounds: number;
  /** Growth in MiB from the median of the first third of the rounds to that of the last. */
  resident: number;
  heap: number;
  external: number;
}

async function soak(seconds: number): Promise<Report> {
  const program = join(__dirname, 'programs', 'serve-soak.js');
  const { code, stdout, stderr } = await run(process.execPath, ['--expose-gc', program, String(seconds)]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const report = JSON.parse(stdout) as Report;
  process.stderr.write(`server soak: ${JSON.stringify(report)}\n`);
  return report;
}

itWhere(long, 'it takes three minutes; LONG=1 runs it')('its memory is flat in three minutes', async () => {
  const { rounds, resident, heap, external } = await soak(180);
  expect(rounds).toBeGreaterThan(8);
  // A round is 384 requests: a leak of 400 bytes in each would reach a MiB after seven rounds.
  expect(heap).toBeLessThan(1);
  expect(external).toBeLessThan(1);
  expect(resident).toBeLessThan(12);
});
