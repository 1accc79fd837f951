/** What the package exports, name by name: the top level is for everybody and stays small, the rest is `cudnn-lstm/advanced`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { globSync } from 'tinyglobby';
import * as main from '../../lib';
import * as advanced from '../../lib/advanced';
import { packageRoot } from '../../lib/device/native';

/** The names of the values and types that a file exports. */
function namesOf(file: string): string[] {
  const text = readFileSync(join(packageRoot, 'lib', file), 'utf8');
  const lists = [...text.matchAll(/^export (?:type )?\{([^}]*)\} from/gm)];
  expect(text.match(/^export /gm)).toHaveLength(lists.length);
  return lists.flatMap(([, list]) =>
    (list as string)
      .split(',')
      .map((name) => name.trim().replace(/^type /, ''))
      .filter((name) => name !== ''),
  );
}

it('the top level has these names, and no other', () => {
  const errors = Object.keys(main).filter((name) => name.endsWith('Error'));
  expect(errors.sort()).toEqual([
    'CheckpointError',
    'CudnnLstmError',
    'DataError',
    'DeviceError',
    'DiskError',
    'OptionError',
    'OutOfMemoryError',
    'TrainingError',
    'UsageError',
  ]);
  const values = ['LanguageModel', 'Vocabulary', 'train'];
  expect(Object.keys(main).sort()).toEqual([...errors, ...values].sort());
  const types = ['GenerateOptions', 'ModelOptions', 'ScoreOptions', 'TrainRequest', 'Training', 'TrainingEvent'];
  expect(namesOf('index.ts').sort()).toEqual([...errors, ...values, ...types].sort());
});

it('a name is exported once', () => {
  const names = [...namesOf('index.ts'), ...namesOf('advanced.ts')];
  expect(names.length).toBeGreaterThan(80);
  expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  expect(Object.keys(advanced).filter((name) => name in main)).toEqual([]);
});

it('each has a sentence and the subject under which the API pages list it', () => {
  const found = new Map<string, string>();
  for (const file of globSync('lib/**/*.ts', { cwd: packageRoot, ignore: ['lib/page/**', 'lib/cli/**'] })) {
    const text = readFileSync(join(packageRoot, file), 'utf8');
    const declarations =
      /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\nexport (?:abstract |async )?(?:class|function|interface|type|const|let)\*? (?:\{ version: )?(\w+)/g;
    for (const [, comment, name] of text.matchAll(declarations)) found.set(name as string, comment as string);
  }
  for (const name of [...namesOf('index.ts'), ...namesOf('advanced.ts')]) {
    const comment = (found.get(name) ?? '').replace(/\n \*/g, ' ').replace(/\s+/g, ' ');
    expect([name, comment]).toEqual([name, expect.stringMatching(/^ ?[A-Z'`c].{15,}@category [A-Z]/)]);
  }
});
