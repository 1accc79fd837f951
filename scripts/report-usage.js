// Loaded with --require into a program under test. Writes a line of JSON to descriptor 3 when the program begins to listen for SIGTERM, and
// another at exit with its exit code and what it has used: its peak resident memory in bytes, its processor time in milliseconds, and how
// much of that came after it had stopped listening.
const fs = require('node:fs');
const { peakMemory } = require('../test/fixtures/peak-memory');

const say = (value) => fs.writeSync(3, `${JSON.stringify(value)}\n`);
const processor = () => {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  return (userCPUTime + systemCPUTime) / 1000;
};
// A signal that comes while a command ends, when it no longer listens, changes nothing: it finds this listener.
const none = () => {};
let ended;
process.on('newListener', (event, listener) => {
  if (event !== 'SIGTERM' || listener === none) return;
  if (process.listenerCount('SIGTERM') === 0) process.on('SIGTERM', none);
  ended = undefined;
  say({ listens: true });
});
process.on('removeListener', (event) => {
  if (event === 'SIGTERM' && process.listenerCount('SIGTERM') === 1) ended = processor();
});
process.on('exit', (code) =>
  say({ code, peak: peakMemory(), processor: processor(), deaf: processor() - (ended ?? processor()) }),
);
