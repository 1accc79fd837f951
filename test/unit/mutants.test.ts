/** The faults that scripts/mutants.js reintroduces: each still has a place in the sources, and a test. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';

interface Mutant {
  name: string;
  file: string;
  from: string;
  to: string;
  test: string;
  named: string;
  says?: string;
}

const mutants = require('../fixtures/mutants') as Mutant[];
const { problemOf } = require(join(packageRoot, 'scripts', 'mutants.js')) as {
  problemOf(mutant: Mutant): string | undefined;
};

it.each(mutants.map((mutant) => [mutant.name, mutant] as const))('%s', (_, mutant) => {
  expect(problemOf(mutant)).toBeUndefined();
  expect(mutant.to).not.toBe(mutant.from);
  expect(existsSync(join(packageRoot, mutant.test))).toBe(true);
  expect([mutant.named, mutant.says].every((text) => text !== '')).toBe(true);
});

it('has each of them once', () => {
  expect(mutants.length).toBeGreaterThan(60);
  expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length);
  expect(new Set(mutants.map(({ file, from, to }) => `${file} ${from} ${to}`)).size).toBe(mutants.length);
});
