/**
 * `sample --interactive`: the model offers continuations, and the user takes one or writes on. The dialogue goes to stderr.
 */
import { createInterface } from 'node:readline';
import { lookAt } from '../checkpoint/run-directory';
import { CudnnLstmError, UsageError } from '../errors';
import type { LanguageModel } from '../model';
import type { Proposal, Session, SessionDrawOptions, SessionMark } from '../sampling/session';
import type { CommandIo } from './command';
import { commandLine } from './invocation';
import { printText, say } from './output';

/** What is offered, and from where. */
export interface InteractiveOptions {
  checkpoints: readonly string[];
  prompt: string;
  unknown: 'error' | 'skip' | undefined;
  /** The file that `/save` writes, and that is read if it exists. */
  file: string | undefined;
  /** Continuations offered at a time. */
  count: number;
  /** How they are drawn; the seed is that of the first round. */
  drawing: SessionDrawOptions & { seed: number };
  signal: AbortSignal;
}

const help = [
  'a number  takes that continuation',
  'text      is written as it stands; what begins with / or is a number is written by /text',
  'nothing   (an empty line) offers others',
  '/break    writes a line break',
  '/undo     takes the last step back',
  '/show     prints the text so far',
  '/save     writes the session to a file, to go on from: /save FILE',
  '/quit     prints the text to stdout and ends, as the end of the input does',
];

/** Steps that can be undone; each keeps a state and the end of the text. */
const mostSteps = 100;
/** Characters of the text shown after each step. */
const shownCharacters = 400;

/** Runs the conversation to its end, then prints the text to stdout, whatever ended it. */
export async function interact(model: LanguageModel, options: InteractiveOptions, io: CommandIo): Promise<void> {
  const { file, prompt, unknown, signal } = options;
  const there = file !== undefined && (await lookAt(file)) !== undefined;
  using session = there ? await model.loadSession(file) : model.session();
  await session.feed(prompt, { unknown, signal });
  const conversation = new Conversation(session, options, io);
  try {
    say(io.stderr, `/help says what can be typed.${there ? ` Continuing ${file}.` : ''}`);
    conversation.show();
    await conversation.offer();
    await converse(conversation, signal, io);
    signal.throwIfAborted();
  } finally {
    await printText(io.stdout, `${conversation.text}\n`);
  }
}

/** Reads the input line by line until it ends. */
async function converse(conversation: Conversation, signal: AbortSignal, io: CommandIo): Promise<void> {
  const terminal = process.stdin.isTTY && (io.stderr as NodeJS.WriteStream).isTTY;
  const lines = createInterface({ input: process.stdin, output: io.stderr, terminal, prompt: '> ' });
  // On a terminal, Ctrl-C goes to the line reader.
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  const stop = () => lines.close();
  signal.addEventListener('abort', stop);
  // The input may have ended before its last lines are taken; Node 24 then refuses to prompt.
  let ended = false;
  lines.once('close', () => {
    ended = true;
  });
  try {
    lines.prompt();
    for await (const line of lines) {
      if (!(await conversation.take(line))) break;
      if (!ended) lines.prompt();
    }
  } finally {
    signal.removeEventListener('abort', stop);
    lines.close();
  }
}

/** The text so far and the current offers. */
class Conversation {
  readonly #session: Session;
  readonly #options: InteractiveOptions;
  readonly #io: CommandIo;
  /** The text, one piece per step. */
  readonly #pieces: string[];
  /** Where the session stood before each of the last steps. */
  readonly #marks: SessionMark[] = [];
  #offers: Proposal[] = [];
  #round = 0;

  constructor(session: Session, options: InteractiveOptions, io: CommandIo) {
    this.#session = session;
    this.#options = options;
    this.#io = io;
    this.#pieces = [session.text];
  }

  get text(): string {
    return this.#pieces.join('');
  }

  show(): void {
    const text = [...this.text];
    const end = text.slice(-shownCharacters).join('');
    if (text.length > 0) say(this.#io.stderr, `${text.length > shownCharacters ? '…' : ''}${readable(end)}`);
  }

  /** Draws and shows possible continuations. */
  async offer(): Promise<void> {
    const { count, drawing, signal } = this.#options;
    this.#offers = await this.#session.propose(count, { ...drawing, seed: drawing.seed + this.#round++, signal });
    for (const [i, { text }] of this.#offers.entries())
      say(this.#io.stderr, `${String(i + 1).padStart(3)}  ${readable(text)}`);
  }

  /** Handles a typed line. False: it was the last. */
  async take(line: string): Promise<boolean> {
    const [, command, rest = ''] = /^\/(\w*) ?(.*)$/.exec(line) ?? [];
    try {
      if (command !== undefined) return await this.#obey(command, rest);
      const number = /^\d+$/.test(line) ? Number(line) : undefined;
      const offered = number === undefined ? undefined : this.#offers[number - 1];
      if (line === '') await this.offer();
      else if (number === undefined) await this.#write(line);
      else if (offered) await this.#write(offered.text);
      else
        throw new UsageError(
          `${line} is not offered: give a number from 1 to ${this.#offers.length}, or /text ${line}.`,
        );
    } catch (error) {
      // The line is at fault, not the text so far.
      if (!(error instanceof CudnnLstmError) || this.#options.signal.aborted) throw error;
      say(this.#io.stderr, error.message);
    }
    return true;
  }

  async #obey(command: string, rest: string): Promise<boolean> {
    switch (command) {
      case 'quit':
      case 'q':
        return false;
      case 'text':
        await this.#write(rest);
        break;
      case 'break':
        await this.#write('\n');
        break;
      case 'undo':
        await this.#undo();
        break;
      case 'show':
        say(this.#io.stderr, readable(this.text));
        break;
      case 'save':
        await this.#save(rest.trim() || this.#options.file);
        break;
      case 'help':
        for (const sentence of help) say(this.#io.stderr, sentence);
        break;
      default:
        throw new UsageError(
          `There is no /${command}: /help says what can be typed, and /text writes what begins with /.`,
        );
    }
    return true;
  }

  async #write(text: string): Promise<void> {
    const { unknown, signal } = this.#options;
    const [mark, before] = [this.#session.mark(), this.#session.length];
    await this.#session.feed(text, { unknown, signal });
    this.#marks.push(mark);
    if (this.#marks.length > mostSteps) this.#marks.shift();
    // As it was read: normalised, and without characters that the model does not know.
    const added = this.#session.length - before;
    this.#pieces.push(added === 0 ? '' : [...this.#session.text].slice(-added).join(''));
    this.show();
    await this.offer();
  }

  async #undo(): Promise<void> {
    const mark = this.#marks.pop();
    if (mark === undefined) throw new UsageError('There is no step to take back.');
    this.#session.rewind(mark);
    this.#pieces.pop();
    this.show();
    await this.offer();
  }

  async #save(path: string | undefined): Promise<void> {
    if (path === undefined) throw new UsageError('Name the file: /save FILE.');
    await this.#session.save(path);
    const again = commandLine(['sample', ...this.#options.checkpoints, '--interactive', '--session', path]);
    say(this.#io.stderr, `saved; to go on from here: ${again}`);
  }
}

/** On one line, with visible line breaks. */
function readable(text: string): string {
  return text.replaceAll('\n', '⏎');
}
