// Runs every program of bench/ with the smallest sizes, in a copy of the folder, and checks that it exits with 0 and prints its figures:
// that it still runs, not what it measures. Takes a minute of processor time.
//
//   node scripts/run-benches.js [NAME…]               all, or those whose names contain one of these words
//   CUDNN_LSTM_PYTHON=… node scripts/run-benches.js   with the peers in Python, which are skipped otherwise
const { spawnSync } = require('node:child_process');
const { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { globSync } = require('tinyglobby');

const root = path.join(__dirname, '..');
const python = process.env.CUDNN_LSTM_PYTHON;
const isThere = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
const launcher = ['mpirun.mpich', 'mpirun.openmpi', 'mpirun'].find(isThere);
const withoutLauncher = launcher === undefined && 'no mpirun (Debian: apt-get install openmpi-bin mpich)';
const withoutPython = python === undefined && 'CUDNN_LSTM_PYTHON names no Python that has the peers';

/** What the programs train on: 1,200 characters of the bundled tale. */
const text = 'text.txt';
/** Patterns for a number, and for a value that is not one. */
const number = String.raw`-?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?`;
const noNumber = /\b(?:NaN|Infinity|undefined)\b/;

/**
 * Each program of bench/: its arguments and a line that it must print, where `#` is a number; a list of these if it is run in several
 * ways. `skipped`: why it cannot run here; `after` checks what it has left in the folder.
 */
const programs = {
  'bench.js': {
    args: '--rounds 1 --hidden 8',
    prints: 'sampled character +# us \\(1 stream\\), # us \\(64 streams\\)',
  },
  'bf16.js': {
    args: `--corpus ${text} --seeds 1 --epochs 1 --stride 50 --rounds 1`,
    prints: '\\{"seed":1,"precision":"bf16","trainingLoss":#,"loss":#,"lossWithDropout":#\\}',
  },
  'bits.js': {
    args: `${text} --bytes --hidden 8 --layers 1 --epochs 1 --batch-size 4 --seq-length 8`,
    prints: '\\| LSTM of 1 x 8 \\| # \\| # \\| # epochs, # .*',
  },
  'browser.js': { args: '8 1 20', prints: 'runtime +# +#' },
  'busy.js': {
    args: '--busy 1 --work train16 --rounds 1 --seconds 0.02',
    prints: '\\| 1 \\| training, batch 16, T 20 \\| (?:# \\| )+#, # \\|',
  },
  'copies.js': { args: '', prints: 'comparison: # ns a character of the corpus, with a text of 2,000' },
  'curve.js': {
    args: `--ranks 2 --epochs 1 --launcher ${launcher} ${text}`,
    prints: '2 ranks: at most # nats from one process in 1 epochs',
    skipped: withoutLauncher,
    after: (folder) =>
      readFileSync(path.join(folder, 'curve.svg'), 'utf8').includes('<polyline') || 'no curve was drawn',
  },
  'draw.js': {
    args: '--vocabulary 500 --hidden 8 --layers 1 --rounds 1',
    prints: 'typical-p 0.95 +# us a character, of which the draw #',
  },
  'held-out.js': {
    args: `--corpus ${text} --seeds 1 --epochs 1 --max-time 1s`,
    // Does not wait for an epoch of the reference's recipe.
    prints:
      'fast: # nats per character of the tail, median of 1 seeds; proj-basic: (?:# after 1 of 1 epochs, best at 1|no epoch yet)',
  },
  'lines.js': {
    args: '--hidden 8 --layers 1 --threads 1 --rounds 1 --steps 2 --epochs 1 --known 1000',
    prints: '.*first characters: # bits from the list.s by the model.s probabilities, # by # sampled lines, .*',
  },
  'load.js': {
    args: '--hidden 64 --rounds 1',
    prints: '\\+ 3 characters, 3 streams +this checkout +# MiB, # x the parameters, # s',
  },
  'plan.js': {
    args: `--text ${text} --time 5 --count 1 --plans 1`,
    prints: 'the plan is # nats per character from the best',
  },
  'race.js': {
    args: `--corpus ${text} --seeds 1 --epochs 1 --goal 10`,
    prints: 'median of 1 seeds: # s of training, #',
  },
  'scale.js': {
    args: `--rounds 1 --seconds 0.2 --warm-up 0.1 --sizes 8x32x5 --launcher ${launcher}`,
    prints: '.*one process of 2 threads # ms, 2 ranks of one # ms, ratio #.*',
    skipped: withoutLauncher,
  },
  'search.js': [
    {
      args: `--texts ${text} --hidden 64 --epochs 1 --out rows.jsonl`,
      prints: `${text}: 1 x 64, 1 epochs: # after 1, # s of a processor`,
    },
    {
      args: '--table',
      prints: '\\{"trainings":#,.*',
      after: (folder) => {
        const [written, kept] = [folder, root].map((each) =>
          readFileSync(path.join(each, 'lib', 'training', 'best-table.ts'), 'utf8').replace(/[\s,'"]/g, ''),
        );
        return written === kept || 'lib/training/best-table.ts is not what node bench/search.js --table writes';
      },
    },
  ],
  'serve.js': {
    args: '--clients 4 --seconds 1 --hidden 8 --length 20 --writers 2 --rounds 2',
    prints: 'memory +beside +(?:# )+MB; last third \\+?# MB over the second',
  },
  'weights.js': { args: '8 1 20', prints: 'int8 .*#.*' },
  'peers/run.js': [
    {
      args: '--peers package --rounds 1 --seconds 0.02 --steps 1 --batch 2 --threads 1',
      prints: ' +us / sampled character +# +# +# x \\(# \\.\\. #\\)',
    },
    {
      args: `--peers torch --rounds 1 --seconds 0.02 --steps 1 --batch 2 --threads 1 --recipe proj-basic --python ${python}`,
      prints: ' +us / sampled character +# +# +# x \\(# \\.\\. #\\)',
      skipped: withoutPython,
    },
  ],
  'peers/spread.js': {
    args: '--recorded bench/results/keras-spread-amd-epyc-family-26-model-2-2.json',
    prints: 'first batch: at most # \\(Keras\\) and # \\(ours\\) nats from ln # = #',
  },
};

/** Programs that run elsewhere, or not at all, with the reason; a folder's name stands for everything in it. */
const elsewhere = {
  gpu: 'scripts/check-cuda.sh runs them on a stand-in for a GPU',
  'peers/tfjs_peer.js': 'TensorFlow.js is not installed here (bench/README.md)',
  'peers/keras_peer.py': 'it tries four ways to compile, which takes minutes',
  'peers/keras_epochs.py': 'three trainings by Keras take minutes; peers/spread.js judges those that were recorded',
};
/** Files that are not programs, with what runs them. */
const parts = {
  'measured.js': 'all',
  'corpus.js': 'race.js',
  'peers/jobs.js': 'peers/run.js',
  'peers/peer-process.js': 'peers/run.js',
  'peers/serve.js': 'peers/run.js',
  'peers/package_peer.js': 'peers/run.js',
  'peers/serve.py': 'peers/run.js',
  'peers/torch_peer.py': 'peers/run.js',
};

/** The files of bench/ that nothing above names. */
function unknownFiles() {
  const known = (name) => name in programs || name in parts || name in elsewhere || name.split('/')[0] in elsewhere;
  return globSync('**/*.{js,py}', { cwd: path.join(root, 'bench'), ignore: '**/node_modules/**' }).filter(
    (name) => !known(name),
  );
}

/** Makes a folder that looks like the checkout to a benchmark; what it writes goes there. */
function makeFolder() {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'benches-'));
  cpSync(path.join(root, 'bench'), path.join(folder, 'bench'), { recursive: true });
  mkdirSync(path.join(folder, 'lib', 'training'), { recursive: true });
  for (const name of ['dist', 'build', 'node_modules', 'corpora', 'test', 'package.json'])
    symlinkSync(path.join(root, name), path.join(folder, name));
  const tale = readFileSync(path.join(root, 'corpora', 'the-lamplighters-road.txt'), 'utf8');
  writeFileSync(path.join(folder, text), tale.slice(0, 1200));
  return folder;
}

/** Runs a program; returns what is wrong with the result, or undefined. */
function problemOf(name, { args, prints, after = () => true }, folder) {
  const argv = [path.join('bench', name), ...args.split(' ').filter(Boolean)];
  // torch.compile takes half a minute, and is not part of this package.
  const env = { ...process.env, TORCHDYNAMO_DISABLE: '1' };
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, argv, { cwd: folder, env, encoding: 'utf8' });
  const printed = `${stdout}${stderr}`.trimEnd();
  if (status !== 0) return `it ended with ${status ?? signal}\n${printed}`;
  const line = new RegExp(`^${prints.replaceAll('#', number)}$`, 'm');
  if (!line.test(stdout)) return `no line of what it printed is ${line}\n${printed}`;
  if (noNumber.test(stdout)) return `it printed ${noNumber.exec(stdout)[0]}\n${printed}`;
  const left = after(folder);
  return left === true ? undefined : left;
}

function main() {
  const unknown = unknownFiles();
  for (const name of unknown) console.log(`FAILED ${name}: it is not in the list of scripts/run-benches.js`);
  let failed = unknown.length;
  const wanted = process.argv.slice(2);
  const isWanted = (name) => wanted.length === 0 || wanted.some((word) => name.includes(word));
  const folder = makeFolder();
  try {
    for (const [name, given] of Object.entries(programs).filter(([name]) => isWanted(name))) {
      for (const way of [given].flat()) {
        const title = `bench/${name} ${way.args}`.trimEnd();
        if (way.skipped) {
          console.log(`skipped ${title.replaceAll(' undefined', ' …')}: ${way.skipped}`);
          continue;
        }
        const began = performance.now();
        const problem = problemOf(name, way, folder);
        if (problem !== undefined) failed++;
        const seconds = ((performance.now() - began) / 1000).toFixed(1);
        console.log(problem === undefined ? `ok ${title} (${seconds} s)` : `FAILED ${title}: ${problem}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  if (wanted.length === 0)
    for (const [name, why] of Object.entries(elsewhere)) console.log(`not run: bench/${name}: ${why}`);
  process.exitCode = failed > 0 ? 1 : 0;
}

main();
