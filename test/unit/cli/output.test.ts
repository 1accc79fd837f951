/** No control sequence from a file, a name or an argument reaches a terminal. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { reportError } from '../../../lib/cli/command';
import { main } from '../../../lib/cli/main';
import { printJson, printLine, printText, say } from '../../../lib/cli/output';
import { packageRoot } from '../../../lib/device/native';
import { CheckpointError, DeviceError } from '../../../lib/errors';
import { harmless, harmlessText } from '../../../lib/harmless';
import { shellQuote } from '../../../lib/shell';
import { canRun } from '../../fixtures/child';
import { Sink, sinks } from '../../fixtures/sink';
import { codePoint } from '../../fixtures/texts';

/** Sets the title, sets a colour, moves up, clears the screen by a C1 CSI, reverses the writing direction and breaks the line. */
const nasty = 'a\u001b]0;PWNED\u0007\u001b[31m\u001b[1A\u009b2J\u202egnp\u2028\r\nb\u007f\ud800';
const orders = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

describe('harmless', () => {
  it('leaves nothing that a terminal obeys, and says what was there', () => {
    expect(harmless(nasty)).toBe(
      'a\\u{1b}]0;PWNED\\u{7}\\u{1b}[31m\\u{1b}[1A\\u{9b}2J\\u{202e}gnp\\u{2028}\\u{d}\\u{a}b\\u{7f}\\u{d800}',
    );
  });

  it('changes nothing else, and nothing twice', () => {
    fc.assert(
      fc.property(fc.string({ unit: codePoint }), (text) => {
        expect(harmless(text)).not.toMatch(orders);
        expect(harmless(harmless(text))).toBe(harmless(text));
        if (!orders.test(text)) expect(harmless(text)).toBe(text);
      }),
    );
    expect(harmless('Ünïcödé – 文 🦊 É')).toBe('Ünïcödé – 文 🦊 É');
  });

  it('keeps the lines of a text, and what scripts need', () => {
    const family = '👩\u200d👧 \u200fשלום\u202c\n\tb';
    expect(harmlessText(family)).toBe(family);
    expect(harmlessText('\u001b[2Ja\rb\u009b')).toBe('\\u{1b}[2Ja\\u{d}b\\u{9b}');
  });
});

describe('what is printed', () => {
  it('one line a message', async () => {
    const io = sinks();
    say(io.stderr, nasty);
    await printLine(io.stderr, nasty);
    reportError(new CheckpointError(nasty), io.stderr);
    reportError(new Error(`${nasty}`), io.stderr);
    const lines = io.stderr.text.split('\n');
    expect(lines).toHaveLength(5);
    for (const line of lines) expect(line).not.toMatch(orders);
  });

  it('of several lines, where they are a list of remedies', () => {
    const io = sinks();
    reportError(new DeviceError('gone\u001b:\n  - build it\n  - name it', { code: 'ERR_NATIVE_MISSING' }), io.stderr);
    expect(io.stderr.text).toBe('gone\\u{1b}:\n  - build it\n  - name it\n');
  });

  it('JSON without the controls that JSON.stringify leaves, with the same value', async () => {
    const out = new Sink();
    await printJson(out, { [nasty]: nasty });
    expect(out.text.slice(0, -1)).not.toMatch(/\p{Cc}/u);
    expect(JSON.parse(out.text)).toEqual({ [nasty]: nasty });
  });

  it('text as it is into a pipe, and without orders to a terminal', async () => {
    const [pipe, terminal] = [new Sink(), new Sink(80)];
    for (const stream of [pipe, terminal]) await printText(stream, nasty);
    expect(pipe.text).toBe(nasty);
    expect(terminal.text.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
  });

  it('by this module alone', () => {
    const folder = join(packageRoot, 'lib', 'cli');
    const writing = readdirSync(folder).filter((name) =>
      /\.write\(|writeAndDrain\(|console\./.test(readFileSync(join(folder, name), 'utf8')),
    );
    expect(writing).toEqual(['command.ts', 'output.ts']);
  });
});

describe('commands', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'orders-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** The one line that a failing command writes. */
  async function failure(argv: string[]): Promise<string> {
    const io = sinks(80);
    const code = await main(argv, io).catch((error: unknown) => reportError(error, io.stderr));
    expect({ argv, code }).not.toEqual({ argv, code: 0 });
    const line = io.stderr.text.replace(/\n$/, '');
    expect(line).not.toMatch(orders);
    return line;
  }

  it('that find a name in a file, or are given one', async () => {
    const name = 'x\u001b]0;PWNED\u0007\u001b[31m.safetensors';
    const run = join(folder, 'run');
    mkdirSync(run);
    writeFileSync(join(run, 'best'), name);
    writeFileSync(join(run, name), 'no safetensors file');
    writeFileSync(join(folder, 'c.json'), JSON.stringify({ [name]: 1 }));
    for (const argv of [
      ['info', run],
      ['info', join(folder, name)],
      ['sample', run],
      ['score', run, 'alice'],
      ['train', join(folder, name)],
      ['train', '--config', join(folder, 'c.json')],
      ['train', '--resume', join(folder, name)],
      ['train', `--${name}`],
      ['train', '--device', name],
      [name],
    ])
      expect(await failure(argv)).toContain('\\u{1b}]0;PWNED\\u{7}');
  });

  (canRun('bash', ['--version']) ? it : it.skip)('that name a command: a shell takes it back', () => {
    for (const word of [nasty.slice(0, -1), "it's $HOME `x` \\", 'plain', 'ü b']) {
      const quoted = shellQuote(word, false);
      expect(quoted).not.toMatch(orders);
      expect(execFileSync('bash', ['-c', `printf %s ${quoted}`], { encoding: 'utf8' })).toBe(word);
    }
  });
});
