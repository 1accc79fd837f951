#!/usr/bin/env node
/**
 * Reintroduces faults that this program has had, one at a time, and checks that the test for each finds it; test/fixtures/mutants.js is the
 * list. It works in its own clone of what is committed. On the unchanged sources the tests must pass; then each must fail, and in the way
 * that its fault makes it fail. Exits with 1 if a fault is not found, a test does not exist or fails without a fault, or the text that a
 * fault changes does not occur exactly once in its file.
 *
 *   node scripts/mutants.js [--verbose] [WORD...]     only faults whose name, file or test contains one of the words; without words, all
 */
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.join(__dirname, '..');
const mutants = require('../test/fixtures/mutants');

/** Milliseconds after which tests are killed, with everything they have started. */
const longest = 900_000;
/** The same for a test that a fault may make wait for ever, given how long the tests of its file take without the fault. */
const patience = (milliseconds) => 30_000 + 4 * milliseconds;

/** What is wrong with the text that a fault changes; undefined if nothing. */
function problemOf({ file, from }) {
  const count = fs.readFileSync(path.join(root, file), 'utf8').split(from).length - 1;
  return count === 1 ? undefined : `${file} has ${JSON.stringify(from)} ${count} times`;
}

function run(command, args, cwd, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...options,
  });
  if (error) throw error;
  return { status, output: `${stdout ?? ''}${stderr ?? ''}` };
}

function must(command, args, cwd) {
  const { status, output } = run(command, args, cwd);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${output}`);
}

/** A program that runs Node in a process group of its own; when the time is up, it kills the group and exits with 124. */
const inGroup = `
const [, limit, ...argv] = process.argv;
const child = require('node:child_process').spawn(process.execPath, argv, { stdio: 'inherit', detached: true });
const timer = setTimeout(() => { process.kill(-child.pid, 'SIGKILL'); process.exit(124); }, Number(limit));
child.on('exit', (code) => { clearTimeout(timer); process.exit(code ?? 1); });`;

const plain = (text) => text.replaceAll(/\u001b\[\d*m/g, '');
const beginning = (text) => plain(text).trim().split('\n').slice(0, 30).join('\n    ');

/** A clone in which sources are changed, built and tested. */
class Clone {
  constructor() {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mutants-'));
    must('git', ['clone', '--quiet', '--shared', root, this.folder], root);
    fs.symlinkSync(fs.realpathSync(path.join(root, 'node_modules')), path.join(this.folder, 'node_modules'));
    // Reuses what is already built.
    for (const built of ['dist', 'build/sources.sha256', 'build/Release/cudnn_lstm.node']) {
      if (!fs.existsSync(path.join(root, built))) continue;
      fs.cpSync(path.join(root, built), path.join(this.folder, built), { recursive: true });
    }
    must(process.execPath, [path.join('scripts', 'prepare.js')], this.folder);
    this.ts = require('typescript');
    const { config } = this.ts.readConfigFile(path.join(this.folder, 'tsconfig.json'), this.ts.sys.readFile);
    this.compilerOptions = { ...config.compilerOptions, module: 'commonjs', moduleResolution: undefined };
  }

  read(file) {
    return fs.readFileSync(path.join(this.folder, file), 'utf8');
  }

  /** Changes a source file and rebuilds what is made from it. */
  write(file, text) {
    fs.writeFileSync(path.join(this.folder, file), text);
    if (file.startsWith('native/')) {
      must(process.execPath, [require.resolve('cmake-js/bin/cmake-js'), 'compile', '-l', 'warn'], this.folder);
    } else if (file.startsWith('lib/')) {
      // Types are not checked: a fault makes some of them wrong.
      const { outputText } = this.ts.transpileModule(text, { fileName: file, compilerOptions: this.compilerOptions });
      fs.writeFileSync(path.join(this.folder, file.replace(/^lib\/(.*)\.ts$/, 'dist/$1.js')), outputText);
    }
  }

  /** Runs the tests of these names in a file: which passed, and how the others failed. */
  test(test, names, env = {}, limit = longest) {
    const report = path.join(this.folder, 'tests.json');
    fs.rmSync(report, { force: true });
    const jest = path.join('node_modules', 'jest', 'bin', 'jest.js');
    const pattern = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|');
    const argv = [jest, '--ci', '--runInBand', test, '-t', pattern, '--json', `--outputFile=${report}`];
    const { status } = run(process.execPath, ['-e', inGroup, String(Math.ceil(limit)), ...argv], this.folder, {
      env: { ...process.env, WHOLE: '1', ...env },
      stdio: 'ignore',
    });
    if (!fs.existsSync(report)) {
      return { passed: [], failures: [status === 124 ? 'it did not end' : `it ended with ${status}`] };
    }
    const { testResults } = JSON.parse(fs.readFileSync(report, 'utf8'));
    const results = testResults.flatMap(({ assertionResults }) => assertionResults);
    const failures = results
      .filter((each) => each.status === 'failed')
      .map(({ failureMessages }) => failureMessages.join('\n'));
    if (results.length === 0) throw new Error(`${test} cannot be loaded: ${testResults.map(({ message }) => message)}`);
    const passed = results.filter((each) => each.status === 'passed').map(({ fullName }) => fullName);
    return { passed, failures: failures.map(plain) };
  }

  remove() {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Why a fault was not found as it should be; undefined if it was. */
function survival({ says }, { passed, failures }) {
  if (failures.length === 0) return passed.length === 0 ? 'there is no such test' : 'the test passes';
  if (says === undefined || failures.some((text) => text.includes(says))) return undefined;
  return `the test fails otherwise than by '${says}':\n    ${beginning(failures[0])}`;
}

function main(words, verbose) {
  const chosen = mutants.filter(
    ({ name, file, test }) => words.length === 0 || words.some((word) => `${name} ${file} ${test}`.includes(word)),
  );
  const lost = chosen.flatMap((mutant) => problemOf(mutant) ?? []);
  if (lost.length > 0) throw new Error(lost.join('\n'));
  const clone = new Clone();
  let wrong = 0;
  const tell = (name, problem, more = []) => {
    if (problem !== undefined) wrong++;
    console.log(problem === undefined ? `found   ${name}` : `MISSED  ${name}: ${problem}`);
    for (const text of more) console.log(`    ${beginning(text)}`);
  };
  try {
    // First a file's tests without faults, then its faults.
    const groups = new Map();
    for (const mutant of chosen) {
      const key = `${mutant.test} ${JSON.stringify(mutant.env)}`;
      groups.set(key, [...(groups.get(key) ?? []), mutant]);
    }
    for (const group of groups.values()) {
      const [{ test, env }] = group;
      const names = [...new Set(group.map(({ named }) => named))];
      const began = performance.now();
      const { passed, failures } = clone.test(test, names, env);
      const limit = patience(performance.now() - began);
      if (failures.length > 0) tell(test, `without any fault it fails:\n    ${beginning(failures[0])}`);
      for (const name of names)
        if (!passed.some((fullName) => fullName.includes(name))) tell(`${test}, ${name}`, 'no such test passes');
      for (const mutant of group) {
        const before = clone.read(mutant.file);
        try {
          clone.write(
            mutant.file,
            before.replace(mutant.from, () => mutant.to),
          );
          const result = clone.test(test, [mutant.named], env, limit);
          const counts = `${result.failures.length} of ${result.failures.length + result.passed.length} tests`;
          tell(`${mutant.name} (${counts})`, survival(mutant, result), verbose ? result.failures.slice(0, 1) : []);
        } finally {
          clone.write(mutant.file, before);
        }
      }
    }
  } finally {
    clone.remove();
  }
  console.log(`\n${chosen.length} faults, ${wrong} problems`);
  process.exitCode = wrong === 0 ? 0 : 1;
}

module.exports = { problemOf };
if (require.main === module) {
  const words = process.argv.slice(2);
  main(
    words.filter((word) => word !== '--verbose'),
    words.includes('--verbose'),
  );
}
