/** The `train` command, in this process, with the real addon and real directories. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { lastCheckpoints, RunDirectory } from '../../../lib/checkpoint/run-directory';
import { infoCommand } from '../../../lib/cli/info';
import { main } from '../../../lib/cli/main';
import { shellQuote } from '../../../lib/shell';
import type { TrainingEvent } from '../../../lib/training/events';
import type { TrainingPlan } from '../../../lib/training/plan';
import { openTraining } from '../../../lib/training/preparation';
import { compiled, itWhole } from '../../fixtures/child';
import { jsonLines, sinks } from '../../fixtures/sink';

let folder: string;
let corpus: string;
const tiny = ['--hidden', '16', '--layers', '1', '--batch-size', '4', '--seq-length', '10', '--sample-length', '20'];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'train-'));
  corpus = join(folder, 'sheep.txt');
  await writeFile(corpus, Array.from({ length: 40 }, (_, i) => `${i % 7} sheep and ${i % 5} goats\n`).join(''));
});
afterEach(() => rm(folder, { recursive: true }));

async function train(...argv: string[]) {
  const io = sinks();
  const code = await main(['train', ...argv], io);
  const lines = io.stdout.text.trimEnd().split('\n');
  return { code, stdout: io.stdout.text, stderr: io.stderr.text, lines };
}

const eventsOf = (lines: string[]) => lines.map((line) => JSON.parse(line) as TrainingEvent);

it('trains, and leaves checkpoints, metrics and the configuration', async () => {
  const out = join(folder, 'run');
  const { code, stdout, stderr } = await train(corpus, ...tiny, '--epochs', '2', '--out', out);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^--- sample, epoch 1 ---\n[\s\S]*--- sample, epoch 2 ---\n/);
  expect(stderr).toMatch(/epoch 2\/2 .*loss/);
  const names = await readdir(out);
  expect(names).toEqual(expect.arrayContaining(['best', 'config.json', 'latest', 'metrics.jsonl']));
  expect(names).not.toContain('lock');
  expect(names.filter((name) => /^weights-improvement-\d-\d\.\d{4}\.safetensors$/.test(name))).toHaveLength(1);
  const configuration = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as Record<string, unknown>;
  expect(configuration).toMatchObject({ hidden: 16, epochs: 2, corpus: [corpus] });
  const metrics = jsonLines(await readFile(join(out, 'metrics.jsonl'), 'utf8'));
  expect(metrics.filter(({ type }) => type === 'epoch')).toHaveLength(2);
});

it('resumes without being told the corpus or the options again, equal to the unbroken run', async () => {
  const [whole, cut] = [join(folder, 'whole'), join(folder, 'cut')];
  await train(corpus, ...tiny, '--epochs', '4', '--out', whole);
  const controller = new AbortController();
  const training = await openTraining({
    corpus: [corpus],
    options: { hidden: 16, layers: 1, batchSize: 4, seqLength: 10, sampleLength: 20, epochs: 4, out: cut },
    signal: controller.signal,
  });
  const iterate = async () => {
    for await (const event of training) {
      if (event.type === 'step' && event.totalSteps > 30) controller.abort(new Error('enough'));
    }
  };
  await expect(iterate()).rejects.toThrow('enough');
  await training.dispose();
  const { code, lines } = await train('--resume', cut, '--json');
  expect(code).toBe(0);
  const [start] = eventsOf(lines);
  expect(start).toMatchObject({ type: 'start', resumed: { step: expect.any(Number) } });
  const last = async (run: string) => loadCheckpoint(join(run, (await readFile(join(run, 'latest'), 'utf8')).trim()));
  const [a, b] = [await last(whole), await last(cut)];
  expect(Buffer.from(b.parameters.buffer).equals(Buffer.from(a.parameters.buffer))).toBe(true);
  expect(b.secondMoments).toEqual(a.secondMoments);
  expect(b.metadata.training?.best).toEqual(a.metadata.training?.best);
  expect((await readFile(join(cut, 'best'), 'utf8')).trim()).toBe(a.metadata.training?.best?.file);
});

itWhole('trains to the same weights however often the validation text is scored', async () => {
  const parameters = async (...options: string[]) => {
    const out = join(folder, options.join('') || 'plain');
    await train(corpus, ...tiny, '--epochs', '2', '--patience', '0', '--out', out, ...options);
    const { metadata, ...arrays } = await loadCheckpoint(
      join(out, (await readFile(join(out, 'latest'), 'utf8')).trim()),
    );
    expect(metadata.step).toBe(36);
    return Object.values(arrays).map((array: Float32Array) => Buffer.from(array.buffer).toString('hex'));
  };
  const plain = await parameters();
  for (const every of ['1steps', '7steps', '2']) expect(await parameters('--validation-every', every)).toEqual(plain);
});

it('saves and ends with the signal on SIGINT', async () => {
  const out = join(folder, 'run');
  const trained = train(corpus, ...tiny, '--epochs', '1000000', '--patience', '0', '--out', out);
  const saved = setInterval(() => {
    if (!existsSync(join(out, 'latest'))) return;
    clearInterval(saved);
    process.emit('SIGINT', 'SIGINT');
  }, 10);
  await expect(trained).rejects.toMatchObject({ exitCode: 130 });
  expect(process.listenerCount('SIGINT')).toBe(0);
  const names = await readdir(out);
  expect(names).toContain('latest');
  expect(names).not.toContain('lock');
});

it('resumes the newest run where none is named, passing over directories that are none', async () => {
  const before = process.cwd();
  process.chdir(folder);
  try {
    await expect(train('--resume')).rejects.toMatchObject({ exitCode: 3 });
    for (const name of ['first', 'second']) await train(corpus, ...tiny, '--epochs', '1', '--out', `runs/${name}`);
    await mkdir('runs/reproduction');
    const { code, stderr } = await train('--resume', '--epochs', '2');
    expect(code).toBe(0);
    expect(stderr).toContain('run: runs/second\n');
  } finally {
    process.chdir(before);
  }
});

it('names the directory of a run after its text, in any script, and gives each of several runs its own', async () => {
  const before = process.cwd();
  process.chdir(folder);
  const options = { hidden: 4, layers: 1, batchSize: 2, seqLength: 5, sampleLength: 0, epochs: 1 };
  try {
    const names: [string, string][] = [
      ['война и мир.txt', 'война-и-мир'],
      ['Ünïcödé – 文.txt', 'Ünïcödé-文'],
      ['--x--.md', 'x'],
      ['!!!.txt', 'corpus'],
      [`${'文'.repeat(70)}.txt`, '文'.repeat(60)],
    ];
    for (const [file, name] of names) {
      await writeFile(file, 'sheep and goats and dogs\n'.repeat(20));
      const runs = await Promise.all([1, 2, 3].map(() => openTraining({ corpus: [file], options })));
      const paths = runs.map(({ run }) => run?.path as string);
      for (const training of runs) await training.dispose();
      expect(new Set(paths).size).toBe(3);
      for (const path of paths) expect(path).toMatch(new RegExp(`^runs/${name}-\\d{8}-\\d{6}(-[23])?$`));
    }
  } finally {
    process.chdir(before);
  }
});

it('refuses a directory that holds a run, and one that another trainer has', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '1', '--out', out);
  await expect(train(corpus, ...tiny, '--out', out)).rejects.toMatchObject({ exitCode: 2 });
  const training = await openTraining({ resume: out });
  await expect(train('--resume', out)).rejects.toMatchObject({ exitCode: 5 });
  await training.dispose();
  expect((await train('--resume', out)).code).toBe(0);
});

it('refuses a directory whose checkpoints are damaged, or that holds a best one alone, and leaves it as it is', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '1', '--out', out);
  const names = (await readdir(out)).sort();
  const last = names.filter((name) => name.startsWith('checkpoint-')).map((name) => join(out, name));
  for (const path of last) await writeFile(path, 'damaged');
  await expect(train(corpus, ...tiny, '--out', out)).rejects.toMatchObject({ exitCode: 2 });
  expect((await readdir(out)).sort()).toEqual(names);
  for (const path of last) await rm(path);
  await expect(train(corpus, ...tiny, '--out', out)).rejects.toMatchObject({ exitCode: 2 });
  await expect(train('--resume', out)).rejects.toMatchObject({
    exitCode: 3,
    message: expect.stringContaining('another --out'),
  });
});

it('says in one line what is wrong', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '1', '--out', out);
  const other = join(folder, 'other.txt');
  await writeFile(other, 'sheep and goats and '.repeat(60));
  const strange = join(folder, 'strange.txt');
  await writeFile(strange, 'Zoë, naïveté, sheep and goats. '.repeat(60));
  const cases: [string[], number, RegExp][] = [
    [[corpus, '--hiden', '3'], 2, /--hidden/],
    [[corpus, '--lr', '3'], 2, /did you mean --learning-rate\?/],
    [[corpus, '--unknown', 'skip'], 2, /Unknown option '--unknown'/],
    [[corpus, '--hidden', 'x'], 2, /--hidden must be a whole number from 1/],
    [[join(folder, 'none.txt')], 3, /none\.txt/],
    [[other, '--resume', out, '--epochs', '2'], 3, /not the one that .* was trained on/],
    [[strange, '--resume', out, '--epochs', '2'], 3, /not the one that .* was trained on/],
    [['--print-config', '--encoding', 'foo'], 2, /foo/],
    [[corpus, '--validation-every', '5 steps'], 2, /of epochs from 1 to 1,000,000, or of steps like 500steps/],
    [['--resume', out, '--hidden', '3'], 2, /--hidden: a resumed run stays as it was begun, with 16/],
    [
      ['--resume', out, '--out', join(folder, 'elsewhere')],
      2,
      /^flag --out: a resumed run stays in its directory, .*run, so .*elsewhere is impossible/,
    ],
    [['--resume', join(folder, 'nowhere')], 3, /no run to resume at/],
    [[corpus, '--validation', '0', '--batch-size', '999'], 3, /too short/],
  ];
  for (const [argv, exitCode, message] of cases) {
    const thrown = await train(...argv).catch((error: unknown) => error as { exitCode: number; message: string });
    expect(thrown).toMatchObject({ exitCode, message: expect.stringMatching(message) });
    expect((thrown as { message: string }).message).not.toContain('\n');
  }
  expect(await readdir(folder)).toEqual(expect.not.arrayContaining(['runs']));
});

it('plans without writing anything', async () => {
  const before = await readdir(folder);
  const { stdout } = await train(
    corpus,
    ...tiny,
    '--epochs',
    '40',
    '--dry-run',
    '--json',
    '--out',
    join(folder, 'planned'),
  );
  const plan = JSON.parse(stdout) as TrainingPlan;
  expect(plan).toMatchObject({ epochs: 40, target: 'every', batchSize: 4, totalSteps: 40 * plan.stepsPerEpoch });
  expect(plan.millisecondsPerStep).toBeGreaterThan(0);
  expect(plan.memory.hostBytes).toBeGreaterThan(0);
  expect((await train(corpus, ...tiny, '--dry-run')).stdout).toMatch(/^parameters +[\d,]+$/m);
  expect(await readdir(folder)).toEqual(before);
});

/** All that is in a directory: names, times and contents. */
async function contentsOf(directory: string): Promise<unknown> {
  const names = (await readdir(directory)).sort();
  const each = async (name: string) => {
    const path = join(directory, name);
    return [name, (await stat(path)).mtimeMs, await readFile(path, 'base64')];
  };
  return [(await stat(directory)).mtimeMs, await Promise.all(names.map(each))];
}

it('changes nothing of a run that a plan would resume, nor takes it from who trains it', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '2', '--out', out);
  await using held = await RunDirectory.open(out, { create: false });
  // What a trainer leaves in the middle of a write: a temporary file and an incomplete checkpoint.
  await writeFile(join(out, '.config.json.tmp-1-0123abcd'), 'half');
  const [newest] = await lastCheckpoints(out);
  await writeFile(join(out, newest as string), 'not whole');
  const before = await contentsOf(out);
  const { stdout, stderr } = await train('--resume', out, '--epochs', '4', '--dry-run');
  expect(stdout).toMatch(/^parameters +[\d,]+$/m);
  expect(stderr).toMatch(/^passed over: .*checkpoint-\d+\.safetensors is not a usable checkpoint/m);
  expect((await train('--resume', out, '--epochs', '4', '--print-config')).stdout).toMatch(/^epochs +4 /m);
  expect(await contentsOf(out)).toEqual(before);
  await expect(train('--resume', out, '--epochs', '4')).rejects.toMatchObject({ exitCode: 5 });
  expect(held.path).toBe(out);
});

it('refuses in a plan what the run would refuse of its directory', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '1', '--out', out);
  const before = await contentsOf(out);
  const refusals: [string, number, string][] = [
    [out, 2, `${out} already holds a run: resume it with --resume ${shellQuote(out, false)}, or choose another --out.`],
    [corpus, 5, `cannot make the directory ${corpus}: ${corpus} is a file; choose another --out`],
    [join(corpus, 'run'), 5, `cannot make the directory ${join(corpus, 'run')}: `],
  ];
  for (const how of [['--dry-run'], []]) {
    for (const [place, exitCode, message] of refusals) {
      const expected = { exitCode, message: expect.stringContaining(message) };
      await expect(train(corpus, ...tiny, '--out', place, ...how)).rejects.toMatchObject(expected);
    }
    // A real run takes the lock and releases it, which changes the times of the directory.
    if (how.length > 0) expect(await contentsOf(out)).toEqual(before);
  }
});

it('names three of many files, and how many more there are', async () => {
  const many = join(folder, 'many');
  await mkdir(many);
  for (let i = 0; i < 40; i++) await writeFile(join(many, `${i}.txt`), `${i} sheep and ${i % 5} goats\n`);
  const { stdout } = await train(many, ...tiny, '--dry-run');
  expect(stdout).toMatch(/^corpus +[^,]+\.txt, [^,]+\.txt, [^,]+\.txt and 37 more: /m);
  const { stderr } = await train(many, ...tiny, '--epochs', '1', '--out', join(folder, 'run'));
  expect(stderr).toMatch(/^corpus: [^,]+\.txt, [^,]+\.txt, [^,]+\.txt and 37 more: /m);
});

it('says how to name the new place of a corpus that has moved, and resumes with it', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '1', '--out', out);
  const moved = join(folder, 'moved sheep.txt');
  await rename(corpus, moved);
  await expect(train('--resume', out, '--epochs', '2')).rejects.toMatchObject({
    exitCode: 3,
    message: `${corpus} is not there, which the run in ${out} was trained on; name its new place: train FILE --resume ${shellQuote(out, false)}`,
  });
  const { code, stderr } = await train(moved, '--resume', out, '--epochs', '2');
  expect(code).toBe(0);
  expect(stderr).toMatch(/^epoch 2\/2/m);
  // The new place was recorded, so that it need not be named again.
  expect((await train('--resume', out, '--epochs', '3')).stderr).toMatch(/^epoch 3\/3/m);
});

itWhole('says that it is reading where that takes long', async () => {
  const args = [compiled('train.js'), '-', ...tiny, '--epochs', '1', '--out', join(folder, 'run')];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    if (stderr.includes('reading the text ...\n')) child.stdin.end('sheep and goats and dogs\n'.repeat(40));
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect({ code, stderr }).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/^reading the text \.\.\.\ndevice: /),
  });
});

it('says in a plan what reading the corpus left out or found odd', async () => {
  await writeFile(corpus, `${'\0sheep and goats\n'.repeat(60)}`);
  const { stdout } = await train(corpus, ...tiny, '--dry-run');
  expect(stdout).toMatch(/^corpus .*\n {11}.*NUL characters/m);
});

it('has figures though the time is up at once: on the last line, in metrics.jsonl and for info', async () => {
  await writeFile(corpus, 'sheep and goats and dogs and cats and fish\n'.repeat(60_000));
  const out = join(folder, 'run');
  // Steps of one character: on any machine, the first takes less than two seconds, and the two million of an epoch more.
  const steps = ['--batch-size', '1', '--seq-length', '1', '--max-time', '2s'];
  const { stderr } = await train(corpus, ...tiny, ...steps, '--out', out, '--sample-length', '0');
  expect(stderr).toMatch(
    /^stopped, the time is up \(--max-time\): 0 epochs, [\d,]+ steps?, .*, loss \d\.\d{4}, validation \d\.\d{4}$/m,
  );
  const metrics = jsonLines(await readFile(join(out, 'metrics.jsonl'), 'utf8'));
  expect(metrics.map(({ type }) => type)).toEqual(['start', 'step', 'validation', 'checkpoint', 'end']);
  const io = sinks();
  await infoCommand([out], io);
  expect(io.stdout.text).toMatch(/^resumable: +yes, after 0 of 8 epochs, [\d,]+ steps?\nloss so far: +\d\.\d{4} nats/m);
});

it('ends with a sample of the best checkpoint, a chart and one hint a line', async () => {
  const out = join(folder, 'run');
  const { stdout, stderr } = await train(corpus, ...tiny, '--epochs', '4', '--out', out);
  expect(stdout).toMatch(/--- sample of the best, epoch \d ---\n[\s\S]+\n---\n$/);
  const lines = stderr.trimEnd().split('\n');
  expect(lines.at(-2)).toBe(`sample from it: npx cudnn-lstm sample ${shellQuote(out, false)}`);
  expect(lines.at(-1)).toBe(`train further:  npx cudnn-lstm train --resume ${shellQuote(out, false)} --epochs 8`);
  expect(stderr).toMatch(/^loss: \. training, o validation\n.*\|/m);
  expect(stderr).toMatch(/^ +epoch 1 +4$/m);
});

it('shows no sample of a best checkpoint that is gone, and says so', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '2', '--out', out);
  await rm(join(out, (await readFile(join(out, 'best'), 'utf8')).trim()));
  const { code, stdout, stderr } = await train('--resume', out, '--epochs', '3', '--learning-rate', '1e-9');
  expect(code).toBe(0);
  if (/sample of the best/.test(stdout)) expect(stderr).toMatch(/epoch 3\/3 .*best/);
  else expect(stderr).toContain('no sample of the best checkpoint: ');
});

it('says that there was nothing left to do', async () => {
  const out = join(folder, 'run');
  await train(corpus, ...tiny, '--epochs', '2', '--out', out);
  const { stdout, stderr } = await train('--resume', out);
  expect(stdout).toBe('');
  expect(stderr).toContain('with 2 epochs done');
  expect(stderr).toMatch(/^nothing left to do: all epochs are done: 2 epochs/m);
  const less = await train('--resume', out, '--epochs', '1');
  expect(less.stderr).toMatch(/^nothing left to do: 1 epoch asked for: 2 epochs/m);
});

it('prints the configuration and where each value comes from', async () => {
  const file = join(folder, 'my.json');
  await writeFile(file, '{"layers": 3}');
  const { stdout } = await train('--print-config', '--json', '--hidden', '32', '--config', file, '--no-lowercase');
  expect(JSON.parse(stdout)).toMatchObject({
    hidden: { value: 32, source: 'flag --hidden' },
    lowercase: { value: false, source: 'flag --lowercase' },
    layers: { value: 3, source: file },
    clip: { value: 5, source: 'preset fast' },
    maxTime: { value: null, source: 'default' },
  });
});
