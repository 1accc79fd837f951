/** A benchmark keeps its results only if told to. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';

const folder = mkdtempSync(join(tmpdir(), 'bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('a benchmark leaves a file with --save alone, under the name that it said without', () => {
  // A copy, which has a results folder of its own.
  cpSync(join(packageRoot, 'bench', 'measured.js'), join(folder, 'measured.js'));
  const { writeResult } = require(join(folder, 'measured.js'));
  const result = { machine: { cpu: ' A "CPU" (family 6)/9 ' }, ratio: 1.5 };
  const path = join('bench', 'results', 'peers-a-cpu-family-6-9-2.json');
  expect(writeResult('peers', 2, result)).toBe(`not kept; --save writes it to ${path}`);
  expect(existsSync(join(folder, 'results'))).toBe(false);
  expect(writeResult('peers', 2, result, { save: true })).toBe(`written to ${path}`);
  const [name, ...others] = readdirSync(join(folder, 'results'));
  expect([name, others]).toEqual(['peers-a-cpu-family-6-9-2.json', []]);
  expect(JSON.parse(readFileSync(join(folder, 'results', name as string), 'utf8'))).toEqual(result);
});
