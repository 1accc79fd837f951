/** One process that trains, samples, scores, saves and loads for minutes: its memory does not grow. */
import { join } from 'node:path';
import { itWhere, long, run } from '../fixtures/child';

interface Report {
  rounds: number;
  seconds: number;
  /** Slope of resident memory by least squares, in MiB per hour, and its largest value less its smallest, both after the warm-up. */
  slope: number;
  spread: number;
}

async function soak(seconds: number): Promise<Report> {
  const program = join(__dirname, 'programs', 'soak.js');
  const argv = ['--expose-gc', program, String(seconds)];
  const { code, stdout, stderr } = await run(process.execPath, argv);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const report = JSON.parse(stdout) as Report;
  process.stderr.write(`soak: ${JSON.stringify(report)}\n`);
  return report;
}

itWhere(long, 'it takes five minutes; LONG=1 runs it')('its memory does not grow in five minutes', async () => {
  const { rounds, slope, spread } = await soak(300);
  expect(rounds).toBeGreaterThan(50);
  expect(spread).toBeLessThan(32);
  expect(slope).toBeLessThan(60); // 5 MiB in these five minutes: what a heap that settles can look like.
});
