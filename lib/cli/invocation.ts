/** Commands as the reader of a hint can type them: started as this program was, with arguments quoted for a shell. */
import { realpathSync } from 'node:fs';
import { delimiter, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { packageRoot } from '../device/native';
import { shellQuote } from '../shell';

/** How a program was started; by default this process. */
export interface Started {
  /** Path of the script, as given to Node. */
  readonly script: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly windows: boolean;
}

function thisProcess(): Started {
  return { script: process.argv[1], env: process.env, cwd: process.cwd(), windows: process.platform === 'win32' };
}

/**
 * A command line that works where this program was started: `npx cudnn-lstm sample runs/a`, or with `cudnn-lstm`, or with
 * `node dist/cli/main.js`, whichever was used.
 *
 * @param command The command and its arguments, unquoted. An argument that begins with a dash must be an option.
 */
export function commandLine(command: readonly [string, ...string[]], started: Started = thisProcess()): string {
  const [name, ...rest] = command;
  const words = rest.map((word) => shellQuote(word, started.windows));
  return [...program(name, started), ...words].join(' ');
}

/** How to call one command. */
function program(name: string, started: Started): string[] {
  const { script, env, cwd, windows } = started;
  const installed = ['npx', 'cudnn-lstm', name];
  if (script === undefined) return installed;
  const main = join(packageRoot, 'dist', 'cli', 'main.js');
  const train = join(packageRoot, 'dist', 'train.js');
  const real = realPath(script);
  if (real !== main && real !== train) return installed; // A program that uses the commands as functions.
  const typed = (path: string) => shellQuote(shorter(path, cwd), windows);
  if (real === train) return name === 'train' ? ['node', typed(train)] : ['node', typed(main), name];
  const link = !script.endsWith('.js');
  const onPath = (env.PATH ?? '')
    .split(delimiter)
    .some((folder) => folder !== '' && resolve(folder) === dirname(script));
  if (link && env.npm_command !== undefined) return [...runner(env), 'cudnn-lstm', name];
  if (link && onPath) return ['cudnn-lstm', name];
  return link ? [typed(script), name] : ['node', typed(main), name];
}

/** The package manager that started the program puts the command on PATH for that one call only. */
function runner(env: NodeJS.ProcessEnv): string[] {
  const agent = env.npm_config_user_agent ?? '';
  if (agent.startsWith('pnpm')) return ['pnpm', 'exec'];
  return agent.startsWith('yarn') ? ['yarn'] : ['npx'];
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function shorter(path: string, cwd: string): string {
  const short = relative(cwd, path);
  return short.startsWith('..') || isAbsolute(short) ? path : short;
}
