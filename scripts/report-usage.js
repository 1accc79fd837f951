// Required by a program under test. On descriptor 3 it says, a line of JSON each, when it has begun to listen for SIGTERM, and when it
// exits what it has used: its peak of resident memory in bytes, and its processor time in milliseconds.
const fs = require('node:fs');
const { peakMemory } = require('../test/fixtures/peak-memory');

const say = (value) => fs.writeSync(3, `${JSON.stringify(value)}\n`);
process.on('newListener', (event) => event === 'SIGTERM' && say({ listens: true }));
process.on('exit', () => {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  say({ peak: peakMemory(), processor: (userCPUTime + systemCPUTime) / 1000 });
});
