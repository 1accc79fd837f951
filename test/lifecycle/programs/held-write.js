/**
 * Preloaded into a command (node --require): holds the first file written at its beginning until the process gets a SIGINT, or with
 * HOLD=ever for ever. Reports on stderr that the write has begun.
 */
const fs = require('node:fs/promises');

const { open } = fs;
let held = false;
fs.open = async (path, ...rest) => {
  const handle = await open(path, ...rest);
  if (held || !/\.tmp-\d+-[\da-f]{8}$/.test(String(path))) return handle;
  held = true;
  const alive = setInterval(() => {}, 1000);
  process.stderr.write('held\n');
  await new Promise((resolve) => {
    if (process.env.HOLD !== 'ever') process.once('SIGINT', resolve);
  });
  clearInterval(alive);
  return handle;
};
