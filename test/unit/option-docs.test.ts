/**
 * What an editor shows for an option: every field of every public interface of options has a sentence, and an optional one states its
 * default. The documented defaults of sampling are compared with those in effect; training/option-types.test.ts compares those of
 * training with their table. That options are read without missing a field is ensured by a type (`Checks`).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { globSync } from 'tinyglobby';
import * as ts from 'typescript';
import { packageRoot } from '../../lib/device/native';
import { checkGeneration, checkSamplingOptions } from '../../lib/sampling/options';

interface Field {
  readonly name: string;
  readonly optional: boolean;
  readonly type: string;
  /** The comment without its tags, on one line. */
  readonly sentence: string;
  readonly initial: string | undefined;
}

const interfaces = new Map<string, Field[]>();
for (const file of globSync('lib/**/*.ts', { cwd: packageRoot, ignore: ['lib/page/**', 'lib/cli/**'] })) {
  const source = ts.createSourceFile(file, readFileSync(join(packageRoot, file), 'utf8'), ts.ScriptTarget.Latest, true);
  source.forEachChild((node) => {
    if (ts.isInterfaceDeclaration(node)) interfaces.set(node.name.text, node.members.map(fieldOf));
  });
}

function fieldOf(member: ts.TypeElement): Field {
  const docs = ts.getJSDocCommentsAndTags(member).filter(ts.isJSDoc);
  const tag = ts.getJSDocTags(member).find(({ tagName }) => tagName.text === 'default');
  return {
    name: member.name?.getText() ?? '',
    optional: member.questionToken !== undefined,
    type: ts.isPropertySignature(member) ? (member.type?.getText() ?? '') : '',
    sentence: docs
      .map((doc) => ts.getTextOfJSDocComment(doc.comment) ?? '')
      .join(' ')
      .replace(/\s+/g, ' ')
      .trim(),
    initial: tag && (ts.getTextOfJSDocComment(tag.comment) ?? '').trim(),
  };
}

const exported = ['index.ts', 'advanced.ts']
  .flatMap((file) => readFileSync(join(packageRoot, 'lib', file), 'utf8').match(/\w+(?:Options|Request)\b/g) ?? [])
  .filter((name) => interfaces.has(name));
const others = ['ModelShape', 'Normalization'];
const fields = [...exported, ...others].flatMap((name) =>
  (interfaces.get(name) ?? []).map((field) => [`${name}.${field.name}`, field] as const),
);

it('finds the interfaces of options', () => {
  expect(exported).toEqual(
    expect.arrayContaining(['GenerateOptions', 'ModelOptions', 'TrainRequest', 'ImportOptions']),
  );
  expect(fields.length).toBeGreaterThan(120);
});

it.each(fields)('%s', (_name, { optional, type, sentence, initial }) => {
  expect(sentence).toMatch(/^[A-Z`'0-9c].{14,}\.$/);
  expect(sentence).not.toMatch(/\bDefault:? /);
  // These have no value when they are left out.
  const unset = /AbortSignal|=> void/.test(type);
  if (optional && !unset) expect(initial).toMatch(/./);
  if (/^number\b/.test(type) && optional) expect(sentence).toMatch(/\d/);
});

it('the defaults of sampling are those that apply', () => {
  const { seed: _, ...sampling } = checkSamplingOptions({});
  const { length, keepStop } = checkGeneration({}, 1, 0);
  const applied: Record<string, unknown> = { ...sampling, length, keepStop };
  const documented = ['SamplingOptions', 'GenerateOptions'].flatMap((name) => interfaces.get(name) ?? []);
  for (const [name, value] of Object.entries(applied)) {
    expect([name, documented.find((field) => field.name === name)?.initial]).toEqual([name, String(value)]);
  }
});
