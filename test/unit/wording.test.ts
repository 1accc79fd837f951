/** Messages name an option as their reader writes it: `batchSize: 8` in a program, `--batch-size 8` on a command line. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import ts from 'typescript';
import { fromNative, packageRoot } from '../../lib/device/native';
import { CudnnLstmError, OptionError } from '../../lib/errors';
import { type OptionName, optionNames, variableOf } from '../../lib/training/options';
import { openTraining } from '../../lib/training/preparation';
import type { TrainingRequest } from '../../lib/training/request';
import { asCommand, flagOf, option, subject, told, trainCall } from '../../lib/wording';
import { share } from '../fixtures/child';

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

it('is put into what the addon says', async () => {
  const given = {
    code: 'ERR_DEVICE_UNAVAILABLE',
    message: "no usable GPU. Install NVIDIA's driver, or use device cpu",
  };
  const said = () => (fromNative(given) as Error).message;
  expect(said()).toBe("no usable GPU. Install NVIDIA's driver, or use `device: 'cpu'`");
  await asCommand(() => expect(said()).toBe("no usable GPU. Install NVIDIA's driver, or use --device cpu"));
});

/** The library's sources, without the commands, the code of pages, and lib/wording.ts itself. */
const sources = readdirSync(join(packageRoot, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.m?ts$/.test(name) && !/^(?:cli|page)[\\/]|^wording\.ts$/.test(name))
  .map((name) => {
    const text = readFileSync(join(packageRoot, 'lib', name), 'utf8');
    return ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  });

/** A node and all those within it, the outermost first. */
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
  /** The text of a string or template, with … for each expression; undefined for other nodes. */
  const whole = (node: ts.Node): string | undefined => {
    if (ts.isStringLiteralLike(node)) return node.text;
    if (!ts.isTemplateExpression(node)) return undefined;
    return [node.head, ...node.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join('…');
  };

  /** Whether a flag may be written out here. */
  const allowed = (node: ts.Node, text: string): boolean => {
    const parents = [...above(node)];
    return (
      // Arguments of a command that is run, not shown.
      ts.isArrayLiteralExpression(node.parent) ||
      // Custom properties of CSS.
      /var\(--|--[a-z-]+:|color\([^)]*'--[a-z]/.test(text) ||
      // A message for commands only.
      parents.some((each, i) => calls(each, 'told') && each.arguments[0] === parents[i - 1]) ||
      // The help of an option.
      (node.getSourceFile().fileName.endsWith('options.ts') &&
        parents.some((each) =>
          calls(each, 'whole', 'real', 'choice', 'boolean', 'from', 'above', 'fromBelow', 'string', 'duration'),
        ))
    );
  };
  /** The beginning of a command line: it works in a shell, whoever reads it. */
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

describe('of the same request', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wording-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string, content: string | Buffer) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const text = file('text.txt', 'The sheep and the goats went over the hill.\n'.repeat(30));
  const other = file('other.txt', 'Another text, of other sheep.\n'.repeat(30));
  const base = join(folder, 'base');
  const run = join(folder, 'run');
  const tiny = { hidden: 8, layers: 1, epochs: 1, batchSize: 2, seqLength: 5, sampleLength: 0, device: 'cpu' as const };
  beforeAll(async () => {
    for (const out of [base, run]) {
      await using training = await openTraining({ corpus: [text], options: { ...tiny, threads: 1, out } });
      for await (const _ of training);
    }
  });

  /** Values to try for each option, possible or not. The options that are not listed do not interact with others. */
  const asked: Partial<Record<OptionName, readonly unknown[]>> = {
    preset: ['fast', 'best', 'none'],
    maxTime: ['1ms', 'soon'],
    batchSize: [1, 2, 1000, 65_537],
    seqLength: [1, 5, 4000],
    hidden: [8, 9, 0],
    layers: [1, 2, 65],
    target: ['every', 'last'],
    validation: [0, 0.1, 0.0001, 1],
    validationPlaces: [1, 4],
    freeze: [0, 1, 9],
    keepShare: [0.5, 2],
    seed: [1, 2, -1],
    lines: [true, false],
    bytes: [true, false],
    lowercase: [true, false],
    normalize: ['none', 'nfc', 'up'],
    encoding: ['utf-8', 'utf-16', 'latin1', 'runes'],
    minCount: [1, 3, 5000],
    gutenberg: ['auto', 'keep'],
    threads: [1, 0],
    device: ['cpu', 'cuda', 'abacus'],
    learningRate: [0.001, 11],
    out: [run, text, join(folder, 'new')],
    checkpointName: ['best', 'a/b'],
  };
  const texts = [
    text,
    other,
    file('short.txt', 'ab'),
    file('one.txt', 'aaaa'),
    file('few.txt', 'ab\nba\n'),
    file('latin.txt', Buffer.from('Ein Caf\xe9 f\xfcr Zo\xeb, na\xefve.\n'.repeat(30), 'latin1')),
    file('wide.txt', Buffer.from('\uFEFFWide text, of wide sheep.\n'.repeat(30), 'utf16le')),
    join(folder, 'none.txt'),
  ];
  const maybe = <T>(...values: T[]) =>
    fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, fc.constantFrom(...values));
  const requests = fc.record({
    corpus: fc.oneof({ weight: 3, arbitrary: fc.constant([text]) }, fc.constantFrom(...texts.map((name) => [name]))),
    keep: maybe(...texts.map((name) => [name])),
    validationFile: maybe(...texts.map((name) => [name])),
    from: maybe(base, join(base, 'none.safetensors'), text),
    resume: maybe<string | true>(run, text, join(folder, 'no run')),
    options: fc
      .uniqueArray(fc.constantFrom(...(Object.keys(asked) as OptionName[])), { maxLength: 4 })
      .chain((names) =>
        fc.record(Object.fromEntries(names.map((name) => [name, fc.constantFrom(...(asked[name] ?? []))]))),
      ),
  });

  type Requested = typeof requests extends fc.Arbitrary<infer R> ? R : never;
  type Origin = 'options' | 'flags' | 'env' | 'configFile';
  let files = 0;
  /** Opens the training with the options from this origin; returns its messages: the notes, and the error if there is one. */
  async function saidOf({ options, ...given }: Requested, origin: Origin): Promise<string[]> {
    const asText = Object.entries(options).map(([name, value]) => [
      name,
      typeof value === 'boolean' ? value : String(value),
    ]);
    const sizes = given.resume === undefined ? tiny : {};
    const { hidden: _, layers: __, ...ofBase } = tiny;
    const rest = Object.entries(given.from === undefined ? sizes : ofBase).filter(([name]) => !(name in options));
    const notes: string[] = [];
    const request: TrainingRequest = {
      ...given,
      save: false,
      onNote: (note) => notes.push(note),
      // The origin matters only for the options that were drawn.
      options: { ...Object.fromEntries(rest), ...(origin === 'options' ? options : {}) },
      ...(origin === 'flags' ? { flags: Object.fromEntries(asText) } : {}),
      ...(origin === 'env'
        ? { env: Object.fromEntries(asText.map(([name, value]) => [variableOf(name as OptionName), String(value)])) }
        : {}),
    };
    if (origin === 'configFile') {
      const { keep, from, validationFile } = given;
      const configFile = file(`config-${++files}.json`, JSON.stringify({ ...options, keep, from, validationFile }));
      Object.assign(request, { configFile, keep: undefined, from: undefined, validationFile: undefined });
    }
    try {
      await using training = await openTraining(request);
      return [...notes, ...training.corpus.notes];
    } catch (error) {
      if (!(error instanceof CudnnLstmError)) throw error;
      return [...notes, error.message];
    }
  }

  it('a value that is too large goes by the variable or the file that gave it', async () => {
    const request = { corpus: [text], keep: undefined, validationFile: undefined, from: undefined, resume: undefined };
    const said = (options: Requested['options'], origin: Origin) =>
      asCommand(async () => (await saidOf({ ...request, options }, origin)).at(-1)?.replace(/config-\d+/, 'config'));
    const config = join(folder, 'config.json');
    const takes = 'takes 5,000 to train on; give a longer text, or --batch-size 15.';
    const few = 'must be at most 240, which is how often the most frequent character comes, not 5,000.';
    for (const [origin, batchSize, minCount] of [
      ['flags', '--batch-size 1000', '--min-count'],
      ['env', 'CUDNN_LSTM_BATCH_SIZE=1000', 'CUDNN_LSTM_MIN_COUNT'],
      ['configFile', `batchSize: 1000 in ${config}`, `minCount in ${config}`],
    ] as const) {
      expect(await said({ batchSize: 1000 }, origin)).toContain(`, and ${batchSize} times --seq-length 5 ${takes}`);
      expect(await said({ minCount: 5000 }, origin)).toBe(`${minCount} ${few}`);
    }
  });

  const camelCase = [...optionNames, 'validationFile', 'configFile'].filter((name) => /[A-Z]/.test(name));
  const inCode = new RegExp(`\\b(?:${camelCase.join('|')})\\b|\`\\w+(?:: [^\`]*)?\``);

  it('names no flag to a program, nothing that only a program writes to a command, and no flag that was not given', async () => {
    const messages = new Set<string>();
    await fc.assert(
      fc.asyncProperty(requests, async (request) => {
        for (const origin of ['options', 'env', 'configFile'] as const) {
          for (const message of await saidOf(request, origin)) {
            messages.add(message.replaceAll(/[\d.,]+/g, '0'));
            expect(message).not.toMatch(/(?<![\w-])--[a-z]/);
          }
        }
        for (const origin of ['flags', 'env'] as const) {
          for (const message of await asCommand(() => saidOf(request, origin))) expect(message).not.toMatch(inCode);
        }
        for (const origin of ['env', 'configFile'] as const) {
          const flags = Object.entries(request.options).flatMap(([name, value]) => [
            `${flagOf(name)} ${value}`,
            `${flagOf(name)} must`,
          ]);
          for (const message of await asCommand(() => saidOf(request, origin)))
            expect(flags.filter((flag) => `${message} `.includes(`${flag} `))).toEqual([]);
        }
      }),
      { numRuns: share(400) },
    );
    expect(messages.size).toBeGreaterThan(30);
  });
});
