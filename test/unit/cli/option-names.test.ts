/** Tries each flag of each command with values that may be invalid: messages must name options as flags, never as in code. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { optionNames } from '../../../lib/training/options';
import { runCommand } from '../../fixtures/command';

const folder = mkdtempSync(join(tmpdir(), 'option-names-'));
const [text, run] = [join(folder, 'text.txt'), join(folder, 'run')];
const before = process.cwd();

beforeAll(async () => {
  writeFileSync(text, 'The sheep and the goats went over the hill.\n'.repeat(30));
  const sizes = ['--hidden', '8', '--layers', '1', '--epochs', '1', '--batch-size', '2', '--seq-length', '5'];
  const where = ['--sample-length', '0', '--device', 'cpu', '--threads', '1', '--out', run];
  expect((await runCommand('train', text, ...sizes, ...where)).code).toBe(0);
  mkdirSync(join(folder, 'here'));
  process.chdir(join(folder, 'here')); // Some flags name a file to write: it is written here.
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

/** Calls that end soon, whichever flag is added: the --out of export is taken, and import and sweep name files that do not exist. */
const calls: Readonly<Record<string, readonly string[]>> = {
  train: [text, '--print-config'],
  sample: [run, '--length', '3', '--device', 'cpu'],
  score: [run, text, '--device', 'cpu'],
  export: [run, '--to', 'onnx', '--out', run],
  import: [join(folder, 'none.pt'), '--out', join(folder, 'model')],
  info: [run],
  sweep: [join(folder, 'none.json')],
  reproduce: ['-'],
};

/** Flags that are not tried: they wait for a person, start a server or ranks, or print the help. */
const others = ['--interactive', '--page', '--devices', '--help'];

async function helpOf(command: string): Promise<string> {
  let help = '';
  const write = jest.spyOn(process.stdout, 'write').mockImplementation((piece) => {
    help += piece;
    return true;
  });
  try {
    await runCommand(command, '--help');
  } finally {
    write.mockRestore();
  }
  return help;
}

/** Options named as in code: a camelCase name anywhere, or any name in backquotes or at the start of a message. */
const camelCase = optionNames.filter((name) => /[A-Z]/.test(name));
const notAFlag = new RegExp(
  `(?<![\\w/])(?:${camelCase.join('|')}|topK|topP|minP|typicalP|repetitionPenalty|maxCopy|untilLines)\\b|^[a-z]+[a-zA-Z]* (?:must|takes|goes)\\b|\`[a-z]\\w*(?:: [^\`]*)?\``,
  'm',
);

it.each(Object.keys(calls))('%s names no option but as a flag', async (command) => {
  const flags = [...(await helpOf(command)).matchAll(/^\s+(?:-\w, )?(--[a-z0-9-]+)(?: ([<[]))?/gm)];
  expect(flags.length).toBeGreaterThan(2);
  for (const [, flag = '', takesValue] of flags) {
    if (others.includes(flag)) continue;
    for (const value of takesValue ? ['', '-1', 'x'] : [undefined]) {
      const { err } = await runCommand(
        command,
        ...(calls[command] ?? []),
        flag,
        ...(value === undefined ? [] : [value]),
      );
      expect([flag, value, notAFlag.exec(err)?.[0], err]).toEqual([flag, value, undefined, err]);
    }
  }
  expect(readdirSync(folder).sort()).toEqual(['here', 'run', 'text.txt']);
});
