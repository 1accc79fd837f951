/** The trainer is told to end, by a signal or by whoever reads its output: it saves first, and can be resumed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCheckpoint } from '../../lib/checkpoint/checkpoint';
import type { StartEvent, TrainingEvent } from '../../lib/training/events';
import { canRun, compiled, eachWhole, itWhere, itWhole, node, run, whenSaid } from '../fixtures/child';

let folder: string;
let out: string;
let corpus: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'signals-'));
  out = join(folder, 'run');
  corpus = join(folder, 'corpus.txt');
  await writeFile(corpus, 'a sheep and a goat went over the hill and far away\n'.repeat(1500));
});
afterEach(() => rm(folder, { recursive: true }));

/** stderr without the note that a text is being read, which appears where that takes long, as on a busy machine. */
const said = (stderr: string) => stderr.replace(/^reading the text \.\.\.\n/, '');

/** An endless run of small steps, with epochs of a tenth of a second and a millisecond or two between them. */
const endless = () => [
  ...[corpus, '--out', out, '--hidden', '16', '--layers', '1', '--batch-size', '4', '--seq-length', '20'],
  ...['--sample-length', '0', '--patience', '0', '--epochs', '1000000', '--device', 'cpu', '--threads', '1'],
];

/**
 * Calls back in the second epoch, when there is a checkpoint and there are unsaved steps. The pause is far shorter than that epoch; if
 * the machine overruns it, a later epoch will do.
 */
function inTraining(child: ChildProcess, callback: () => void): void {
  const saved = (seen: string) => seen.includes('"type":"checkpoint","kind":"last"');
  whenSaid(child.stdout, saved, () => setTimeout(callback, 20));
}

const signalInTraining = (name: NodeJS.Signals) => (child: ChildProcess) => inTraining(child, () => child.kill(name));

/** Resumes the run that was ended; returns the step at which it starts. */
async function resume(): Promise<number> {
  const names = await readdir(out);
  expect(names.filter((name) => name === 'lock' || name.startsWith('.'))).toEqual([]);
  const { metadata } = await loadCheckpoint(join(out, (await readFile(join(out, 'latest'), 'utf8')).trim()));
  // Told to end once it has saved, not after a fixed time, which a busy machine may let pass without a step.
  const { code, stdout } = await node('train.js', ['--resume', out, '--json'], {
    onStart: signalInTraining('SIGTERM'),
  });
  expect(code).toBe(143);
  const events = stdout.trimEnd().split('\n');
  const { resumed } = JSON.parse(events[0] as string) as StartEvent;
  expect(resumed?.step).toBe(metadata.step);
  const end = JSON.parse(events.at(-1) as string) as Extract<TrainingEvent, { type: 'end' }>;
  expect(end.totalSteps).toBeGreaterThan(metadata.step);
  return metadata.step;
}

const signals = [
  ['SIGTERM', 143],
  ['SIGUSR2', 140],
  ['SIGHUP', 129],
  ['SIGINT', 130],
] as const;
// The last two are also sent below: by a terminal, and together with a reader that goes away.
eachWhole(
  it,
  signals,
  (i) => i === 0,
)('saves on %s, and ends with %i', async (name, exitCode) => {
  const ended = await node('train.js', [...endless(), '--json'], { onStart: signalInTraining(name) });
  expect({ ...ended, stdout: '', stderr: said(ended.stderr) }).toEqual({
    code: exitCode,
    signal: null,
    stdout: '',
    stderr: '',
  });
  const last = JSON.parse(ended.stdout.trimEnd().split('\n').at(-1) as string) as TrainingEvent;
  expect(last).toMatchObject({ type: 'end', reason: 'aborted' });
  expect(await resume()).toBe((last as { totalSteps: number }).totalSteps); // No step is lost.
});

/**
 * Runs a training whose disk hangs while it saves, so that an orderly end would wait for ever; sends SIGINT, and once more when the first
 * has arrived: two signals before the process next runs count as one.
 *
 * @param preload More code that the trainer runs before its first line.
 */
async function signalTwice(preload = '') {
  const stuck = join(folder, 'stuck.js');
  await writeFile(
    stuck,
    `const fs = require('node:fs/promises');
    const rename = fs.rename;
    let renamed = 0;
    process.on('SIGINT', () => console.log('interrupted'));
    fs.rename = (...names) => {
      if (renamed++ < 6) return rename(...names);
      console.log('stuck');
      return new Promise(() => setInterval(() => {}, 1000));
    };
    ${preload}`,
  );
  const ended = await run(process.execPath, ['--require', stuck, compiled('train.js'), ...endless(), '--json'], {
    onStart: (child) => {
      let sent = 0;
      let seen = '';
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        seen += text;
        const due = ['stuck\n', 'interrupted\n'].filter((line) => seen.includes(line)).length;
        if (sent < due) child.kill('SIGINT');
        sent = due;
      });
    },
  });
  expect({ ...ended, stdout: '', stderr: said(ended.stderr) }).toEqual({
    code: 130,
    signal: null,
    stdout: '',
    stderr: '',
  });
  expect(ended.stdout).toContain('interrupted');
}

it('ends at once on a second SIGINT, whatever it is doing', async () => {
  await signalTwice();
  // What was saved before is intact, and the next trainer cleans up and continues.
  const { code } = await node('train.js', ['--resume', out, '--max-time', '100ms']);
  expect(code).toBe(0);
});

itWhere(canRun('python3', ['-c', 'import pty']), 'python3 has no pty')(
  'saves when its terminal is closed, and ends with 129',
  async () => {
    const script = join(folder, 'close_terminal.py');
    await writeFile(
      script,
      `import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b''
while b'epoch 2/' not in seen:
    seen += os.read(terminal, 4096)
os.close(terminal)
_, status = os.waitpid(pid, 0)
print(os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status))
`,
    );
    const argv = [process.execPath, compiled('train.js'), ...endless()];
    const ended = await run('python3', [script, ...argv]);
    expect(ended).toEqual({ code: 0, signal: null, stdout: '129\n', stderr: '' });
    expect(await resume()).toBeGreaterThan(0);
  },
);

itWhere(canRun('mkfifo', ['--version']), 'this system has no mkfifo')(
  'ends on a second SIGINT where a thread of the pool waits for a pipe that nobody opens',
  async () => {
    const pipe = join(folder, 'pipe');
    expect(canRun('mkfifo', [pipe])).toBe(true);
    // No code of this package opens a file like this: exit() alone would wait for it for ever.
    await signalTwice(`require('node:fs').open(${JSON.stringify(pipe)}, 'r', () => {});`);
  },
);

describe('… | head', () => {
  /** Runs a shell pipeline; returns the trainer's own exit code and what it wrote to stderr. */
  async function pipeline(reader: string, options: string[], both = false) {
    const errors = join(folder, 'stderr');
    const script = `"$0" "$@" ${both ? '2>&1' : `2>"${errors}"`} | ${reader}; exit "\${PIPESTATUS[0]}"`;
    const ended = await run('bash', ['-c', script, process.execPath, compiled('train.js'), ...endless(), ...options]);
    return { ...ended, stderr: both ? ended.stderr : await readFile(errors, 'utf8') };
  }

  it('saves and ends quietly when nobody reads its events any more', async () => {
    const { code, stdout, stderr } = await pipeline('head -n 1', ['--json']);
    expect(JSON.parse(stdout)).toMatchObject({ type: 'start' });
    expect({ code, stderr: said(stderr) }).toEqual({ code: 0, stderr: '' });
    expect(await resume()).toBeGreaterThan(0);
  });

  it('the same where only samples go there, in the middle of which it ends', async () => {
    const { code, stdout, stderr } = await pipeline('head -n 1', ['--sample-length', '40']);
    expect(stdout).toBe('--- sample, epoch 1 ---\n');
    expect(code).toBe(0);
    expect(said(stderr)).toMatch(/^device: .*\n[\s\S]*stopped: /);
    expect(stderr).not.toMatch(/EPIPE|[Ee]rror|closed/);
    expect(await resume()).toBeGreaterThan(0);
  });

  itWhole('the same where progress goes there too', async () => {
    const { code, stdout, stderr } = await pipeline('head -n 1', ['--sample-length', '40'], true);
    // The note that a text is being read appears where that takes long, as on a busy machine.
    expect(stdout).toMatch(/^(device: .*|reading the text \.\.\.)\n$/);
    expect({ code, stderr: said(stderr) }).toEqual({ code: 0, stderr: '' });
    expect(await resume()).toBeGreaterThan(0);
  });

  it('keeps the exit code of a signal that came first', async () => {
    // Like a terminal with `train | tee`: both get the signal, the reader is gone at once, the trainer has yet to save.
    const child = spawn(process.execPath, [compiled('train.js'), ...endless(), '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    inTraining(child, () => {
      child.kill('SIGINT');
      child.stdout.destroy();
    });
    const code = await new Promise((resolve) => child.on('exit', resolve));
    expect({ code, errors: said(errors) }).toEqual({ code: 130, errors: '' });
    expect(await resume()).toBeGreaterThan(0);
  });
});

itWhere(existsSync('/dev/full'), 'this system has no /dev/full')(
  'ends with 5 and a line that says why when its output finds no space',
  async () => {
    const script = 'exec "$0" "$@" >/dev/full';
    const argv = [process.execPath, compiled('train.js'), ...endless(), '--json'];
    const { code, stderr } = await run('bash', ['-c', script, ...argv]);
    expect({ code, stderr: said(stderr) }).toEqual({
      code: 5,
      stderr: expect.stringMatching(/^[^\n]*no space left[^\n]*\n$/i),
    });
  },
);
