/** The commands in hints work when they are copied into a shell. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join, relative } from 'node:path';
import fc from 'fast-check';
import { commandLine } from '../../../lib/cli/invocation';
import { packageRoot } from '../../../lib/device/native';
import { harmless } from '../../../lib/harmless';
import { pathArgument, shellQuote } from '../../../lib/shell';
import { canRun, compiled, eachWhole, run, whenSaid } from '../../fixtures/child';
import { jsonLines } from '../../fixtures/sink';

const main = join(packageRoot, 'dist', 'cli', 'main.js');
const trainScript = join(packageRoot, 'dist', 'train.js');

let folder: string;
let bin: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'invocation '));
  bin = join(folder, 'node_modules', '.bin');
  await mkdir(bin, { recursive: true });
  await symlink(compiled('cli/main.js'), join(bin, 'cudnn-lstm'));
  await chmod(compiled('cli/main.js'), 0o755); // npm makes the bin of a package executable.
  await writeFile(
    join(folder, 'text.txt'),
    Array.from({ length: 40 }, (_, i) => `${i % 7} sheep, ${i % 5} goats\n`).join(''),
  );
});
afterAll(() => rm(folder, { recursive: true }));

describe('commandLine', () => {
  const started = (script: string | undefined, env: NodeJS.ProcessEnv = {}, cwd = packageRoot) => ({
    script,
    env,
    cwd,
    windows: false,
  });

  it.each([
    [
      'node dist/train.js',
      () => started(trainScript),
      'node dist/cli/main.js sample runs/a',
      'node dist/train.js --resume runs/a',
    ],
    [
      'node dist/cli/main.js',
      () => started(main),
      'node dist/cli/main.js sample runs/a',
      'node dist/cli/main.js train --resume runs/a',
    ],
    [
      'npx',
      () => started(join(bin, 'cudnn-lstm'), { npm_command: 'exec', PATH: bin }),
      'npx cudnn-lstm sample runs/a',
      'npx cudnn-lstm train --resume runs/a',
    ],
    [
      'pnpm',
      () => started(join(bin, 'cudnn-lstm'), { npm_command: 'exec', npm_config_user_agent: 'pnpm/12.0.0' }),
      'pnpm exec cudnn-lstm sample runs/a',
      'pnpm exec cudnn-lstm train --resume runs/a',
    ],
    [
      'a link on PATH',
      () => started(join(bin, 'cudnn-lstm'), { PATH: ['/bin', bin].join(delimiter) }),
      'cudnn-lstm sample runs/a',
      'cudnn-lstm train --resume runs/a',
    ],
    [
      'a link elsewhere',
      () => started(join(bin, 'cudnn-lstm'), { PATH: '/bin' }, folder),
      'node_modules/.bin/cudnn-lstm sample runs/a',
      'node_modules/.bin/cudnn-lstm train --resume runs/a',
    ],
    [
      'another program',
      () => started('/somewhere/app.js'),
      'npx cudnn-lstm sample runs/a',
      'npx cudnn-lstm train --resume runs/a',
    ],
    ['no program', () => started(undefined), 'npx cudnn-lstm sample runs/a', 'npx cudnn-lstm train --resume runs/a'],
  ])('as it was started by %s', (_, how, sample, train) => {
    expect(commandLine(['sample', 'runs/a'], how())).toBe(sample);
    expect(commandLine(['train', '--resume', 'runs/a'], how())).toBe(train);
  });
});

describe('shellQuote', () => {
  it.each([
    ['sh', '/bin/sh', (text: string) => harmless(text) === text],
    // Characters that messages escape need $'...', which POSIX has had only since 2024.
    ...(canRun('bash', ['--version']) ? ([['bash', 'bash', () => true]] as const) : []),
  ] as const)('gives a word that %s takes back as it was', (_, shell, takes) => {
    const word = fc.string({
      unit: fc.oneof(fc.constantFrom(...` '"$\\\`!*?~#&;|<>(){}[]\n\t-=é`), fc.string({ minLength: 1, maxLength: 1 })),
      maxLength: 12,
    });
    fc.assert(
      fc.property(
        fc.array(
          word.filter((text) => !text.includes('\0') && takes(text)),
          { minLength: 100, maxLength: 200 },
        ),
        (words) => {
          const program = 'process.stdout.write(JSON.stringify(process.argv.slice(1)))';
          const line = [
            shellQuote(process.execPath, false),
            '-e',
            shellQuote(program, false),
            '--',
            ...words.map((text) => shellQuote(text, false)),
          ];
          const { stdout } = spawnSync(shell, ['-c', line.join(' ')], { encoding: 'utf8' });
          expect(JSON.parse(stdout)).toEqual(words);
        },
      ),
      { numRuns: 1 }, // One run tries at least 100 words, and each run starts a shell.
    );
  });

  it('leaves plain words alone, and quotes for Windows with double quotes', () => {
    expect(shellQuote('runs/a-1.txt', false)).toBe('runs/a-1.txt');
    expect(shellQuote('', false)).toBe("''");
    expect(shellQuote('C:\\runs\\a', true)).toBe('C:\\runs\\a');
    expect(shellQuote('my run', true)).toBe('"my run"');
  });

  it('keeps a path from being taken for an option', () => {
    expect(pathArgument('-x')).toBe('./-x');
    expect(pathArgument('runs/a')).toBe('runs/a');
  });
});

describe('the hints at the end of a run', () => {
  const tiny = ['--hidden', '8', '--layers', '1', '--batch-size', '4', '--seq-length', '8', '--sample-length', '20'];
  const hintsOf = (stderr: string) =>
    stderr
      .trimEnd()
      .split('\n')
      .slice(-2)
      .map((line) => line.replace(/^[\w ]+: +/, ''));
  const stepsOf = async (out: string) => {
    const lines = jsonLines(await readFile(join(folder, out, 'metrics.jsonl'), 'utf8'));
    return lines.filter(({ type }) => type === 'end').map(({ totalSteps }) => totalSteps as number);
  };

  const runs: [string, string, string[], 'node' | 'link'][] = [
    ['finished', 'a run', ['--epochs', '2'], 'node'],
    ['stopped early', "it's $HOME", ['--epochs', '50', '--patience', '1', '--learning-rate', '1e-9'], 'node'],
    ['out of time', 'b', ['--epochs', '1000000', '--patience', '0', '--max-time', '300ms'], 'link'],
    ['finished', '-x', ['--epochs', '2'], 'link'],
  ];
  eachWhole(
    it,
    runs,
    (i) => i < 2,
  )('do something: %s, in %s', async (_, out, options, how) => {
    const env = {
      ...process.env,
      PATH: [bin, process.env.PATH].join(delimiter),
      npm_command: undefined,
      CUDNN_LSTM_DEVICE: 'cpu',
      CUDNN_LSTM_THREADS: '1',
    };
    const program = how === 'link' ? ['cudnn-lstm', 'train'] : ['node', relative(folder, trainScript)];
    const first = await run(
      program[0] as string,
      [...program.slice(1), 'text.txt', ...tiny, ...options, `--out=${out}`],
      { cwd: folder, env },
    );
    expect(first).toMatchObject({ code: 0 });
    const [sample, train] = hintsOf(first.stderr) as [string, string];
    const sampled = await run('/bin/sh', ['-c', sample], { cwd: folder, env });
    expect(sampled).toMatchObject({ code: 0 });
    expect(sampled.stdout.length).toBeGreaterThan(100);
    // What has a last epoch ends by itself: a signal could reach it as it ends, when there is no handler any more. The other is ended
    // after an epoch, not after some time: a busy machine may hardly train a step in a second.
    const endless = options.includes('1000000');
    const further = await run('/bin/sh', ['-c', `exec ${train} --json`], {
      cwd: folder,
      env,
      onStart: (child) => {
        const trained = (seen: string) => seen.includes('"type":"epoch"');
        if (endless) whenSaid(child.stdout, trained, () => child.kill('SIGTERM'));
      },
    });
    expect(further.code).toBe(endless ? 143 : 0);
    const [before, after] = await stepsOf(out);
    expect(after).toBeGreaterThan(before as number);
  });
});
