// Before a tarball is made: what it must hold is there, and nothing in it runs at install.
const { existsSync, readFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const problems = [];
const platform = `${process.platform}-${process.arch}`;
for (const needed of [
  'dist/index.js',
  'dist/cli/main.js',
  'corpora/the-lamplighters-road.txt',
  'LICENSE',
  `prebuilds/${platform}`,
]) {
  if (!existsSync(path.join(root, needed)))
    problems.push(`${needed} is missing${needed.startsWith('prebuilds') ? ': npm run prebuilds' : ''}`);
}
const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
for (const name of ['preinstall', 'install', 'postinstall']) {
  if (scripts[name] !== undefined)
    problems.push(`package.json has a script '${name}', which would run on the user's machine`);
}
if (existsSync(path.join(root, 'binding.gyp'))) problems.push('binding.gyp makes npm run node-gyp at install');
if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exit(1);
}
