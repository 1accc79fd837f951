import {
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { RunDirectory, resolveCheckpoint } from '../../../lib/checkpoint/run-directory';
import { tinyCheckpoint, tinyLayout } from '../../fixtures/checkpoints';
import { canRun, long, node, share } from '../../fixtures/child';

let folder: string;
let out: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'run-'));
  out = join(folder, 'run');
});
afterEach(() => rm(folder, { recursive: true }));

const open = () => RunDirectory.open(out, { create: true });
const saveLast = (run: RunDirectory, step: number) => run.saveLast(tinyCheckpoint(step), tinyLayout);
const saveBest = (run: RunDirectory, name: string) => run.saveBest(tinyCheckpoint(1), tinyLayout, name);
const nameOf = (step: number) => `checkpoint-${String(step).padStart(8, '0')}.safetensors`;
const names = async () => (await readdir(out)).sort();
const stepOf = async (path: string | undefined) => path && (await loadCheckpoint(path)).metadata.step;

it('keeps the last two and the best, and points at them', async () => {
  await using run = await open();
  for (const step of [5, 10, 15, 20]) {
    const path = await saveLast(run, step);
    await saveBest(run, `best-${step}.safetensors`);
    expect(path).toBe(join(out, nameOf(step)));
    expect(await readFile(join(out, 'latest'), 'utf8')).toBe(`${nameOf(step)}\n`);
    expect(await readFile(join(out, 'best'), 'utf8')).toBe(`best-${step}.safetensors\n`);
  }
  expect(await names()).toEqual(['best', 'best-20.safetensors', nameOf(15), nameOf(20), 'latest', 'lock']);
  expect(await stepOf(await run.newest())).toBe(20);
  expect(run.notes).toEqual([]);
  expect(await run.best()).toBe(join(out, 'best-20.safetensors'));
});

it('counts steps as numbers, beyond eight digits too', async () => {
  await using run = await open();
  for (const step of [99_999_998, 99_999_999, 100_000_000]) await saveLast(run, step);
  expect(await stepOf(await run.newest())).toBe(100_000_000);
  expect((await names()).filter((name) => name.startsWith('checkpoint-'))).toHaveLength(2);
});

it('saves the same step again in its place', async () => {
  await using run = await open();
  for (const step of [5, 10, 10, 10]) await saveLast(run, step);
  expect(await names()).toEqual([nameOf(5), nameOf(10), 'latest', 'lock']);
  await saveBest(run, 'best.safetensors');
  await saveBest(run, 'best.safetensors');
  expect(await run.best()).toBe(join(out, 'best.safetensors'));
});

it('never takes a best checkpoint for a last one, nor the other way round', async () => {
  await using run = await open();
  await saveBest(run, 'checkpoint-1.safetensors');
  for (const step of [5, 10, 15]) await saveLast(run, step);
  expect(await names()).toEqual(['best', 'checkpoint-1.safetensors', nameOf(10), nameOf(15), 'latest', 'lock'].sort());
  await expect(saveBest(run, nameOf(7))).rejects.toMatchObject({
    code: 'ERR_USAGE',
    message: expect.stringContaining('`checkpointName`'),
  });
  // If the pointer names a file that saveBest never wrote, the file is not deleted.
  await writeFile(join(out, 'best'), `${nameOf(10)}\n`);
  await saveBest(run, 'better.safetensors');
  await writeFile(join(out, 'best'), 'config.json\n');
  await run.writeConfiguration({});
  await saveBest(run, 'best.safetensors');
  expect(await names()).toEqual(expect.arrayContaining([nameOf(10), 'config.json']));
});

describe('the newest', () => {
  it.each([
    ['cut short', (path: string) => truncate(path, 500)],
    ['empty', (path: string) => truncate(path, 0)],
    ['overwritten', (path: string) => writeFile(path, 'hello')],
    [
      'a folder',
      async (path: string) => {
        await unlink(path);
        await mkdir(path);
      },
    ],
  ])('is the one before where the last is %s, with a note', async (_, damage) => {
    await using run = await open();
    for (const step of [5, 10]) await saveLast(run, step);
    await damage(join(out, nameOf(10)));
    expect(await stepOf(await run.newest())).toBe(5);
    expect(run.notes).toEqual([
      expect.stringMatching(/^passed over: .*checkpoint-00000010\.safetensors is not a usable checkpoint: /),
    ]);
  });

  it('is none where all are damaged, or there are none', async () => {
    await using run = await open();
    expect(await run.newest()).toBeUndefined();
    for (const step of [5, 10]) {
      await saveLast(run, step);
      await truncate(join(out, nameOf(step)), 100);
    }
    expect(await run.newest()).toBeUndefined();
    expect(run.notes).toHaveLength(2);
  });

  it('is there though a kill came before the pointer was written, or the pointer is nonsense', async () => {
    await using run = await open();
    for (const step of [5, 10]) await saveLast(run, step);
    for (const pointer of [`${nameOf(5)}\n`, '', '../../etc/passwd', '\0', nameOf(99)]) {
      await writeFile(join(out, 'latest'), pointer);
      expect(await stepOf(await run.newest())).toBe(10);
    }
    await unlink(join(out, 'latest'));
    expect(await stepOf(await run.newest())).toBe(10);
  });

  it('and the one before are both whole again two saves after a damaged one was passed over', async () => {
    await using run = await open();
    for (const step of [50, 100]) await saveLast(run, step);
    await truncate(join(out, nameOf(100)), 100);
    expect(await stepOf(await run.newest())).toBe(50);
    await saveLast(run, 60);
    expect((await names()).filter((name) => name.startsWith('checkpoint-'))).toEqual([nameOf(50), nameOf(60)]);
    await saveLast(run, 70);
    await truncate(join(out, nameOf(70)), 100);
    expect(await stepOf(await run.newest())).toBe(60);
  });
});

it('is whole after any sequence of saves and damages: the newest is the last saved that was not damaged', async () => {
  const action = fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 20 }).map((by) => ({ kind: 'save' as const, by })) },
    { weight: 1, arbitrary: fc.constant({ kind: 'damage' as const, by: 0 }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 8 }), async (actions) => {
      await rm(out, { recursive: true, force: true });
      await using run = await open();
      let whole: number[] = [];
      for (const { kind, by } of actions) {
        if (kind === 'save') {
          const step = (whole.at(-1) ?? 0) + by; // Training continues from the newest intact one.
          await saveLast(run, step);
          whole = [...whole, step].slice(-2);
        } else if (whole.length > 0) {
          await truncate(join(out, nameOf(whole.pop() as number)), 50);
        }
        expect(await stepOf(await run.newest())).toBe(whole.at(-1));
      }
    }),
    { numRuns: long ? 1000 : share(60) },
  );
});

it('removes what a killed trainer left half-written, and nothing else', async () => {
  await mkdir(out);
  const stale = ['.checkpoint-00000005.safetensors.tmp-123-abcdef01'];
  const others = ['.gitignore', '.notes.tmp-1', '.draft.tmp-2026-final', 'notes.tmp-1', 'checkpoint.tmp', 'my.txt'];
  for (const name of [...stale, ...others]) await writeFile(join(out, name), '');
  await (await open()).close();
  expect(await names()).toEqual(others.sort());
});

it('is not there: made only if asked; a file is none', async () => {
  await expect(RunDirectory.open(out, { create: false })).rejects.toMatchObject({ code: 'ERR_CHECKPOINT' });
  expect(await readdir(folder)).toEqual([]);
  await writeFile(out, '');
  for (const create of [true, false])
    await expect(RunDirectory.open(out, { create })).rejects.toMatchObject({
      code: 'ERR_DISK',
      message: `cannot make the directory ${out}: ${out} is a file; choose another place`,
    });
});

it('a link that leads in a circle cannot be made a directory', async () => {
  await symlink('run', out);
  await expect(open()).rejects.toMatchObject({
    code: 'ERR_DISK',
    message: expect.stringContaining(`directory ${out}: ELOOP`),
  });
});

it('appends metrics and writes the configuration', async () => {
  await using run = await open();
  await run.appendMetrics({ step: 1 });
  await run.appendMetrics({ step: 2 });
  await run.writeConfiguration({ hidden: 8 });
  expect(await readFile(join(out, 'metrics.jsonl'), 'utf8')).toBe('{"step":1}\n{"step":2}\n');
  expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).toEqual({ hidden: 8 });
  await rm(join(out, 'metrics.jsonl'));
  await mkdir(join(out, 'metrics.jsonl'));
  await expect(run.appendMetrics({})).rejects.toMatchObject({ code: 'ERR_DISK' });
});

describe('resolveCheckpoint', () => {
  it('takes a file as it is; of a directory the best, else the last', async () => {
    const run = await open();
    await saveLast(run, 5);
    await saveLast(run, 10);
    expect(await resolveCheckpoint(out)).toBe(join(out, nameOf(10)));
    const best = await saveBest(run, 'best.safetensors');
    await run.close();
    expect(await resolveCheckpoint(out)).toBe(best);
    expect(await resolveCheckpoint(join(out, nameOf(5)))).toBe(join(out, nameOf(5)));
  });

  it('never follows a pointer out of the directory, or to nothing', async () => {
    const run = await open();
    await saveLast(run, 5);
    await run.close();
    await copyFile(join(out, nameOf(5)), join(folder, 'outside.safetensors'));
    for (const pointer of [
      '../outside.safetensors',
      join(folder, 'outside.safetensors'),
      '..',
      '.',
      'none',
      'a\0b',
      '',
    ]) {
      await writeFile(join(out, 'best'), pointer);
      expect(await resolveCheckpoint(out)).toBe(join(out, nameOf(5)));
    }
  });

  it('says that there is none', async () => {
    await expect(resolveCheckpoint(out)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: `no checkpoint at ${out}: name a run's directory or a .safetensors file`,
    });
    await mkdir(out);
    await expect(resolveCheckpoint(out)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringContaining('holds no checkpoint'),
    });
  });
});

describe('what is no file where a run has its own', () => {
  /** Ways to put something else in the file's place. */
  const put: [string, (path: string) => Promise<unknown>][] = [
    ['a directory', (path) => mkdir(path)],
    ['a link to nothing', (path) => symlink(join(folder, 'nothing'), path)],
    ['a link to a device', (path) => symlink('/dev/zero', path)],
    ['a link to a file', (path) => symlink(join(folder, 'elsewhere'), path)],
    ['a sparse file of 8 GiB', (path) => writeFile(path, '').then(() => truncate(path, 2 ** 33))],
  ];
  if (canRun('mkfifo', ['--version']))
    put.push(['a pipe', async (path) => expect(canRun('mkfifo', [path])).toBe(true)]);

  it.each(put.filter(([kind]) => kind !== 'a link to a file'))('best: %s', async (_, place) => {
    await using run = await open();
    await saveLast(run, 5);
    await place(join(out, 'best'));
    const refused = {
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(new RegExp(`^${join(out, 'best')} is .*: remove it$`)),
    };
    await expect(resolveCheckpoint(out)).rejects.toMatchObject(refused);
    await run.close();
    await expect(open()).rejects.toMatchObject(refused);
    expect(await names()).not.toContain('lock');
    // The remedy works.
    await rm(join(out, 'best'), { recursive: true });
    expect(await resolveCheckpoint(out)).toBe(join(out, nameOf(5)));
    await (await open()).close();
  });

  it.each(put.filter(([kind]) => kind !== 'a link to a file'))('lock: %s', async (_, place) => {
    await mkdir(out);
    await place(join(out, 'lock'));
    await expect(open()).rejects.toMatchObject({
      code: 'ERR_DISK',
      message: expect.stringMatching(new RegExp(`^${join(out, 'lock')} (is|holds) .*: remove it$`)),
    });
    await rm(join(out, 'lock'), { recursive: true });
    await (await open()).close();
  });

  it.each(put.filter(([kind]) => kind !== 'a sparse file of 8 GiB'))('metrics.jsonl: %s', async (_, place) => {
    await writeFile(join(folder, 'elsewhere'), 'mine');
    await using run = await open();
    await place(join(out, 'metrics.jsonl'));
    await expect(run.appendMetrics({ a: 1 })).rejects.toMatchObject({
      code: 'ERR_DISK',
      message: expect.stringMatching(new RegExp(`^${join(out, 'metrics.jsonl')} is .*; remove it, as `)),
    });
    expect(await readFile(join(folder, 'elsewhere'), 'utf8')).toBe('mine');
    expect(await readdir(folder)).not.toContain('nothing');
    await rm(join(out, 'metrics.jsonl'), { recursive: true });
    await run.appendMetrics({ a: 1 });
    expect(await readFile(join(out, 'metrics.jsonl'), 'utf8')).toBe('{"a":1}\n');
  });
});

describe('two trainers', () => {
  it('in one directory: the second, another process, ends with exit code 5 and changes nothing', async () => {
    await using run = await open();
    await saveLast(run, 5);
    await writeFile(join(out, '.checkpoint.tmp-1-abcdef01'), '');
    const before = await names();
    const corpus = join(folder, 'corpus.txt');
    await writeFile(corpus, 'a sheep and a goat\n'.repeat(60));
    for (const argv of [
      ['--resume', out],
      [corpus, '--hidden', '8', '--out', out],
    ]) {
      const { code, stdout, stderr } = await node('train.js', argv);
      expect([code, stdout]).toEqual([5, '']);
      expect(stderr).toMatch(
        new RegExp(`${out} is in use by process ${process.pid}; wait for it, or choose another --out\\n$`),
      );
      expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(2); // The device and the error.
      expect(await names()).toEqual(before);
    }
  });
});
