/** The commands on real pseudo-terminals of several widths: nothing they print is cut off or broken. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shellQuote } from '../../../lib/shell';
import { canRun, compiled, itWhere, run } from '../../fixtures/child';

// That of util-linux; other systems' script takes other arguments.
const scriptWorks = canRun('script', ['-qefc', 'stty cols 60', '/dev/null']);
const itOnTerminal = itWhere(scriptWorks, "there is no util-linux 'script' here, which opens a pseudo-terminal");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'terminal-'));
  const line = (i: number) => `${i % 7} sheep and ${i % 5} goats went over the ${i % 11}th hill\n`;
  writeFileSync(join(folder, 'hills.txt'), Array.from({ length: 3000 }, (_, i) => line(i)).join(''));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a command with a terminal for all three streams; what it wrote there. */
async function onTerminal(columns: number, ...args: string[]): Promise<string> {
  const command = [process.execPath, compiled('cli/main.js'), ...args].map((word) => shellQuote(word, false)).join(' ');
  const env = { ...process.env, TERM: 'xterm', CUDNN_LSTM_DEVICE: 'cpu', CUDNN_LSTM_THREADS: '1', NO_COLOR: undefined };
  const script = ['-qefc', `stty rows 40 cols ${columns}; exec ${command}`, '/dev/null'];
  const ended = await run('script', script, { cwd: folder, env });
  expect(ended).toMatchObject({ code: 0 });
  return ended.stdout;
}

/** What is shown at one time on one line: a carriage return or a move to the left begins it anew. Without colours and the like. */
function segments(output: string): string[] {
  const escapes = /\u001b(?:\[[?\d;]*[A-Za-z]|[78])/g;
  const leftmost = /\r|\u001b\[\d*G|\n/;
  return output.split(leftmost).map((segment) => segment.replace(escapes, ''));
}

const tiny = ['--hidden', '32', '--layers', '1', '--seq-length', '10', '--sample-length', '30'];

describe.each([60, 80, 120])('a terminal of %d columns', (columns) => {
  itOnTerminal('shows progress, epochs and the end of a run in lines that fit', async () => {
    const output = await onTerminal(columns, 'train', 'hills.txt', ...tiny, '--epochs', '4', '--out', `r${columns}`);
    const shown = segments(output);
    // A hint is to be copied, so it stays on its line; a path is not broken either.
    const printed = shown.filter((line) => !/^(sample from it|train further):|^ {2}\S+$/.test(line));
    for (const line of printed) expect(line.length).toBeLessThanOrEqual(columns);
    const bars = shown.filter((line) => /^epoch \d\/4 +\[[#-]+\]/.test(line));
    expect(bars.length).toBeGreaterThanOrEqual(4); // At least one an epoch.
    for (const bar of bars) expect(bar).toMatch(/ETA \S+ .*loss \d\.\d{4}/);
    const epochs = shown.filter((line) => /^epoch \d\/4 .*validation/.test(line));
    expect(epochs).toHaveLength(4);
    for (const line of epochs) {
      expect(line).toMatch(/loss \d\.\d{4} {2}validation \d\.\d{4}/);
      if (columns >= 80) expect(line).toMatch(/^epoch \d\/4 {2}ETA \S+ {2}[\d,]+ chars\/s/);
      if (columns >= 120) expect(line).toMatch(/bits\/char {2}norm \S+ {2}lr \S+$/);
      else expect(line).not.toContain('norm');
    }
    expect(shown.filter((line) => /^device: CPU, .*1 thread \(.*\)$/.test(line))).toHaveLength(1);
    expect(shown.find((line) => line.startsWith('loss: . training, o validation'))).toBeDefined();
    expect(output).toContain('\u001b[1mfinished: ');
    // The cursor is hidden for the bar, and shown again.
    expect(output.lastIndexOf('\u001b[?25h')).toBeGreaterThan(output.lastIndexOf('\u001b[?25l'));
  });

  itOnTerminal('wraps the help of every command', async () => {
    for (const command of [[], ['train'], ['sample'], ['score'], ['reproduce'], ['info'], ['build']]) {
      const lines = segments(await onTerminal(columns, ...command, '--help'));
      const examples = lines.indexOf('Examples:');
      // A word that is wider than its column stays whole.
      const wrapped = lines.slice(0, examples < 0 ? undefined : examples).filter((line) => /\S \S/.test(line));
      expect(lines.length).toBeGreaterThan(8);
      for (const line of wrapped) expect(line.length).toBeLessThanOrEqual(command.length === 0 ? 80 : columns);
      if (columns >= 80) for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      const usage = command.length === 0 ? 'Usage: cudnn-lstm <command>' : `Usage: cudnn-lstm ${command}`;
      expect(lines.some((line) => line.startsWith(usage))).toBe(true);
    }
  });

  itOnTerminal('breaks what info says at words', async () => {
    for (const line of segments(await onTerminal(columns, 'info'))) {
      if (line.trim().includes(' ')) expect(line.length).toBeLessThanOrEqual(columns);
    }
  });
});
