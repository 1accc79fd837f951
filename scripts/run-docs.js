// Extracts the code blocks from the Markdown files and runs them as printed, each file's blocks in order and in a folder of their own.
// CONTRIBUTING.md, "Documents", says what a block may be and how to mark one that cannot run.
//
//   node scripts/run-docs.js                    all Markdown files of the root, docs and bench, in a clone and in a project with the package
//   node scripts/run-docs.js --in clone         in only one of the two: clone or project
//   node scripts/run-docs.js --by-turns         README.md in both, each other page in one of them: every block still runs, in half the time
//   node scripts/run-docs.js docs/texts.md:20   one file, or one block: the one at line 20, after the blocks before it in the file
//   node scripts/run-docs.js --list             lists the blocks, and those that are not run with the reason
//   TARBALL=cudnn-lstm-0.1.0.tgz …              uses this package; otherwise one is packed, without CUDA if need be
const { spawn, spawnSync } = require('node:child_process');
const { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs');
const { globSync } = require('tinyglobby');
const { parseDocument } = require('yaml');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');

const root = path.join(__dirname, '..');
const places = ['clone', 'project'];
/** A block that takes longer is too slow for a reader, too; generous, since the machine may be busy. */
const limitSeconds = 300;

/** Stands for the reader's own text in a document: a part of the bundled tale, so that training on it takes seconds. */
const readersFile = 'mybook.txt';

const languages = {
  sh: runShell,
  js: runJavaScript,
  ts: runTypeScript,
  python: runPython,
  json: checkJson,
  yaml: checkYaml,
  text: checkPrinted,
};

/**
 * What printed blocks were printed with: other instruction sets, or a compiler that contracts products and sums differently, change the
 * last bits, after which a sample is a different text.
 */
const printedWith = 'avx2';
const printedBy = 'GCC 12';

/** The blocks of a Markdown file: where each begins, its language and text, and what the comments right above it say. */
function blocksOf(file) {
  const blocks = [];
  let marks = [];
  let block;
  readFileSync(path.resolve(root, file), 'utf8')
    .split('\n')
    .forEach((line, i) => {
      const place = `${file}:${i + 1}`;
      if (block !== undefined) {
        if (line.trimEnd() === block.fence) {
          blocks.push({ ...block, text: `${block.lines.join('\n')}\n` });
          block = undefined;
        } else block.lines.push(line.slice(block.indent));
        return;
      }
      const opening = /^( *)(`{3,})(.*)$/.exec(line);
      if (opening) {
        const [, spaces, ticks, language] = opening;
        block = { file, line: i + 1, place, fence: spaces + ticks, indent: spaces.length, language, lines: [], marks };
        marks = [];
      } else if (/^ *<!-- .* -->$/.test(line)) marks.push(line.trim().slice(5, -4));
      else marks = [];
    });
  if (block !== undefined) throw new Error(`${block.place}: the block does not end`);
  return blocks.map(checkBlock);
}

function checkBlock({ place, language, marks, ...rest }) {
  if (languages[language] === undefined)
    throw new Error(`${place}: a block's language is one of ${Object.keys(languages).join(', ')}, not '${language}'`);
  const block = { ...rest, place, language, in: places };
  for (const mark of marks) {
    const [, kind, value] = /^(not run|only in a|file|needs|in the background until):? (.+)$/.exec(mark) ?? [];
    if (kind === 'not run') block.reason = value;
    else if (mark === 'printed by the block above' && language === 'text') block.printed = true;
    else if (kind === 'needs') block.needs = value;
    else if (kind === 'only in a' && places.includes(value)) block.in = [value];
    else if (kind === 'file') block.name = value;
    else if (kind === 'in the background until' && language === 'sh') block.until = value;
    else throw new Error(`${place}: no such mark: <!-- ${mark} -->`);
  }
  return block;
}

/** Gives each file's blocks a place: README.md keeps both, a page with blocks for only one place gets that one, and others alternate. */
function takeTurns(files) {
  let turn = 0;
  return files.map(([file, blocks]) => {
    const needed = places.filter((place) => blocks.some((block) => block.in.length === 1 && block.in[0] === place));
    if (file === 'README.md' || needed.length > 1 || blocks.every((block) => block.reason !== undefined))
      return [file, blocks];
    const [place] = needed.length === 1 ? needed : [places[turn++ % places.length]];
    return [file, blocks.map((block) => ({ ...block, in: [place] }))];
  });
}

/** Processes that blocks have left running in the background. */
const background = [];

/**
 * Runs a program of a block and returns what it printed; throws that if it fails. After the limit, kills it and everything it started.
 * With `until`, leaves it running once it has printed that text.
 */
async function run(program, args, folder, { input = '', until, variables = {} } = {}) {
  const env = { ...process.env, npm_config_update_notifier: 'false', ...variables };
  const child = spawn(program, args, { cwd: folder, env, detached: true });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (printed += text));
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    process.kill(-child.pid, 'SIGKILL');
  }, limitSeconds * 1000);
  // Closes standard input, so that a command that waits for input ends.
  child.stdin.on('error', () => {}).end(input);
  const status = await new Promise((done, fail) => {
    child.on('error', fail).on('close', (code, signal) => done(code ?? signal));
    if (until === undefined) return;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', () => printed.includes(until) && done('running'));
  });
  clearTimeout(timer);
  if (status === 'running') background.push(child);
  if (status === 'running' || (status === 0 && until === undefined)) return printed;
  const why = late ? `not done after ${limitSeconds} s` : `exit code ${status}`;
  throw new Error(`${why}\n${printed.trimEnd().split('\n').slice(-25).join('\n')}`);
}

/** Every command must exit with 0, except one whose line says `# refused`, which must not. */
async function runShell(block, folder) {
  const script = block.text
    .split('\n')
    .map((line) => (/ # refused\b/.test(line) ? `if\n${line}\nthen echo 'this was not refused' >&2; exit 1; fi` : line))
    .join('\n');
  // One stream, as on a terminal, so that the output keeps its order.
  const args = ['-euo', 'pipefail', '-c', `exec 2>&1\n${script}`];
  const variables = block.compared ? { CUDNN_LSTM_DEVICE: 'cpu', CUDNN_LSTM_CPU_ISA: printedWith } : {};
  return { printed: await run('bash', args, folder, { until: block.until, variables }) };
}

/**
 * Checks that each line of a `text` block so marked was printed by the block before it, in this order; other output may be left out.
 * `...` in a line stands for what differs on another machine, such as a time.
 */
function checkPrinted(block, _folder, { skipped, printed }) {
  if (!block.printed) return {};
  if (skipped) return { skipped: 'the block above did not run' };
  if (!block.compared) return { skipped: `printed by ${printedWith} kernels of ${printedBy}` };
  const lines = printed.split('\n').map((line) => line.trimEnd());
  let from = 0;
  for (const wanted of block.text.trimEnd().split('\n')) {
    const pattern = wanted
      .trimEnd()
      .split('...')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*');
    const found = lines.findIndex((line, i) => i >= from && new RegExp(`^${pattern}$`).test(line));
    if (found < 0) throw new Error(`this was not printed: ${wanted}\nbut:\n${lines.slice(from).join('\n')}`);
    from = found + 1;
  }
  return {};
}

/** Whether this machine, and the addon built on it, print what printed blocks show. */
function canPrint() {
  const addon = readFileSync(path.join(root, 'build', 'Release', 'cudnn_lstm.node'), 'latin1');
  const [, compiler] = /GCC: \([^)]*\) (\d+)\./.exec(addon) ?? [];
  if (`GCC ${compiler}` !== printedBy) return false;
  const program = path.join(root, 'dist', 'cli', 'main.js');
  const { stdout } = spawnSync(process.execPath, [program, 'info', '--json'], { encoding: 'utf8' });
  return JSON.parse(stdout).native?.cpu?.supported?.includes(printedWith) ?? false;
}

async function runJavaScript(block, folder) {
  const file = block.name ?? `block-${block.line}.${/\brequire\(/.test(block.text) ? 'cjs' : 'mjs'}`;
  writeFileSync(path.join(folder, file), block.text);
  await run(process.execPath, block.name === undefined ? [file] : ['--check', file], folder);
}

/** TypeScript 7, a binary for one kind of machine, if it is installed, since it takes a quarter of the time. */
const compilers = ['typescript-7', 'typescript'].map((name) => path.join(root, 'node_modules', name, 'bin', 'tsc'));
const compiler = compilers.find((file) => existsSync(file));

/** Compiles a block with all checks, then runs it. */
async function runTypeScript(block, folder) {
  const file = block.name ?? `block-${block.line}.mts`;
  writeFileSync(path.join(folder, file), block.text);
  const compilerOptions = {
    strict: true,
    skipLibCheck: true,
    target: 'es2022',
    module: 'nodenext',
    typeRoots: [path.join(root, 'node_modules', '@types')],
    types: ['node'],
  };
  writeFileSync(path.join(folder, 'tsconfig.block.json'), JSON.stringify({ compilerOptions, files: [file] }));
  await run(process.execPath, [compiler, '-p', 'tsconfig.block.json'], folder);
  if (block.name === undefined) await run(process.execPath, [file.replace(/ts$/, 'js')], folder);
}

async function runPython(block, folder) {
  const python = process.env.CUDNN_LSTM_PYTHON;
  if (python === undefined) return { skipped: 'CUDNN_LSTM_PYTHON names no Python that has the packages' };
  return { printed: await run(python, ['-'], folder, { input: block.text }) };
}

function checkJson(block, folder) {
  JSON.parse(block.text);
  if (block.name !== undefined) writeFileSync(path.join(folder, block.name), block.text);
}

/** Checks only the syntax: the file is for another program. */
function checkYaml(block) {
  const [problem] = parseDocument(block.text).errors;
  if (problem) throw problem;
}

/** Makes a fresh clone with what `npm install` puts there, or an empty project with the package installed. */
async function makeFolder(kind, place, tarball, characters) {
  const folder = mkdtempSync(path.join(place, `${kind}-`));
  if (kind === 'clone') {
    await run('git', ['clone', '--quiet', root, '.'], folder);
    symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
    for (const name of ['dist', 'build/Release', 'build/sources.sha256'])
      cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  } else {
    writeFileSync(path.join(folder, 'package.json'), '{ "name": "user", "version": "1.0.0", "private": true }\n');
    await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', tarball], folder);
  }
  const tale = readFileSync(path.join(root, 'corpora', 'the-lamplighters-road.txt'), 'utf8');
  writeFileSync(path.join(folder, readersFile), tale.slice(0, characters));
  return folder;
}

function pack(place) {
  if (process.env.TARBALL) return path.resolve(process.env.TARBALL);
  const env = { ...process.env, ALLOW_CPU_ONLY: '1' };
  for (const args of [
    ['run', '--silent', 'prebuilds'],
    ['pack', '--silent', '--pack-destination', place],
    ['run', 'build'],
  ]) {
    const result = spawnSync('npm', args, { cwd: root, env, encoding: 'utf8' });
    if (result.status !== 0) throw new Error(`npm ${args.join(' ')}: ${result.stderr}`);
  }
  return globSync('*.tgz', { cwd: place, absolute: true })[0];
}

async function runBlocks(every, kind, place, tarball) {
  const blocks = every.filter((block) => block.in.includes(kind));
  if (!blocks.some((block) => block.reason === undefined)) return 0;
  // README.md trains its default model, and runs in both places.
  const folder = await makeFolder(kind, place, tarball, blocks[0].file === 'README.md' ? 6000 : 20_000);
  const compared = blocks.some((block) => block.printed) && canPrint();
  let failed = 0;
  let left = false;
  let before = {};
  for (const block of blocks) {
    if (block.reason !== undefined) continue;
    const began = Date.now();
    try {
      const lacks = left && block.needs !== undefined && !existsSync(path.join(folder, block.needs));
      const result = lacks
        ? { skipped: `${block.needs} was not made` }
        : ((await languages[block.language]({ ...block, compared }, folder, before)) ?? {});
      if (block.language !== 'text') before = result;
      left ||= result.skipped !== undefined;
      const seconds = ((Date.now() - began) / 1000).toFixed(1);
      console.log(
        `${result.skipped ? 'skipped' : 'ok'} ${block.place} ${block.language} in a ${kind} ${result.skipped ?? `(${seconds} s)`}`,
      );
    } catch (error) {
      console.log(`FAILED ${block.place} ${block.language} in a ${kind}: ${error.message}`);
      failed++;
      if (block.language !== 'text') before = { skipped: 'it failed' };
    }
  }
  for (const child of background.splice(0)) {
    const ended = new Promise((done) => child.on('close', done));
    process.kill(-child.pid, 'SIGTERM');
    await ended;
  }
  rmSync(folder, { recursive: true });
  return failed;
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      in: { type: 'string', multiple: true, default: places },
      'by-turns': { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  });
  const every = globSync(['*.md', 'docs/**/*.md', 'bench/**/*.md', '!docs/api/**', '!**/node_modules/**'], {
    cwd: root,
  }).sort();
  const wanted = positionals.length > 0 ? positionals : every;
  const read = wanted.map((each) => {
    const [, file, last = Infinity] = /^(.*?)(?::(\d+))?$/.exec(each);
    return [file, blocksOf(file).filter((block) => block.line <= Number(last))];
  });
  const files = values['by-turns'] ? takeTurns(read) : read;
  for (const { place, language, reason, in: kinds } of files.flatMap(([, blocks]) => blocks)) {
    if (values.list && reason === undefined)
      console.log(`${place}: ${language}${kinds.length === 1 ? `, only in a ${kinds[0]}` : ''}`);
    if (reason !== undefined) console.log(`not run ${place}: ${reason}`);
  }
  if (values.list) return;

  if (!existsSync(path.join(root, 'build', 'Release'))) throw new Error('nothing is built: npm install');
  const place = mkdtempSync(path.join(os.tmpdir(), 'docs-'));
  let failed = 0;
  try {
    const tarball = values.in.includes('project') ? pack(place) : undefined;
    for (const kind of values.in)
      for (const [, blocks] of files) failed += await runBlocks(blocks, kind, place, tarball);
  } finally {
    rmSync(place, { recursive: true });
  }
  if (failed > 0) console.log(`${failed} blocks failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
