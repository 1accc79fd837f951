/** Checks the options' doc comments, which editors show, against the table of options. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../lib/device/native';
import { optionDefinitions, optionNames, showValue } from '../../../lib/training/options';
import { presetOptions } from '../../../lib/training/presets';

const source = readFileSync(join(packageRoot, 'lib', 'training', 'option-types.ts'), 'utf8');
const [, body] = source.split('export interface TrainingOptions {');
const documented = new Map(
  Array.from((body as string).matchAll(/\/\*\*([\s\S]*?)\*\/\s+(\w+)\??:/g), ([, text, name]) => [name, text] as const),
);

test('every option is documented, in the order of the table', () => {
  expect([...documented.keys()]).toEqual(optionNames);
});

test.each(optionNames)('%s has a sentence, its default and its range', (name) => {
  const text = (documented.get(name) ?? '').replace(/\n\s*\*/g, '\n');
  const [, sentence = '', initial = ''] = /^([\s\S]*)@default (.*)\n\s*$/.exec(text) ?? [];
  expect(sentence.trim()).toMatch(/^(cuDNN|[A-Z])[\s\S]*\.$/);
  const value = presetOptions('fast')[name];
  const shown = typeof value === 'number' ? String(value) : showValue(name, value); // Times are documented in seconds.
  expect(/^[\d.e-]+$/.test(initial) ? String(Number(initial)) : initial.replace(/^'|'$/g, '')).toBe(shown);
  const bounds =
    /^a (?:whole )?number (.*)$/.exec(optionDefinitions[name].expects)?.[1]?.match(/\d[\d,.e^]*( - 1)?/g) ?? [];
  for (const bound of bounds) {
    const plain =
      bound === '1000000000' ? /1e9|1,000,000,000/ : new RegExp(`(?<![\\d.,])${bound.replace(/[.^]/g, '\\$&')}`);
    expect(sentence.replace(/\s+/g, ' ')).toMatch(plain);
  }
});
