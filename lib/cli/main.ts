#!/usr/bin/env node
/** The package's bin: one subcommand a file, loaded when it is asked for. */
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
    summary: 'print text that a model writes',
    load: () => (require('./sample') as typeof import('./sample')).sampleCommand,
  },
  score: {
    summary: 'bits per character of a text',
    load: () => (require('./score') as typeof import('./score')).scoreCommand,
  },
  import: {
    summary: 'a model that PyTorch or Keras trained, as a checkpoint',
    load: () => (require('./import') as typeof import('./import')).importCommand,
  },
  serve: {
    summary: "models over HTTP, in the form of OpenAI's API",
    load: () => (require('./serve') as typeof import('./serve')).serveCommand,
  },
  export: {
    summary: 'a model for PyTorch, Keras, ONNX or a browser',
    load: () => (require('./export') as typeof import('./export')).exportCommand,
  },
  sweep: {
    summary: 'many trainings over a grid of options, and which was best',
    load: () => (require('./sweep') as typeof import('./sweep')).sweepCommand,
  },
  reproduce: {
    summary: "the reference's three runs, done again, with a report",
    load: () => (require('./reproduce') as typeof import('./reproduce')).reproduceCommand,
  },
  info: {
    summary: 'this machine and its backend, or what a checkpoint holds',
    load: () => (require('./info') as typeof import('./info')).infoCommand,
  },
  build: {
    summary: 'build the native addon from source',
    load: () => (require('./build') as typeof import('./build')).buildCommand,
  },
};

/** The bin's main program: the first argument says which command, the rest is its own. */
export async function main(argv: string[], io: CommandIo = processIo): Promise<number> {
  const [name, ...rest] = argv;
  if (name === 'help' && rest[0] !== undefined) return main([rest[0], '--help'], io);
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    // Without an argument it is a mistake, though a forgivable one: help on stderr, exit 2.
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

cudnn-lstm <command> --help describes a command. Exit codes: 0 ok, 1 run-time,
2 usage, 3 bad data or checkpoint, 4 no device or out of memory, 5 disk,
129, 130, 140 and 143 on signals.
`;
}

if (require.main === module) void runCommand(main);
