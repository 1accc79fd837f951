// Loaded with --require into a program under test. Writes a line of JSON to descriptor 3 when the program begins to listen for SIGTERM, and
// another at exit with its exit code and what it has used: its peak resident memory in bytes, and its processor time in milliseconds.
const fs = require('node:fs');
const { peakMemory } = require('../test/fixtures/peak-memory');

const say = (value) => fs.writeSync(3, `${JSON.stringify(value)}\n`);
process.prependOnceListener('newListener', function listen(event) {
  if (event !== 'SIGTERM') return void process.prependOnceListener('newListener', listen);
  // A signal that comes when the command has ended, and no longer listens, changes nothing.
  process.on('SIGTERM', () => {});
  say({ listens: true });
});
process.on('exit', (code) => {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  say({ code, peak: peakMemory(), processor: (userCPUTime + systemCPUTime) / 1000 });
});
