// Damages files of every format that `import` reads, and imports them: each must be read, or refused with one of this package's errors, in
// bounded time and memory, without running anything.
//
//   node scripts/fuzz-import.js N [SEED]    N mutations of each format; default 10,000
//
// The package's own writers make one intact file of each format (test/fixtures/foreign-files.ts); a mutation flips, drops, duplicates or
// overwrites bytes of it, or changes numbers in its JSON. Prints a line as each format finishes: mutations, how many were refused, read and
// accepted, how much the process's memory grew at most and to what, and the slowest import in seconds.
const { spawnSync } = require('node:child_process');
const path = require('node:path');

const root = path.join(__dirname, '..');
const [count = '10000', seed = '1'] = process.argv.slice(2);
if (!/^[1-9]\d*$/.test(count) || !/^\d+$/.test(seed)) {
  console.error('usage: node scripts/fuzz-import.js N [SEED]');
  process.exit(2);
}
const jest = path.join(root, 'node_modules', 'jest', 'bin', 'jest.js');
const { status } = spawnSync(process.execPath, [jest, '--runInBand', '--verbose', 'test/unit/import/fuzz.test.ts'], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, FUZZ_IMPORT: count, FUZZ_SEED: seed },
});
process.exit(status ?? 1);
