/**
 * The whole package on the tests' stand-in for a GPU: the scripts that check a real one, the parity suite against the float64
 * oracle, and the commands, from training on the "GPU" to resuming on the CPU.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EndEvent, EpochEvent, StartEvent, TrainingEvent } from '../../lib/training/events';
import { type Ended, run, whenSaid } from '../fixtures/child';
import { openMpi } from '../fixtures/launchers';
import { buildFolder, buildNativeTests, describeCuda } from './cuda-build';

const root = join(__dirname, '..', '..');
const standin = join(buildFolder, 'gpu-tests');
const addon = join(standin, 'addon', 'build', 'Release', 'cudnn_lstm.node');
const environment = {
  ...process.env,
  CUDNN_LSTM_PREBUILD: join(standin, 'addon'),
  CUDNN_LSTM_LIBRARY_PATH: join(standin, 'nvidia'),
  LD_LIBRARY_PATH: join(standin, 'nvml'),
  CUDNN_LSTM_CHECK: 'no', // check.test.ts covers it.
};

function node(...args: string[]): string {
  const result = spawnSync(process.execPath, args, { encoding: 'utf8', env: environment, cwd: root });
  if (result.status !== 0) {
    throw new Error(`${args[0]} ended with ${result.status ?? result.signal}\n${result.stdout}${result.stderr}`);
  }
  return result.stdout;
}

describeCuda('the package on a stand-in for a GPU', () => {
  let folder: string;

  beforeAll(buildNativeTests, 300_000);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'cudnn-lstm-standin-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test('stays in the process after the last worker that has loaded it, and trains in the next', () => {
    const mapped = JSON.parse(node(join('test', 'lifecycle', 'programs', 'worker-only.js'), addon, 'cuda')) as number[];
    expect(mapped).toHaveLength(3);
    for (const times of mapped) expect(times).toBeGreaterThan(0);
  });

  test.each([
    ['disposed of, before what is called next', 'dispose', 60e6],
    ['left to the collector', 'collect', 1e9],
  ])('frees models on other threads than JavaScript’s that are %s', (_, how, memory) => {
    const script = `
      const call = { ids: new Int32Array(27), count: 1, steps: 8, batch: 3, target: 'every', carryState: true,
        learningRates: Float64Array.of(0.01), beta1: 0.9, beta2: 0.999, epsilon: 1e-7, clip: 1 };
      const shape = { vocabulary: 3, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0, seed: 1 };
      const [, addon, how] = process.argv;
      const make = async () => {
        const model = await require(addon).createModel(shape, { device: 'cuda' });
        await model.initialize();
        return model;
      };
      let freed = 0;
      const registry = new FinalizationRegistry(() => { freed += 1; });
      async function main() {
        for (let i = 0; i < 10 && how === 'dispose'; i += 1) {
          const model = await make(); // cuBLAS's workspace alone is more than half of the memory.
          const running = model.trainSteps(call);
          if (i % 2 === 0) await running;
          model.dispose();
          await running;
          freed += 1;
        }
        if (how === 'collect') for (let i = 0; i < 10; i += 1) registry.register(await make());
        for (let i = 0; freed < 10 && i < 2000; i += 1) {
          gc();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        console.log(freed);
      }
      main();`;
    const env = { ...environment, STANDIN_FREE: 'elsewhere', STANDIN_MEMORY: String(memory) };
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--expose-gc', '-e', script, addon, how], {
      encoding: 'utf8',
      env,
    });
    expect({ stdout, stderr, status }).toEqual({ stdout: '10\n', stderr: '', status: 0 });
  });

  test('runs what scripts/gpu-check would run on a GPU, as far as the stand-in goes', () => {
    const env: NodeJS.ProcessEnv = { ...process.env, CUDNN_LSTM_BUILD: buildFolder, OUT: folder };
    const { status, stderr } = spawnSync('bash', [join('scripts', 'gpu-check'), '--dry'], {
      encoding: 'utf8',
      env,
      cwd: root,
    });
    if (status !== 0) throw new Error(stderr);
    const report = JSON.parse(readFileSync(join(folder, 'gpu.json'), 'utf8'));
    const torch = report.left.torch === undefined;
    const parts = [
      'lifecycle',
      'package',
      'parity',
      'raw-loop',
      'self-check',
      'workspace',
      ...(torch ? ['floors', 'torch'] : []),
    ];
    expect(report.passed.sort()).toEqual(parts.sort());
    expect(report.failed).toEqual([]);
    expect(report.selfCheck).toMatchObject({ passed: true });
    expect(report.comparisons).toHaveLength(16);
    for (const each of report.comparisons) {
      expect(each).toMatchObject({
        ofRawGraph: expect.any(Number),
        ofRawMaskedGraph: expect.any(Number),
        ...(torch && /32$/.test(each.precision) && { fasterThanTorchEager: expect.any(Number) }),
      });
    }
    expect(report.package.filter((each: { streams?: number }) => each.streams)).toHaveLength(2);
  });

  test('passes the parity suite against float64', () => {
    const result = spawnSync(
      process.execPath,
      [join('node_modules', 'jest', 'bin', 'jest.js'), '--ci', '--json', join('test', 'parity'), '-t', 'cuda'],
      { encoding: 'utf8', env: { ...environment, REQUIRE_GPU: '1', LONG: '' }, cwd: root },
    );
    const report = JSON.parse(result.stdout) as { success: boolean; numPassedTests: number };
    if (!report.success) throw new Error(result.stderr);
    expect(report.numPassedTests).toBeGreaterThan(50);
  });

  test('trains with the GPU’s defaults, records its use, and resumes and samples on the CPU', () => {
    const corpus = join(folder, 'corpus.txt');
    const run = join(folder, 'run');
    writeFileSync(corpus, 'a rose is a rose is a rose\n'.repeat(20));
    const size = [
      '--hidden',
      '12',
      '--batch-size',
      '4',
      '--seq-length',
      '9',
      '--sample-length',
      '8',
      '--validation',
      '0.2',
    ];
    const train = (...args: string[]) =>
      node(join('dist', 'train.js'), corpus, '--json', ...args)
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as TrainingEvent);
    const events = train('--device', 'cuda', '--out', run, '--epochs', '2', ...size);
    expect((events[0] as StartEvent).device).toMatch(/^Stand-in GPU \(cuDNN 9\.24\.0, tf32/);
    const gpu = { name: 'Stand-in GPU', gpuPercent: 73, memoryPercent: 21, memoryTotalBytes: 2 ** 30 };
    const recorded = readFileSync(join(run, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as TrainingEvent);
    const epochs = recorded.filter((event): event is EpochEvent => event.type === 'epoch');
    expect(epochs).toHaveLength(2);
    for (const epoch of epochs) expect(epoch.gpu).toMatchObject(gpu);
    const end = events.at(-1) as EndEvent;
    expect(end.gpu).toMatchObject(gpu);
    expect(end.device).toMatch(/standard\)$/); // The algorithm is known once it has run.

    const onCpu = train('--resume', run, '--device', 'cpu', '--epochs', '3');
    expect((onCpu[0] as StartEvent).device).toMatch(/^CPU .*fp32/);
    const third = onCpu.find((event): event is EpochEvent => event.type === 'epoch');
    expect(third?.gpu).toBeUndefined();
    expect(third?.loss).toBeLessThan(epochs[1]?.loss as number);

    // Back again: both devices write the same text.
    const onGpu = train('--resume', run, '--device', 'cuda', '--precision', 'fp32', '--epochs', '4');
    expect((onGpu.at(-1) as EndEvent).epoch).toBe(4);
    const sample = (device: string) =>
      node(
        join('dist', 'cli', 'main.js'),
        'sample',
        run,
        '--device',
        device,
        '--greedy',
        '--length',
        '40',
        '--prompt',
        'a ',
      );
    expect(sample('cuda')).toBe(sample('cpu'));
  });

  const mpiTest = openMpi.missing ? test.skip : test;
  mpiTest(
    `trains one model by two ranks, a GPU each${openMpi.missing ? ` (skipped: ${openMpi.missing})` : ''}`,
    async () => {
      const corpus = join(folder, 'corpus.txt');
      writeFileSync(corpus, 'a rose is a rose is a rose\n'.repeat(60));
      const size = [
        '--hidden',
        '8',
        '--batch-size',
        '32',
        '--seq-length',
        '8',
        '--epochs',
        '2',
        '--sample-length',
        '0',
      ];
      const args = [join(root, 'dist', 'train.js'), corpus, '--json', '--precision', 'fp32', '--no-check', ...size];
      const env = { ...environment, STANDIN_DEVICES: '2' };
      const eventsOf = (text: string) =>
        text
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as TrainingEvent);
      const lossesOf = (events: TrainingEvent[]) =>
        events.flatMap((event) => (event.type === 'epoch' ? [event.loss as number] : []));

      const two = await openMpi.launch(2, [...args, '--device', 'cuda', '--out', join(folder, 'two')], { env });
      expect([two.stderr, two.code]).toEqual([expect.any(String), 0]);
      const events = eventsOf(two.stdout);
      expect((events.at(-1) as EndEvent).device).toContain('gradients summed over 2 ranks');
      const one = eventsOf(node(...args, '--device', 'cuda', '--out', join(folder, 'one')));
      const [expected, found] = [lossesOf(one), lossesOf(events)];
      expect(found).toHaveLength(2);
      for (const [epoch, loss] of found.entries()) expect(loss).toBeCloseTo(expected[epoch] as number, 5);

      const named = await openMpi.launch(2, [...args, '--device', 'cuda:0', '--out', join(folder, 'named')], { env });
      expect(named.code).toBe(2);
      expect(named.stderr).toContain('--device cuda, not cuda:0');
      const missing = await openMpi.launch(2, [...args, '--device', 'cuda', '--out', join(folder, 'missing')], {
        env: { ...env, STANDIN_DEVICES: '1' },
      });
      expect(missing.code).toBe(4);
      expect(missing.stderr).toContain("device 'cuda:1' is not there");
    },
  );

  describe('--devices: a process for each GPU, without a launcher', () => {
    const size = [
      '--hidden',
      '8',
      '--batch-size',
      '32',
      '--seq-length',
      '8',
      '--sample-length',
      '0',
      '--patience',
      '0',
    ];
    const argv = (...args: string[]) => {
      const corpus = join(folder, 'corpus.txt');
      writeFileSync(corpus, 'a rose is a rose is a rose\n'.repeat(60));
      const all = [corpus, '--json', '--precision', 'fp32', '--no-check', ...size, ...args];
      return [join(root, 'dist', 'cli', 'main.js'), 'train', ...all];
    };
    const eventsOf = (text: string) =>
      text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as TrainingEvent);
    const env = { ...environment, STANDIN_DEVICES: '2' };

    test('the losses are those of one process, and NCCL sums', async () => {
      const two = await run(
        process.execPath,
        argv('--epochs', '2', '--devices', 'cuda:1,0', '--out', join(folder, 'two')),
        {
          env,
        },
      );
      expect([two.code, two.stderr]).toEqual([0, expect.not.stringMatching(/host|stand-in/)]);
      const end = eventsOf(two.stdout).at(-1) as EndEvent;
      expect(end.device).toContain('gradients summed over 2 ranks by NCCL');
      const one = eventsOf(node(...argv('--epochs', '2', '--device', 'cuda', '--out', join(folder, 'one'))));
      expect(end.loss).toBeCloseTo((one.at(-1) as EndEvent).loss as number, 6);
    });

    test.each([
      ['a rank is killed', 'SIGKILL', 137],
      ['the parent is asked to end', 'SIGTERM', 143],
    ] as const)('%s: all end, and the run goes on', async (_, signal, exitCode) => {
      const out = join(folder, 'run');
      const trained = (seen: string) => seen.includes('"type":"epoch","epoch":2,');
      const ended = await run(process.execPath, argv('--epochs', '1000000', '--devices', '0,1', '--out', out), {
        env,
        onStart: (parent) =>
          whenSaid(parent.stdout, trained, () => {
            const rank = execFileSync('pgrep', ['-P', String(parent.pid)], { encoding: 'utf8' })
              .trim()
              .split('\n')
              .at(-1);
            process.kill(signal === 'SIGKILL' ? Number(rank) : (parent.pid as number), signal);
          }),
      });
      expect(ended.code).toBe(exitCode);
      const again = await run(
        process.execPath,
        [
          join(root, 'dist', 'cli', 'main.js'),
          'train',
          '--resume',
          out,
          '--max-time',
          '1s',
          '--devices',
          '0,1',
          '--json',
        ],
        { env },
      );
      expect([again.code, eventsOf(again.stdout)[0]]).toEqual([
        0,
        expect.objectContaining({ resumed: expect.anything() }),
      ]);
    });

    test('a GPU that is not there is one line', async () => {
      const { code, stderr } = await run(process.execPath, argv('--devices', '0,5', '--out', join(folder, 'run')), {
        env,
      });
      expect([code, stderr.trimEnd().split('\n')]).toEqual([
        4,
        [expect.stringMatching(/there is no GPU 5 for this rank: the machine has 2/)],
      ]);
    });

    test('ranks of torchrun meet by its variables', async () => {
      const ranks = [0, 1].map((rank) =>
        run(process.execPath, argv('--epochs', '1', '--device', 'cuda', '--out', join(folder, 'run')), {
          env: {
            ...env,
            ...{ RANK: String(rank), WORLD_SIZE: '2', LOCAL_RANK: String(rank), LOCAL_WORLD_SIZE: '2' },
            ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(20_000 + (process.pid % 20_000)) },
          },
        }),
      );
      const [first, second] = (await Promise.all(ranks)) as [Ended, Ended];
      expect([first.code, second.code, second.stdout]).toEqual([0, 0, '']);
      expect((eventsOf(first.stdout).at(-1) as EndEvent).device).toContain('by NCCL');
    });

    test('where NCCL is missing, ranks of MPI sum by way of the host, and one says so', async () => {
      if (openMpi.missing) return console.warn(`skipped: ${openMpi.missing}`);
      const libraries = join(folder, 'libraries');
      cpSync(join(standin, 'nvidia'), libraries, { recursive: true });
      rmSync(join(libraries, 'libnccl.so.2'));
      const args = argv('--epochs', '1', '--device', 'cuda', '--out', join(folder, 'run'));
      const { code, stdout, stderr } = await openMpi.launch(2, args, {
        env: { ...env, CUDNN_LSTM_LIBRARY_PATH: libraries, CUDNN_LSTM_CUDA_ROOT: '' },
      });
      expect(code).toBe(0);
      const lines = stderr.split('\n').filter((line) => line.startsWith('ranks: '));
      if (lines.length === 0) return console.warn('not checked: this machine has an NCCL elsewhere');
      expect(lines).toEqual([
        expect.stringMatching(/summed by way of the host's memory: rank 0 of 2 on \S+ cannot use NCCL/),
      ]);
      expect((eventsOf(stdout).at(-1) as EndEvent).device).toContain('by way of the host');
    });
  });

  test('takes the algorithm that was asked for, and back in a resumed run what auto has chosen', () => {
    const corpus = join(folder, 'corpus.txt');
    const run = join(folder, 'run');
    writeFileSync(corpus, 'a rose is a rose is a rose\n'.repeat(20));
    const size = ['--hidden', '12', '--batch-size', '4', '--seq-length', '9', '--sample-length', '0'];
    const train = (speed: string | undefined, ...args: string[]) => {
      const result = spawnSync(
        process.execPath,
        [join('dist', 'train.js'), corpus, '--json', '--device', 'cuda', '--no-check', ...args],
        { encoding: 'utf8', cwd: root, env: { ...environment, ...(speed ? { STANDIN_PERSIST: speed } : {}) } },
      );
      if (result.status !== 0) throw new Error(result.stderr);
      const end = JSON.parse(result.stdout.trim().split('\n').at(-1) as string) as EndEvent;
      return /, ([\w-]+)\)/.exec(end.device)?.[1];
    };
    const begin = (speed: string | undefined, name: string, ...args: string[]) =>
      train(speed, '--out', join(folder, name), '--epochs', '1', ...size, ...args);
    expect(begin('2', 'default')).toBe('standard');
    expect(begin('2', 'asked', '--algorithm', 'persist-dynamic')).toBe('persist-dynamic');
    expect(begin(undefined, 'refused', '--algorithm', 'persist-static')).toBe('standard');
    expect(begin('0.5', 'slow', '--algorithm', 'auto')).toBe('standard');
    expect(begin('2', 'run', '--algorithm', 'auto')).toBe('persist-static');
    // A trial would now find the standard algorithm faster, and the other one in the run named slow.
    expect(train('0.5', '--resume', run, '--epochs', '2')).toBe('persist-static');
    expect(train('2', '--resume', join(folder, 'slow'), '--epochs', '2')).toBe('standard');
    // Another cuDNN may not have it.
    expect(train(undefined, '--resume', run, '--epochs', '3')).toBe('standard');
    expect(train('0.5', '--resume', run, '--epochs', '4', '--algorithm', 'standard')).toBe('standard');
  });

  test('does not ask for algorithms that are compiled at run time where NVRTC is missing', () => {
    const libraries = join(folder, 'libraries');
    cpSync(join(standin, 'nvidia'), libraries, { recursive: true });
    const script = `
      const call = { ids: new Int32Array(12), count: 1, steps: 3, batch: 3, target: 'every', carryState: true,
        learningRates: Float64Array.of(0.01), beta1: 0.9, beta2: 0.999, epsilon: 1e-7, clip: 1 };
      const shape = { vocabulary: 3, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0, seed: 1 };
      require(process.argv[1])
        .createModel(shape, { device: 'cuda', algorithm: 'persist-dynamic', libraryPath: process.argv[2] })
        .then(async (model) => {
          await model.initialize();
          await model.trainSteps(call);
          const { searched } = await require(process.argv[1]).cudaInfo({ libraryPath: process.argv[2] });
          console.log(model.description, searched.filter((line) => line.startsWith('NVRTC')).join());
        });`;
    const described = () => {
      const env = { PATH: '/nowhere', LD_LIBRARY_PATH: standin, STANDIN_PERSIST: '2' };
      return execFileSync(process.execPath, ['-e', script, addon, libraries], { encoding: 'utf8', env });
    };
    expect(described()).toContain('persist-dynamic');
    // Without its builtins, NVRTC compiles nothing.
    for (const missing of ['libnvrtc-builtins.so.13.0', 'libnvrtc.so.13']) {
      rmSync(join(libraries, missing));
      const without = described();
      if (!without.includes('NVRTC: not found'))
        return console.warn('not checked: this machine has an NVRTC elsewhere');
      expect(without).toContain('standard');
    }
  });

  test('info prints what there is', () => {
    const text = node(join('dist', 'cli', 'main.js'), 'info');
    expect(text).toContain('cuda:0  Stand-in GPU, compute capability 9.0, 1.0 GiB memory');
    expect(text).toMatch(/driver +999\.01 \(CUDA 13\.0\)/);
    expect(text).toMatch(/cuDNN +9\.24\.0 \(.*libcudnn\.so\.9\)/);
    expect(text).toMatch(/cuBLAS +13\.1\.1 \(.*libcublas\.so\.13\)/);
  });
});
