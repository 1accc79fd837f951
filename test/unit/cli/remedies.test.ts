/**
 * Every remedy that a message names works: each case makes a mistake that a user could make, takes the remedy from the message, and
 * succeeds by following it. A scan of the sources finds messages with a remedy that no case has caused. About 15 s.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import ts from 'typescript';
import { RunDirectory } from '../../../lib/checkpoint/run-directory';
import { reportError } from '../../../lib/cli/command';
import { main } from '../../../lib/cli/main';
import { packageRoot } from '../../../lib/device/native';
import { asCommand, flagOf, option } from '../../../lib/wording';
import { fileOf, partsOf } from '../../fixtures/checkpoints';
import { sinks } from '../../fixtures/sink';

const folder = mkdtempSync(join(tmpdir(), 'remedies, of '));
const at = (...names: string[]) => join(folder, ...names);
const file = (name: string, contents: string | Buffer) => {
  writeFileSync(at(name), contents);
  return at(name);
};
let made = 0;
/** Options to train a model that already exists. */
const trained = ['--epochs', '1', '--batch-size', '2', '--seq-length', '5', '--sample-length', '0'];
const fresh = () => at(`out-${++made}`);

const text = file('text.txt', 'The sheep and the goats went over the hill.\n'.repeat(30));
const other = file('other.txt', 'Another text, of other sheep.\n'.repeat(30));
const accents = 'Ein Café für Zoë, naïve façade, “so” – l’été.\n'.repeat(20);
/** Encodes a text as Windows-1252: Latin-1, and the four other characters used here. */
const windows = (string: string) =>
  Buffer.from(
    string.replaceAll('“', '\x93').replaceAll('”', '\x94').replaceAll('–', '\x96').replaceAll('’', '\x92'),
    'latin1',
  );

const cpu = ['--device', 'cpu', '--threads', '1'];
/** A nanosecond: no machine plans a training in it. */
const noTime = '0.000001ms';
const tiny = [
  '--hidden',
  '8',
  '--layers',
  '1',
  '--epochs',
  '1',
  '--batch-size',
  '2',
  '--seq-length',
  '5',
  '--sample-length',
  '0',
  ...cpu,
];
/** The arguments to train on `source`. Another `--out` may follow: the last one counts. */
const train = (source: string, ...rest: string[]) => ['train', source, ...tiny, '--out', fresh(), ...rest];
const run = at('the run'); // The space makes messages quote it.
const normal = at('nfd run');
const longRun = at('long run');

/** What all commands printed to stderr: the scan looks for messages in it. */
let everything = '';

async function call(argv: readonly string[]): Promise<{ code: number; err: string }> {
  const { stdout, stderr } = sinks();
  const help = jest.spyOn(process.stdout, 'write').mockReturnValue(true);
  let code: number;
  try {
    code = await main([...argv], { stdout, stderr });
  } catch (error) {
    code = reportError(error, stderr);
  } finally {
    help.mockRestore();
  }
  everything += stderr.text;
  return { code, err: stderr.text };
}

/** Splits a part of a command line into words, as a shell does. */
const words = (line: string): string[] =>
  execFileSync('bash', ['-c', `words=(${line}); printf '%s\\0' "\${words[@]}"`], { encoding: 'utf8' })
    .split('\0')
    .slice(0, -1);

type Follow = (match: RegExpMatchArray, argv: readonly string[]) => readonly string[] | Promise<readonly string[]>;

interface Case {
  /** The user's call. */
  readonly argv: () => readonly string[] | Promise<readonly string[]>;
  /** What it must say. The group captures the remedy: options to add. */
  readonly says: RegExp;
  /** The call that follows the remedy, if it is not the same call with the captured options added. */
  readonly follow?: Follow;
  /** The message is a note, and the call succeeds. */
  readonly note?: true;
}

/** The same call with one word replaced. */
const instead =
  (from: string, to: string | (() => string)): Follow =>
  (_match, argv) =>
    argv.map((word) => (word === from ? (typeof to === 'string' ? to : to()) : word));
const without =
  (...names: string[]): Follow =>
  (_match, argv) => {
    const kept = [...argv];
    for (const name of names)
      kept.splice(kept.indexOf(name), (kept[kept.indexOf(name) + 1]?.startsWith('--') ?? true) ? 1 : 2);
    return kept;
  };
/** Exports the run's model with weights of fewer bits. */
const exported = async (weights: string) => {
  const path = `${fresh()}.safetensors`;
  expect(await call(['export', run, '--to', weights, '--out', path])).toMatchObject({ code: 0 });
  return path;
};
const removed =
  (path: () => string): Follow =>
  (_match, argv) => {
    rmSync(path(), { recursive: true });
    return argv;
  };
const anotherOut: Follow = (_match, argv) => [...argv, '--out', fresh()];
const same =
  (prepare: () => unknown): Follow =>
  (_match, argv) => {
    prepare();
    return argv;
  };
/** Rewrites a run's last checkpoints, as another program might, without some metadata and tensors; returns their names. */
const rewriteCheckpoints = (directory: string, metadata: RegExp, tensors = /^$/): string[] => {
  const names = readdirSync(directory).filter((name) => /^checkpoint-\d+\.safetensors$/.test(name));
  for (const name of names) {
    const { header, data } = partsOf(join(directory, name));
    const { __metadata__: said, ...all } = header as Record<string, { data_offsets: [number, number] }>;
    const left = Object.entries(all).filter(([tensor]) => !tensors.test(tensor));
    let end = 0;
    const pieces = left.map(
      ([
        ,
        {
          data_offsets: [from, to],
        },
      ]) => data.subarray(from, to),
    );
    const moved = left.map(([tensor, entry], i) => {
      const from = end;
      end += (pieces[i] as Buffer).length;
      return [tensor, { ...entry, data_offsets: [from, end] }];
    });
    const kept = Object.entries(said as object).filter(([key]) => !metadata.test(key) && key !== 'dataSha256');
    writeFileSync(
      join(directory, name),
      fileOf({ __metadata__: Object.fromEntries(kept), ...Object.fromEntries(moved) }, Buffer.concat(pieces)),
    );
  }
  return names;
};
/** A copy of the run, to break something in. */
const copied = (from = run) => {
  const to = fresh();
  cpSync(from, to, { recursive: true });
  return to;
};

let inUse: RunDirectory | undefined;
let place = ''; // Of the current case.
const cases: Record<string, Case> = {
  // ---- Options and commands.
  'an unknown option': {
    argv: () => train(text, '--nothing-like-it'),
    says: /\(--help lists what there is\)/,
    follow: () => ['train', '--help'],
  },
  ...Object.fromEntries(
    Object.entries({
      '--lr': '0.01',
      '--rnn-size': '8',
      '--num-layers': '1',
      '--learing-rate': '0.01',
      '--hiddn': '8',
    }).map(([name, value]) => [
      `the option ${name}`,
      {
        argv: () => train(text, name, value),
        says: /(--(?:learning-rate|hidden|layers))/,
        follow: (match, argv) => argv.map((word) => (word === name ? String(match[1]) : word)),
      } satisfies Case,
    ]),
  ),
  ...Object.fromEntries(
    Object.entries({
      '--primetext': 'The',
      '--start-text': 'The',
      '--temp': '0.5',
      '--gpu': 'cpu',
      '--lenght': '5',
    }).map(([name, value]) => [
      `the option ${name}`,
      {
        argv: () => ['sample', run, ...cpu, name, value],
        says: /(--(?:prompt|temperature|device|length))\b/,
        follow: (match, argv) => argv.map((word) => (word === name ? String(match[1]) : word)),
      } satisfies Case,
    ]),
  ),
  'the option --init-from': {
    argv: () => ['train', other, '--init-from', run, '--epochs', '1', '--sample-length', '0', ...cpu],
    says: /did you mean (--from)\?/,
    follow: (match) => [
      'train',
      file('more.txt', 'The sheep went over the hill.\n'.repeat(40)),
      String(match[1]),
      run,
      '--epochs',
      '1',
      '--sample-length',
      '0',
      '--out',
      fresh(),
      ...cpu,
    ],
  },
  'a text to keep, of no model': {
    argv: () => train(text, '--keep', text),
    says: /name the model to begin with: (--from) CHECKPOINT/,
    follow: (match) => [
      'train',
      at('more.txt'),
      '--keep',
      text,
      ...words(String(match[1])),
      run,
      '--epochs',
      '1',
      '--sample-length',
      '0',
      '--out',
      fresh(),
      ...cpu,
    ],
  },
  'a weight of nothing': {
    argv: () => train(`${text}:0`, other),
    says: /a weight is a number above 0 and at most 1,000, .* or leave the text out/,
    follow: instead(`${text}:0`, `${text}:0.5`),
  },
  'a weight of a text that is held out': {
    argv: () => train(text, `${file('short.txt', 'A few sheep.\n')}:5`),
    says: /choose a lower (--validation), 0 for none/,
    follow: (match, argv) => [...argv, String(match[1]), '0'],
  },
  'a resumed run without its weights': {
    argv: async () => {
      const out = fresh();
      expect(await call(['train', `${text}:2`, other, ...tiny, '--out', out])).toMatchObject({ code: 0 });
      return ['train', text, other, '--resume', out, '--epochs', '2', ...cpu];
    },
    says: /other weights than .* was trained with \(2 for .*\): give those/,
    follow: instead(text, `${text}:2`),
  },
  'a validation text beside a share': {
    argv: () => train(text, '--validation', '0.2', '--validation-file', other),
    says: /another text to validate on: leave one of them out/,
    follow: without('--validation'),
  },
  'a validation text without a character to count': {
    argv: () => train(text, '--validation-file', file('one.txt', 'T')),
    says: /the first has nothing before it; give a longer one/,
    follow: instead(at('one.txt'), other),
  },
  'a validation text without lines': {
    argv: () => train(text, '--lines', '--validation-file', file('breaks.txt', '\n\n')),
    says: /no line that is not empty; give another one/,
    follow: instead(at('breaks.txt'), other),
  },
  'a validation text of a run that had none': {
    argv: () => ['train', '--resume', copied(), '--validation-file', other, '--epochs', '2', ...cpu],
    says: /leave --validation-file out, or start a new run/,
    follow: without('--validation-file'),
  },
  'another validation text': {
    argv: async () => {
      const out = fresh();
      expect(await call(['train', text, ...tiny, '--validation-file', other, '--out', out])).toMatchObject({ code: 0 });
      return ['train', '--resume', out, '--validation-file', text, '--epochs', '2', ...cpu];
    },
    says: /The validation text is not the one of .*: give that one with --validation-file/,
    follow: instead(text, other),
  },
  'a validation text that has gone': {
    argv: async () => {
      const out = fresh();
      const gone = file('gone.txt', 'The sheep went over the hill.\n');
      expect(await call(['train', text, ...tiny, '--validation-file', gone, '--out', out])).toMatchObject({ code: 0 });
      renameSync(gone, at('moved.txt'));
      return ['train', '--resume', out, '--epochs', '2', ...cpu];
    },
    says: /name its new place: train --resume .*(--validation-file) FILE/,
    follow: (match, argv) => [...argv, String(match[1]), at('moved.txt')],
  },
  'two beginnings': {
    argv: () => ['train', text, '--from', run, '--resume', copied(), '--epochs', '2', ...cpu],
    says: /give one of them/,
    follow: without('--from'),
  },
  'new lines of no lines': {
    argv: () => ['sample', run, '--not-in', text, '--count', '1', ...cpu],
    says: /--novel and --not-in go with --lines/,
    follow: without('--not-in'),
  },
  'copies of no text': {
    argv: () => ['sample', run, '--length', '20', '--max-copy', '9', ...cpu],
    says: /give (--corpus-check) FILE, too/,
    follow: (match, argv) => [...argv, String(match[1]), text],
  },
  'the best of several': {
    argv: () => ['sample', run, '--length', '20', '--best-of', '2', '--count', '2', ...cpu],
    says: /leave --count out/,
    follow: without('--count'),
  },
  'more than is compared': {
    argv: () => ['sample', run, '--length', '2000000000', '--corpus-check', text, ...cpu],
    says: /lower --length or --count/,
    follow: instead('2000000000', '20'),
  },
  'a session that nobody asks for': {
    argv: () => ['sample', run, '--length', '3', '--session', fresh(), ...cpu],
    says: /--session goes with (--interactive)/,
    follow: (_match, argv) => argv.filter((word, i) => word !== '--session' && argv[i - 1] !== '--session'),
  },
  'what is typed, from where the prompt is': {
    argv: () => ['sample', run, '--interactive', '--prompt-file', '-', ...cpu],
    says: /give --prompt-file a file/,
    follow: (_match, argv) =>
      argv.filter((word) => word !== '--interactive').map((word) => (word === '-' ? text : word)),
  },
  'a checkpoint that counts nothing': {
    argv: () => ['sample', run, `${longRun}:0`, '--length', '3', ...cpu],
    says: /must be above 0: leave .* out/,
    follow: (_match, argv) => argv.filter((word) => word !== `${longRun}:0`),
  },
  'checkpoints to score, and no text': {
    argv: () => ['score', run, longRun, ...cpu],
    says: /name the text to score behind them/,
    follow: (_match, [command, ...rest]) => [String(command), ...rest.slice(0, 2), text, ...rest.slice(2)],
  },
  'several models, window by window': {
    argv: () => ['score', run, longRun, text, '--protocol', 'window', '--window', '5', ...cpu],
    says: /name one checkpoint/,
    follow: (_match, argv) => argv.filter((word) => word !== longRun),
  },
  'bytes in lower case': {
    argv: () => train(text, '--bytes', '--lowercase'),
    says: /leave one of them out/,
    follow: without('--lowercase'),
  },
  'a model of bytes, line by line': {
    argv: async () => {
      const out = fresh();
      expect(await call(['train', text, ...tiny, '--bytes', '--out', out])).toMatchObject({ code: 0 });
      return ['score', out, text, '--lines', ...cpu];
    },
    says: /it scores whole files, without --lines/,
    follow: without('--lines'),
  },
  'weights of 8 bits in 16': {
    argv: async () => ['sample', await exported('int8'), '--length', '5', '--weights', 'bf16', ...cpu],
    says: /leave out --weights/,
    follow: without('--weights'),
  },
  'weights of 8 bits, trained further': {
    argv: async () => ['train', text, ...tiny, '--from', await exported('int8'), '--out', fresh()],
    says: /take the checkpoint that it was exported from/,
    follow: (_match, argv) => argv.map((word) => (word.endsWith('.safetensors') ? run : word)),
  },
  'sorted texts': { argv: () => ['score', run, text, '--sort', 'odd', ...cpu], says: /--sort goes with (--lines)/ },
  'an unknown command': { argv: () => ['trian'], says: /\(--help lists the commands\)/, follow: () => ['--help'] },
  'a text that is empty': {
    argv: () => train(file('empty.txt', '')),
    says: /is empty; give a text of at least two characters/,
    follow: instead(at('empty.txt'), text),
  },
  'a text of one symbol': {
    argv: () => train(file('same.txt', 'a'.repeat(500))),
    says: /has only one symbol, "a": give a text with at least two/,
    follow: instead(at('same.txt'), text),
  },
  'a text in other letters': {
    argv: () => train(text, '--validation-file', file('letters.txt', 'Жили')),
    says: /no character that the model knows; give a text like those it was trained on/,
    follow: instead(at('letters.txt'), other),
  },
  'a pattern of names that none has': {
    argv: () => train(at('*.none')),
    says: /no file matches .*; name a text file, a directory, or another glob/,
    follow: instead(at('*.none'), at('te*.txt')),
  },
  'no checkpoint at all': {
    argv: () => ['sample', at('none'), '--length', '3', ...cpu],
    says: /no checkpoint at .*: name a run's directory or a \.safetensors file/,
    follow: instead(at('none'), run),
  },
  'a checkpoint file that is not there': {
    argv: () => ['score', at('none.safetensors'), text, ...cpu],
    says: /no checkpoint at .*: name (?:a run's directory or )?a \.safetensors file/,
    follow: instead(at('none.safetensors'), run),
  },
  'no run to resume where one is named': {
    argv: () => ['train', '--resume', at('none'), '--epochs', '2', ...cpu],
    says: /There is no run to resume at .*; say which: (--resume) DIR/,
    follow: instead(at('none'), () => copied()),
  },
  // ---- Where a run is kept.
  'a place that is a file': {
    argv: () => ['train', text, ...tiny, '--out', text],
    says: /is a file; choose another (--out)/,
    follow: anotherOut,
  },
  'a place below a link to nothing': {
    argv: () => {
      place = fresh();
      symlinkSync(at('nothing'), place);
      return ['train', text, ...tiny, '--out', place];
    },
    says: /is a link to nothing; choose another (--out)/,
    follow: anotherOut,
  },
  'a place that cannot be written to': {
    argv: () => ['train', text, ...tiny, '--out', '/sys/run'],
    says: /choose (?:a directory you may write to with|another) (--out)/,
    follow: anotherOut,
  },
  'a lock that is none': {
    argv: () => {
      place = copied();
      rmSync(join(place, 'lock'), { force: true });
      mkdirSync(join(place, 'lock'));
      return ['train', '--resume', place, '--epochs', '2'];
    },
    says: /is no trainer's lock: remove it/,
    follow: removed(() => join(place, 'lock')),
  },
  'a directory in use': {
    argv: async () => {
      place = fresh();
      inUse = await RunDirectory.open(place, { create: true, lock: true });
      return ['train', text, ...tiny, '--out', place];
    },
    says: /in use by .*; wait for it, or choose another (--out)/,
    follow: async (match, argv) => {
      const result = anotherOut(match, argv);
      await inUse?.close();
      return result;
    },
  },
  'a pointer that is none': {
    argv: () => {
      place = copied();
      rmSync(join(place, 'best'), { force: true });
      mkdirSync(join(place, 'best'));
      return ['sample', place, '--length', '3', ...cpu];
    },
    says: /should hold the name of a checkpoint: remove it/,
    follow: removed(() => join(place, 'best')),
  },
  'metrics that are a link': {
    argv: () => {
      place = copied();
      rmSync(join(place, 'metrics.jsonl'));
      symlinkSync(text, join(place, 'metrics.jsonl'));
      return ['train', '--resume', place, '--epochs', '2'];
    },
    says: /remove it, as a run's metrics are added/,
    follow: removed(() => join(place, 'metrics.jsonl')),
  },
  'a run that is none': {
    argv: () => ['sample', folder, '--length', '3', ...cpu],
    says: /name a run's directory or a \.safetensors file/,
    follow: instead(folder, run),
  },
  'no regular file': {
    argv: () => ['sample', '/dev/null', '--length', '3', ...cpu],
    says: /not a file: name a run's directory or a \.safetensors file/,
    follow: instead('/dev/null', run),
  },
  'a directory with a run': {
    argv: () => ['train', text, ...tiny, '--out', longRun],
    says: /already holds a run: resume it with (--resume .*), or choose another --out/,
    follow: (match) => ['train', ...words(String(match[1])), '--epochs', '5'],
  },
  'a directory with a run, the other way': {
    argv: () => ['train', text, ...tiny, '--out', run],
    says: /choose another (--out)/,
    follow: anotherOut,
  },
  'a file to resume': {
    argv: () => ['train', '--resume', text, ...cpu],
    says: /give the CORPUS before --resume/,
    follow: () => ['train', text, '--resume', copied(), '--epochs', '2', ...cpu],
  },
  'no run to resume': {
    argv: () => ['train', '--resume', ...cpu],
    says: /say which: --resume DIR/,
    follow: () => ['train', '--resume', copied(), '--epochs', '2', ...cpu],
  },
  'a name for checkpoints that is a path': {
    argv: () => ['train', '--resume', copied(), '--epochs', '2', '--checkpoint-name', 'checkpoint-00000001'],
    says: /not checkpoint-00000001|choose another --checkpoint-name/,
    follow: instead('checkpoint-00000001', 'best-{epoch}'),
  },
  'resuming elsewhere': {
    argv: () => ['train', '--resume', copied(), '--out', fresh(), '--epochs', '2'],
    says: /so .* is impossible; leave it out/,
    follow: without('--out'),
  },
  'nothing whole to resume': {
    argv: () => {
      place = copied();
      for (const name of readdirSync(place)) if (name.endsWith('.safetensors')) writeFileSync(join(place, name), 'x');
      return ['train', text, '--resume', place, ...cpu];
    },
    says: /begin anew in another (--out)/,
    follow: () => train(text),
  },
  'last checkpoints of which a program has kept the weights alone': {
    argv: () => {
      place = copied();
      rewriteCheckpoints(place, /^training/, /^training\./);
      return ['train', text, '--resume', place, '--epochs', '2', ...cpu];
    },
    says: /it holds no training state; begin a new run with its weights: train TEXT --from (.*)$/m,
    follow: (match) => ['train', text, ...trained, '--from', ...words(match[1] as string), '--out', fresh()],
  },
  'moments of no training': {
    argv: () => {
      place = copied();
      const [name] = rewriteCheckpoints(place, /^training/);
      return ['info', join(place, name as string)];
    },
    says: /nothing says of which training; save it anew without them$/m,
    follow: (_match, argv) => {
      rewriteCheckpoints(place, /^training/, /^training\./);
      return argv;
    },
  },
  'another corpus': {
    argv: () => ['train', other, '--resume', copied(), '--epochs', '2'],
    says: /give that corpus, or start a new run without --resume/,
    follow: instead(other, text),
  },
  'another corpus, anew': {
    argv: () => ['train', other, ...tiny, '--resume', copied(), '--epochs', '2'],
    says: /start a new run without --resume/,
    follow: (_match, argv) =>
      argv.flatMap((word, i) => (word === '--resume' ? ['--out'] : argv[i - 1] === '--resume' ? [fresh()] : [word])),
  },
  'a corpus that has moved': {
    argv: async () => {
      const old = file('old place.txt', readFileSync(text));
      place = at("a run's, moved");
      await call(['train', old, ...tiny, '--out', place]);
      renameSync(old, at('new place.txt'));
      return ['train', '--resume', place, '--epochs', '2'];
    },
    says: /name its new place: (train FILE --resume .*)/,
    follow: (match) => [
      ...words(String(match[1])).map((word) => (word === 'FILE' ? at('new place.txt') : word)),
      '--epochs',
      '2',
    ],
  },
  'a corpus that nobody knows': {
    argv: () => {
      place = copied();
      rmSync(join(place, 'config.json'));
      return ['train', '--resume', place, '--epochs', '2'];
    },
    says: /name its place: (train FILE --resume .*)/,
    follow: (match) => [...words(String(match[1])).map((word) => (word === 'FILE' ? text : word)), '--epochs', '2'],
  },
  'a fixed option, changed': {
    argv: () => ['train', '--resume', copied(), '--hidden', '9', '--epochs', '2'],
    says: /impossible; leave it out, or start a new run/,
    follow: without('--hidden'),
  },
  // ---- The closing lines of a run.
  'training further': {
    argv: () => train(text),
    says: /train further: +\S.*?(train .*)/,
    note: true,
    follow: (match) => words(String(match[1])),
  },
  // ---- Sizes.
  ...Object.fromEntries(
    ['Hello world', 'a b', 'It was the best of times, it was'].map((contents, i) => [
      `a text of ${contents.length} characters`,
      {
        argv: () => [
          'train',
          file(`tiny-${i}.txt`, contents),
          '--hidden',
          '8',
          '--epochs',
          '1',
          '--sample-length',
          '0',
          '--out',
          fresh(),
          ...cpu,
        ],
        says: /give a longer text, or((?: --[a-z-]+ [\d.]+)+)/,
      } satisfies Case,
    ]),
  ),
  'lines for a last target': {
    argv: () => train(text, '--lines', '--target', 'last'),
    says: /leave one of them out/,
    follow: without('--lines'),
  },
  'a plan without a time': {
    argv: () => train(text, '--preset', 'best'),
    says: /such as (--max-time 10m)/,
  },
  'a plan for a last target': {
    argv: () => train(text, '--preset', 'best', '--max-time', '5s', '--target', 'last'),
    says: /says last: leave one of them out/,
    follow: without('--target'),
  },
  'a plan for no time': {
    argv: () => train(text, '--preset', 'best', '--max-time', noTime),
    says: /such as (--max-time 1m), or have nothing planned: --preset fast/,
    follow: instead(noTime, '1m'),
  },
  'a plan for no time, and none': {
    argv: () => train(text, '--preset', 'best', '--max-time', noTime),
    says: /or have nothing planned: (--preset fast)\.$/m,
  },
  'a plan for a model that there is': {
    argv: () => ['train', text, '--preset', 'best', '--max-time', '5s', '--from', run, '--epochs', '1', ...cpu],
    says: /best plans a new model, and --from has one: leave one of them out/,
    follow: without('--preset'),
  },
  'too few lines': {
    argv: () => [
      'train',
      file('few.txt', 'ab\nba\ncd\n'),
      '--lines',
      '--hidden',
      '8',
      '--epochs',
      '1',
      '--sample-length',
      '0',
      '--validation',
      '0',
      '--out',
      fresh(),
      ...cpu,
    ],
    says: /give more lines, or((?: --[a-z-]+ [\d.]+)+)/,
  },
  'no line to validate on': {
    argv: () => train(file('lines.txt', 'abcdefgh\nabcdefgh\n'), '--lines', '--validation', '0.01'),
    says: /give more lines, or (--validation 0)/,
  },
  'a configuration that is none': {
    argv: () => train(text, '--config', folder),
    says: /give a JSON file, such as a run's config\.json/,
    follow: instead(folder, () => join(run, 'config.json')),
  },
  'a rate that is too large': {
    argv: () =>
      train(text, '--learning-rate', '10', '--weight-decay', '1', '--clip', '0', '--epochs', '20', '--patience', '0'),
    says: /set (--clip 5) or lower --learning-rate/,
    follow: (match, argv) => [...argv, '--out', fresh(), ...words(String(match[1])), '--learning-rate', '0.001'],
  },
  'no trainings at once': {
    argv: () => ['sweep', at('plan.json'), '--jobs', '0', '--out', fresh()],
    says: /--jobs must be at least (1)/,
    follow: instead('0', '1'),
  },
  // ---- Texts.
  'a cut text': {
    argv: () => train(file('cut.txt', Buffer.from(`${accents}é`).subarray(0, -1))),
    says: /cut/,
    follow: (_match, argv) => {
      file('cut.txt', accents);
      return argv;
    },
  },
  'a damaged text': {
    argv: () =>
      train(
        file('damaged.txt', Buffer.concat([Buffer.from(accents), Buffer.from([0xff, 0xfe]), Buffer.from(accents)])),
      ),
    says: /leave out what is no UTF-8, e\.g\. (iconv .*?)(?:$|;|\))/m,
    follow: (match, argv) => {
      const line = String(match[1]).replace(/\bFILE\b/g, `'${at('damaged.txt')}'`);
      const repaired = execFileSync('bash', ['-c', `${line.replace(/ >.*/, '')} || true`]);
      return argv.map((word) => (word === at('damaged.txt') ? file('repaired.txt', repaired) : word));
    },
  },
  'Windows-1252': { argv: () => train(file('windows.txt', windows(accents))), says: /(--encoding windows-1252)/ },
  'Windows-1252 as Latin-1': {
    argv: () => train(file('windows.txt', windows(accents)), '--encoding', 'latin1'),
    says: /may be in Windows-1252: (--encoding windows-1252)/,
    note: true,
  },
  'UTF-16': {
    argv: () => train(file('utf16.txt', Buffer.from(`\uFEFF${accents}`, 'utf16le'))),
    says: /(--encoding utf-16)\b/,
  },
  'UTF-16 without a mark': {
    argv: () => train(file('utf16bare.txt', Buffer.from('plain text, wide\n'.repeat(30), 'utf16le'))),
    says: /it looks like .*\((--encoding \S+)\)/,
    note: true,
  },
  'UTF-16 of accents without a mark': {
    argv: () => train(file('utf16accents.txt', Buffer.from(accents, 'utf16le'))),
    says: /(--encoding utf-16le)/,
  },
  'UTF-32': {
    argv: () =>
      train(
        file(
          'utf32.txt',
          Buffer.from(Uint32Array.from([0xfeff, ...[...accents].map((c) => c.codePointAt(0) as number)]).buffer),
        ),
      ),
    says: /(--encoding utf-32)\b/,
  },
  'CESU-8': {
    argv: () =>
      train(
        file(
          'cesu.txt',
          Buffer.concat([Buffer.from('smile \n'.repeat(60)), Buffer.from([0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80])]),
        ),
      ),
    says: /(--encoding cesu8)/,
  },
  'the wrong encoding': {
    argv: () =>
      train(text, '--encoding', 'utf-16le', '--seq-length', '4').map((word) =>
        word === text ? file('odd.txt', `${'ab'.repeat(300)}c`) : word,
      ),
    says: /name its encoding with --encoding/,
    follow: (_match, argv) => [...argv, '--encoding', 'utf-8'],
  },
  'a compressed text': {
    argv: () => train(file('text.gz', gzipSync(readFileSync(text)))),
    says: /unpack it, e\.g\. (gunzip -c FILE) \|/,
    follow: (match, argv) => {
      const [program, ...rest] = words(String(match[1])).map((word) => (word === 'FILE' ? at('text.gz') : word));
      return argv.map((word) =>
        word === at('text.gz') ? file('unpacked.txt', execFileSync(program as string, rest)) : word,
      );
    },
  },
  'a picture': {
    argv: () => train(file('a.png', Buffer.from('\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR', 'latin1'))),
    says: /name a text file/,
    follow: instead(at('a.png'), text),
  },
  'a program': {
    argv: () => train(process.execPath),
    says: /name a text file/,
    follow: instead(process.execPath, text),
  },
  'a document': {
    argv: () =>
      train(file('a.pdf', Buffer.concat([Buffer.from('%PDF-1.7\n'), Buffer.from([0xe2, 0xe3, 0xcf, 0xd3, 0x0a])]))),
    says: /save its text/,
    follow: instead(at('a.pdf'), text),
  },
  'no such text': {
    argv: () => train(at('nowhere.txt')),
    says: /name a text file, a directory, a glob, - or alice/,
    follow: instead(at('nowhere.txt'), text),
  },
  'a folder without texts': {
    argv: () => {
      mkdirSync(at('empty'), { recursive: true });
      writeFileSync(at('empty', 'data.json'), readFileSync(text));
      return train(at('empty'));
    },
    says: /holds no text: .*; name the files, or use a glob/,
    follow: instead(at('empty'), () => at('empty', '*.json')),
  },
  'a folder with other files': {
    argv: () => {
      mkdirSync(at('mixed'), { recursive: true });
      writeFileSync(at('mixed', 'a.txt'), readFileSync(text));
      writeFileSync(at('mixed', 'b.log'), readFileSync(other));
      return train(at('mixed'));
    },
    says: /\(name the files, or use a glob, to have them in\)/,
    note: true,
    follow: instead(at('mixed'), () => at('mixed', '*')),
  },
  'a device for a text': {
    argv: () => train('/dev/null'),
    says: /name a text file, a directory, a glob, or - for standard input/,
    follow: instead('/dev/null', text),
  },
  'a book of Project Gutenberg': {
    argv: () =>
      train(
        file(
          'book.txt',
          `*** START OF THE PROJECT GUTENBERG EBOOK A BOOK ***\n${readFileSync(text, 'utf8')}*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***\nlicence\n`,
        ),
      ),
    says: /(--gutenberg keep) to have them in/,
    note: true,
  },
  'scoring a book of Project Gutenberg': {
    argv: () => ['score', run, at('book.txt'), '--unknown', 'skip', ...cpu],
    says: /(--gutenberg keep) to have them in/,
    note: true,
  },
  'mixed forms': {
    argv: () => train(file('mixed.txt', 'caf\u00e9 cafe\u0301\n'.repeat(60))),
    says: /(--normalize nfc) makes them the same/,
    note: true,
  },
  // ---- Characters that a model does not know.
  'an unknown character': {
    argv: () => ['sample', run, '--prompt', 'Thé 5', '--length', '3', ...cpu],
    says: /leave them out with (--unknown skip)/,
  },
  'an unknown character of a text': {
    argv: () => ['score', run, file('odd.txt', 'The sheep #5'), ...cpu],
    says: /leave them out with (--unknown skip)/,
  },
  'another form': {
    argv: () => ['sample', normal, '--prompt', 'caf\u00e9', '--length', '3', ...cpu],
    says: /train with (--normalize nfc)/,
    follow: async () => {
      const out = fresh();
      await call(['train', at('nfd.txt'), ...tiny, '--out', out, '--normalize', 'nfc']);
      return ['sample', out, '--prompt', 'caf\u00e9', '--length', '3', ...cpu];
    },
  },
  'a line break as the shell leaves it': {
    argv: () => ['sample', run, '--prompt', 'The\\n', '--length', '3', ...cpu],
    says: /a line break is written (\$'\\n') in bash/,
    follow: (match, argv) => argv.map((word) => (word === 'The\\n' ? `The${words(String(match[1]))[0]}` : word)),
  },
  // ---- Sampling and scoring.
  'several prompts': {
    argv: () => ['sample', run, '--prompt', 'The', '--prompt-file', text, '--length', '3', ...cpu],
    says: /give one of them/,
    follow: without('--prompt'),
  },
  'no prompt file': {
    argv: () => ['sample', run, '--prompt-file', at('nowhere'), '--length', '3', ...cpu],
    says: /give a text file, or - for standard input/,
    follow: instead(at('nowhere'), text),
  },
  'a prompt file without end': {
    argv: () => [
      'sample',
      run,
      '--prompt-file',
      file('endless.txt', 'The sheep.\n'.repeat(1_600_000)),
      '--length',
      '3',
      ...cpu,
    ],
    says: /give the end of it/,
    follow: same(() => file('endless.txt', 'The sheep.\n'.repeat(10))),
  },
  'a page that is there': {
    argv: () => ['score', run, text, '--per-character', '--html', file('there.html', ''), ...cpu],
    says: /name another file with --html/,
    follow: instead(at('there.html'), () => `${fresh()}.html`),
  },
  'two ways to score': {
    argv: () => ['score', run, text, '--protocol', 'window', '--window', '5', '--lines', ...cpu],
    says: /goes without --lines and --streams/,
    follow: without('--lines'),
  },
  'a window for a stream': {
    argv: () => ['score', run, text, '--window', '5', ...cpu],
    says: /go with (--protocol window)/,
  },
  'characters of lines': {
    argv: () => ['score', run, text, '--per-character', '--lines', ...cpu],
    says: /goes without --protocol window, --lines and --streams/,
    follow: without('--lines'),
  },
  'rivals of nothing': { argv: () => ['score', run, text, '--rivals', '2', ...cpu], says: /go with (--per-character)/ },
  'fewer than no rivals': {
    argv: () => ['score', run, text, '--per-character', '--rivals', '-1', ...cpu],
    says: /--rivals must be (0) or more/,
    follow: instead('-1', '0'),
  },
  'lines in streams': {
    argv: () => ['score', run, text, '--lines', '--streams', '2', ...cpu],
    says: /--lines goes without --streams/,
    follow: without('--streams'),
  },
  'a page of too much': {
    argv: () => [
      'score',
      run,
      file('much.txt', 'The sheep.\n'.repeat(30_000)),
      '--per-character',
      '--html',
      `${fresh()}.html`,
      ...cpu,
    ],
    says: /score a part of it, or leave out --html/,
    follow: same(() => file('much.txt', 'The sheep.\n'.repeat(10))),
  },
  'a GPU that is not there': {
    argv: () => ['sample', run, '--length', '3', '--device', 'cuda:9'],
    says: /; (--device cpu) works/,
  },
  // ---- Export and sweep.
  'a title without a page': {
    argv: () => ['export', run, '--to', 'pytorch', '--title', 'Sheep', '--out', `${fresh()}.pt`],
    says: /goes with (--to html)/,
  },
  'an export that is there': {
    argv: () => ['export', run, '--to', 'html', '--out', file('there.html', '')],
    says: /name another --out/,
    follow: anotherOut,
  },
  'nothing to try': {
    argv: () => ['sweep', file('nothing.json', JSON.stringify({ corpus: text })), '--dry-run', '--out', fresh()],
    says: /give grid, random or seeds/,
    follow: instead(at('nothing.json'), () => at('plan.json')),
  },
};

const before = process.cwd();
beforeAll(async () => {
  // A bare --resume looks for runs below the current directory: here there are none but those of the tests.
  process.chdir(folder);
  file(
    'plan.json',
    JSON.stringify({
      corpus: text,
      options: { layers: 1, epochs: 1, batchSize: 2, seqLength: 5 },
      grid: { hidden: [8] },
    }),
  );
  file('nfd.txt', 'cafe\u0301 und tee\n'.repeat(60));
  for (const argv of [
    ['train', text, ...tiny, '--out', run],
    ['train', text, ...tiny, '--out', longRun],
    ['train', at('nfd.txt'), ...tiny, '--out', normal],
  ]) {
    expect(await call(argv)).toMatchObject({ code: 0 });
  }
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

test.each(Object.entries(cases))('%s', async (_name, { argv: make, says, note, follow }) => {
  const argv = await make();
  const first = await call(argv);
  expect(first.err).toMatch(says);
  expect(first.code === 0).toBe(note === true);
  const match = first.err.match(says) as RegExpMatchArray;
  // A call that printed a note has made a run, so that the next one needs another directory.
  const again = note && argv.includes('--out') ? [...argv, '--out', fresh()] : argv;
  const followed = follow ? await follow(match, again) : [...again, ...words(String(match[1]))];
  const second = await call(followed);
  expect({ ...second, followed }).toEqual({ code: 0, err: second.err, followed });
  if (note && !follow) expect(second.err).not.toMatch(says);
});

/** Messages with a remedy that no case here causes, and why. */
const elsewhere: readonly (readonly [RegExp, string])[] = [
  [
    /^no space is left on the disk|^the disk quota|^the file system is read-only|^the file would be larger|^the disk reports an error|^a part of the path is a file|^the directory is not there|^the name is too long|the file system does not allow it/,
    'as EACCES, with another cause: the same --out',
  ],
  [/is on a file system that cannot lock/, 'takes such a file system: test/unit/checkpoint/lock.test.ts'],
  [/^the best checkpoint cannot be named/, 'for the library; --checkpoint-name is refused before'],
  [/^continue from the checkpoint before, with/, 'weights that are no numbers: test/unit/checkpoint'],
  [
    /^cannot build the native addon|^set CXX|^xcode-select|is needed; install it with the system's/,
    'test/unit/cli/toolchain.test.ts, scripts/test-compilers.sh',
  ],
  [/^-h, --help$|^cudnn-lstm …: character-level|^train a model on a text, or/, 'help'],
  [/^try it: …$|^standard input, which …, is another now/, "a command line of commandLine, or of the others' form"],
  [/^check: {4}not yet made|self-check: …|the GPU failed its self-check/, 'takes a GPU: test/gpu'],
  [/^no: weights only|^yes: train --resume/, 'tells what info found'],
  [
    /takes numbers of epochs|takes a time such as|must be a whole number from|takes at least one number|must be from 0 to 65,535|takes a port from|takes an origin such as/,
    'says which values there are',
  ],
  [
    /^cannot read the key|a key is needed|--port takes another port|--host takes|--allow-host adds one|^Two models are called|^Too many texts|is not supported: leave it out/,
    'a server, which does not end by itself: test/unit/serve',
  ],
  [/^stopped early, no new best|^stopped, the time is up/, 'names why a run ended'],
  [/^this user has no home directory/, 'takes a user without one: compile-cache.test.ts'],
  [/corpus 'alice'|not as it was fetched|^check the network/, 'takes the network: test/unit/corpus/alice.test.ts'],
  [/^… is not valid …, near offset/, 'as the wrong UTF-16, of other encodings'],
  [
    /^unpack it|^save it as plain text|^name its encoding with --encoding, if it is a text|looks like no text: name a text file|or, if it is no UTF-8, name its encoding/,
    'the same of other kinds of files: test/unit/corpus/guess.test.ts',
  ],
  [/^name of corpus$/, 'no message'],
  [/set TMPDIR to a larger disk/, 'takes a full disk: test/unit/corpus'],
  [/in a bundle: leave cudnn-lstm external/, 'scripts/test-consumers.sh'],
  [/--to onnx and --to html have them/, 'test/unit/export'],
  [
    /^python-printable has|GraphModel of TensorFlow|it is a pickle, but not|its vocabulary of …|^--vocabulary FILE|100 symbols may be|^--encoding\? Otherwise|leave --gates out|--text FILE|^its gates were chosen|symbols may have another order|^learned from zero state|^… holds a run already/,
    "takes other programs' models: test/unit/import",
  ],
  [
    /^reproduce reads its corpus|^… holds a run with …; give what it was begun with/,
    'takes trainings of minutes: test/unit/report',
  ],
  [/^--gutenberg keep to score them$/, 'for the library'],
  [
    /run it in one process, not under a launcher|plans for one process: leave it out under a launcher/,
    'takes a launcher',
  ],
  [
    /: give grid or random, not both|^…: seeds and the option|; give it once$|is not a sweep's report|holds another sweep/,
    'test/unit/sweep',
  ],
  [/^The corpus has no line/, 'for texts from memory: test/unit/training'],
  [
    /^of --optimizer sgd|^save this often|^train where the file system|^where --schedule|^what --schedule|^with --schedule|^a step shrinks/,
    'help',
  ],
  [
    /ranks|^--batch-size… or more|rank 0 alone|brought together|by that library's own mpirun|set CUDNN_LSTM_CPU_ISA to one|processes, and/,
    'takes several processes: test/unit/ranks',
  ],
  [
    /not-in FILE|a higher --temperature|a larger --length|--lines writes whole lines/,
    'whole lines that are new: test/unit/sampling, test/unit/cli',
  ],
  [
    /--keep-share|text of --keep|--keep takes some|^--keep keeps|^train … --keep|was trained without a text to keep|The text to keep|begin a new model without …|cannot be frozen; give at most|^--freeze…: the model has/,
    'other refusals of fine-tuning: test/unit/training',
  ],
  [/info --check makes the check again/, 'takes a GPU: test/gpu'],
  [/--devices/, 'takes several GPUs: test/unit/cli/devices.test.ts, test/gpu/standin.test.ts'],
  [
    /^score lines$|are for models of characters, not of bytes|makes a page that writes characters|^--lines goes without/,
    'says what does not go together: test/unit/cli/bytes.test.ts, copies.test.ts',
  ],
  [
    /cannot be mixed|^mixed: train them|^A mixture (?:is scored|has no weights)/,
    'models that do not go together: test/unit/model/mixture.test.ts',
  ],
  [
    /^The pattern \/|^looks ahead or|^has a group of flags|^refers back to a group|which looks at its neighbours|in the middle, which is not supported|^is too large/,
    'patterns: test/unit/sampling/pattern.test.ts',
  ],
  [
    /^There is no \/|^Name the file: \/save|is not offered: give|^A session continues its own|^mark asks|wait for its other calls|it is of another model, or of the same|^--interactive goes without|it has another format version than 1, which/,
    'a conversation, or a session of the library: test/unit/cli/interactive.test.ts, test/unit/model/session.test.ts',
  ],
  [/above 2\^30 characters cannot be indexed|^; give a part of the text$/, 'takes a text of a gigabyte'],
  [/can hold: choose another form/, 'takes a model of gigabytes'],
  [/^- \(standard input\) is named twice/, 'takes standard input: test/unit/corpus'],
  [/^there is no run at …: name|^no checkpoint at …: name a \.safetensors/, 'for the library'],
  [/lines to compare with, the most there may be/, 'too many known lines: test/unit/bounds.test.ts'],
];

const remedy =
  /(?:^|[\s(:,;])--[a-z][a-z-]+|(?:[;:,(] |, or |^)(?:give|name|choose|use|pass|run|remove|set|leave|take|begin|continue|check|add|free|train|unpack|install|say|try|start|wait|score|save|resume) /;

/** An option in a message, as a command words it; undefined if its values are known only at run time. */
function fixedOption(expression: ts.Expression): string | undefined {
  const [, named] = /^option\((.*)\)$/.exec(expression.getText()) ?? [];
  try {
    return named === undefined ? undefined : option(new Function(`return (${named})`)());
  } catch {
    return undefined;
  }
}

/** The fixed parts of a template, including its options. */
function partsOfTemplate({ head, templateSpans }: ts.TemplateExpression): string[] {
  const parts = [head.text];
  for (const { expression, literal } of templateSpans) {
    const fixed = fixedOption(expression);
    const [, begins] = /^option\(\{ (\w+)/.exec(expression.getText()) ?? [];
    if (fixed !== undefined || begins !== undefined) parts[parts.length - 1] += fixed ?? flagOf(begins as string);
    if (fixed === undefined) parts.push(literal.text);
    else parts[parts.length - 1] += literal.text;
  }
  return parts;
}

/** The strings of a source file that may name a remedy, each as its fixed parts. Descriptions of options are left out. */
function remedies(path: string): { where: string; parts: string[] }[] {
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
  const found: { where: string; parts: string[] }[] = [];
  const described =
    /(?:^|\.)(?:option|requiredOption|argument|description|addHelpText|numberOption|limitOption|sizeOption|whole|real|from|above|string|choice)$/;
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && described.test(node.expression.getText(source))) return;
    if (ts.isNewExpression(node) && node.expression.getText(source) === 'Option') return;
    // Of `told(command, program)`, only the first is a message of a command.
    if (ts.isCallExpression(node) && node.expression.getText(source) === 'told') {
      visit(node.arguments[0] as ts.Expression);
      return;
    }
    const parts = ts.isStringLiteralLike(node)
      ? [node.text]
      : ts.isTemplateExpression(node)
        ? partsOfTemplate(node)
        : undefined;
    const whole = parts?.join('…') ?? '';
    if (parts && /\s/.test(whole) && remedy.test(whole)) {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart());
      found.push({ where: `${path.slice(packageRoot.length + 1)}:${line + 1}`, parts });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/** Whether a line contains the parts, in this order. */
function holds(line: string, parts: readonly string[]): boolean {
  let from = 0;
  return parts.every((part) => {
    const place = line.indexOf(part, from);
    from = place + part.length;
    return place >= 0;
  });
}

test('no message names a remedy that is not followed here', () =>
  asCommand(() => {
    const files = readdirSync(join(packageRoot, 'lib'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !/^page|^html\.ts|html\.ts$|figures\.ts$|page\.ts$/.test(name))
      .map((name) => join(packageRoot, 'lib', name));
    const lines = everything.split('\n');
    const all = files.flatMap(remedies);
    expect(all.length).toBeGreaterThan(100);
    const missing = all.filter(({ parts }) => {
      const whole = parts.join('…').trim();
      return !lines.some((line) => holds(line, parts)) && !elsewhere.some(([pattern]) => pattern.test(whole));
    });
    expect(missing.map(({ where, parts }) => `${where} ${parts.join('…')}`)).toEqual([]);
    // An exception whose message is gone must go, too.
    const unused = elsewhere.filter(([pattern]) => !all.some(({ parts }) => pattern.test(parts.join('…').trim())));
    expect(unused).toEqual([]);
  }));
