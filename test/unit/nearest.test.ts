import fc from 'fast-check';
import { commandSynonyms, levenshtein, nearest, optionSynonyms } from '../../lib/nearest';
import { optionNames } from '../../lib/training/options';
import { flagOf } from '../../lib/wording';
import { share } from '../fixtures/child';

describe('levenshtein', () => {
  it.each([
    ['', '', 0],
    ['kitten', 'sitting', 3],
    ['--epoch', '--epochs', 1],
    ['abc', '', 3],
  ])('of %p and %p is %p', (a, b, distance) => {
    expect(levenshtein(a, b)).toBe(distance);
  });

  it('is a metric', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 8 });
    fc.assert(
      fc.property(word, word, word, (a, b, c) => {
        expect(levenshtein(a, b)).toBe(levenshtein(b, a));
        expect(levenshtein(a, b) === 0).toBe(a === b);
        expect(levenshtein(a, c)).toBeLessThanOrEqual(levenshtein(a, b) + levenshtein(b, c));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('nearest', () => {
  const training = [
    ...optionNames.map(flagOf),
    '--resume',
    '--config',
    '--json',
    '--dry-run',
    '--print-config',
    '--help',
  ];
  const sampling = [
    '--prompt',
    '--prompt-file',
    '--length',
    '--count',
    '--temperature',
    '--top-k',
    '--device',
    '--seed',
    '--help',
  ];
  const commands = ['train', 'sample', 'score', 'reproduce', 'info', 'build'];

  it.each([
    // The beginning of a name stands for the shortest such name, but one letter is too little.
    ['--temp', sampling, '--temperature'],
    ['--val', training, '--validation'],
    ['--batch', training, '--batch-size'],
    ['--n', training, undefined],
    ['-x', training, undefined],
    // The same name, spelled in another style.
    ['--batch_size', training, '--batch-size'],
    ['--batchSize', training, '--batch-size'],
    ['--SEED', training, '--seed'],
    ['batch_size', optionNames, 'batchSize'],
    // Names in other tools.
    ['--lr', training, '--learning-rate'],
    ['--rnn-size', training, '--hidden'],
    ['--rnn_size', training, '--hidden'],
    ['--num-layers', training, '--layers'],
    ['-num_layers', training, '--layers'],
    ['--init-from', training, '--resume'],
    ['--gpu', training, '--device'],
    ['--temp', training, '--sample-temperature'],
    ['--start-text', sampling, '--prompt'],
    ['--primetext', sampling, '--prompt'],
    ['--n', sampling, '--count'],
    ['lr', optionNames, 'learningRate'],
    // Misspelt.
    ['--epoch', training, '--epochs'],
    ['--hiden', training, '--hidden'],
    ['--lenght', sampling, '--length'],
    ['--temprature', sampling, '--temperature'],
    // Close to no name.
    ['--wibble', training, undefined],
    ['--zzz', sampling, undefined],
    ['--constructor', training, undefined],
  ])('takes %s for %p: %p', (word, candidates, meant) => {
    expect(nearest(word, candidates, optionSynonyms)).toBe(meant);
  });

  it.each([
    ['smaple', 'sample'],
    ['generate', 'sample'],
    ['inspect', 'info'],
    ['show', 'info'],
    ['eval', 'score'],
    ['resume', 'train'],
    ['tr', 'train'],
    ['frobnicate', undefined],
    ['toString', undefined],
  ])('takes the command %s for %p', (word, meant) => {
    expect(nearest(word, commands, commandSynonyms)).toBe(meant);
  });

  it('names nothing further away than a third of the length, and nothing where there is nothing', () => {
    const word = fc.stringMatching(/^[a-z]{2,10}$/);
    fc.assert(
      fc.property(word, fc.array(word, { maxLength: 5 }), (asked, candidates) => {
        const near = nearest(asked, candidates);
        const likely = (name: string) =>
          name.startsWith(asked) || levenshtein(asked, name) <= Math.max(asked.length, name.length) / 3;
        if (near === undefined) expect(candidates.filter(likely)).toEqual([]);
        else expect(likely(near)).toBe(true);
      }),
      { numRuns: share(2000) },
    );
  });

  it('knows synonyms of options that there are, none of which is an option itself', () => {
    const later = ['from', 'resume', 'window', 'length', 'temperature', 'prompt', 'prompt-file', 'count', 'greedy'];
    const known = new Set([...optionNames.map((name) => flagOf(name).slice(2)), ...later]);
    for (const name of ['top-p', 'repetition-penalty', 'stop', 'corpus']) known.add(name);
    for (const [synonym, meanings] of Object.entries(optionSynonyms)) {
      for (const meaning of meanings) expect(known).toContain(meaning);
      expect(meanings).not.toContain(synonym);
    }
  });
});
