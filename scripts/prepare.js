// npm's `prepare`, which runs in a checkout and never in an installed package: builds the addon unless one that fits the sources
// is there, then compiles TypeScript.
const { spawnSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const binary = path.join(root, 'build', 'Release', 'cudnn_lstm.node');
const stamp = path.join(root, 'build', 'sources.sha256');

function files(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true })
    .map((name) => path.join(directory, name))
    .filter((name) => statSync(name).isFile())
    .sort();
}

/** One hash of everything the binary is made from. */
function sourcesHash() {
  const hash = createHash('sha256');
  const cuda = ['REQUIRE_CUDA', 'CUDNN_LSTM_CUDA_ROOT', 'CUDNN_ROOT'].map((name) => process.env[name] ?? '').join('\n');
  hash.update(cuda);
  for (const file of [
    path.join(root, 'CMakeLists.txt'),
    ...files(path.join(root, 'cmake')),
    ...files(path.join(root, 'native')),
  ]) {
    hash.update(path.relative(root, file)).update('\0').update(readFileSync(file)).update('\0');
  }
  return hash.digest('hex');
}

function loads() {
  // In a process of its own: a binary that does not fit must not take this one down.
  const result = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(binary)}).cpuInfo()`], {
    stdio: 'ignore',
  });
  return result.status === 0;
}

function fail(message) {
  console.error(`cudnn-lstm: ${message}`);
  process.exit(1);
}

function needs(command, what) {
  const found = spawnSync(command, ['--version'], { stdio: 'ignore' });
  if (found.error) {
    fail(
      `cannot build the native addon: ${what} is not installed (Debian and Ubuntu: apt-get install cmake g++ make; macOS: xcode-select --install and brew install cmake)`,
    );
  }
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (result.error) fail(`${command}: ${result.error.message}`);
  if (result.status !== 0) process.exit(result.status ?? 1);
}

const wanted = sourcesHash();
const have = existsSync(stamp) ? readFileSync(stamp, 'utf8').trim() : '';
if (have !== wanted || !existsSync(binary) || !loads()) {
  needs('cmake', 'cmake');
  if (process.platform !== 'win32') needs(process.env.CXX ?? 'c++', 'a C++ compiler');
  console.log('cudnn-lstm: building the native addon (about a minute)');
  const cmakeJs = require.resolve('cmake-js/bin/cmake-js');
  const options = process.env.REQUIRE_CUDA === '1' ? ['--CDREQUIRE_CUDA=ON'] : [];
  run(process.execPath, [cmakeJs, have === '' ? 'compile' : 'rebuild', '-l', 'warn', ...options]);
  mkdirSync(path.dirname(stamp), { recursive: true });
  writeFileSync(stamp, `${wanted}\n`);
}
run(process.execPath, [require.resolve('typescript/bin/tsc'), '-p', root]);
