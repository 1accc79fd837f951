// Checks, before a tarball is made, that everything it must hold is there and that nothing in it runs at install. package.json goes into it
// without scripts, which npm would warn about, and without development-only fields; `--restore` puts the original back afterwards.
//
//   ALLOW_CPU_ONLY=1 npm pack   for a package of your own: accepts a binary without the CUDA backend
const { spawnSync } = require('node:child_process');
const { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const manifest = path.join(root, 'package.json');
const saved = path.join(root, 'dist', 'package.json.saved');

function fail(...problems) {
  console.error(problems.map((problem) => `cannot pack: ${problem}`).join('\n'));
  process.exit(1);
}

/** Whether the binary for this machine says, in a separate process, that it has the CUDA backend. */
function cudaCompiled(folder) {
  const binary = readdirSync(folder).find((name) => name.endsWith('.node'));
  const script = 'require(process.argv[1]).cudaInfo().then((info) => console.log(info.compiled))';
  const result = spawnSync(process.execPath, ['-e', script, path.join(folder, binary)], { encoding: 'utf8' });
  if (result.status !== 0) fail(`${binary} does not load: ${result.stderr.trim()}`);
  return result.stdout.trim() === 'true';
}

function check() {
  const platform = `${process.platform}-${process.arch}`;
  const prebuilds = path.join(root, 'prebuilds', platform);
  const problems = [
    'dist/index.js',
    'dist/advanced.js',
    'dist/cli/main.js',
    'dist/types/index.d.ts',
    'dist/types/advanced.d.ts',
    'dist/include/napi.h',
    'dist/uplot/uPlot.min.css',
  ]
    .filter((name) => !existsSync(path.join(root, name)))
    .map((name) => `${name} is missing: npm install`);
  const parts = path.join(root, 'dist', 'zod-parts.js');
  if (!existsSync(parts) || /require\(.zod.\)/.test(readFileSync(parts, 'utf8'))) {
    problems.push('dist/zod-parts.js lacks the parts of zod, which no user has: npm run build');
  }
  if (!existsSync(prebuilds)) problems.push(`prebuilds/${platform} is missing: npm run prebuilds`);
  const { scripts } = JSON.parse(readFileSync(manifest, 'utf8'));
  for (const name of ['preinstall', 'install', 'postinstall']) {
    if (scripts[name] !== undefined)
      problems.push(`package.json has a script '${name}', which would run on the user's machine`);
  }
  if (existsSync(path.join(root, 'binding.gyp'))) problems.push('binding.gyp makes npm run node-gyp at install');
  if (problems.length > 0) fail(...problems);
  if (platform === 'linux-x64' && process.env.ALLOW_CPU_ONLY !== '1' && !cudaCompiled(prebuilds)) {
    fail(
      'the binary has no CUDA backend: scripts/fetch-nvidia && REQUIRE_CUDA=1 npm run prebuilds, or ALLOW_CPU_ONLY=1 npm pack for a ' +
        'package of your own',
    );
  }
}

// An interrupted run may have left package.json without scripts.
if (existsSync(saved) && !('scripts' in JSON.parse(readFileSync(manifest, 'utf8')))) renameSync(saved, manifest);
if (!process.argv.includes('--restore')) {
  check();
  const text = readFileSync(manifest, 'utf8');
  const { scripts, devDependencies, allowScripts, ...published } = JSON.parse(text);
  writeFileSync(saved, text);
  writeFileSync(manifest, `${JSON.stringify(published, null, 2)}\n`);
}
