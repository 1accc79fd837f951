/** Shared by the scripts that end other programs at random moments and measure how long that takes. */
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

/**
 * Runs a measurement and prints its times as JSON; sets the process's exit code to 1 if one is over the limit or something failed.
 *
 * @param limit Milliseconds.
 * @param measure Takes a corpus and a folder, both removed afterwards, and returns for each way of ending `{ longest, … }`, where `longest`
 * is the longest time in milliseconds; without it nothing was measured.
 */
exports.reportTimes = async (limit, measure) => {
  const folder = mkdtempSync(join(tmpdir(), 'times-'));
  const corpus = join(folder, 'corpus.txt');
  writeFileSync(corpus, 'a sheep and a goat went over the hill and far away\n'.repeat(3000));
  try {
    const report = await measure(corpus, folder);
    console.log(JSON.stringify(report, undefined, 2));
    if (Object.values(report).some(({ longest }) => longest > limit)) process.exitCode = 1;
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
};
