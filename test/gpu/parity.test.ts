/** Runs parity.js and lifecycle.js, which need a real GPU. REQUIRE_GPU=1 makes its absence a failure. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { addonPath, describeGpu } from './cuda-build';

describeGpu('the CUDA backend on a GPU', () => {
  test.each([
    ['agrees with the CPU backend, repeats and resumes bit for bit', 'parity.js'],
    ['is stopped, disposed of and exited from at any time', 'lifecycle.js'],
  ])('%s', (_, script) => {
    const result = spawnSync(process.execPath, [join(__dirname, script), '--addon', addonPath], { encoding: 'utf8' });
    if (result.status !== 0) throw new Error(result.stdout + result.stderr);
    expect(result.stdout).toContain('all passed');
  });
});
