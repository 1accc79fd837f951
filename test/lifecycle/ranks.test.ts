/**
 * One model trained by several ranks, under Debian's MPI libraries and a stand-in for the standard ABI: the same curve as one process,
 * the same bits when repeated and resumed, and an orderly end whatever happens to a rank.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativePath } from '../../lib/device/native';
import type { TrainingEvent } from '../../lib/training/events';
import type { TrainingPlan } from '../../lib/training/plan';
import { canRun, compiled, type Ended, eachWhole, itWhere, node } from '../fixtures/child';
import {
  type Launcher,
  type LaunchOptions,
  launchers,
  mpich,
  openMpi,
  ranksWith,
  standardAbi,
} from '../fixtures/launchers';
import {
  args,
  curve,
  events,
  expectSameCurve,
  expectSameTensors,
  type Flags,
  inTraining,
  last,
  makeTale,
  small,
} from '../fixtures/rank-runs';

let folder: string;
let corpus: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ranks-'));
  corpus = join(folder, 'tale.txt');
  writeFileSync(corpus, makeTale());
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs `train` as this many ranks; one rank is a process without a launcher. */
function train(
  launcher: Launcher,
  ranks: number,
  given: readonly string[],
  options: LaunchOptions = {},
): Promise<Ended> {
  const command = ['train', ...given];
  return ranks === 1
    ? node('cli/main.js', command, options)
    : launcher.launch(ranks, [compiled('cli/main.js'), ...command], options);
}

/** Starts a new training into a directory of the folder; returns that directory. */
async function run(launcher: Launcher, ranks: number, name: string, flags: Flags = {}): Promise<string> {
  const out = join(folder, name);
  const { code, stderr } = await train(launcher, ranks, [corpus, ...args({ ...small, ...flags, out })]);
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  return out;
}

/** A test for each library that is here. */
function underEach(name: string, test: (launcher: Launcher) => Promise<void>, which = launchers): void {
  for (const launcher of which)
    itWhere(launcher.missing === undefined, launcher.missing ?? '')(`${launcher.name}: ${name}`, () => test(launcher));
}

const forms: readonly [string, Flags][] = [
  ['state carried, dropout', { dropout: 0.3, input: 'onehot' }],
  ['shuffled windows, a ragged batch', { target: 'last', input: 'embedding', 'embedding-size': 5, epochs: 2 }],
  ['a number as input, two layers, validation by steps', { input: 'scalar', layers: 2, 'validation-every': '5steps' }],
];

eachWhole(
  describe,
  forms,
  (i) => i < 1,
)('%s', (_, flags) => {
  underEach(
    'the losses are those of one process',
    async (launcher) => {
      const alone = curve(await run(launcher, 1, 'one', flags));
      expect(alone.length).toBeGreaterThan(2);
      // Most of the tests below use two.
      const ranks = launcher === standardAbi ? 2 : 3;
      expectSameCurve(curve(await run(launcher, ranks, `ranks-${ranks}`, flags)), alone);
    },
    [...launchers, standardAbi],
  );
});

underEach('single lines are trained on by ranks too', async (launcher) => {
  writeFileSync(corpus, readFileSync(corpus, 'utf8').replaceAll(' ran ', '\n'));
  const alone = curve(await run(launcher, 1, 'one', { lines: true, 'seq-length': 5 }));
  expectSameCurve(curve(await run(launcher, 2, 'two', { lines: true, 'seq-length': 5 })), alone);
});

underEach('repeated, and stopped and resumed by as many ranks, the bits are the same', async (launcher) => {
  const flags = { epochs: 12, dropout: 0.2 };
  const whole = await run(launcher, 2, 'whole', flags);
  const again = await run(launcher, 2, 'again', flags);
  expectSameTensors(await last(whole), await last(again));
  expect(curve(again)).toEqual(curve(whole));

  const out = join(folder, 'stopped');
  // Until it is stopped within an epoch, so that there is a state to carry.
  const steps = (await last(whole)).metadata.step;
  for (let milliseconds = 5, stopped = 0; stopped % 10 === 0 || stopped === steps; milliseconds += 2) {
    rmSync(out, { recursive: true, force: true });
    const hasty = { ...small, ...flags, out, 'max-time': `${(milliseconds % 60) / 1000}s` };
    expect((await train(launcher, 2, [corpus, ...args(hasty)])).code).toBe(0);
    stopped = (await last(out)).metadata.step;
  }
  expect((await last(out)).trainingState).toBeDefined();
  for (const ranks of [1, 3]) {
    const copy = join(folder, `by-${ranks}`);
    execFileSync('cp', ['-r', out, copy]);
    expect((await train(launcher, ranks, ['--resume', copy, '--device', 'cpu', '--threads', '1'])).code).toBe(0);
    expectSameCurve(curve(copy), curve(whole));
  }
  expect((await train(launcher, 2, ['--resume', out, '--device', 'cpu', '--threads', '1'])).code).toBe(0);
  expectSameTensors(await last(out), await last(whole));
  expect(curve(out)).toEqual(curve(whole));
});

/** An endless run that saves something after every epoch. */
const endless = (out: string) => [corpus, ...args({ ...small, epochs: 1_000_000, out }), '--json'];

/** The same command can continue the run: nobody holds its lock, and its last checkpoint is intact. */
async function expectToGoOn(launcher: Launcher, out: string, ranks = 2): Promise<number> {
  const { metadata } = await last(out);
  const until = ['--epochs', String(metadata.epoch + 2)];
  const resumed = await train(launcher, ranks, [
    ...['--resume', out, ...until, '--json', '--device', 'cpu', '--threads', '1'],
  ]);
  expect([resumed.code, resumed.code === 0 ? '' : resumed.stderr]).toEqual([0, '']);
  const told = resumed.stdout
    .trimEnd()
    .split('\n')
    .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as TrainingEvent] : []));
  expect(told.find(({ type }) => type === 'start')).toMatchObject({ resumed: { step: metadata.step } });
  expect((told.at(-1) as { totalSteps: number }).totalSteps).toBeGreaterThan(metadata.step);
  return metadata.step;
}

describe.each([0, 1])('rank %i is killed', (rank) => {
  underEach('all end, and the run goes on', async (launcher) => {
    const out = join(folder, 'run');
    const killed = await train(launcher, 2, endless(out), {
      ...inTraining(() => process.kill(ranksWith(out, launcher).get(rank) as number, 'SIGKILL')),
    });
    expect([killed.code === 0 && killed.signal === null, ranksWith(out, launcher).size]).toEqual([false, 0]);
    await expectToGoOn(launcher, out);
  });
});

describe.each([
  ['SIGTERM', 143],
  ['SIGINT', 130],
  ['SIGUSR2', 140],
] as const)('%s', (signal, exitCode) => {
  underEach('to a rank saves, and all end', async (launcher) => {
    const out = join(folder, 'run');
    const ended = await train(launcher, 2, endless(out), {
      ...inTraining(() => process.kill(ranksWith(out, launcher).get(1) as number, signal)),
    });
    // Rank 0 ends for the reason that stopped rank 1.
    expect(ended.stderr).toMatch(/^rank 1 of 2 on \S+ was interrupted\.$/m);
    expect([ended.code, ranksWith(out, launcher).size]).toEqual([exitCode, 0]);
    const end = events(out).at(-1) as { type: string; reason: string; totalSteps: number };
    expect(end).toMatchObject({ type: 'end', reason: 'aborted' });
    expect(await expectToGoOn(launcher, out)).toBe(end.totalSteps); // No step is lost.
  });
});

describe('a signal to the launcher', () => {
  // Open MPI's turns SIGINT and SIGTERM into SIGTERM, and kills after a second, in which a busy machine may not save; it forwards SIGUSR2.
  // MPICH's forwards SIGINT and SIGTERM, and itself dies of SIGUSR2. Their exit codes are their own affair: MPICH's is now 0, now 130.
  const cases: readonly [Launcher, NodeJS.Signals, boolean][] = [
    [openMpi, 'SIGINT', false],
    [openMpi, 'SIGTERM', false],
    [openMpi, 'SIGUSR2', true],
    [mpich, 'SIGINT', true],
    [mpich, 'SIGTERM', true],
  ];
  for (const [launcher, signal, patient] of cases) {
    const here = launcher.missing === undefined;
    itWhere(here, launcher.missing ?? '')(`${launcher.name}: ${signal} ends all, and the run goes on`, async () => {
      const out = join(folder, 'run');
      await train(launcher, 2, endless(out), {
        ...inTraining((child) => child.kill(signal)),
      });
      expect(ranksWith(out, launcher).size).toBe(0);
      const step = await expectToGoOn(launcher, out);
      const end = events(out).find(({ type }) => type === 'end') as { reason: string; totalSteps: number };
      if (patient) expect([end.reason, end.totalSteps]).toEqual(['aborted', step]);
    });
  }
});

const limited = canRun('unshare', ['-rm', 'bash', '-c', 'mount -t tmpfs -o size=64k none /mnt']);
for (const launcher of launchers) {
  const here = launcher.missing === undefined && limited;
  itWhere(here, launcher.missing ?? 'no mount in a name space of one’s own (unshare -rm)')(
    `${launcher.name}: a full disk of rank 0 ends all with exit code 5, and the run goes on`,
    async () => {
      const disk = join(folder, 'disk');
      mkdirSync(disk);
      // Two checkpoints and a best one fit, but not a third checkpoint.
      const script = `
        mount -t tmpfs -o size=100k none "$1"
        shift
        "$@"
        echo "code $?"
        ls "${disk}/run"
        mount -o remount,size=10m none "${disk}"
        cp -r "${disk}/run" "${disk}/copy"
        tar -C "${disk}" -cf "${folder}/run.tar" run`;
      const { stdout, stderr } = await train(
        launcher,
        2,
        [corpus, ...args({ ...small, epochs: 1000, 'validation-every': 1, out: join(disk, 'run') })],
        { wrapper: ['unshare', '-rm', 'bash', '-c', script, 'bash', disk] },
      );
      expect(stderr).toMatch(/^rank 0 of 2 on \S+: .*no space is left on the disk/m);
      expect(stdout).toContain('code 5');
      execFileSync('tar', ['-C', folder, '-xf', join(folder, 'run.tar')]);
      await expectToGoOn(launcher, join(folder, 'run'));
    },
  );
}

const program = join(__dirname, 'programs', 'ranks.js');
underEach('a rank that throws ends all', async (launcher) => {
  const { code, stderr } = await launcher.launch(2, [program, 'throw', corpus]);
  expect([code, ranksWith(program, launcher).size]).toEqual([1, 0]);
  expect(stderr).toContain('rank 1 has had enough');
});

underEach('a rank that hangs is given up after CUDNN_LSTM_TIMEOUT', async (launcher) => {
  const { code, stderr } = await launcher.launch(2, [program, 'hang', corpus], { env: { CUDNN_LSTM_TIMEOUT: '2' } });
  expect(code).toBe(4);
  // MPICH's launcher ends as soon as it has reported this.
  while (ranksWith(program, launcher).size > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(stderr).toMatch(/^rank 0 of 2: the other ranks did not answer in 2 s: .*CUDNN_LSTM_TIMEOUT/m);
});

underEach('ranks whose weights have become different end, and both are named', async (launcher) => {
  const { code, stdout } = await launcher.launch(2, [program, 'drift', corpus]);
  const message =
    'The weights of the ranks have become different: \\w{16} for rank 0 of 2 on \\S+, \\w{16} for rank 1 of 2 on \\S+ .* \\(1\\)';
  expect([code, stdout]).toEqual([0, expect.stringMatching(`^rank 0: ${message}; rank 1: ${message}\n$`)]);
});

underEach('one rank is aborted in the last validation: all end so', async (launcher) => {
  const { code, stdout } = await launcher.launch(2, [program, 'validation', corpus]);
  expect([code, stdout]).toEqual([
    0,
    expect.stringMatching(/^rank 0: rank 1 of 2 on \S+ was interrupted\. \(143\); rank 1: enough \(143\)\n$/),
  ]);
});

underEach('one rank is aborted in a dry run, whenever: all end so', async (launcher) => {
  const { code, stdout } = await launcher.launch(2, [program, 'plan', corpus]);
  const lines = stdout.trimEnd().split('\n');
  const aborted = /^rank 0: rank 1 of 2 on \S+ was interrupted\. \(143\); rank 1: enough \(143\)$/;
  expect([code, lines.length, lines[0]]).toEqual([0, 7, 'rank 0: done; rank 1: done']);
  expect(lines[1]).toMatch(aborted);
  for (const line of lines.slice(1)) if (line !== lines[0]) expect(line).toMatch(aborted);
});

underEach('a WebAssembly trap stays an error once MPI has begun', async (launcher) => {
  const { code, stdout } = await launcher.launch(2, [program, 'trap']);
  expect([code, stdout]).toEqual([0, expect.stringContaining('memory access out of bounds')]);
});

underEach('a worker of a rank gets no second communicator', async (launcher) => {
  const { code, stdout } = await launcher.launch(2, [program, 'worker']);
  expect([code, stdout]).toEqual([
    0,
    expect.stringMatching(/^4 .*this process has joined the ranks of its job before/),
  ]);
});

describe('what cannot be is one line', () => {
  /** The lines written by the package: launchers also write their own. */
  const ours = (stderr: string, pattern: RegExp) => stderr.split('\n').filter((line) => pattern.test(line));

  underEach('too many ranks, and the batch that is needed', async (launcher) => {
    const { code, stderr } = await train(launcher, 3, [
      corpus,
      ...args({ ...small, 'batch-size': 20, out: join(folder, 'run') }),
    ]);
    const lines = ours(stderr, /--batch-size/);
    expect([code, lines]).toEqual([
      2,
      [expect.stringMatching(/^--batch-size 20 is too small for 3 ranks.*--batch-size 33 or more, or 2 ranks\.$/)],
    ]);
    expect(
      (await train(launcher, 3, [corpus, ...args({ ...small, 'batch-size': 33, epochs: 1, out: join(folder, 'run') })]))
        .code,
    ).toBe(0);
  });

  underEach('an unknown option', async (launcher) => {
    const { code, stderr } = await train(launcher, 3, [corpus, '--hiden', '8']);
    const said = "Unknown option '--hiden'; did you mean --hidden? (--help lists what there is)";
    expect([code, ours(stderr, /hiden/)]).toEqual([2, [said]]);
  });

  underEach('standard input as a corpus', async (launcher) => {
    const { code, stderr } = await train(launcher, 2, ['-', ...args(small)]);
    expect([code, ours(stderr, /input/)]).toEqual([2, [expect.stringMatching(/^Standard input reaches rank 0 alone/)]]);
  });

  underEach('another text, other options and another instruction set on one rank', async (launcher) => {
    const wrapper = join(folder, 'rank.js');
    writeFileSync(
      wrapper,
      `const rank = process.env.${launcher.rankVariable};
       process.argv = process.argv.map((text) => text.replace('RANK', rank));
       if (process.env.ISA_OF_RANK_1 && rank === '1') process.env.CUDNN_LSTM_CPU_ISA = process.env.ISA_OF_RANK_1;
       process.argv.splice(1, 1);
       require(process.argv[1]);
       require('${compiled('cli/command.js')}').runCommand(require(process.argv[1]).main);`,
    );
    const each = (given: readonly string[], env: NodeJS.ProcessEnv = {}) =>
      launcher.launch(2, [wrapper, compiled('cli/main.js'), 'train', ...given], { env });
    writeFileSync(join(folder, 'text-0'), readFileSync(corpus));
    writeFileSync(join(folder, 'text-1'), `${readFileSync(corpus, 'utf8')}!`);
    const out = join(folder, 'run');
    const texts = await each([join(folder, 'text-RANK'), ...args({ ...small, out })]);
    expect([texts.code, ours(texts.stderr, /different/)]).toEqual([
      3,
      [
        expect.stringMatching(
          /^The ranks have different texts: [\d,]+ characters \(SHA-256 \w{16}\) for rank 0 of 2 on \S+, [\d,]+ characters/,
        ),
      ],
    ]);
    const options = await each([corpus, ...args({ ...small, out, seed: '3RANK' })]);
    expect([options.code, ours(options.stderr, /different/)]).toEqual([
      2,
      [
        expect.stringMatching(
          /^The ranks have different options: --seed is 30 for rank 0 of 2 on \S+, 31 for rank 1 of 2/,
        ),
      ],
    ]);
    const sets = await each([corpus, ...args({ ...small, out })], { ISA_OF_RANK_1: 'baseline' });
    expect([sets.code, ours(sets.stderr, /different/)]).toEqual([
      2,
      [
        expect.stringMatching(
          /^The ranks compute with different instruction sets.* for rank 0 .*, baseline for rank 1/,
        ),
      ],
    ]);
    const missing = await each([join(folder, 'text-2RANK'), ...args({ ...small, out })]);
    expect(missing.code).toBe(3);
  });

  const both = openMpi.missing === undefined && mpich.missing === undefined;
  for (const [launcher, library] of [
    [openMpi, 'libmpich.so.12'],
    [mpich, 'libmpi.so.40'],
  ] as const) {
    itWhere(both, 'Open MPI and MPICH are not both here')(`${launcher.name}'s launcher with ${library}`, async () => {
      const { code, stderr } = await train(launcher, 2, [corpus, ...args({ ...small, out: join(folder, 'run') })], {
        env: { CUDNN_LSTM_MPI_LIBRARY: library },
      });
      expect([code, ours(stderr, /CUDNN_LSTM_MPI_LIBRARY/)]).toEqual([
        4,
        [
          expect.stringMatching(
            /has started 2 processes, and (MPICH|Open MPI) \S+ \(\S+\) knows of 1: start them by that library's own mpirun/,
          ),
        ],
      ]);
    });
  }

  underEach('no MPI library', async (launcher) => {
    const { code, stderr } = await train(launcher, 2, [corpus, ...args(small)], {
      env: { CUDNN_LSTM_MPI_LIBRARY: 'libnone.so' },
    });
    expect([code, ours(stderr, /CUDNN_LSTM_MPI_LIBRARY/)]).toEqual([
      4,
      [expect.stringMatching(/cannot be brought together: libnone\.so: /)],
    ]);
  });

  underEach('a program in between that passes on no open files, as npx', async (launcher) => {
    const between = `process.exitCode = require('node:child_process').spawnSync(process.execPath, process.argv.slice(1), { stdio: 'inherit' }).status;`;
    const given = ['train', corpus, ...args({ ...small, epochs: 1, out: join(folder, 'run') })];
    const { code, stderr } = await launcher.launch(2, ['-e', between, compiled('cli/main.js'), ...given]);
    // Open MPI's processes find their launcher by its address.
    expect([code, ours(stderr, /npx/)]).toEqual(
      launcher === openMpi
        ? [0, []]
        : [4, [expect.stringMatching(/^MPICH's.* has started 2 .* such as npx, has not passed on the connection/)]],
    );
  });

  for (const [env, exitCode, said] of [
    [{ STANDIN_SIZE: '3' }, 4, /knows of 3/],
    [{ STANDIN_LEVEL: '1024' }, 4, /takes calls from its first thread alone/],
    [{ STANDIN_FAIL: 'MPI_Init_thread' }, 4, /Stand-in 1\.0 could not be started: error 1/],
    [{ STANDIN_FAIL: 'MPI_Allreduce' }, 4, /rank \d of 2 on \S+: MPI: stand-in error 1/],
  ] as const) {
    underEach(
      JSON.stringify(env),
      async (launcher) => {
        const { code, stderr } = await train(launcher, 2, [corpus, ...args({ ...small, out: join(folder, 'run') })], {
          env,
        });
        expect([code, stderr]).toEqual([exitCode, expect.stringMatching(said)]);
      },
      [standardAbi],
    );
  }
});

underEach('rank 0 alone prints, and off trains in each process by itself', async (launcher) => {
  const flags = { ...small, epochs: 1, 'sample-length': 5 };
  const together = await train(launcher, 2, [corpus, ...args({ ...flags, out: join(folder, 'run') })]);
  expect([together.code, together.stdout.match(/--- sample, epoch 1/g)?.length]).toEqual([0, 1]);
  const apart = await train(launcher, 2, [corpus, ...args({ ...flags, distributed: 'off' })], { cwd: folder });
  expect([apart.code, apart.stdout.match(/--- sample, epoch 1/g)?.length]).toEqual([0, 2]);
});

underEach('a dry run measures a sum and says what fewer ranks would be', async (launcher) => {
  const { code, stdout } = await train(launcher, 2, [corpus, ...args(small), '--dry-run', '--json']);
  expect([code, stdout.trimEnd().split('\n').length]).toEqual([0, 1]);
  const { ranks, millisecondsPerStep } = JSON.parse(stdout) as TrainingPlan;
  expect(ranks).toMatchObject({ count: 2, hosts: [expect.any(String), expect.any(String)] });
  expect(ranks?.millisecondsPerSum).toBeGreaterThan(0);
  expect(ranks?.forecasts.map(({ step }) => step)).toEqual([ranks?.millisecondsAlone, millisecondsPerStep]);
});

underEach('info names the library', async (launcher) => {
  const { stdout } = await node('cli/main.js', ['info', '--json']);
  const { mpi } = JSON.parse(stdout) as { mpi: { abi: string; library: string; version: string }[] };
  expect(mpi).toContainEqual({
    abi: launcher.name,
    library: expect.stringMatching(/^libmpi(ch)?\.so\.\d+$/),
    version: expect.stringMatching(/^(Open MPI v|MPICH )\d+\.\d+/),
  });
});

itWhere(process.platform === 'linux' && canRun('readelf', ['--version']), 'no readelf')(
  'the addon needs no MPI library',
  async () => {
    const needed = execFileSync('readelf', ['-d', nativePath()], { encoding: 'utf8' });
    expect(needed).toContain('NEEDED');
    expect(needed).not.toMatch(/mpi/i);
  },
);

itWhere(process.platform !== 'win32', 'no MPI is used there')(
  'the environment is set before another thread may read it, and what is set stays',
  async () => {
    // In the first JavaScript thread, process.env shows the process's own environment: here, before anything is awaited.
    const code = `
      const addon = require(process.argv[1]);
      process.env.UCX_ERROR_SIGNALS = 'SIGBUS';
      addon.findMpi([]).catch(() => {});
      console.log(JSON.stringify([process.env.UCX_ERROR_SIGNALS, process.env.UCX_MEM_EVENTS]));`;
    const { UCX_ERROR_SIGNALS: _, UCX_MEM_EVENTS: __, ...env } = process.env;
    const said = execFileSync(process.execPath, ['-e', code, nativePath()], { encoding: 'utf8', env });
    expect(JSON.parse(said)).toEqual(['SIGBUS', 'n']);
  },
);

underEach(
  'while a process waits for the other ranks, its event loop goes on',
  async (launcher) => {
    // One rank of two: the start of MPI waits until the patience is spent, then ends the process with code 4.
    const code = `
      const { existsSync } = require('node:fs');
      const addon = require(process.argv[1]);
      addon.openMpi([process.env.CUDNN_LSTM_MPI_LIBRARY], 20).catch(() => {});
      const timer = setInterval(() => {
        if (!existsSync(process.env.STANDIN_FILE)) return;
        clearInterval(timer);
        try {
          addon.gather(new Uint8Array(1));
        } catch (error) {
          console.log(error.message);
        }
        addon.exitWithin(0, 0);
      }, 10);`;
    const { code: ended, stdout } = await launcher.launch(1, ['-e', code, nativePath()], { env: { PMI_SIZE: '2' } });
    expect([ended, stdout.trimEnd()]).toEqual([0, 'this process has joined no other ranks']);
  },
  [standardAbi],
);
