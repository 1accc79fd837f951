/** scripts/gpu-check without a GPU: what it builds for, what it keeps and when, and that no failure goes unnoticed. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { eachWhole, itWhole } from '../fixtures/child';

const root = join(__dirname, '..', '..');
const bash = process.platform === 'linux' ? describe : describe.skip;

bash('scripts/gpu-check', () => {
  let folder: string;
  let out: string;
  const put = (name: string, text: string) => {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    chmodSync(path, 0o755);
  };
  const has = (name: string) => existsSync(join(folder, name));
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'cudnn-lstm-gpu-check-'));
    out = join(folder, 'out');
    mkdirSync(out);
    for (const name of ['scripts/gpu-check', 'bench/gpu/collect.js']) cpSync(join(root, name), join(folder, name));
    // Tools that record how they are called. The build makes programs that record what had been kept when they ran.
    const look = 'cat "$OUT/gpu.json" >"$NOTES/seen-$1" 2>/dev/null || true';
    put(
      'bin/cmake',
      '#!/bin/sh\necho "$@" >>"$NOTES/cmake"\ncase "$*" in *--target*) ;; *--build*) exit "${FAIL_BUILD:-0}" ;; esac\n',
    );
    put(
      'bin/nvidia-smi',
      '#!/bin/sh\ncase "$*" in *compute_cap*) printf \'%b\' "$CARDS" ;; *) echo "A GPU, 580" ;; esac\n',
    );
    put('bin/nvcc', '#!/bin/sh\nprintf "sm_75\\nsm_80\\nsm_90\\nsm_120\\n"\n');
    put('bin/compute-sanitizer', '#!/bin/sh\necho "$@" >>"$NOTES/sanitizer"\nexit "${FAIL_SANITIZER:-0}"\n');
    put('bin/python3', '#!/bin/sh\nexit 1\n');
    put('.gpu-check/build/gpu-tests/cuda_descriptors_test', `#!/bin/sh\nset -- descriptors\n${look}\n`);
    put(
      '.gpu-check/build/gpu-tests/gpu_raw_loop',
      `#!/bin/sh\nset -- raw-loop\n${look}\nsleep "\${SLEEP_RAW_LOOP:-0}"\nexit "\${FAIL_RAW_LOOP:-0}"\n`,
    );
    for (const name of ['test/gpu/parity.js', 'test/gpu/lifecycle.js', 'test/gpu/self-check.js', 'bench/gpu/step.js']) {
      put(name, `console.log(JSON.stringify({ training: [], arguments: process.argv.slice(2) }));\n`);
    }
    put('notes/.keep', '');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const run = (env: NodeJS.ProcessEnv = {}, ...args: string[]) =>
    spawnSync('bash', [join(folder, 'scripts', 'gpu-check'), ...args], {
      encoding: 'utf8',
      env: {
        PATH: `${join(folder, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin`,
        SHLVL: '1', // As in jest.config.js.
        NOTES: join(folder, 'notes'),
        OUT: out,
        CARDS: '9.0\n',
        ...env,
      },
    });
  const report = () => JSON.parse(read('out/gpu.json'));

  test('runs every part, each result kept before the next part begins', () => {
    const { status, stderr } = run();
    expect(stderr).toContain('passed');
    expect(status).toBe(0);
    expect(report()).toMatchObject({ kind: 'gpu-check', failed: [] });
    expect([...report().passed].sort()).toEqual(
      'build descriptors initcheck lifecycle memcheck package parity raw-loop self-check synccheck workspace'.split(
        ' ',
      ),
    );
    expect(report().left).toEqual({
      torch: 'there is no PyTorch: python3 cannot import torch',
      floors: 'there is no PyTorch: python3 cannot import torch',
    });
    expect(JSON.parse(read('notes/seen-descriptors')).passed).toEqual(['build']);
    expect([...JSON.parse(read('notes/seen-raw-loop')).passed].sort()).toEqual(
      'build descriptors lifecycle parity self-check'.split(' '),
    );
    expect(has('out/gpu.json.tmp')).toBe(false);
    const logs = execFileSync('tar', ['-tzf', join(out, 'gpu-logs.tar.gz')], { encoding: 'utf8' });
    for (const name of ['build', 'descriptors', 'parity', 'package']) expect(logs).toContain(`logs/${name}.out`);
    const tools = [...read('notes/sanitizer').matchAll(/--tool (\w+)/g)].map((match) => match[1]);
    expect(tools).toEqual(['memcheck', 'synccheck', 'initcheck']);
    expect(read('notes/sanitizer').match(/parity\.js --addon \S+ --quick$/gm)).toHaveLength(3);
  });

  const cards: [string, NodeJS.ProcessEnv, string | undefined][] = [
    ['the card’s own', { CARDS: '9.0\n' }, '=90'],
    ['those of several cards, each once', { CARDS: '9.0\n8.0\n9.0\n' }, '=80;90'],
    ['those that are asked for', { ARCHS: '75' }, '=75'],
    ['all, if the compiler does not know the card', { CARDS: '13.0\n' }, undefined],
    ['all, if there is no telling', { CARDS: '' }, undefined],
  ];
  eachWhole(
    test,
    cards,
    (i) => i === 1,
  )('compiles for %s', (_, env, expected) => {
    expect(run({ ONLY: 'build', ...env }).status).toBe(0);
    const [, found] = /-DCUDNN_LSTM_CUDA_ARCHITECTURES(\S+)/.exec(read('notes/cmake')) ?? [];
    expect(found).toBe(expected);
  });

  test('a build that fails is a failure, whatever the next target does, and nothing runs after it', () => {
    const { status, stderr } = run({ FAIL_BUILD: '3' });
    expect(status).toBe(1);
    expect(stderr).toContain('FAILED: build');
    expect(report()).toMatchObject({ passed: [], failed: ['build'] });
    expect(read('notes/cmake')).not.toContain('--target');
    expect(has('notes/seen-descriptors')).toBe(false);
  });

  test('a part that fails is named, and the others run', () => {
    const { status, stderr } = run({
      FAIL_RAW_LOOP: '5',
      FAIL_SANITIZER: '9',
      ONLY: 'build raw-loop package synccheck',
    });
    expect(status).toBe(1);
    expect(stderr).toContain('FAILED: raw-loop synccheck');
    expect(report()).toMatchObject({ passed: ['build', 'package'], failed: ['raw-loop', 'synccheck'] });
  });

  const found = (pattern: RegExp) => [...read('scripts/gpu-check').matchAll(pattern)].map(([, name]) => name as string);
  const groupsOf = () => found(/^# {3}BUDGET=\d+ ONLY="([^"]+)"/gm);
  const partsOf = () => [...new Set([...found(/\bpart ([a-z-]+) \d/gm), 'memcheck', 'synccheck', 'initcheck'])];

  test('proposes two groups in its text, which have every part', () => {
    expect(groupsOf()).toHaveLength(2);
    expect(new Set(groupsOf().flatMap((group) => group.split(' ')))).toEqual(new Set(partsOf()));
  });

  itWhole('runs these groups, and keeps the parts of those before', async () => {
    for (const group of groupsOf()) expect(run({ ONLY: group, BUDGET: '60' }).status).toBe(0);
    expect([...report().passed, ...Object.keys(report().left)].sort()).toEqual(partsOf().sort());
  });

  itWhole('stops a part that hangs, and runs the next', async () => {
    const { status, stderr } = run({ ONLY: 'build raw-loop package', LIMIT: '5', SLEEP_RAW_LOOP: '600' });
    expect(status).toBe(1);
    expect(stderr).toContain('FAILED: raw-loop');
    expect(read('.gpu-check/build/logs/raw-loop.err')).toContain('stopped after 5 s');
    expect(report()).toMatchObject({ passed: ['build', 'package'], failed: ['raw-loop'], left: {} });
  });

  itWhole('leaves what the time is too short for, says so, and makes up for it in the next call', async () => {
    expect(run({ ONLY: 'build package', BUDGET: '5' }).status).toBe(0);
    expect(report()).toMatchObject({ passed: [], left: { build: 'the time was up', package: 'the time was up' } });
    expect(run({ ONLY: 'build package', BUDGET: '600' }).status).toBe(0);
    expect(report()).toMatchObject({ passed: ['build', 'package'], left: {} });
  });

  itWhole('writes where it is told, and without OUT among the benchmarks', async () => {
    expect(run({ ONLY: 'build', OUT: '' }, join(folder, 'mine.json')).status).toBe(0);
    expect(JSON.parse(read('mine.json')).passed).toEqual(['build']);
    const { stderr } = run({ ONLY: 'build', OUT: '' });
    const [, name] = /wrote (bench\/results\/gpu-[\d-]+\.json)/.exec(stderr) ?? [];
    expect(has(name as string)).toBe(true);
  });

  itWhole('packs what the other machine lacks, with the commit, which the result then names', async () => {
    put('bin/xz', '#!/bin/sh\necho node\n');
    put('dist/device/machine.js', '');
    put('dist/include/large.h', '');
    put('package.json', '{}');
    put('node_modules/node-addon-api/napi.h', '');
    put('node_modules/node-api-headers/include/node_api.h', '');
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', folder, '-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { encoding: 'utf8' });
    git('init', '-q');
    writeFileSync(join(folder, '.gitignore'), '.gpu-check/\nbin/\nnotes/\nout/\ndist/\nnode_modules/\n');
    git('add', '.');
    git('commit', '-qm', 'one');
    expect(run({}, '--pack').status).toBe(0);
    const commit = git('rev-parse', 'HEAD').trim();
    expect(read('.gpu-check/carry/commit').trim()).toBe(commit);
    expect(has('.gpu-check/carry/package/dist/device/machine.js')).toBe(true);
    expect(has('.gpu-check/carry/package/dist/include')).toBe(false);
    writeFileSync(join(folder, 'package.json'), '{ }');
    expect(run({}, '--pack').status).toBe(0);
    expect(read('.gpu-check/carry/commit').trim()).toBe(`${commit}-dirty`);
    for (const name of ['.git', 'dist', 'node_modules']) rmSync(join(folder, name), { recursive: true });
    expect(run({ ONLY: 'build self-check' }).status).toBe(0);
    expect(report().commit).toBe(`${commit}-dirty`);
    expect(report().selfCheck.arguments.at(-1)).toBe('.gpu-check/carry/package');
    expect(read('notes/cmake')).toContain('.gpu-check/carry/modules/node-api-headers/include');
  });
});
