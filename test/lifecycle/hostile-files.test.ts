/** Every kind of thing that can stand where a file is expected, through every command that would read it there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import { canRun, compiled, itWhere, long } from '../fixtures/child';

interface Result {
  kind: string;
  place: string;
  code: number | null;
  stderr: string;
  problems: string[];
}
interface HostileFiles {
  kinds: Record<string, unknown>;
  places: Record<string, unknown>;
  pairs(every: number): [string, string][];
  tryAll(every: number): Promise<{ results: Result[] }>;
}

const { kinds, places, pairs, tryAll } = require(join(packageRoot, 'scripts', 'hostile-files.js')) as HostileFiles;

/** All of them take a minute and a half on two cores. */
const every = long ? 1 : 11;

it('has 26 kinds, and tries each of them and each place', () => {
  expect(Object.keys(kinds)).toHaveLength(26);
  const tried = pairs(every);
  expect(new Set(tried.map(([kind]) => kind)).size).toBe(26);
  expect(new Set(tried.map(([, place]) => place)).size).toBe(Object.keys(places).length);
});

itWhere(canRun('mkfifo', ['--version']) && existsSync('/proc/kmsg'), 'no mkfifo, or no /proc')(
  'each ends with the documented code and a line, within 2 s of processor time and 100 MB of what is usual',
  async () => {
    compiled('cli/main.js');
    const { results } = await tryAll(every);
    expect(results.filter(({ problems }) => problems.length > 0)).toEqual([]);
    expect(results).toHaveLength(pairs(every).length);
    // Commands were refused and commands went on, or nothing was tried.
    expect(new Set(results.map(({ code }) => code))).toEqual(new Set([0, 2, 3, 5, 143]));
  },
);
