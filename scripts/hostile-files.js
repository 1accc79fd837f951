// Every kind of thing that can stand where a file is expected, through every command that would read it there. Prints a table of exit
// codes, milliseconds of processor time and megabytes; ends with 1 where a command hung, took too much memory, ended with a code that is not documented for
// this, said more than it should, or sent a control character to the terminal.
//
//   node scripts/hostile-files.js [--every 3]     a third of the pairs, each kind and each place among them
const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const cli = path.join(__dirname, '..', 'dist', 'cli', 'main.js');

/** What a command may take beyond what it takes of a file as it should be. */
const megabytes = 100;
/** Milliseconds of processor time: the clock also counts what other programs do meanwhile. */
const processorLimit = 2000;
/** Only so that a hang ends: no command is held to a time that a busy machine could miss. */
const hangs = 30_000;

const text = Array.from({ length: 40 }, (_, i) => `${i % 7} sheep and ${i % 5} goats\n`).join('');
const link = (target) => (place) => fs.symlinkSync(target, place);
const content = (bytes) => (place) => fs.writeFileSync(place, bytes);
const sparse = (place) => {
  fs.writeFileSync(place, '');
  fs.truncateSync(place, 2 ** 33);
};
/** Where the name cannot be chosen the file holds it, as a pointer would. */
const named = (name) => (place, fixed) => {
  if (fixed) return content(name)(place);
  const other = path.join(path.dirname(place), name);
  fs.writeFileSync(other, text);
  return other;
};

/** The kinds: what puts one at a place, and gives its path if that is another. `endless`: as a text it has no end, or no beginning. */
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
  'link to a directory': { put: link(__dirname) },
  'link to nothing': { put: link('/nowhere/at all') },
  'link to itself': { put: (place) => fs.symlinkSync(place, place) },
  socket: {
    put: async (place) => {
      const server = net.createServer();
      // The path of a socket is short, that of a folder may not be.
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
/** A place: the file's name in the run's directory, or none for an argument; the command; and the exit codes it may end with. */
const argument = (codes, command) => ({ codes, command });
const member = (name, codes, command) => ({ name, codes, command });
const resume = ({ run, corpus }) => ['train', corpus, '--resume', run, '--epochs', '2', ...device];
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

/** Runs the program to its end. `enough`: it is told to end once it listens, a moment later. */
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
      resolve({
        code,
        signal,
        stdout,
        stderr,
        megabytes: used.peak / 2 ** 20,
        milliseconds: used.processor ?? Number.NaN,
      });
    });
  });
}

/** A folder with a text and a run of its own. */
class Stage {
  static async make() {
    const stage = new Stage();
    stage.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostile-'));
    stage.corpus = path.join(stage.folder, 'text.txt');
    stage.model = path.join(stage.folder, 'model');
    fs.writeFileSync(stage.corpus, text);
    const made = await execute(['train', stage.corpus, ...small, '--out', stage.model, ...device], {
      cwd: stage.folder,
    });
    if (made.code !== 0) throw new Error(made.stderr);
    stage.usual = made.megabytes;
    return stage;
  }

  /** One kind at one place. */
  async try(kindName, placeName) {
    const kind = kinds[kindName];
    const place = places[placeName];
    const folder = fs.mkdtempSync(path.join(this.folder, 'case-'));
    const run = path.join(folder, 'run');
    fs.cpSync(this.model, run, { recursive: true });
    const at = place.name === undefined ? path.join(folder, 'file') : path.join(run, place.name);
    fs.mkdirSync(path.dirname(at), { recursive: true });
    fs.rmSync(at, { force: true });
    const file = (await kind.put(at, place.name !== undefined)) ?? at;
    const reads = place.corpus || (place.pipe && kindName.includes('pipe'));
    // A text without an end is read until somebody says that it is enough.
    const waits = reads && kind.endless === true;
    const args = place.command({ file, run, corpus: this.corpus, out: path.join(folder, 'out') });
    const ended = await execute(args, { cwd: folder, enough: waits });
    fs.rmSync(folder, { recursive: true, force: true });
    return { kind: kindName, place: placeName, ...ended, problems: this.judge(ended, place, waits) };
  }

  judge({ code, signal, stdout, stderr, megabytes: used, milliseconds }, { codes }, waits) {
    const problems = [];
    if (signal !== null) problems.push(`ended by ${signal}`);
    else if (![...codes, ...(waits ? [143] : [])].includes(code)) problems.push(`exit ${code}`);
    if (used > this.usual + megabytes) problems.push(`${used.toFixed(0)} MB, where ${this.usual.toFixed(0)} are usual`);
    if (milliseconds > processorLimit) problems.push(`${milliseconds.toFixed(0)} ms`);
    if (/[^\P{C}\n]/u.test(stdout + stderr)) problems.push('control characters');
    const lines = stderr.split('\n').filter((line) => line !== '');
    if (code !== 0 && code !== 143 && signal === null) {
      // Before the error, what is being done: which model, which device, that a text is read.
      const errors = lines.filter((line) => !/^(model|device|seed|reading|passed over)\b/.test(line));
      if (errors.length !== 1) problems.push(`${errors.length} lines`);
      if (/Unexpected error/.test(stderr)) problems.push('an unexpected error');
    }
    return problems;
  }

  close() {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The pairs, or every nth of them, so laid out that each kind and each place is among them. */
function pairs(every = 1) {
  const all = [];
  for (const [i, kind] of Object.keys(kinds).entries())
    for (const [j, place] of Object.keys(places).entries()) if ((i + j) % every === 0) all.push([kind, place]);
  return all;
}

/** Tries the pairs, two at a time. */
async function tryAll(every, onResult) {
  const stage = await Stage.make();
  try {
    const left = pairs(every);
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
  const at = process.argv.indexOf('--every');
  const { usual, results } = await tryAll(at < 0 ? 1 : Number(process.argv[at + 1]));
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
