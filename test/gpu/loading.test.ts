/**
 * One binary for machines with and without a GPU: what it links to, and what it does with missing, truncated and foreign
 * libraries. Every load happens in a child process, since a bad one could end the process.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NativeCudaInfo } from '../../lib/device/native';
import { addonPath, buildFolder, buildNativeTests, describeCuda, describeLibraries, wheels } from './cuda-build';

const standin = join(buildFolder, 'gpu-tests', 'nvidia');

/** Calls cudaInfo in a separate process, with an environment in which nothing else can be found. */
function cudaInfo(libraryPath: string, env: NodeJS.ProcessEnv = {}): NativeCudaInfo {
  const script =
    'require(process.argv[1]).cudaInfo(process.argv[2] ? { libraryPath: process.argv[2] } : {}).then((info) => console.log(JSON.stringify(info)))';
  const result = spawnSync(process.execPath, ['-e', script, addonPath, libraryPath], {
    encoding: 'utf8',
    env: { PATH: '/nowhere', HOME: '/nowhere', ...env },
  });
  if (result.status !== 0) throw new Error(`ended with ${result.status ?? result.signal}: ${result.stderr}`);
  return JSON.parse(result.stdout);
}

describeCuda('the addon with CUDA compiled in', () => {
  let folder: string;

  beforeAll(buildNativeTests, 300_000);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'cudnn-lstm-libraries-'));
    // The stand-in's libraries are complete; their runtime stand-in lies one folder up.
    cpSync(standin, join(folder, 'nvidia'), { recursive: true });
    copyFileSync(join(standin, '..', 'libstandin_cudart.so'), join(folder, 'libstandin_cudart.so'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const inFolder = (name: string) => join(folder, 'nvidia', name);

  test('needs no library of NVIDIA to be loaded', () => {
    const needed = execFileSync('readelf', ['-d', addonPath], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.includes('(NEEDED)'));
    expect(needed.length).toBeGreaterThan(0);
    expect(needed.filter((line) => /cuda|cudnn|cublas|nvrtc|nvidia/i.test(line))).toEqual([]);
  });

  test('opens whole libraries by the option and by the variable', () => {
    for (const info of [cudaInfo(inFolder('')), cudaInfo('', { CUDNN_LSTM_LIBRARY_PATH: inFolder('') })]) {
      expect(info.cudnn).toEqual({ version: '9.24.0', path: expect.stringContaining('libcudnn.so.9') });
      expect(info.cublas?.path).toContain(folder);
    }
  });

  // What pip and its kin leave behind, with the environment that finds it.
  test.each([
    ['~/.local', 'home/.local/lib/python3.12/site-packages', { HOME: 'home' }],
    ['PYTHONPATH', 'target', { PYTHONPATH: 'absent:target' }],
    ['VIRTUAL_ENV', 'venv/lib/python3.13/site-packages', { VIRTUAL_ENV: 'venv' }],
    ['PYENV_ROOT', 'pyenv/versions/3.11.7/lib/python3.11/site-packages', { PYENV_ROOT: 'pyenv' }],
    ['a shim of pyenv', 'pyenv/versions/3.11.7/lib/python3.11/site-packages', { PATH: 'pyenv/shims' }],
    ['the second python3 on PATH', 'venv/lib/python3.13/site-packages', { PATH: 'plain/bin:venv/bin' }],
    ['a link to python3', 'real/lib/python3.9/site-packages', { PATH: 'links' }],
    ['CONDA_PREFIX', 'conda/lib/python3.9/site-packages', { CONDA_PREFIX: 'conda' }],
  ])('finds wheels by %s', (_, site, env) => {
    const wheel = join(folder, site, 'nvidia', 'cudnn');
    cpSync(inFolder(''), join(wheel, 'lib'), { recursive: true });
    copyFileSync(join(standin, '..', 'libstandin_cudart.so'), join(wheel, 'libstandin_cudart.so'));
    for (const bin of ['pyenv/shims', 'plain/bin', 'venv/bin', 'real/bin', 'links']) {
      mkdirSync(join(folder, bin), { recursive: true });
      if (bin !== 'links') writeFileSync(join(folder, bin, 'python3'), '');
    }
    symlinkSync(join(folder, 'real/bin/python3'), join(folder, 'links/python3'));
    const absolute = Object.entries(env).map(([name, paths]) => [
      name,
      paths
        .split(':')
        .map((path) => join(folder, path))
        .join(':'),
    ]);
    const found = cudaInfo('', { ...Object.fromEntries(absolute) }).searched.join('\n');
    expect(found).toContain(`cuDNN: found in ${join(wheel, 'lib')} (`);
    expect(cudaInfo('', {}).searched.join('\n')).not.toContain(wheel);
  });

  test('says so where the folder that was named is not there', () => {
    const info = cudaInfo(join(folder, 'absent'));
    expect(info.available).toBe(false);
    expect(info.cudnn).toBeUndefined();
    expect(info.reason).toContain('absent (the library path) is not a folder');
  });

  const parts = [
    'libcudnn_graph.so.9',
    'libcudnn_ops.so.9',
    'libcudnn_heuristic.so.9',
    'libcudnn_engines_precompiled.so.9',
    'libcudnn_engines_runtime_compiled.so.9',
    'libcudnn_cnn.so.9',
    'libcudnn_adv.so.9',
    'libcudnn.so.9',
    'libcublasLt.so.13',
  ];

  test.each(parts)('names %s where it is missing', (part) => {
    rmSync(inFolder(part));
    const info = cudaInfo(inFolder(''));
    expect(info.cudnn).toBeUndefined();
    expect(info.reason).toContain(`${part} is missing`);
  });

  test.each(parts)('names %s where it is truncated, at any length', (part) => {
    const size = statSync(inFolder(part)).size;
    for (const length of [0, 1, 63, 64, 500, Math.floor(size / 2), size - 1]) {
      copyFileSync(join(standin, part), inFolder(part));
      truncateSync(inFolder(part), length);
      const info = cudaInfo(inFolder(''));
      expect(info.cudnn).toBeUndefined();
      expect(info.reason).toContain(`${part}: truncated`);
    }
  });

  test('refuses what is no library, a dangling link, and a library under another name', () => {
    writeFileSync(inFolder('libcudnn_ops.so.9'), 'x'.repeat(5000));
    expect(cudaInfo(inFolder('')).reason).toContain('libcudnn_ops.so.9: not a shared library');
    copyFileSync(inFolder('libcudnn_cnn.so.9'), inFolder('libcudnn_ops.so.9'));
    expect(cudaInfo(inFolder('')).reason).toContain('is libcudnn_cnn.so.9, not libcudnn_ops.so.9');
    rmSync(inFolder('libcudnn_ops.so.9'));
    execFileSync('ln', ['-s', '/nowhere/at/all', inFolder('libcudnn_ops.so.9')]);
    expect(cudaInfo(inFolder('')).reason).toContain('libcudnn_ops.so.9: cannot be read');
  });

  test.each([
    ['8.9.7', 'size_t cudnnGetVersion(void) { return 8907; }', 'cuDNN 8.9.7'],
    ['10.0.0', 'size_t cudnnGetVersion(void) { return 100000; }', 'cuDNN 10.0.0'],
    ...['Graph', 'Ops', 'Cnn', 'Adv'].map((part) => [
      `a ${part} part that differs`,
      `size_t cudnnGetVersion(void) { return 91002; }\nint cudnn${part}VersionCheck(void) { return 1002; }`,
      'cuDNN 9.10.2',
    ]),
    ['no functions', '', 'has no function cudnnGetVersion'],
  ])('refuses cuDNN of another version: %s', (_, source, message) => {
    const names = execFileSync('nm', ['-D', '--defined-only', join(standin, 'libcudnn.so.9')], { encoding: 'utf8' });
    const functions = [...names.matchAll(/ T (cudnn\w+)/g)].map((match) => match[1] as string);
    const text = functions
      .filter((name) => source !== '' && !source.includes(`${name}(`))
      .map((name) =>
        name === 'cudnnGetErrorString'
          ? `const char* ${name}(void) { return "mismatch"; }`
          : `int ${name}(void) { return 0; }`,
      )
      .join('\n');
    const file = join(folder, 'other.c');
    writeFileSync(file, `#include <stddef.h>\n${source}\n${text}\n`);
    execFileSync('cc', ['-shared', '-fPIC', '-Wl,-soname,libcudnn.so.9', '-o', inFolder('libcudnn.so.9'), file]);
    const info = cudaInfo(inFolder(''));
    expect(info.cudnn).toBeUndefined();
    expect(info.reason).toContain(message);
    expect(info.reason).toMatch(/version 9 is needed|different versions|another version is needed/);
  });

  test('takes the cuBLAS of the CUDA release that cuDNN is built for, and no other', () => {
    // A folder searched earlier holds a complete cuBLAS of another release.
    const other = join(folder, 'other');
    execFileSync('mkdir', [other]);
    const source = join(folder, 'empty.c');
    writeFileSync(source, '');
    for (const name of ['libcublas.so.12', 'libcublasLt.so.12']) {
      execFileSync('cc', ['-shared', '-fPIC', `-Wl,-soname,${name}`, '-o', join(other, name), source]);
    }
    const both = cudaInfo(other, { CUDNN_LSTM_LIBRARY_PATH: inFolder('') });
    expect(both.cublas?.path).toBe(inFolder('libcublas.so.13'));
    for (const name of readdirSync(inFolder('')).filter((entry) => entry.startsWith('libcublas')))
      rmSync(inFolder(name));
    const alone = cudaInfo(other, { CUDNN_LSTM_LIBRARY_PATH: inFolder('') });
    // Unless this machine has one of the right release elsewhere.
    if (alone.cublas) expect(alone.cublas.path).toMatch(/libcublas\.so\.13$/);
    else expect(alone.reason).toContain('cuBLAS was not found (libcublas.so.13)');
  });

  test('survives a folder that cannot be read and a path that is a file', () => {
    const file = join(folder, 'file');
    closeSync(openSync(file, 'w'));
    expect(cudaInfo(file).available).toBe(false);
    expect(cudaInfo('\u0001'.repeat(5000)).available).toBe(false);
  });

  test('a model on a machine without a GPU is a typed error with a remedy', () => {
    if (cudaInfo('').devices.length > 0) return console.warn('not checked: this machine has a GPU');
    const script =
      "require(process.argv[1]).createModel({ vocabulary: 5, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0, seed: 1 }, { device: 'cuda' }).catch((error) => console.log(error.code, error.message))";
    const text = execFileSync(process.execPath, ['-e', script, addonPath], { encoding: 'utf8' });
    expect(text).toMatch(/^ERR_DEVICE_UNAVAILABLE no usable GPU: /);
    expect(text).toContain('use device cpu');
  });

  describeLibraries('with NVIDIA’s own libraries', () => {
    const environment = { ...process.env, PYTHONPATH: wheels }; // As if they were installed.

    test('opens them and reads their versions', () => {
      const info = cudaInfo(wheels);
      expect(info.cudnn?.version).toMatch(/^9\.\d+\.\d+$/);
      expect(info.cublas?.version).toMatch(/^1\d\.\d+\.\d+$/);
      expect(info.nccl).toEqual({
        version: expect.stringMatching(/^2\.\d+\.\d+$/),
        path: expect.stringMatching(/nvidia\/nccl\/lib\/libnccl\.so\.2$/),
      });
    });

    test('info names them, with their versions, where there is no GPU either', () => {
      execFileSync('ln', ['-s', buildFolder, join(folder, 'build')]); // Where node-gyp-build looks for the addon under test.
      const folders = ['cudnn', 'cu13', 'nccl'].map((name) => join(wheels, 'nvidia', name, 'lib'));
      const text = execFileSync(process.execPath, [join(__dirname, '..', '..', 'dist', 'cli', 'main.js'), 'info'], {
        encoding: 'utf8',
        env: { PATH: '/nowhere', CUDNN_LSTM_PREBUILD: folder, LD_LIBRARY_PATH: folders.join(':') },
      });
      expect(text).toMatch(/cuDNN +9\.\d+\.\d+ \(.*libcudnn\.so\.9\)/);
      expect(text).toMatch(/cuBLAS +1\d\.\d+\.\d+ \(.*libcublas\.so\.1\d\)/);
      expect(text).toMatch(/NCCL +2\.\d+\.\d+ \(.*libnccl\.so\.2\)/);
    });

    test('docs/gpu.md asks Python for the wheels’ folders, by commands that work', () => {
      const python = spawnSync('python3', ['--version']);
      if (python.status !== 0) return console.warn('not checked: no python3');
      const page = readFileSync(join(__dirname, '..', '..', 'docs', 'gpu.md'), 'utf8');
      const answers = [...page.matchAll(/\b(\w+)=\$\((python3 -c '[^']+')\)/g)].map(
        ([, variable, command]) =>
          [
            variable,
            execFileSync('bash', ['-c', command as string], { encoding: 'utf8', env: environment }).trim(),
          ] as const,
      );
      expect(answers.map(([variable]) => variable)).toEqual(['CUDNN_LSTM_LIBRARY_PATH', 'CUDNN_ROOT']);
      const [libraries, headers] = answers.map(([, folder]) => folder) as [string, string];
      expect(cudaInfo('', { CUDNN_LSTM_LIBRARY_PATH: libraries }).cudnn?.version).toMatch(/^9\./);
      expect(existsSync(join(headers, 'include', 'cudnn.h'))).toBe(true);
    });

    test('does not let cuDNN abort over a missing or truncated part', () => {
      const cudnn = join(wheels, 'nvidia', 'cudnn', 'lib');
      const broken = join(folder, 'real');
      execFileSync('mkdir', [broken]);
      for (const name of readdirSync(cudnn)) execFileSync('ln', ['-s', join(cudnn, name), join(broken, name)]);
      for (const name of readdirSync(join(wheels, 'nvidia', 'cu13', 'lib')).filter((entry) =>
        entry.startsWith('libcublas'),
      )) {
        execFileSync('ln', ['-s', join(wheels, 'nvidia', 'cu13', 'lib', name), join(broken, name)]);
      }
      rmSync(join(broken, 'libcudnn_adv.so.9'));
      expect(cudaInfo(broken).reason).toContain('libcudnn_adv.so.9 is missing');
      const half = join(broken, 'libcudnn_adv.so.9');
      copyFileSync(join(cudnn, 'libcudnn_adv.so.9'), half);
      truncateSync(half, Math.floor(statSync(half).size / 2));
      expect(cudaInfo(broken).reason).toContain('libcudnn_adv.so.9: truncated');
    });
  });
});
