#!/usr/bin/env node
/** The package's bin: one file per subcommand, loaded when it is needed. */
import './compile-cache';
import { exitCodes, UsageError } from '../errors';
import { commandSynonyms, nearest } from '../nearest';
import { packageVersion } from '../version';
import { asCommand } from '../wording';
import { type CommandIo, processIo, runCommand } from './command';
import { pass, say } from './output';

interface Subcommand {
  summary: string;
  load: () => (argv: string[], io: CommandIo) => Promise<number>;
}

const subcommands: Record<string, Subcommand> = {
  train: {
    summary: 'train a model on a text, or on the tale that comes with the package',
    load: () => (require('./train') as typeof import('./train')).trainCommand,
  },
  sample: {
    summary: 'write text with a model',
    load: () => (require('./sample') as typeof import('./sample')).sampleCommand,
  },
  score: {
    summary: 'measure how well a model predicts a text',
    load: () => (require('./score') as typeof import('./score')).scoreCommand,
  },
  import: {
    summary: 'turn a model of PyTorch, Keras or TensorFlow.js into a checkpoint',
    load: () => (require('./import') as typeof import('./import')).importCommand,
  },
  serve: {
    summary: "serve models over HTTP, with an API like OpenAI's",
    load: () => (require('./serve') as typeof import('./serve')).serveCommand,
  },
  export: {
    summary: 'export a model to PyTorch, Keras, ONNX or a web page',
    load: () => (require('./export') as typeof import('./export')).exportCommand,
  },
  sweep: {
    summary: 'trainings over a grid of options, and which is best',
    load: () => (require('./sweep') as typeof import('./sweep')).sweepCommand,
  },
  reproduce: {
    summary: "repeat the reference's three runs, with a report",
    load: () => (require('./reproduce') as typeof import('./reproduce')).reproduceCommand,
  },
  info: {
    summary: 'show this machine and its backend, or a checkpoint',
    load: () => (require('./info') as typeof import('./info')).infoCommand,
  },
  build: {
    summary: 'build the native addon from source',
    load: () => (require('./build') as typeof import('./build')).buildCommand,
  },
};

/** The bin's main program: the first argument names the command, the rest are its arguments. */
export async function main(argv: string[], io: CommandIo = processIo): Promise<number> {
  const [name, ...rest] = argv;
  if (name === 'help' && rest[0] !== undefined) return main([rest[0], '--help'], io);
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    // No argument is a mistake, though a forgivable one: help on stderr, exit 2.
    pass(name === undefined ? io.stderr : io.stdout, help());
    return name === undefined ? exitCodes.usage : exitCodes.ok;
  }
  if (name === '--version' || name === '-V') {
    say(io.stdout, packageVersion);
    return exitCodes.ok;
  }
  const subcommand = Object.hasOwn(subcommands, name) ? subcommands[name] : undefined;
  if (!subcommand) {
    const near = nearest(name, Object.keys(subcommands), commandSynonyms);
    const meant = near === undefined ? '' : `; did you mean ${near}?`;
    throw new UsageError(`Unknown command '${name}'${meant} (--help lists the commands)`);
  }
  return asCommand(() => subcommand.load()(rest, io));
}

function help(): string {
  const rows = Object.entries(subcommands).map(([name, { summary }]) => `  ${name.padEnd(11)}${summary}`);
  return `cudnn-lstm ${packageVersion}: character-level LSTM language models

Usage: cudnn-lstm <command> [arguments]

${rows.join('\n')}

Examples:
  cudnn-lstm train book.txt --out runs/book
  cudnn-lstm sample runs/book --prompt "It was"

cudnn-lstm <command> --help says more. Exit codes: 0 success, 1 failed,
2 usage, 3 bad data or checkpoint, 4 no device or out of memory, 5 disk,
129, 130, 140 and 143 signals.
`;
}

if (require.main === module) void runCommand(main);
