/** Each option that `sample` and `score` list in their help, as a user gives it: it must work, by itself and beside --json. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { node } from '../../fixtures/child';
import { runCommand as run } from '../../fixtures/command';
import { sharpen } from '../../fixtures/sharpen';

const folder = mkdtempSync(join(tmpdir(), 'sample-options-'));
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  const vocabulary = new Vocabulary([...'\n .abcd']);
  const shape = { layers: 1, hidden: 12, input: 'onehot', embedding: 0, dropout: 0 } as const;
  using model = await LanguageModel.create({ ...shape, vocabulary: vocabulary.size }, vocabulary, {
    ...{ device: 'cpu', threads: 1, seed: 5 },
  });
  sharpen(model, 2);
  await model.save(at('model.safetensors'));
  writeFileSync(at('corpus.txt'), 'abba cab. bad dab.\na cab. ab.\n'.repeat(30));
  writeFileSync(at('prompt.txt'), 'a cab');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The options that a command's help lists, other than --help. */
async function optionsOf(command: string): Promise<string[]> {
  const { stdout } = await node('cli/main.js', [command, '--help']);
  const names = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, name]) => name as string);
  expect(names.length).toBeGreaterThan(10);
  return names.filter((name) => name !== '--help').sort();
}

const corpus = at('corpus.txt');
/** A value for each option, and other options that it needs. */
const sample: Record<string, readonly string[]> = {
  '--prompt': ['a'],
  '--prompt-file': [at('prompt.txt')],
  '--corpus': [corpus],
  '--unknown': ['skip'],
  '--length': ['7'],
  '--count': ['2'],
  '--lines': ['2', '--length', '200'],
  '--stop': ['b'],
  '--keep-stop': ['--stop', 'b'],
  '--until-lines': ['1'],
  '--until-sentences': ['1'],
  '--best-of': ['2'],
  '--only': ['ab'],
  '--pattern': ['[ab]+'],
  '--corpus-check': [corpus],
  '--max-copy': ['4', '--corpus-check', corpus],
  '--seed': ['3'],
  '--greedy': [],
  '--temperature': ['0.5'],
  '--top-k': ['3'],
  '--top-p': ['0.9'],
  '--min-p': ['0.01'],
  '--typical-p': ['0.9'],
  '--repetition-penalty': ['1.2'],
  '--penalty-window': ['10'],
  '--window': ['5'],
  '--echo': ['--prompt', 'a'],
  '--separator': ['-'],
  '--json': [],
  '--weights': ['int8'],
  '--device': ['cpu'],
  '--threads': ['1'],
  '--no-check': [],
};
/** These have tests of their own: they need a person, or the files of a run trained with --lines. */
const elsewhere = ['--interactive', '--session', '--novel', '--not-in'];

test('sample takes each of its options', async () => {
  expect(Object.keys(sample).concat(elsewhere).sort()).toEqual(await optionsOf('sample'));
  const common = ['sample', at('model.safetensors'), '--device', 'cpu', '--length', '20', '--seed', '1'];
  for (const [option, values] of Object.entries(sample)) {
    for (const how of [[], ['--json']]) {
      const { code, out, err } = await run(...common, option, ...values, ...how);
      expect([option, how, code, code === 0 ? '' : err]).toEqual([option, how, 0, '']);
      expect(out).not.toBe('');
    }
  }
});

const score: Record<string, readonly string[]> = {
  '--lines': [],
  '--sort': ['odd', '--lines'],
  '--json': [],
  '--streams': ['2'],
  '--per-character': [],
  '--rivals': ['2', '--per-character'],
  '--protocol': ['window', '--window', '5', '--stride', '20'],
  '--window': ['5', '--protocol', 'window', '--stride', '20'],
  '--stride': ['20', '--protocol', 'window', '--window', '5'],
  '--unknown': ['skip'],
  '--encoding': ['utf8'],
  '--gutenberg': ['keep'],
  '--weights': ['int8'],
  '--device': ['cpu'],
  '--threads': ['1'],
  '--no-check': [],
};

test('score takes each of its options', async () => {
  expect(Object.keys(score).concat('--html').sort()).toEqual(await optionsOf('score')); // --html is tested with its page.
  const common = ['score', at('model.safetensors'), corpus, '--device', 'cpu'];
  for (const [option, values] of Object.entries(score)) {
    for (const how of [[], ['--json']]) {
      const { code, out, err } = await run(...common, option, ...values, ...how);
      expect([option, how, code, code === 0 ? '' : err]).toEqual([option, how, 0, '']);
      expect(out).not.toBe('');
    }
  }
});
