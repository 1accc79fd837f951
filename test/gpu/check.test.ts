/**
 * The self-check through the commands and the library, on the tests' stand-in for a GPU: right, wrong by half a percent, aborting and
 * hanging; its result is remembered, and it runs again where that is unusable or belongs to something else.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CheckReport } from '../../lib/device/check-record';
import type { MachineInfo } from '../../lib/device/machine';
import { buildFolder, buildNativeTests, describeCuda } from './cuda-build';

const root = join(__dirname, '..', '..');
const standin = join(buildFolder, 'gpu-tests');
const main = join(root, 'dist', 'cli', 'main.js');

describeCuda('the self-check on a stand-in for a GPU', () => {
  let folder: string;
  let cache: string;
  let corpus: string;

  beforeAll(buildNativeTests, 300_000);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'cudnn-lstm-check-'));
    cache = join(folder, 'cache');
    corpus = join(folder, 'corpus.txt');
    writeFileSync(corpus, 'a rose is a rose is a rose\n'.repeat(20));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const environment = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
    ...process.env,
    CUDNN_LSTM_PREBUILD: join(standin, 'addon'),
    CUDNN_LSTM_LIBRARY_PATH: join(standin, 'nvidia'),
    LD_LIBRARY_PATH: join(standin, 'nvml'),
    XDG_CACHE_HOME: cache,
    TMPDIR: folder,
    CUDNN_LSTM_CHECK_TIMEOUT: '600', // The machine may be busy.
    ...more,
  });
  const run = (args: string[], more: NodeJS.ProcessEnv = {}) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      env: environment(more),
      cwd: folder,
    });
    return { status, stdout, stderr, checks: stderr.split('\n').filter((line) => line.startsWith('self-check: ')) };
  };
  const train = (args: string[], more: NodeJS.ProcessEnv = {}) => {
    const size = ['--hidden', '8', '--batch-size', '4', '--seq-length', '7', '--epochs', '1', '--sample-length', '0'];
    const end = run([main, 'train', corpus, '--json', ...size, ...args], more);
    const [start] = end.stdout.split('\n');
    return { ...end, device: start ? ((JSON.parse(start) as { device?: string }).device ?? '') : '' };
  };
  const kept = () => join(cache, 'cudnn-lstm', 'self-check');
  const reportsOf = (directory: string) => readdirSync(directory).map((name) => join(directory, name));
  const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as CheckReport;

  test('passes before the first use, is remembered with its figures, and is made again where that is damaged', () => {
    expect(run([main, 'info']).stdout).toContain("check:    not yet made: the GPU's first use makes it, or --check");
    const first = train(['--out', 'first']);
    expect(first.status).toBe(0);
    expect(first.device).toMatch(/^Stand-in GPU/);
    expect(first.checks).toEqual([
      'self-check: comparing Stand-in GPU with the CPU, as before its first use; some seconds ...',
      expect.stringMatching(
        /^self-check: passed in [\d.]+ s: fp32 within \S+e-\d+, tf32 within \S+, fp16 within \S+, bf16 within \S+$/,
      ),
    ]);
    const [file] = reportsOf(kept()) as [string];
    expect(reportsOf(kept())).toEqual([file]); // No temporary file is left.
    const report = read(file);
    expect(report.passed).toBe(true);
    const names = report.cases.map((each) => each.name);
    for (const kind of ['scalar', 'onehot', 'embedding', 'tf32', 'fp16', 'bf16', '2 layers', 'dropout']) {
      expect(names.join()).toContain(kind);
    }
    expect(names.at(-1)).toMatch(/^tf32, this model: 2 x 8, .*, 4 x 7$/);
    expect(report.cases.reduce((sum, each) => sum + each.compared, 0)).toBeGreaterThan(500);

    expect(train(['--out', 'second'])).toMatchObject({ status: 0, checks: [] });
    expect(run([main, 'info']).stdout).toMatch(
      /check: {4}passed, \d+ comparisons in [\d.]+ s \(\d{4}-\d\d-\d\d\): fp32/,
    );

    for (const damaged of ['', '{"passed": true}', '\0'.repeat(100), JSON.stringify({ ...report, cases: 7 })]) {
      writeFileSync(file, damaged);
      expect(run([main, 'info']).stdout).toContain('check:    not yet made');
    }
    expect(train(['--out', 'third']).checks).toHaveLength(2);
    expect(read(file).passed).toBe(true);
  });

  test('info --check makes it whatever is remembered, and has exit code 4 where there is no GPU to check', () => {
    for (const _ of [1, 2]) {
      const { status, stdout } = run([main, 'info', '--check', '--json']);
      expect(status).toBe(0);
      const { check } = JSON.parse(stdout) as MachineInfo;
      expect(check).toMatchObject({ passed: true, file: expect.stringContaining(kept()) });
    }
    const none = run([main, 'info', '--check', '--device', 'cpu']);
    expect(none.status).toBe(4);
    expect(none.stdout).toContain('check:    no GPU to check');
  });

  test('is made without the command line, for a bare machine', () => {
    const args = [
      join(root, 'test', 'gpu', 'self-check.js'),
      '--addon',
      join(standin, 'addon/build/Release/cudnn_lstm.node'),
    ];
    const right = run(args);
    expect(right.status).toBe(0);
    expect(right.stdout.match(/^ok {3}/gm)?.length).toBeGreaterThan(8);
    expect(JSON.parse(right.stdout.trim().split('\n').at(-1) as string)).toMatchObject({ passed: true });
    const broken = run(args, { STANDIN_FAULT: 'abort' });
    expect(broken.status).toBe(1);
    expect(JSON.parse(broken.stdout.trim().split('\n').at(-1) as string)).toMatchObject({ passed: false });
  });

  test('a GPU that computes wrong numbers is left alone, or used if that is what was asked for', () => {
    const wrong = { STANDIN_FAULT: 'wrong' };
    const automatic = train(['--out', 'automatic'], wrong);
    expect(automatic.status).toBe(0);
    expect(automatic.device).toMatch(/^CPU/);
    const [file] = reportsOf(kept()) as [string];
    expect(automatic.checks.slice(1)).toEqual([
      expect.stringMatching(
        /^self-check: the GPU failed, so the CPU is used: .+ differs by \S+e-\d+, allowed \S+ \(fp32, .+, and \d+ more\)$/,
      ),
      `self-check: please send ${file} to the authors; cudnn-lstm info --check makes the check again; --no-check uses the GPU all the same, --device cpu ends this message`,
    ]);
    // Known, even though the GPU would pass now: nobody waits again.
    const again = train(['--out', 'again']);
    expect(again.device).toMatch(/^CPU/);
    expect(again.checks).toEqual(automatic.checks.slice(1));
    const report = read(file);
    expect(report.passed).toBe(false);
    expect(report.cases.some((each) => each.failed.length > 0)).toBe(true);

    const named = train(['--out', 'named', '--device', 'cuda'], wrong);
    expect(named.status).toBe(4);
    expect(named.stderr).toMatch(/^the GPU failed its self-check: .* differs by .*; --no-check uses it/);
    for (const [args, more] of [
      [['--no-check'], {}],
      [[], { CUDNN_LSTM_CHECK: 'no' }],
    ] as const) {
      const unchecked = train(['--out', `unchecked-${args.length}`, '--device', 'cuda', ...args], {
        ...wrong,
        ...more,
      });
      expect(unchecked).toMatchObject({ status: 0, checks: [] });
      expect(unchecked.device).toMatch(/^Stand-in GPU/);
    }
    for (const args of [[], ['--check']]) {
      const info = run([main, 'info', ...args], wrong);
      expect(info.status).toBe(args.length === 0 ? 0 : 4);
      expect(info.stdout).toMatch(/check: {4}FAILED, \d+ comparisons .* differs by /);
      expect(info.stdout).toMatch(/device: {3}CPU, .*the GPU failed its self-check/);
    }
    expect(run([main, 'info', '--check']).status).toBe(0);
    expect(reportsOf(kept())).toEqual([file]);
    expect(train(['--out', 'repaired'])).toMatchObject({ checks: [], device: expect.stringMatching(/^Stand-in GPU/) });
  });

  test.each([
    ['abort', /ended by SIGABRT at fp32, scalar, 1 layer, dropout: stand-in: an assertion failed/],
    ['hang', /not done after 5 s, at /],
  ])('a cuDNN that makes its process %s ends the child alone', (fault, summary) => {
    const broken = { STANDIN_FAULT: fault, CUDNN_LSTM_CHECK_TIMEOUT: '5' };
    const automatic = train(['--out', 'automatic'], broken);
    expect(automatic.status).toBe(0);
    expect(automatic.device).toMatch(/^CPU/);
    expect(automatic.checks).toHaveLength(3);
    expect(automatic.checks[1]).toMatch(summary);
    expect(automatic.stderr).not.toContain('Error');
    expect(read((reportsOf(kept()) as [string])[0])).toMatchObject({ passed: false, cases: [] });
    const named = run([main, 'sample', 'automatic', '--device', 'cuda', '--length', '3'], broken);
    expect(named.status).toBe(4);
    expect(named.stderr).toMatch(summary);
    const sampled = run([main, 'sample', 'automatic', '--length', '3'], broken);
    expect(sampled.status).toBe(0);
    expect(sampled.checks).toEqual(automatic.checks.slice(1)); // The result is known, and nothing is tried.
  });

  test('a child that takes too long counts as hanging, whatever it has said', () => {
    const slow = train(['--out', 'slow'], { STANDIN_FAULT: 'slow', CUDNN_LSTM_CHECK_TIMEOUT: '5' });
    expect(slow.device).toMatch(/^CPU/);
    expect(slow.checks[1]).toMatch(/not done after 5 s, at /);
  });

  test('what may pass is not remembered: memory that another process holds, and a child that somebody ends', async () => {
    // Room for a model of its own kind, and not for the small models.
    const full = train(['--out', 'full'], { STANDIN_MEMORY: String(34e6) });
    expect(full.status).toBe(0);
    expect(full.checks[1]).toMatch(/the GPU failed, so the CPU is used: out of GPU memory: .* \(at fp32/);
    expect(full.checks[2]).not.toContain('info --check');
    expect(reportsOf(kept())).toEqual([expect.stringMatching(/\.failed\.json$/)]);
    const memory = train(['--out', 'empty'], { STANDIN_MEMORY: String(34e6) });
    expect(memory.checks).toHaveLength(3);

    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const caller = spawn(process.execPath, [main, 'info', '--check'], {
        env: environment({ STANDIN_FAULT: 'hang' }),
        cwd: folder,
      });
      process.kill(await childOf(caller.pid as number), signal);
      expect(await new Promise((resolve) => caller.on('close', resolve))).toBe(4);
      expect(reportsOf(kept()).every((name) => name.endsWith('.failed.json'))).toBe(true);
    }
  });

  test('what may pass is not kept by a process that goes on either', () => {
    const program = `
      const { LanguageModel, Vocabulary } = require(${JSON.stringify(join(root, 'dist', 'index.js'))});
      const shape = { vocabulary: 3, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 };
      const vocabulary = new Vocabulary(['a', 'b', 'c']);
      const make = async (extra = {}) => {
        const notes = [];
        const options = { device: 'auto', onNote: (line) => notes.push(line), ...extra };
        const model = await LanguageModel.create(shape, vocabulary, options);
        model.dispose();
        return { device: model.device, notes: notes.length };
      };
      async function main() {
        // Its own stand-in has its memory already; a child's has what is said here.
        await make({ check: false });
        process.env.STANDIN_MEMORY = '34000000';
        const full = await Promise.all([make(), make()]);
        delete process.env.STANDIN_MEMORY;
        console.log(JSON.stringify([...full, await make(), await make()]));
      }
      main();`;
    const file = join(folder, 'program.js');
    writeFileSync(file, program);
    const { status, stdout, stderr } = run([file]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [first, second, third, fourth] = JSON.parse(stdout);
    for (const failed of [first, second]) expect(failed.device).toBe('cpu');
    expect(first.notes + second.notes).toBe(1 + 2 * 2); // One check for both.
    expect(third).toEqual({ device: 'cuda', notes: 2 });
    expect(fourth).toEqual({ device: 'cuda', notes: 0 });
  });

  test('holds for this driver, cuDNN, cuBLAS, card, build, version and algorithm, and for no other', () => {
    expect(run([main, 'info', '--check']).status).toBe(0);
    const known = (more: NodeJS.ProcessEnv = {}, program = main) =>
      /check: {4}(\w+)/.exec(run([program, 'info'], more).stdout)?.[1];
    expect(known()).toBe('passed');

    const build = join(folder, 'build');
    cpSync(join(standin, 'addon'), build, { recursive: true });
    appendFileSync(join(build, 'build', 'Release', 'cudnn_lstm.node'), 'another build');
    const release = join(folder, 'release');
    cpSync(join(root, 'dist'), join(release, 'dist'), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(release, 'node_modules'));
    const description = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    writeFileSync(join(release, 'package.json'), JSON.stringify({ ...description, version: '99.0.0' }));

    const others: Record<string, string | undefined> = {
      driver: known({ STANDIN_DRIVER: '13010' }),
      cudnn: known({ STANDIN_CUDNN: '92500' }),
      cublas: known({ STANDIN_CUBLAS: '130200' }),
      card: known({ STANDIN_MEMORY: String(2 ** 31) }),
      build: known({ CUDNN_LSTM_PREBUILD: build, LD_LIBRARY_PATH: `${standin}:${join(standin, 'nvml')}` }),
      version: known({}, join(release, 'dist', 'cli', 'main.js')),
    };
    const [file] = reportsOf(kept()) as [string];
    expect(Object.keys(others).concat('algorithm').sort()).toEqual(Object.keys(read(file).key).sort());
    for (const [key, found] of Object.entries(others)) expect([key, found]).toEqual([key, 'not']);

    const persistent = ['--device', 'cuda', '--algorithm', 'persist-static'];
    expect(train(['--out', 'persistent', ...persistent], { STANDIN_PERSIST: '2' }).checks).toHaveLength(2);
    expect(train(['--out', 'again', ...persistent], { STANDIN_PERSIST: '2' }).checks).toEqual([]);
    expect(train(['--out', 'standard', '--device', 'cuda']).checks).toEqual([]);
    expect(known()).toBe('passed');
  });

  test('a cache that cannot be written to costs the memory alone', () => {
    mkdirSync(cache);
    writeFileSync(join(cache, 'cudnn-lstm'), 'a file where the directory should be');
    const right = train(['--out', 'right', '--device', 'cuda']);
    expect(right.status).toBe(0);
    expect(right.checks).toHaveLength(2);
    const wrong = train(['--out', 'wrong'], { STANDIN_FAULT: 'abort' });
    expect(wrong.status).toBe(0);
    const [, file] = /please send (\S+)/.exec(wrong.stderr) as unknown as [string, string];
    expect(file).toMatch(/cudnn-lstm-self-check-\w+\.failed\.json$/);
    expect(read(file).passed).toBe(false);
  });

  test('models made side by side in a worker share one check, and nothing is written unasked', () => {
    const program = `
      const { Worker, isMainThread } = require('node:worker_threads');
      if (isMainThread) {
        new Worker(__filename).on('error', (error) => { throw error; });
      } else {
        const { LanguageModel, Vocabulary } = require(${JSON.stringify(join(root, 'dist', 'index.js'))});
        const shape = { vocabulary: 3, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 };
        const make = (onNote) => LanguageModel.create(shape, new Vocabulary(['a', 'b', 'c']), { device: 'cuda', onNote });
        const notes = [];
        const note = (line) => notes.push(line); // Whichever of them begins the check tells of it.
        Promise.all([make(note), make(note), make(note)]).then((models) => {
          for (const model of models) model.dispose();
          console.log(JSON.stringify({ notes: notes.length, devices: models.map((model) => model.device) }));
        });
      }`;
    const file = join(folder, 'worker.js');
    writeFileSync(file, program);
    const { status, stdout, stderr } = run([file]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({ notes: 2, devices: ['cuda', 'cuda', 'cuda'] });
  });

  test('is given up with its caller: by a signal, and when the caller is killed', async () => {
    const hang = { STANDIN_FAULT: 'hang' };
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const caller = spawn(process.execPath, [main, 'info', '--check'], { env: environment(hang), cwd: folder });
      const child = await childOf(caller.pid as number);
      const ended = new Promise<number | null>((resolve) => caller.on('close', resolve));
      caller.kill(signal);
      expect(await ended).toBe(signal === 'SIGTERM' ? 143 : null);
      while (isAlive(child)) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(existsSync(kept())).toBe(false);
  });
});

/** The child's process id, once the child exists and has got past its program's beginning. */
async function childOf(parent: number): Promise<number> {
  for (;;) {
    const [child] = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ');
    if (child && readFileSync(`/proc/${child}/maps`, 'utf8').includes('libcudnn.so.9')) return Number(child);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function isAlive(process: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${process}/status`, 'utf8'));
  } catch {
    return false;
  }
}
