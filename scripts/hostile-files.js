// Passes every kind of thing that can stand where a file is expected to every command that would read or write it there. Prints a table of
// exit codes, milliseconds of processor time and megabytes; exits with 1 if a command hung, used too much memory, ended with a code not
// documented for the case, said more than it should, or sent a control character to the terminal.
//
//   node scripts/hostile-files.js [--every 3 [--from 1]]   a third of the pairs, with every kind and every place; --from 1: another third
const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');

const cli = path.join(__dirname, '..', 'dist', 'cli', 'main.js');

/** The memory that a command may use beyond what it uses for a proper file. */
const megabytes = 100;
/** Milliseconds of processor time: wall-clock time would include what other programs do meanwhile. */
const processorLimit = 2000;
/** The most of it that a command may take to end once it no longer listens for SIGTERM. */
const deafLimit = 200;
/** Only ends hangs: no command is held to a time that a busy machine could miss. */
const hangs = 30_000;

const text = Array.from({ length: 40 }, (_, i) => `${i % 7} sheep and ${i % 5} goats\n`).join('');
const link = (target) => (place) => fs.symlinkSync(target, place);
const content = (bytes) => (place) => fs.writeFileSync(place, bytes);
const sparse = (place) => {
  fs.writeFileSync(place, '');
  fs.truncateSync(place, 2 ** 33);
};
/** Where the file's name is fixed, the file contains this name instead, as a pointer would. */
const named = (name) => (place, fixed) => {
  if (fixed) return content(name)(place);
  const other = path.join(path.dirname(place), name);
  fs.writeFileSync(other, text);
  return other;
};

/** The kinds: `put` makes one at a place, and returns its path if it differs. `endless`: read as a text, it has no end, or no beginning. */
const kinds = {
  'named pipe': { put: (place) => void execFileSync('mkfifo', [place]), endless: true },
  'link to a named pipe': {
    put: (place) => {
      execFileSync('mkfifo', [`${place}.pipe`]);
      fs.symlinkSync(`${place}.pipe`, place);
    },
    endless: true,
  },
  directory: { put: (place) => fs.mkdirSync(place) },
  'link to a directory': {
    // A separate directory, since a command may write into it.
    put: (place) => {
      fs.mkdirSync(`${place}.folder`);
      fs.symlinkSync(`${place}.folder`, place);
    },
  },
  'link to nothing': { put: link('/nowhere/at all') },
  'link to itself': { put: (place) => fs.symlinkSync(place, place) },
  socket: {
    put: async (place) => {
      const server = net.createServer();
      // A socket's path must be short; the folder's may not be.
      const short = path.join(os.tmpdir(), `s${process.pid}-${Math.random().toString(36).slice(2)}`);
      await new Promise((resolve) => server.listen(short, resolve));
      fs.renameSync(short, place);
      server.close();
      server.unref();
      if (!fs.existsSync(place)) throw new Error('the socket has gone with its server');
    },
  },
  '/dev/zero': { put: link('/dev/zero') },
  '/dev/null': { put: link('/dev/null') },
  '/dev/full': { put: link('/dev/full') },
  '/dev/random': { put: link('/dev/random') },
  '/dev/tty': { put: link('/dev/tty') },
  '/proc/self/mem': { put: link('/proc/self/mem') },
  '/proc/kmsg': { put: link('/proc/kmsg'), endless: true },
  'sparse, 8 GiB': { put: sparse, endless: true },
  empty: { put: content('') },
  'one byte': { put: content('x') },
  'one line of 4 MiB': { put: content('x'.repeat(4 << 20)) },
  'NULs, 1 MiB': { put: content(Buffer.alloc(1 << 20)) },
  'all bytes': { put: content(Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 167) % 256))) },
  'JSON, 100,000 deep': { put: content('['.repeat(100_000)) },
  'a header of 2^63 bytes': { put: content(Buffer.from('ffffffffffffff7f7b7d', 'hex')) },
  '../.. and a name': { put: content('../../../etc/passwd\n') },
  'a name of orders to a terminal': { put: named('\u001b]0;PWNED\u0007\u001b[31mx\u009b2J\u202e.txt') },
  'a name of two lines': { put: named('one\ntwo.txt') },
  'a name of 255 bytes': { put: named(`${'n'.repeat(251)}.txt`) },
};

const device = ['--device', 'cpu', '--threads', '1'];
const small = [
  '--hidden',
  '8',
  '--layers',
  '1',
  '--batch-size',
  '4',
  '--seq-length',
  '10',
  '--sample-length',
  '0',
  '--epochs',
  '1',
];
/** Serves on any free port; the server is told to end as soon as it listens for SIGTERM. */
const serve = (...args) => ['serve', ...args, '--port', '0', ...device];
/**
 * A place: the file's name in the run's directory, or none for an argument; the command; and the exit codes it may end with. `corpus`: the
 * file is a text, which may be a pipe and may have no end. `pipe`: the command waits for a pipe. `ends`: the command is told to end, since
 * it would not by itself. `as`: the extension of an argument's name. `of`: which of the stage's runs the file is in.
 */
const argument = (codes, command) => ({ codes, command });
const member = (name, codes, command) => ({ name, codes, command });
const resume = ({ run, corpus }) => ['train', corpus, '--resume', run, '--epochs', '2', ...device];
const tuning = ['--batch-size', '4', '--seq-length', '10', '--sample-length', '0', '--epochs', '1'];
/** A sweep of one trial, which is already done. */
const sweeps = (name) => ({
  ...member(name, [0, 3], ({ run, sweep }) => ['sweep', sweep, '--out', run, ...device]),
  of: 'sweep',
});
const places = {
  'info F': argument([3], ({ file }) => ['info', file]),
  'sample F': argument([3], ({ file }) => ['sample', file, '--length', '5', ...device]),
  'score F TEXT': argument([3], ({ file, corpus }) => ['score', file, corpus, ...device]),
  'import F': argument([3], ({ file, out }) => ['import', file, '--out', out, ...device]),
  'train F': {
    ...argument([0, 3], ({ file, out }) => ['train', file, ...small, '--out', out, ...device]),
    corpus: true,
  },
  'score RUN F': { ...argument([0, 3], ({ file, run }) => ['score', run, file, ...device]), corpus: true },
  'sample RUN --corpus F': {
    ...argument([0, 3], ({ file, run }) => ['sample', run, '--corpus', file, '--length', '5', ...device]),
    corpus: true,
  },
  'sample RUN --prompt-file F': {
    ...argument([0, 3], ({ file, run }) => ['sample', run, '--prompt-file', file, '--length', '5', ...device]),
    pipe: true,
  },
  'train --config F': {
    ...argument([2, 3], ({ file, corpus, out }) => ['train', corpus, ...small, '--config', file, '--out', out]),
    pipe: true,
  },
  'train --resume F': argument([2, 3, 5], ({ file, corpus }) => ['train', corpus, '--resume', file, ...device]),
  'train --from F': argument([2, 3], ({ file, corpus, out }) => [
    ...['train', corpus, '--from', file, ...tuning, '--out', out, ...device],
  ]),
  'train --from RUN --keep F': {
    ...argument([0, 3], ({ file, run, corpus, out }) => [
      ...['train', corpus, '--from', run, '--keep', file, ...tuning, '--out', out, ...device],
    ]),
    corpus: true,
  },
  'train --validation-file F': {
    ...argument([0, 3], ({ file, corpus, out }) => [
      ...['train', corpus, ...small, '--validation-file', file, '--out', out, ...device],
    ]),
    corpus: true,
  },
  'train --out F': argument([0, 5], ({ file, corpus }) => ['train', corpus, ...small, '--out', file, ...device]),
  'sample RUN F': argument([3], ({ file, run }) => ['sample', run, file, '--length', '5', ...device]),
  'score RUN F TEXT': {
    ...argument([0, 3], ({ file, run, corpus }) => ['score', run, file, corpus, ...device]),
    as: '.safetensors',
  },
  'sample RUN --not-in F': {
    ...argument([0, 3], ({ file, run }) => ['sample', run, '--lines', '2', '--not-in', file, ...device]),
    corpus: true,
  },
  'sample RUN --corpus-check F': {
    ...argument([0, 3], ({ file, run }) => ['sample', run, '--corpus-check', file, '--length', '5', ...device]),
    corpus: true,
  },
  'sample RUN --session F': argument([0, 3], ({ file, run }) => [
    ...['sample', run, '--interactive', '--session', file, ...device],
  ]),
  'score RUN TEXT --html F': argument([2], ({ file, run, corpus }) => [
    ...['score', run, corpus, '--per-character', '--html', file, ...device],
  ]),
  'export F': argument([3], ({ file, out }) => ['export', file, '--to', 'pytorch', '--out', out]),
  'export RUN --out F': argument([2], ({ file, run }) => ['export', run, '--to', 'html', '--out', file]),
  'import MODEL --vocabulary F': argument([3], ({ file, foreign, corpus, out }) => [
    ...['import', foreign, '--vocabulary', file, '--text', corpus, '--out', out, ...device],
  ]),
  'import MODEL --corpus F': {
    ...argument([0, 3], ({ file, foreign, out }) => ['import', foreign, '--corpus', file, '--out', out, ...device]),
    corpus: true,
  },
  'import MODEL --text F': {
    ...argument([0, 3], ({ file, foreign, symbols, out }) => [
      ...['import', foreign, '--vocabulary', symbols, '--text', file, '--out', out, ...device],
    ]),
    corpus: true,
  },
  'import MODEL --out F': argument([0, 2, 5], ({ file, foreign, symbols, corpus }) => [
    ...['import', foreign, '--vocabulary', symbols, '--text', corpus, '--out', file, ...device],
  ]),
  'serve F': argument([3], ({ file }) => serve(file)),
  'serve RUN --key-file F': {
    ...argument([0, 2, 3], ({ file, run }) => serve(run, '--key-file', file)),
    pipe: true,
    ends: true,
  },
  'sweep F': { ...argument([3], ({ file, out }) => ['sweep', file, '--out', out, ...device]), pipe: true },
  'sweep --out F': argument([0, 3, 5], ({ file, sweep }) => ['sweep', sweep, '--out', file, ...device]),
  'reproduce F': {
    ...argument([0, 3], ({ file, out }) => [
      'reproduce',
      file,
      '--runs',
      '1',
      '--max-time',
      '0',
      '--out',
      out,
      ...device,
    ]),
    corpus: true,
  },
  'reproduce --out F': argument([0, 3, 5], ({ file, corpus }) => [
    ...['reproduce', corpus, '--runs', '1', '--max-time', '0', '--out', file, ...device],
  ]),
  'info RUN, best': member('best', [0, 3], ({ run }) => ['info', run]),
  'sample RUN, best': member('best', [0, 3], ({ run }) => ['sample', run, '--length', '5', ...device]),
  'train --resume RUN, best': member('best', [0, 3], resume),
  'train --resume RUN, latest': member('latest', [0, 3], resume),
  'train --resume RUN, lock': member('lock', [0, 5], resume),
  'train --resume RUN, metrics.jsonl': member('metrics.jsonl', [0, 5], resume),
  'train --resume RUN, config.json': member('config.json', [3], ({ run }) => [
    'train',
    '--resume',
    run,
    '--epochs',
    '2',
    ...device,
  ]),
  'train --resume RUN, the newest': member('checkpoint-99999999.safetensors', [0], resume),
  'info RUN, the newest': member('checkpoint-99999999.safetensors', [0], ({ run }) => ['info', run]),
  'serve RUN, best': { ...member('best', [0, 3], ({ run }) => serve(run)), ends: true },
  'sample --novel, known-lines.bin': {
    ...member('known-lines.bin', [3], ({ run }) => ['sample', run, '--lines', '2', '--novel', ...device]),
    of: 'lines',
  },
  'sweep, sweep.json': sweeps('sweep.json'),
  'sweep, metrics.jsonl': sweeps('1-hidden=8/metrics.jsonl'),
  'sweep, problem.txt': sweeps('1-hidden=8/problem.txt'),
  'reproduce, metrics.jsonl': {
    ...member('epochs-1/metrics.jsonl', [0, 3], ({ run, corpus }) => [
      'reproduce',
      corpus,
      '--runs',
      '1',
      '--max-time',
      '0',
      '--out',
      run,
      ...device,
    ]),
  },
  'reproduce, record.json': member('epochs-1/record.json', [0, 3], ({ run, corpus }) => [
    ...['reproduce', corpus, '--runs', '1', '--max-time', '0', '--out', run, ...device],
  ]),
};

/** Runs the program to its end. `enough`: tells it to end, a moment after it begins to listen for SIGTERM. */
function execute(args, { cwd, enough = false }) {
  const child = spawn(process.execPath, ['--require', path.join(__dirname, 'report-usage.js'), cli, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, DEBUG: '' },
    timeout: hangs,
    killSignal: 'SIGKILL',
  });
  const texts = ['', '', ''];
  for (const [i, stream] of child.stdio.slice(1).entries()) {
    stream.setEncoding('utf8').on('data', (piece) => {
      texts[i] += piece;
      if (i === 2 && enough && piece.includes('listens')) setTimeout(() => child.kill('SIGTERM'), 500);
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const [stdout, stderr, usage] = texts;
      const used = Object.assign(
        {},
        ...usage
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line)),
      );
      // While Node is closed down, after the program's last line, no handler is left for a signal.
      const late = enough && signal === 'SIGTERM' && used.code !== undefined;
      resolve({
        code: late ? used.code : code,
        signal: late ? null : signal,
        stdout,
        stderr,
        megabytes: used.peak / 2 ** 20,
        milliseconds: used.processor ?? Number.NaN,
        deaf: used.deaf ?? 0,
      });
    });
  });
}

/** A folder with a text, runs of several kinds, and the other files that commands are given. */
class Stage {
  static async make() {
    const stage = new Stage();
    stage.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostile-'));
    const at = (name) => path.join(stage.folder, name);
    stage.runs = { plain: at('model'), lines: at('lines'), sweep: at('swept') };
    stage.given = {
      corpus: at('text.txt'),
      foreign: at('model.pt'),
      symbols: at('model.vocabulary.json'),
      sweep: at('sweep.json'),
    };
    const { corpus, foreign, sweep } = stage.given;
    fs.writeFileSync(corpus, text);
    const options = { layers: 1, batchSize: 4, seqLength: 10, sampleLength: 0, epochs: 1 };
    fs.writeFileSync(sweep, JSON.stringify({ corpus, options, grid: { hidden: [8] } }));
    for (const args of [
      ['train', corpus, ...small, '--out', stage.runs.plain, ...device],
      ['train', corpus, '--lines', ...small, '--out', stage.runs.lines, ...device],
      ['sweep', sweep, '--out', stage.runs.sweep, ...device],
      // An import is verified, for which the model must have learned something.
      ['train', corpus, ...small, '--hidden', '16', '--epochs', '15', '--out', at('learned'), ...device],
      ['export', at('learned'), '--to', 'pytorch', '--out', foreign],
    ]) {
      const made = await execute(args, { cwd: stage.folder });
      if (made.code !== 0) throw new Error(made.stderr);
      stage.usual = Math.max(stage.usual ?? 0, made.megabytes);
    }
    return stage;
  }

  /** Tries one kind at one place. */
  async try(kindName, placeName) {
    const kind = kinds[kindName];
    const place = places[placeName];
    const folder = fs.mkdtempSync(path.join(this.folder, 'case-'));
    const run = path.join(folder, 'run');
    fs.cpSync(this.runs[place.of ?? 'plain'], run, { recursive: true });
    const at = place.name === undefined ? path.join(folder, `file${place.as ?? ''}`) : path.join(run, place.name);
    fs.mkdirSync(path.dirname(at), { recursive: true });
    fs.rmSync(at, { force: true });
    const file = (await kind.put(at, place.name !== undefined)) ?? at;
    const reads = place.corpus || (place.pipe && kindName.includes('pipe'));
    // A text without an end is read until the command is told to stop.
    const waits = reads && kind.endless === true;
    const args = place.command({ ...this.given, file, run, out: path.join(folder, 'out') });
    const ended = await execute(args, { cwd: folder, enough: waits || place.ends });
    fs.rmSync(folder, { recursive: true, force: true });
    return { kind: kindName, place: placeName, ...ended, problems: this.judge(ended, place, waits || place.ends) };
  }

  judge({ code, signal, stdout, stderr, megabytes: used, milliseconds, deaf }, { codes }, waits) {
    const problems = [];
    if (signal !== null) problems.push(`ended by ${signal}`);
    else if (![...codes, ...(waits ? [143] : [])].includes(code)) problems.push(`exit ${code}`);
    if (used > this.usual + megabytes) problems.push(`${used.toFixed(0)} MB, where ${this.usual.toFixed(0)} are usual`);
    if (milliseconds > processorLimit) problems.push(`${milliseconds.toFixed(0)} ms`);
    if (deaf > deafLimit) problems.push(`${deaf.toFixed(0)} ms without listening for SIGTERM`);
    if (/[^\P{C}\n]/u.test(stdout + stderr)) problems.push('control characters');
    const lines = stderr.split('\n').filter((line) => line !== '');
    if (code !== 0 && code !== 143 && signal === null) {
      // Lines before the error say what is being done: which model, which device, that a text is read.
      const errors = lines.filter((line) => !/^(model|device|seed|reading|passed over|1 trial)\b/.test(line));
      if (errors.length !== 1) problems.push(`${errors.length} lines`);
      if (/Unexpected error/.test(stderr)) problems.push('an unexpected error');
    }
    return problems;
  }

  close() {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** All pairs, or every nth from one on, chosen so that every kind and every place is included. */
function pairs(every = 1, from = 0) {
  const all = [];
  for (const [i, kind] of Object.keys(kinds).entries())
    for (const [j, place] of Object.keys(places).entries())
      if ((i + j) % every === from % every) all.push([kind, place]);
  return all;
}

/** Tries the pairs, two at a time. */
async function tryAll(every, from, onResult) {
  const stage = await Stage.make();
  try {
    const left = pairs(every, from);
    const results = [];
    const worker = async () => {
      for (let pair = left.shift(); pair; pair = left.shift()) {
        const result = await stage.try(...pair);
        results.push(result);
        onResult?.(result);
      }
    };
    await Promise.all([worker(), worker()]);
    return { usual: stage.usual, results };
  } finally {
    stage.close();
  }
}

async function main() {
  const options = { every: { type: 'string', default: '1' }, from: { type: 'string', default: '0' } };
  const { every, from } = parseArgs({ options }).values;
  const { usual, results } = await tryAll(Number(every), Number(from));
  const columns = Object.keys(places);
  console.log(`exit/ms/MB of each; a usual run takes ${usual.toFixed(0)} MB\n`);
  for (const [i, name] of columns.entries()) console.log(`${String(i + 1).padStart(3)}  ${name}`);
  console.log(`\n${''.padEnd(32)}${columns.map((_, i) => String(i + 1).padStart(13)).join('')}`);
  for (const kind of Object.keys(kinds)) {
    const cells = columns.map((place) => {
      const found = results.find((result) => result.kind === kind && result.place === place);
      if (!found) return '';
      return `${found.problems.length > 0 ? '!' : ''}${found.code ?? found.signal}/${found.milliseconds.toFixed(0)}/${found.megabytes.toFixed(0)}`;
    });
    console.log(kind.padEnd(32) + cells.map((cell) => cell.padStart(13)).join(''));
  }
  const wrong = results.filter(({ problems }) => problems.length > 0);
  for (const { kind, place, problems, stderr } of wrong)
    console.log(`${kind}, ${place}: ${problems.join(', ')}: ${JSON.stringify(stderr.slice(0, 500))}`);
  const slowest = Math.max(...results.map(({ milliseconds }) => milliseconds));
  const largest = Math.max(...results.map((result) => result.megabytes));
  console.log(
    `\n${results.length} runs, ${wrong.length} wrong; at most ${slowest.toFixed(0)} ms of processor time, ${largest.toFixed(0)} MB`,
  );
  process.exitCode = wrong.length > 0 ? 1 : 0;
}

module.exports = { kinds, places, pairs, tryAll };
if (require.main === module) void main();
