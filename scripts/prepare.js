// npm's `prepare`, which runs in a checkout and never in an installed package: compiles TypeScript, adds what an installed package needs
// from other packages (headers, uPlot), and builds the addon. Output that already matches the sources is left alone, so that programs
// running from it do not see it change. When npm installs the package from a git address, it runs this in a clone and then packs the
// clone: the binary goes to prebuilds/, which is packed.
const { spawnSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const binary = path.join(root, 'build', 'Release', 'cudnn_lstm.node');
const stamp = path.join(root, 'build', 'sources.sha256');
const dist = path.join(root, 'dist');
const distStamp = path.join(dist, '.sources.sha256');

function files(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true })
    .map((name) => path.join(directory, name))
    .filter((name) => statSync(name).isFile())
    .sort();
}

/** One hash of files, including their names, and of whatever else matters. */
function hashOf(names, settings = '') {
  const hash = createHash('sha256').update(settings);
  for (const file of names) {
    hash.update(path.relative(root, file)).update('\0').update(readFileSync(file)).update('\0');
  }
  return hash.digest('hex');
}

/** The hash of everything the binary is made from. */
function sourcesHash() {
  const settings = ['REQUIRE_CUDA', 'CUDNN_LSTM_CUDA_ROOT', 'CUDNN_ROOT', 'CXX'];
  return hashOf(
    [path.join(root, 'CMakeLists.txt'), ...files(path.join(root, 'cmake')), ...files(path.join(root, 'native'))],
    settings.map((name) => process.env[name] ?? '').join('\n'),
  );
}

/** The hash of everything dist is made from and of its contents, so that a changed or missing file in dist changes it. */
function distHash() {
  const settings = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.page.json', 'scripts/prepare.js'];
  return hashOf([
    ...settings.map((name) => path.join(root, name)),
    ...files(path.join(root, 'lib')),
    ...files(dist).filter((name) => name !== distStamp),
  ]);
}

/** Whether a file has the wanted content, which is computed only if the file exists. */
function says(file, wanted) {
  return existsSync(file) && readFileSync(file, 'utf8').trim() === wanted();
}

function loads() {
  // In a separate process: an incompatible binary must not crash this one.
  const result = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(binary)}).cpuInfo()`], {
    stdio: 'ignore',
  });
  return result.status === 0;
}

function run(args, env = process.env) {
  const result = spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** Copies the headers that the addon includes, so that an installed package needs no other package for them. */
function copyHeaders() {
  const target = path.join(root, 'dist', 'include');
  const addonApi = path.dirname(require.resolve('node-addon-api/package.json'));
  const nodeApi = path.dirname(require.resolve('node-api-headers/package.json'));
  for (const name of readdirSync(addonApi).filter((each) => each.endsWith('.h'))) {
    cpSync(path.join(addonApi, name), path.join(target, name));
  }
  cpSync(path.join(addonApi, 'LICENSE.md'), path.join(target, 'LICENSE.node-addon-api.md'));
  cpSync(path.join(nodeApi, 'include'), target, { recursive: true });
  cpSync(path.join(nodeApi, 'LICENSE'), path.join(target, 'LICENSE.node-api-headers'));
}

/** A package's folder, even if it does not export its package.json. */
function packageFolder(name) {
  return require.resolve
    .paths(name)
    .map((folder) => path.join(folder, name))
    .find(existsSync);
}

/** Copies uPlot, which draws the reports' charts and is inlined in their pages. */
function copyUplot() {
  const source = path.dirname(require.resolve('uplot/package.json'));
  for (const name of ['dist/uPlot.iife.min.js', 'dist/uPlot.min.css', 'LICENSE']) {
    cpSync(path.join(source, name), path.join(root, 'dist', 'uplot', path.basename(name)));
  }
}

/**
 * Bundles only the parts of zod that lib/zod-parts.ts names into one file in its place: commands start that much sooner, and an installed
 * package needs no zod.
 */
async function bundleZod() {
  const { rollup } = require('rollup');
  const { ModuleKind, ScriptTarget, transpileModule } = require('typescript');
  const folder = packageFolder('zod');
  const input = path.join(root, 'lib', 'zod-parts.ts');
  const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 };
  const zod = {
    name: 'zod',
    resolveId: (name) => (name === 'zod' ? path.join(folder, 'index.js') : null),
    transform: (code, file) => (file === input ? transpileModule(code, { compilerOptions }).outputText : null),
  };
  const bundle = await rollup({ input, plugins: [zod], onLog: withoutKnown });
  const licence = readFileSync(path.join(folder, 'LICENSE'), 'utf8').trimEnd();
  await bundle.write({ file: 'dist/zod-parts.js', format: 'cjs', banner: `/*! Parts of zod.\n\n${licence}\n*/` });
}

/** Copies the page's files that are not TypeScript, and the third-party files that it imports: it is served without a bundler. */
function copyPage() {
  const target = path.join(root, 'dist', 'page');
  for (const name of readdirSync(path.join(root, 'lib', 'page')).filter((each) => /\.(html|css|svg)$/.test(each))) {
    cpSync(path.join(root, 'lib', 'page', name), path.join(target, name));
  }
  const others = [
    ['htm', 'preact/standalone.module.js', 'preact.js'],
    ['uplot', 'dist/uPlot.esm.js', 'uplot.js'],
  ];
  for (const [owner, file, name] of others) {
    const folder = packageFolder(owner);
    cpSync(path.join(folder, file), path.join(target, 'vendor', name));
    cpSync(path.join(folder, 'LICENSE'), path.join(target, 'vendor', `LICENSE.${owner}`));
  }
  cpSync(require.resolve('uplot/dist/uPlot.min.css'), path.join(target, 'vendor', 'uplot.css'));
}

/** Passes on rollup's messages except the known ones: cycles and comments within zod, and that no public type is one of zod's. */
function withoutKnown(level, log, say) {
  if (!['CIRCULAR_DEPENDENCY', 'INVALID_ANNOTATION', 'UNUSED_EXTERNAL_IMPORT'].includes(log.code)) say(level, log);
}

/** Writes one file of types for each entry of the package, and one for what they share. */
async function rollTypes() {
  const { rollup } = require('rollup');
  const { dts } = require('rollup-plugin-dts');
  const { exports } = require('../package.json');
  const entries = Object.values(exports)
    .flatMap((entry) => entry.default ?? [])
    .filter((file) => file.endsWith('.js'));
  const input = Object.fromEntries(entries.map((file) => [path.basename(file, '.js'), file.replace(/\.js$/, '.d.ts')]));
  const bundle = await rollup({ input, plugins: [dts()], external: /^[^./]/, onLog: withoutKnown });
  // Whoever uses these types needs Node's as well, whatever the compiler option `types` says.
  await bundle.write({ dir: 'dist/types', format: 'es', banner: '/// <reference types="node" preserve="true" />' });
}

async function buildWithTools(rebuild) {
  if (process.platform === 'win32') return buildWithCmakeJs(rebuild, process.env);
  const { findToolchain } = require('../dist/cli/toolchain');
  const toolchain = findToolchain((line) => console.log(line));
  console.log('cudnn-lstm: building the native addon (about a minute)');
  // cmake-js refuses to start unless a compiler has one of these two names, whatever CXX says.
  const isCommand = (name) => !spawnSync(name, ['--version'], { stdio: 'ignore' }).error;
  if (isCommand('g++') || isCommand('clang++')) return buildWithCmakeJs(rebuild, toolchain.env);
  await require('../dist/cli/build').buildAddon(toolchain, (chunk) => process.stdout.write(chunk));
}

function buildWithCmakeJs(rebuild, env) {
  const options = process.env.REQUIRE_CUDA === '1' ? ['--CDREQUIRE_CUDA=ON'] : [];
  run([require.resolve('cmake-js/bin/cmake-js'), rebuild ? 'rebuild' : 'compile', '-l', 'warn', ...options], env);
}

async function makeDist() {
  run([require.resolve('typescript/bin/tsc'), '-p', root]);
  copyHeaders();
  copyUplot();
  run([require.resolve('typescript/bin/tsc'), '-p', path.join(root, 'tsconfig.page.json')]);
  copyPage();
  await bundleZod();
  await rollTypes();
  writeFileSync(distStamp, `${distHash()}\n`);
}

/** Exits if npm was told to leave out the packages that compile this one. */
function needDevelopment() {
  if (['typescript', 'cmake-js'].every(packageFolder)) return;
  console.error(
    'cannot build cudnn-lstm: its packages of development are not installed, which --omit=dev and NODE_ENV=production leave out; ' +
      'in a checkout, run: npm install --include=dev',
  );
  process.exit(1);
}

async function main() {
  process.chdir(root);
  if (!says(distStamp, distHash)) {
    needDevelopment();
    await makeDist();
  }
  const wanted = sourcesHash();
  if (!(says(stamp, () => wanted) && existsSync(binary) && loads())) {
    needDevelopment();
    await buildWithTools(existsSync(stamp));
    mkdirSync(path.dirname(stamp), { recursive: true });
    writeFileSync(stamp, `${wanted}\n`);
  }
  // npm sets this variable only in the clone that it packs.
  if (process.env._PACOTE_NO_PREPARE_ !== undefined) {
    cpSync(binary, path.join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'cudnn_lstm.node'));
  }
}

main().catch((error) => {
  console.error(error.code === 'ERR_BUILD' ? error.message : error);
  process.exit(1);
});
