// The self-check of a GPU without the command line, so that it runs on a bare machine: one line per model, then the report. Exit code 1
// if it fails, 2 if there is no GPU.
//
//   node test/gpu/self-check.js [--addon build/Release/cudnn_lstm.node] [--package .]
const { join, resolve } = require('node:path');

const argument = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined);
const root = join(__dirname, '..', '..');
const nativeBinding = resolve(argument('--addon') ?? join(root, 'build', 'Release', 'cudnn_lstm.node'));
const { inspectMachine } = require(resolve(argument('--package') ?? root, 'dist', 'device', 'machine.js'));

inspectMachine({ device: 'cuda', check: true, nativeBinding, onNote: console.log }).then(
  ({ check, device }) => {
    if (!check) {
      console.log(device.reason);
      process.exitCode = 2;
      return;
    }
    for (const { name, compared, worst, failed } of check.cases) {
      const gap = worst.gap === null ? 'not finite' : worst.gap.toExponential(1);
      console.log(
        `${failed.length === 0 ? 'ok  ' : 'FAIL'} ${name}: ${compared} compared; furthest ${worst.what}, ${gap} of ${worst.allowed}`,
      );
    }
    console.log(JSON.stringify(check));
    process.exitCode = check.passed ? 0 : 1;
  },
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
