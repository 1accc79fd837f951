/** The commands on real pseudo-terminals of several widths: nothing they print is cut off or broken. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compiled, eachWhole, whenSaid } from '../../fixtures/child';
import { itOnTerminal, runOnTerminal } from '../../fixtures/terminal';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'terminal-'));
  const line = (i: number) => `${i % 7} sheep and ${i % 5} goats went over the ${i % 11}th hill\n`;
  const short = Array.from({ length: 40 }, (_, i) => `${i % 3} hares, ${i % 5} foxes\n`);
  writeFileSync(join(folder, 'short.txt'), short.join(''));
  writeFileSync(join(folder, 'shorter.txt'), short.slice(5, 20).join(''));
  const options = { hidden: 8, layers: 1, epochs: 1, batchSize: 2, seqLength: 10, sampleLength: 0 };
  const grid = { learningRate: [0.001, 0.01] };
  writeFileSync(join(folder, 'sweep.json'), JSON.stringify({ corpus: 'short.txt', options, grid }));
  writeFileSync(join(folder, 'hills.txt'), Array.from({ length: 3000 }, (_, i) => line(i)).join(''));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a command with a terminal for all three streams; returns what it wrote there. */
async function onTerminal(columns: number, ...args: string[]): Promise<string> {
  const { code, output } = await ending(columns, args);
  expect([code, output]).toEqual([0, output]);
  return output;
}

interface Ending {
  code: number | null;
  output: string;
}

/** The same for a command that may fail, or that Ctrl-C ends once its output matches `until`. */
const ending = (columns: number, args: string[], until?: RegExp): Promise<Ending> =>
  ended(columns, [process.execPath, compiled('cli/main.js'), ...args], until);

async function ended(columns: number, argv: string[], until?: RegExp): Promise<Ending> {
  const env = { ...process.env, CUDNN_LSTM_DEVICE: 'cpu', CUDNN_LSTM_THREADS: '1', NO_COLOR: undefined };
  const { code, stdout } = await runOnTerminal(argv, {
    columns,
    cwd: folder,
    env,
    onStart: (child) => {
      const met = (seen: string) => until?.test(seen) === true;
      whenSaid(child.stdout, met, () => interruptBelow(child.pid as number));
    },
  });
  return { code, output: stdout };
}

/** Runs commands one after another in one process, which starts only once. Ctrl-C may end the last one. */
async function inTurn(columns: number, commandLines: string[][], until?: RegExp): Promise<Ending[]> {
  const script = `
    const { main } = require(${JSON.stringify(compiled('cli/main.js'))});
    const { reportError } = require(${JSON.stringify(compiled('cli/command.js'))});
    (async () => {
      for (const argv of ${JSON.stringify(commandLines)}) {
        const code = await main(argv).catch(reportError);
        process.stdout.write('\\f' + code + '\\f');
      }
    })();`;
  writeFileSync(join(folder, 'in-turn.js'), script);
  const { code, output } = await ended(columns, [process.execPath, 'in-turn.js'], until);
  const parts = output.split('\f');
  expect([code, parts.length, parts.at(-1)]).toEqual([0, 2 * commandLines.length + 1, '']);
  return commandLines.map((_, i) => ({ output: parts[2 * i] as string, code: Number(parts[2 * i + 1]) }));
}

/** Sends SIGINT, as Ctrl-C does, to what `script` runs. */
function interruptBelow(pid: number): void {
  for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')) {
    process.kill(Number(child), 'SIGINT');
  }
}

/** What a line shows at one time: a carriage return or a move of the cursor starts a new text. Escape sequences are removed. */
function segments(output: string): string[] {
  const escapes = /\u001b(?:\[[?\d;]*[A-Za-z]|[78])/g;
  const leftmost = /\r|\u001b\[\d*G|\n/;
  return output.split(leftmost).map((segment) => segment.replace(escapes, ''));
}

/** All commands, in the order of the help. */
const commands = ['train', 'sample', 'score', 'import', 'serve', 'export', 'sweep', 'reproduce', 'info', 'build'];

const tiny = ['--hidden', '32', '--layers', '1', '--seq-length', '10', '--sample-length', '30'];

eachWhole(
  describe,
  [[60], [80], [120]] as const,
  (i) => i === 0,
)('a terminal of %d columns', (columns) => {
  itOnTerminal('shows progress, epochs and the end of a run in lines that fit', async () => {
    const output = await onTerminal(columns, 'train', 'hills.txt', ...tiny, '--epochs', '4', '--out', `r${columns}`);
    const shown = segments(output);
    // A hint stays on one line, so that it can be copied; a path is not broken either.
    const printed = shown.filter((line) => !/^(sample from it|train further):|^ {2}\S+$/.test(line));
    for (const line of printed) expect(line.length).toBeLessThanOrEqual(columns);
    const bars = shown.filter((line) => /^epoch \d\/4 +\[[#-]+\]/.test(line));
    expect(bars.length).toBeGreaterThanOrEqual(4); // At least one per epoch.
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
    // The cursor, hidden while the bar is shown, is visible again.
    expect(output.lastIndexOf('\u001b[?25h')).toBeGreaterThan(output.lastIndexOf('\u001b[?25l'));
  });

  itOnTerminal('wraps the help of every command', async () => {
    const helps = await inTurn(columns, [['--help'], ...commands.map((command) => [command, '--help'])]);
    for (const [i, command] of [undefined, ...commands].entries()) {
      const { code, output } = helps[i] as Ending;
      expect([command, code]).toEqual([command, 0]);
      const lines = segments(output);
      const examples = lines.indexOf('Examples:');
      // A word that is wider than its column stays whole.
      const wrapped = lines.slice(0, examples < 0 ? undefined : examples).filter((line) => /\S \S/.test(line));
      expect(lines.length).toBeGreaterThan(8);
      for (const line of wrapped) expect(line.length).toBeLessThanOrEqual(command === undefined ? 80 : columns);
      if (columns >= 80) for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      const usage = `Usage: cudnn-lstm ${command ?? '<command>'}`;
      expect(lines.some((line) => line.startsWith(usage))).toBe(true);
    }
  });

  itOnTerminal('breaks what all other commands say at words', async () => {
    const [model, lines] = ['model', 'lines'];
    const sizes = ['--hidden', '8', '--layers', '1', '--batch-size', '2', '--learning-rate', '0.02'];
    const train = ['train', 'short.txt', ...sizes, '--epochs', '6'];
    const made = existsSync(join(folder, model))
      ? []
      : [
          [...train, '--seq-length', '10', '--sample-length', '0', '--out', model],
          [...train, '--lines', '--sample-length', '9', '--out', lines],
        ];
    const weights = `m${columns}.pt`;
    const calls: Record<string, string[]> = {
      info: ['info'],
      'info of a run': ['info', model],
      'info --check': ['info', '--check'],
      'sample --lines': ['sample', lines, '--lines', '3', '--length', '30'],
      'score --lines': ['score', model, 'short.txt', 'shorter.txt', '--lines'],
      score: ['score', model, 'short.txt', 'shorter.txt'],
      export: ['export', model, '--to', 'pytorch', '--out', weights],
      import: ['import', weights, '--corpus', 'short.txt', '--out', `i${columns}.safetensors`],
      sweep: ['sweep', 'sweep.json', '--out', `sweep-${columns}`, '--jobs', '2'],
      serve: ['serve', model, '--port', '0'],
    };
    const endings = await inTurn(columns, [...made, ...Object.values(calls)], /serving/);
    expect(endings.splice(0, made.length).map(({ code }) => code)).toEqual(made.map(() => 0));
    const said: Record<string, string> = {};
    for (const [i, command] of Object.keys(calls).entries()) {
      const { code, output } = endings[i] as Ending;
      // Without a GPU there is nothing to check, and the exit code says so, too.
      if (command !== 'info --check') expect([command, code, output]).toEqual([command, 0, output]);
      said[command] = output;
    }
    expect(said.serve).toMatch(/serving [\s\S]*closing: /);
    for (const [command, output] of Object.entries(said)) {
      expect([command, output.trim()]).not.toEqual([command, '']);
      // A word that is wider than the terminal stays whole, and so does a command to be copied.
      const broken = segments(output).filter(
        (line) => line.length > columns && line.trim().includes(' ') && !/^(try it|sample from it):/.test(line),
      );
      expect([command, broken]).toEqual([command, []]);
    }
    expect(said.sweep).toMatch(columns >= 120 ? /seconds {2}state/ : /^trial .*loss.* state/m);
  });
});
