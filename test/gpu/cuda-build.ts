/**
 * Where the addon and its build are, and whether the addon has CUDA compiled in. REQUIRE_CUDA=1 makes a missing part a
 * failure; otherwise the tests that need it are skipped with a message.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');

/** The build folder that holds the addon under test. */
export const buildFolder = process.env.CUDNN_LSTM_BUILD ?? join(root, 'build');
export const addonPath = join(buildFolder, 'Release', 'cudnn_lstm.node');
export const requireCuda = Boolean(process.env.REQUIRE_CUDA);
export const requireGpu = Boolean(process.env.REQUIRE_GPU);

function probe(): { compiled: boolean; available: boolean; reason: string } {
  if (!existsSync(addonPath)) return { compiled: false, available: false, reason: `${addonPath} is not built` };
  const script = 'require(process.argv[1]).cudaInfo().then((info) => console.log(JSON.stringify(info)))';
  return JSON.parse(execFileSync(process.execPath, ['-e', script, addonPath], { encoding: 'utf8' }));
}

export const cuda = probe();

/** `describe` where CUDA is compiled in, else a visible skip, or a failing test under REQUIRE_CUDA. */
export function describeCuda(name: string, body: () => void): void {
  if (cuda.compiled) {
    describe(name, body);
    return;
  }
  if (requireCuda) {
    test(`${name} (REQUIRE_CUDA)`, () => {
      throw new Error(`CUDA is required: ${cuda.reason}`);
    });
    return;
  }
  describe.skip(`${name} (skipped: ${cuda.reason})`, body);
}

/** `describe` where there is a usable GPU, else a visible skip, or a failing test under REQUIRE_GPU. */
export function describeGpu(name: string, body: () => void): void {
  if (cuda.available) {
    describe(name, body);
    return;
  }
  if (requireGpu) {
    test(`${name} (REQUIRE_GPU)`, () => {
      throw new Error(`a GPU is required: ${cuda.reason}`);
    });
    return;
  }
  describe.skip(`${name} (skipped: ${cuda.reason})`, body);
}

/** NVIDIA's wheels, unpacked: in CUDNN_LSTM_CUDA_ROOT, or where scripts/fetch-nvidia puts them. */
export const wheels = process.env.CUDNN_LSTM_CUDA_ROOT ?? join(root, '.nvidia');

/** `describe` where NVIDIA's own libraries are in {@link wheels}, else a visible skip, or a failing test under REQUIRE_CUDA. */
export function describeLibraries(name: string, body: () => void): void {
  if (existsSync(join(wheels, 'nvidia', 'cudnn', 'lib', 'libcudnn.so.9'))) {
    describe(name, body);
    return;
  }
  const reason = `NVIDIA's own libraries are not in ${wheels} (scripts/fetch-nvidia)`;
  if (requireCuda) {
    test(`${name} (REQUIRE_CUDA)`, () => {
      throw new Error(reason);
    });
    return;
  }
  describe.skip(`${name} (skipped: ${reason})`, body);
}

/** Builds the native tests; one test file at a time, since they share the build folder. */
export function buildNativeTests(): void {
  const build = ['cmake', '--build', buildFolder, '--target', 'gpu_native_tests'];
  execFileSync('flock', [join(buildFolder, 'gpu-tests.lock'), ...build], { stdio: 'pipe' });
}
