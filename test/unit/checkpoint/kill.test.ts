/** A trainer that saves as often as it can is killed again and again: what it leaves on the disk is intact and can be resumed. */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { RunDirectory } from '../../../lib/checkpoint/run-directory';
import { long, node, whole } from '../../fixtures/child';

const kills = long ? 100 : whole ? 10 : 3;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kill-'));
});
afterAll(() => rm(folder, { recursive: true }));

/**
 * Loads every checkpoint, and returns the highest step that can be resumed, or -1. The weights of a best epoch are written before the
 * checkpoint of the same step, so a kill may leave them without it.
 */
async function newestStep(out: string): Promise<number> {
  let newest = -1;
  for (const name of await readdir(out).catch(() => [])) {
    if (!name.endsWith('.safetensors') || name.startsWith('.')) continue;
    const { metadata } = await loadCheckpoint(join(out, name));
    if (name.startsWith('checkpoint-')) newest = Math.max(newest, metadata.step);
  }
  return newest;
}

it(`of ${kills} kills none leaves a damaged checkpoint, or one that cannot be resumed`, async () => {
  const corpus = join(folder, 'corpus.txt');
  const out = join(folder, 'run');
  await writeFile(corpus, 'a sheep and a goat went over the hill and far away\n'.repeat(100));
  const options = ['--hidden', '8', '--layers', '1', '--batch-size', '4', '--seq-length', '10', '--sample-length', '0'];
  const forever = [
    '--patience',
    '0',
    '--epochs',
    '1000000',
    '--save-every',
    '1ms',
    '--device',
    'cpu',
    '--threads',
    '1',
  ];
  const tally = { temporaries: 0, progress: 0 };
  const checkpointsAmong = (names: readonly string[]) => names.filter((name) => name.startsWith('checkpoint-')).length;
  let found = 0;
  let before = -1;
  for (let kill = 0; kill < kills; kill++) {
    const argv = before < 0 ? [corpus, ...options, ...forever, '--out', out] : ['--resume', out];
    const { signal, code, stderr } = await node('train.js', argv, {
      onStart: async (child) => {
        // Kills every third trainer at some point of its start, and the others while they are saving.
        if (kill % 3 === 2) {
          await setTimeout(Math.random() * 600);
        } else {
          const seen = await stat(join(out, 'latest')).catch(() => undefined);
          while (
            child.exitCode === null &&
            (await stat(join(out, 'latest')).catch(() => undefined))?.mtimeMs === seen?.mtimeMs
          )
            await setTimeout(2);
          await setTimeout(Math.random() * 100);
        }
        child.kill('SIGKILL');
      },
    });
    if (signal !== 'SIGKILL') throw new Error(`the trainer ended by itself with code ${code}: ${stderr}`);
    const step = await newestStep(out);
    expect(step).toBeGreaterThanOrEqual(before); // Nothing that was saved is lost.
    if (step > before) tally.progress++;
    before = step;
    const names = await readdir(out).catch(() => []);
    tally.temporaries += names.filter((name) => name.startsWith('.')).length;
    // A trainer that is killed after writing a checkpoint but before removing the oldest leaves one more than it found.
    const left = checkpointsAmong(names);
    expect(left).toBeLessThanOrEqual(Math.max(2, found) + 1);
    found = left;
    expect(names.filter((name) => name.startsWith('weights-')).length).toBeLessThanOrEqual(kill + 2);
    if (before < 0) continue; // Killed before the first checkpoint.
    const run = await RunDirectory.open(out, { create: false }); // Takes over the dead one's lock, deletes its temporary files.
    expect(await run.newest()).toBe(join(out, `checkpoint-${String(step).padStart(8, '0')}.safetensors`));
    expect(run.notes).toEqual([]);
    await run.close();
    expect((await readdir(out)).filter((name) => name.startsWith('.') || name === 'lock')).toEqual([]);
  }
  if (long) expect(tally.temporaries).toBeGreaterThan(0); // Some kills interrupted a write.
  expect(tally.progress).toBeGreaterThanOrEqual(Math.floor(kills / 3));

  // Stopped once it has saved something new, not after a fixed time, in which a busy machine may not complete a step.
  const latest = () => readFile(join(out, 'latest'), 'utf8').catch(() => '');
  const saved = await latest();
  const { code, stderr } = await node('train.js', ['--resume', out], {
    onStart: async (child) => {
      while (child.exitCode === null && (await latest()) === saved) await setTimeout(2);
      child.kill('SIGTERM');
    },
  });
  expect([code, stderr]).toEqual([143, expect.any(String)]);
  expect(await newestStep(out)).toBeGreaterThan(before);
  const names = await readdir(out);
  expect(checkpointsAmong(names)).toBe(2);
  expect(names.filter((name) => name.startsWith('.') || name === 'lock')).toEqual([]);
  for (const line of (await readFile(join(out, 'metrics.jsonl'), 'utf8')).trimEnd().split('\n')) JSON.parse(line);
});

it('a run that is killed in mid-epoch and resumed ends with the bits of one that is not', async () => {
  const corpus = join(folder, 'corpus.txt');
  await writeFile(corpus, 'a sheep and a goat went over the hill and far away\n'.repeat(100));
  const options = ['--hidden', '8', '--layers', '2', '--batch-size', '4', '--seq-length', '10', '--sample-length', '0'];
  const argv = [corpus, ...options, '--patience', '0', '--epochs', '12', '--device', 'cpu', '--threads', '1'];
  const [unbroken, cut] = [join(folder, 'unbroken'), join(folder, 'cut')];
  expect(await node('train.js', [...argv, '--out', unbroken])).toMatchObject({ code: 0 });
  const cuts = new Set<string>();
  let begun = false;
  for (let kill = 0; kill < (long ? 20 : whole ? 4 : 2); kill++) {
    const resumed = begun ? ['--resume', cut] : [...argv, '--save-every', '1ms', '--out', cut];
    const latest = () => readFile(join(cut, 'latest'), 'utf8').catch(() => '');
    const before = await latest();
    await node('train.js', resumed, {
      onStart: async (child) => {
        while (child.exitCode === null && (await latest()) === before) await setTimeout(2);
        await setTimeout(Math.random() * 30);
        child.kill('SIGKILL');
      },
    });
    begun = true;
    cuts.add(await latest());
  }
  expect(cuts.size).toBeGreaterThan(1);
  expect(await node('train.js', ['--resume', cut])).toMatchObject({ code: 0 });
  const load = async (out: string) => loadCheckpoint(join(out, (await readFile(join(out, 'latest'), 'utf8')).trim()));
  const [a, b] = [await load(unbroken), await load(cut)];
  expect(b.parameters).toEqual(a.parameters);
  expect(b.firstMoments).toEqual(a.firstMoments);
  expect(b.secondMoments).toEqual(a.secondMoments);
  const { elapsedSeconds: _, ...state } = a.metadata.training ?? { elapsedSeconds: 0 };
  expect(b.metadata.training).toMatchObject(state);
  expect([b.metadata.loss, b.metadata.validationLoss]).toEqual([a.metadata.loss, a.metadata.validationLoss]);
});
