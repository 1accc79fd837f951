const { availableParallelism } = require('node:os');

// Bash takes a pipe of Node's for a remote shell's and reads ~/.bashrc, whatever that runs and prints, unless it is below another shell.
process.env.SHLVL = '1';

const transform = {
  '^.+\\.[tj]s$': [
    '@swc/jest',
    { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'commonjs' } },
  ],
};

/** @type {import('jest').Config} */
module.exports = {
  // Nothing else is looked through for tests: the folders of builds are large, and CI's other steps write to them.
  roots: ['<rootDir>/lib', '<rootDir>/test'],
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  transform,
  // The library loads the parts of zod that it uses from one file, as its users do: every test file would read the hundred of the whole.
  moduleNameMapper: {
    '/zod-parts$': ['<rootDir>/dist/zod-parts.js', '<rootDir>/lib/zod-parts.ts'],
    ...(process.env.MORE_CASES && { '^fast-check$': '<rootDir>/test/fixtures/more-cases.js' }),
  },
  // What hot loops look up: as a property of a test's own global object each look costs a tenth of a microsecond.
  sandboxInjectedGlobals: [
    ...['Math', 'Number', 'Object', 'Array', 'String', 'Symbol', 'BigInt', 'JSON', 'Map', 'Set', 'WeakMap', 'Promise'],
    ...['Uint8Array', 'Int8Array', 'Uint16Array', 'Int16Array', 'Uint32Array', 'Int32Array', 'BigUint64Array'],
    ...['Float32Array', 'Float64Array', 'ArrayBuffer', 'DataView', 'Error', 'RegExp'],
  ],
  // It ends a test that hangs. How long one takes depends on what else the machine does, and is no reason to fail.
  testTimeout: 900_000,
  reporters: ['default', '<rootDir>/test/fixtures/skip-reporter.js'],
  runtime: '<rootDir>/test/fixtures/runtime.js',
  testSequencer: '<rootDir>/test/fixtures/sequencer.js',
  // Two more than there are cores: tests wait for disks and for programs that they start.
  maxWorkers: availableParallelism() + 2,
};
