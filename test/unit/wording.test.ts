/** Messages name an option as whoever reads them has written it: a program as `batchSize: 8`, a command's user as `--batch-size 8`. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { packageRoot } from '../../lib/device/native';
import { OptionError } from '../../lib/errors';
import { asCommand, option, subject, told, trainCall } from '../../lib/wording';

describe('option', () => {
  const named = () => [
    option('checkpointName'),
    option({ batchSize: 2, seqLength: 5 }),
    option({ encoding: 'utf-16' }),
    option({ lock: false, lines: true }),
    option({ keep: ['a b.txt', "it's.txt"] }),
    option({ resume: '-run' }),
    trainCall({ corpus: ['FILE'], resume: 'runs/a' }),
    trainCall({ resume: 'runs/a', keep: ['FILE'] }),
    `${subject('topK')} must be`,
    new OptionError('topK', 'must be more').message,
    told('typed', 'called'),
  ];

  it('is what a program writes', () => {
    expect(named()).toEqual([
      '`checkpointName`',
      '`batchSize: 2, seqLength: 5`',
      "`encoding: 'utf-16'`",
      '`lock: false, lines: true`',
      "`keep: ['a b.txt', 'it\\'s.txt']`",
      "`resume: '-run'`",
      "`corpus: ['FILE'], resume: 'runs/a'`",
      "`resume: 'runs/a', keep: ['FILE']`",
      'topK must be',
      'topK must be more',
      'called',
    ]);
  });

  it('is what one types where a command is at work, and until it has ended', async () => {
    const windows = process.platform === 'win32';
    await asCommand(async () => {
      await asCommand(async () => {});
      expect(named()).toEqual([
        '--checkpoint-name',
        '--batch-size 2 --seq-length 5',
        '--encoding utf-16',
        '--no-lock --lines',
        windows ? '--keep "a b.txt" "it\'s.txt"' : "--keep 'a b.txt' 'it'\\''s.txt'",
        '--resume ./-run',
        'train FILE --resume runs/a',
        'train --resume runs/a --keep FILE',
        '--top-k must be',
        '--top-k must be more',
        'typed',
      ]);
    });
    await expect(
      asCommand(() => {
        throw new OptionError('topK', 'must be more');
      }),
    ).rejects.toThrow('--top-k must be more');
    expect(option('topK')).toBe('`topK`');
  });
});

/** The library's sources, without what commands alone load: the commands, and pages for a browser. */
const sources = readdirSync(join(packageRoot, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.m?ts$/.test(name) && !/^(?:cli|page)[\\/]|^wording\.ts$/.test(name))
  .map((name) => {
    const text = readFileSync(join(packageRoot, 'lib', name), 'utf8');
    return ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  });

/** Every node of a source, from the outside. */
function* nodesOf(node: ts.Node): Generator<ts.Node> {
  yield node;
  for (const child of node.getChildren()) yield* nodesOf(child);
}

const placeOf = (node: ts.Node) => {
  const source = node.getSourceFile();
  return `lib/${source.fileName}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${node.getText().slice(0, 120)}`;
};

function* above(node: ts.Node): Generator<ts.Node> {
  for (let each = node; each; each = each.parent) yield each;
}

const calls = (node: ts.Node, ...names: string[]): node is ts.CallExpression =>
  ts.isCallExpression(node) && names.includes(node.expression.getText());

describe('in the library', () => {
  /** The whole text of a string or template that a node is or is a part of, with … for what is put in. */
  const whole = (node: ts.Node): string | undefined => {
    if (ts.isStringLiteralLike(node)) return node.text;
    if (!ts.isTemplateExpression(node)) return undefined;
    return [node.head, ...node.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join('…');
  };

  /** Where a flag may stand as it is typed. */
  const allowed = (node: ts.Node, text: string): boolean => {
    const parents = [...above(node)];
    return (
      // Words of a command that is run, not shown.
      ts.isArrayLiteralExpression(node.parent) ||
      // Custom properties of a style sheet.
      /var\(--|--[a-z-]+:|color\([^)]*'--[a-z]/.test(text) ||
      // What the command alone is told.
      parents.some((each, i) => calls(each, 'told') && each.arguments[0] === parents[i - 1]) ||
      // The help of an option.
      (node.getSourceFile().fileName.endsWith('options.ts') &&
        parents.some((each) =>
          calls(each, 'whole', 'real', 'choice', 'boolean', 'from', 'above', 'fromBelow', 'string', 'duration'),
        ))
    );
  };
  /** A command line that works in a shell, whoever reads it. */
  const commandLine = /cudnn-lstm \w+ [^;()]*$/;

  it('no message names a flag but by option(): a program has none', () => {
    const found = sources.flatMap((source) =>
      [...nodesOf(source)].filter((node) => {
        const text = whole(node);
        if (text === undefined || ts.isImportDeclaration(node.parent)) return false;
        const flags = [...text.matchAll(/(?<![\w-])--[a-z]/g)].filter(
          ({ index }) => !commandLine.test(text.slice(0, index)),
        );
        return flags.length > 0 && !allowed(node, text);
      }),
    );
    expect(found.map(placeOf)).toEqual([]);
  });

  it('messages are worded when they are made, not when a module is loaded', () => {
    const words = sources.flatMap((source) =>
      [...nodesOf(source)].filter((node) => calls(node, 'option', 'told', 'subject', 'trainCall')),
    );
    expect(words.length).toBeGreaterThan(100);
    const early = words.filter((node) => ![...above(node)].some(ts.isFunctionLike));
    expect(early.map(placeOf)).toEqual([]);
  });
});
