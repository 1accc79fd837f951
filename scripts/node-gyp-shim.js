#!/usr/bin/env node
// prebuildify drives node-gyp, but this package is built by cmake-js. This script is passed to prebuildify as --node-gyp: it takes the
// arguments after `rebuild`, keeps those that both tools know, and runs cmake-js.
const { spawnSync } = require('node:child_process');

const given = process.argv.slice(process.argv.indexOf('rebuild') + 1);
const kept = [];
for (const [index, argument] of given.entries()) {
  if (argument === '--debug') kept.push('--debug');
  if (argument.startsWith('--arch=')) kept.push(argument);
  if (argument === '--arch') kept.push('--arch', given[index + 1]);
}
const result = spawnSync(
  process.execPath,
  [require.resolve('cmake-js/bin/cmake-js'), 'rebuild', '-l', 'warn', ...kept],
  {
    stdio: 'inherit',
  },
);
process.exit(result.status ?? 1);
