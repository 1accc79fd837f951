/** `serve`: serves models over HTTP, with an API like OpenAI's. */
import { Command, Option } from 'commander';
import { DataError, exitCodes, UsageError } from '../errors';
import { FileProblem, readSmallInput } from '../files';
import { defaultLimits, type Limits } from '../serve/limits';
import { serveModels } from '../serve/server';
import {
  abortOnSignals,
  addModelOptions,
  type CommandIo,
  deviceRequest,
  type ModelCommandOptions,
  numberOption,
  parseArguments,
  processIo,
  repeatable,
} from './command';
import { say } from './output';

interface ServeCommandOptions extends ModelCommandOptions {
  host: string;
  port: number;
  keyFile?: string;
  allowHost?: string[];
  cors?: string[];
  watch?: boolean;
  memory?: number;
  grace: number;
  maxBody: number;
  maxPrompt: number;
  maxTokens: number;
  maxTexts: number;
  maxQueue: number;
}

/** The command; see `serve --help`. */
export async function serveCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const options = command.opts<ServeCommandOptions>();
  using interrupt = abortOnSignals(io);
  const log = (line: string) => say(io.stderr, line);
  const server = await serveModels(command.args, {
    host: options.host,
    port: checkPort(options.port),
    key: await readKey(options.keyFile, interrupt.signal),
    hosts: options.allowHost,
    origins: (options.cors ?? []).map(checkOrigin),
    watch: options.watch,
    memory: options.memory,
    grace: options.grace * 1000,
    limits: limitsOf(options),
    ...deviceRequest(options),
    weights: options.weights,
    onNote: log,
    signal: interrupt.signal,
    log,
  });
  try {
    await server.models.preload();
    say(io.stderr, `serving ${server.models.names.join(', ')} at ${server.url}/v1/completions`);
    if (!interrupt.signal.aborted) {
      await new Promise<void>((resolve) => interrupt.signal.addEventListener('abort', () => resolve(), { once: true }));
    }
    say(io.stderr, 'closing: running answers may end; a second signal ends them at once');
  } finally {
    await server.close();
  }
  return exitCodes.ok;
}

function limitsOf(options: ServeCommandOptions): Limits {
  return {
    body: options.maxBody,
    prompt: options.maxPrompt,
    tokens: options.maxTokens,
    texts: options.maxTexts,
    queue: options.maxQueue,
  };
}

/** Size limit of a key file in bytes, including its line break. */
const longestKeyFile = 4096;

async function readKeyFile(path: string, signal: AbortSignal): Promise<string> {
  try {
    return (await readSmallInput(path, longestKeyFile, signal)).toString();
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof FileProblem)) throw error;
    throw new DataError(`cannot read the key: ${error.message}; give a file with the key in it`, { cause: error });
  }
}

async function readKey(file: string | undefined, signal: AbortSignal): Promise<string | undefined> {
  const name = file === undefined ? 'CUDNN_LSTM_KEY' : file;
  const key = (file === undefined ? process.env.CUDNN_LSTM_KEY : await readKeyFile(file, signal))?.trim();
  if (key === undefined) return undefined;
  if (!/^[\x21-\x7e]{8,1000}$/.test(key)) {
    throw new UsageError(`${name} must hold a key of 8 to 1,000 visible ASCII characters, without spaces.`);
  }
  return key;
}

function checkPort(port: number): number {
  if (port >= 0 && port <= 65_535) return port;
  throw new UsageError(`--port must be from 0 to 65,535, not ${port}.`);
}

function checkOrigin(origin: string): string {
  if (URL.canParse(origin) && new URL(origin).origin === origin) return origin;
  throw new UsageError(`--cors takes an origin such as https://example.org, not '${origin}'.`);
}

/** `512M`, `2G`, or bytes. */
function sizeOption(name: string): (value: string) => number {
  return (value) => {
    const match = /^(\d+(?:\.\d+)?)([KMGT]?)i?B?$/i.exec(value.trim());
    const bytes = match ? Math.floor(Number(match[1]) * 1024 ** ' KMGT'.indexOf(match[2]?.toUpperCase() || ' ')) : 0;
    if (bytes >= 1 && Number.isSafeInteger(bytes)) return bytes;
    throw new UsageError(`${name} takes a size such as 512M or 2G, not '${value}'.`);
  };
}

function limitOption(flag: string, help: string, value: number): Option {
  const name = flag.replace(/ .*/, '');
  const whole = numberOption(name, { integer: true });
  return new Option(flag, help)
    .default(value)
    .argParser((text) => {
      const parsed = whole(text);
      if (parsed < 1) throw new UsageError(`${name} must be at least 1, not ${parsed}.`);
      return parsed;
    })
    .helpGroup('Limits:');
}

function syntax(): Command {
  const command = new Command('serve')
    .description("Serve models over HTTP with OpenAI's completions API, in which a token is a character.")
    .argument('<run...>', 'checkpoints, or directories of runs; NAME=RUN gives a model another name')
    .addOption(
      new Option('--host <address>', 'address to listen on; any but this machine itself needs a key').default(
        '127.0.0.1',
      ),
    )
    .addOption(
      new Option('--port <n>', 'port to listen on; 0: any free one')
        .default(8080)
        .argParser(numberOption('--port', { integer: true })),
    )
    .option('--key-file <file>', 'file with the key that every request must bring (default: $CUDNN_LSTM_KEY)')
    .option(
      '--allow-host <name>',
      'another name, besides localhost, under which the server is reached; repeatable',
      repeatable,
    )
    .option('--cors <origin>', 'a web origin whose pages may send requests; repeatable', repeatable)
    .option('--watch', 'serve a newer checkpoint of a run as soon as it is written')
    .addOption(
      new Option(
        '--memory <size>',
        'memory for all models together, such as 2G; idle ones are unloaded to make room',
      ).argParser(sizeOption('--memory')),
    )
    .addOption(
      new Option('--grace <seconds>', 'time that running answers get when the server is stopped')
        .default(10)
        .argParser(numberOption('--grace')),
    )
    .addOption(limitOption('--max-body <bytes>', 'size of a request', defaultLimits.body))
    .addOption(limitOption('--max-prompt <n>', 'characters in all prompts of a request', defaultLimits.prompt))
    .addOption(limitOption('--max-tokens <n>', 'characters per text', defaultLimits.tokens))
    .addOption(limitOption('--max-texts <n>', 'texts per request', defaultLimits.texts))
    .addOption(limitOption('--max-queue <n>', 'texts at once, in all requests', defaultLimits.queue));
  return addModelOptions(command).addHelpText(
    'after',
    `
Examples:
  cudnn-lstm serve runs/book
  curl localhost:8080/v1/completions -H 'Content-Type: application/json' \\
    -d '{"prompt": "It was", "max_tokens": 200}'`,
  );
}
