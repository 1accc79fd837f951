// The text that a benchmark trains on: a file, or `alice`, which is fetched once from Project Gutenberg and kept.
const { execFileSync } = require('node:child_process');
const { existsSync, readFileSync } = require('node:fs');
const path = require('node:path');
const { stripGutenberg } = require('../dist/corpus/gutenberg.js');

/** The path of the file; if there is none, says what is wrong and exits. */
function corpusFile(name) {
  if (name === 'alice' && !existsSync(name)) {
    const module = path.join(__dirname, '..', 'dist', 'corpus', 'alice.js');
    const program = `require(${JSON.stringify(module)}).alicePath().then(console.log, (error) => {
      console.error(error.message);
      process.exitCode = error.exitCode ?? 1;
    });`;
    try {
      return execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' }).trim();
    } catch (error) {
      process.exit(error.status ?? 1);
    }
  }
  if (existsSync(name)) return name;
  console.error(`no corpus at ${name}: give another with --corpus`);
  process.exit(3);
}

/** The file's text as training takes it: without Project Gutenberg's header and footer, lower-cased. */
function corpusText(file) {
  const text = readFileSync(file, 'utf8')
    .replace(/^\uFEFF/, '')
    .replace(/\r\n?/g, '\n');
  return (stripGutenberg(text) ?? text).toLowerCase();
}

module.exports = { corpusFile, corpusText };
