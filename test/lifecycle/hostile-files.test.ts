/** Every kind of thing that can stand in a file's place, through every command that would read or write it there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { main } from '../../lib/cli/main';
import { packageRoot } from '../../lib/device/native';
import { canRun, compiled, itWhere, long, whole } from '../fixtures/child';
import { sinks } from '../fixtures/sink';

interface Result {
  kind: string;
  place: string;
  code: number | null;
  stderr: string;
  problems: string[];
}
interface Place {
  /** Name of a file in a run's directory. */
  name?: string;
  command(given: Record<string, string>): string[];
}
interface HostileFiles {
  kinds: Record<string, unknown>;
  places: Record<string, Place>;
  pairs(every: number): [string, string][];
  tryAll(every: number): Promise<{ results: Result[] }>;
}

const { kinds, places, pairs, tryAll } = require(join(packageRoot, 'scripts', 'hostile-files.js')) as HostileFiles;

/** Each kind at one place; in CI at two or three, where every place has its turn. All of them take four minutes on two cores. */
const every = long ? 1 : whole ? 23 : 47;

it('has 26 kinds, and tries each of them, each at other places', () => {
  expect(Object.keys(kinds)).toHaveLength(26);
  const tried = pairs(every);
  expect(new Set(tried.map(([kind]) => kind)).size).toBe(26);
  const seen = new Set(tried.map(([, place]) => place));
  expect(seen.size).toBe(whole ? Object.keys(places).length : tried.length);
});

describe('the places', () => {
  /** The command as commander sees it, with these arguments parsed; nothing is executed. */
  async function read(argv: string[]): Promise<Command> {
    let command: Command | undefined;
    const { parse } = Command.prototype;
    const spy = jest.spyOn(Command.prototype, 'parse').mockImplementation(function (this: Command, ...given) {
      command = this;
      if (argv.length > 1) parse.apply(this, given);
      throw new Error('only read');
    });
    const { stdout, stderr } = sinks();
    await main(argv, { stdout, stderr }).catch(() => {});
    spy.mockRestore();
    if (command === undefined) throw new Error(`${argv[0]} is read in another way`);
    return command;
  }

  async function commands(): Promise<[string, Command][]> {
    const { stdout, stderr } = sinks();
    await main(['help'], { stdout, stderr });
    const names = [...stdout.text.matchAll(/^ {2}(\w+) {2,}\w/gm)].map(([, name]) => name as string);
    const all: [string, Command][] = [];
    for (const name of names) all.push([name, await read([name])]);
    return all;
  }

  /** Names for an option's value where it is a file, and where it is not. A person has to decide about any other name. */
  const files = /^(file(\[:share\])?|dir|DIR|directory|path|checkpoint)$/;
  const others = new RegExp(
    `^(${[
      ...['n', 'N', 'k', 'p', 'r', 't', 'T', 'B', 'D', 'E', 'F', 'P', 'W', 'M', 'MODE', 'text', 'line', 'characters'],
      ...['regex', 'name', 'NAME', 'address', 'origin', 'size', 'bytes', 'seconds', 'form', 'format', 'what', 'how'],
      ...['EPOCHS', 'FRACTION', 'NORM', 'PATTERN', 'RATE', 'SHARE', 'STEPS', 'TIME', 'port', 'list', 'epochs', 'time'],
      // Choices, and counts of epochs or steps.
      String.raw`[\w-]+(\|[\w-]+)+`,
    ].join('|')})$`,
  );

  it('are all options and arguments that take a file', async () => {
    const wanted: string[] = [];
    const unheard: string[] = [];
    for (const [name, command] of await commands()) {
      for (const argument of command.registeredArguments) wanted.push(`${name} <${argument.name()}>`);
      for (const { flags, long: flag } of command.options) {
        const placeholder = /[<[](.*)[>\]]$/.exec(flags)?.[1]?.replace(/\.\.\.$/, '');
        if (placeholder === undefined) continue;
        if (files.test(placeholder)) wanted.push(`${name} ${flag}`);
        else if (!others.test(placeholder)) unheard.push(`${name} ${flags}`);
      }
    }
    expect(unheard).toEqual([]);
    expect(wanted.length).toBeGreaterThan(25);
    const covered = new Set<string>();
    const mark = 'THE FILE';
    for (const { name: member, command: argv } of Object.values(places)) {
      if (member !== undefined) continue;
      const names = ['run', 'corpus', 'out', 'foreign', 'symbols', 'sweep'].map((each) => [each, each]);
      const args = argv({ ...Object.fromEntries(names), file: mark });
      const command = await read(args);
      const holds = (value: unknown) => JSON.stringify(value ?? null).includes(mark);
      command.registeredArguments.forEach((argument, i) => {
        if (holds(command.processedArgs[i])) covered.add(`${args[0]} <${argument.name()}>`);
      });
      for (const option of command.options) {
        if (holds(command.getOptionValue(option.attributeName()))) covered.add(`${args[0]} ${option.long}`);
      }
    }
    expect([...covered].sort()).toEqual(wanted.sort());
  });
});

itWhere(canRun('mkfifo', ['--version']) && existsSync('/proc/kmsg'), 'no mkfifo, or no /proc')(
  'each ends with the documented code and a line, within 2 s of processor time and 100 MB of what is usual',
  async () => {
    compiled('cli/main.js');
    const { results } = await tryAll(every);
    expect(results.filter(({ problems }) => problems.length > 0)).toEqual([]);
    expect(results).toHaveLength(pairs(every).length);
    // Some commands were refused and others went on; otherwise nothing was tested.
    const codes = new Set(results.map(({ code }) => code));
    const documented = [0, 2, 3, 5, 143];
    if (whole) expect(codes).toEqual(new Set(documented));
    else expect([codes.size > 2, documented]).toEqual([true, expect.arrayContaining([...codes])]);
  },
);
