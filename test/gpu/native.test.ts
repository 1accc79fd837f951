/** Builds and runs the backend's native tests: the arithmetic in lanes, and the whole backend on the stand-in device. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { buildFolder, buildNativeTests, describeCuda, describeLibraries, wheels } from './cuda-build';

const folder = join(buildFolder, 'gpu-tests');

function run(program: string, ...args: string[]): void {
  const result = spawnSync(join(folder, program), args, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${program} ended with ${result.status ?? result.signal}\n${result.stdout}`);
  expect(result.stdout).toContain('all passed');
}

describeCuda('the CUDA backend without a GPU', () => {
  beforeAll(buildNativeTests, 300_000);

  test('computes on the host what the kernels compute', () => run('cuda_host_test'), 60_000);

  describeLibraries('with NVIDIA’s own libraries', () => {
    test('makes its descriptors with the real cuDNN, and compiles with the real NVRTC', () =>
      run('cuda_descriptors_test', wheels));
  });

  test('agrees with the CPU backend on a stand-in device, in order, and fails cleanly', () => {
    run('cuda_standin_test', join(folder, 'nvidia'));
  });
});
