/**
 * How a message names an option: as its reader writes it. To a program that calls the library it is `batchSize: 8`, to who has typed a
 * command `--batch-size 8`. Which of the two a process has is for its command to say, see {@link asCommand}. Variables of the environment
 * and keys of a configuration file go by their own names; see `Configuration.sources`.
 */
import { pathWord } from './shell';

/** What an option is given, or a word that stands for it, such as 'FILE'. */
type OptionValue = string | number | boolean | readonly string[];

/** Commands at work in this process: one, but for tests. */
let commands = 0;

/** Does what a command does: until it has ended, messages name options by their flags. */
export async function asCommand<T>(job: () => T | Promise<T>): Promise<T> {
  commands++;
  try {
    return await job();
  } finally {
    commands--;
  }
}

/** What is said in one way to who has typed a command and in another to a program. */
export function told<T>(ofCommand: T, ofProgram: T): T {
  return commands > 0 ? ofCommand : ofProgram;
}

/**
 * An option within a message, or several with their values. It is to be called where the message is made: before, nobody has said yet who
 * will read it.
 *
 * @param named In camelCase: a name, `option('keep')`, or names with values, `option({ batchSize: 2, lock: false })`.
 */
export function option(named: string | Readonly<Record<string, OptionValue>>): string {
  if (typeof named === 'string') return told(flagOf(named), `\`${named}\``);
  const given = Object.entries(named);
  return told(
    given.map(([name, value]) => flagWith(name, value)).join(' '),
    `\`${given.map(([name, value]) => `${name}: ${literal(value)}`).join(', ')}\``,
  );
}

/** The options of a training, its texts among them: `train FILE --resume DIR`, or what `train` and `openTraining` take. */
export function trainCall({
  corpus = [],
  ...rest
}: Readonly<Record<string, OptionValue>> & { corpus?: readonly string[] }): string {
  const words = ['train', ...corpus.map(pathWord), ...(Object.keys(rest).length > 0 ? [option(rest)] : [])];
  return told(words.join(' '), option({ ...(corpus.length > 0 ? { corpus } : {}), ...rest }));
}

/** An option as what a message begins with: `topK must be …`. */
export function subject(name: string): string {
  return told(flagOf(name), name);
}

/** Flags that are not called as the library calls the option. */
const otherFlags: Readonly<Record<string, string>> = { configFile: '--config' };

/** `batchSize` as a flag: `--batch-size`. */
export function flagOf(name: string): string {
  return otherFlags[name] ?? `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function flagWith(name: string, value: OptionValue): string {
  if (typeof value === 'boolean') return value ? flagOf(name) : flagOf(name).replace('--', '--no-');
  return [flagOf(name), ...[value].flat().map((word) => pathWord(String(word)))].join(' ');
}

/** A value as a program writes it. */
function literal(value: OptionValue): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  return typeof value === 'string' ? `'${value.replace(/[\\']/g, '\\$&')}'` : String(value);
}
