/** Which text a resumed run reads: what its user or its directory says, never what its checkpoint says. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { readCheckpointMetadata } from '../../../lib/checkpoint/checkpoint';
import { main } from '../../../lib/cli/main';
import { LanguageModel } from '../../../lib/model';
import { fileOf, partsOf } from '../../fixtures/checkpoints';
import { eachWhole } from '../../fixtures/child';
import { sinks } from '../../fixtures/sink';

let folder: string;
let corpus: string;
const tiny = ['--hidden', '16', '--layers', '1', '--batch-size', '4', '--seq-length', '10', '--sample-length', '0'];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'recorded-'));
  corpus = join(folder, 'sheep.txt');
  await writeFile(corpus, Array.from({ length: 40 }, (_, i) => `${i % 7} sheep and ${i % 5} goats\n`).join(''));
});
afterEach(() => rm(folder, { recursive: true }));

async function train(...argv: string[]) {
  const io = sinks();
  const code = await main(['train', ...argv, '--device', 'cpu'], io);
  return { code, stderr: io.stderr.text };
}

/** Changes the metadata of a checkpoint, as a malicious program might. */
async function alter(path: string, change: (metadata: Record<string, string>) => Record<string, string>) {
  const { header, data } = partsOf(path);
  await writeFile(
    path,
    fileOf({ ...header, __metadata__: change(header.__metadata__ as Record<string, string>) }, data),
  );
}

describe('of its corpus a checkpoint', () => {
  let out: string;
  const checkpoints = async () => (await readdir(out)).filter((name) => name.endsWith('.safetensors'));
  beforeEach(async () => {
    out = join(folder, 'run');
    await train(corpus, ...tiny, '--epochs', '1', '--out', out);
  });

  it('has a name and a hash, and no path', async () => {
    expect((await checkpoints()).length).toBeGreaterThan(1);
    for (const name of await checkpoints()) {
      const text = await readFile(join(out, name), 'latin1');
      // Short paths, such as a home directory of /, may occur in any file.
      for (const part of [basename(folder), ...[dirname(folder), homedir()].filter((path) => path.length > 3), out])
        expect([name, text.includes(part)]).toEqual([name, false]);
      const { corpus: record, configuration } = await readCheckpointMetadata(join(out, name));
      expect(record).toEqual({ name: basename(corpus), sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
      expect(configuration).not.toHaveProperty('corpus');
    }
    expect((await train('--resume', out, '--epochs', '2')).code).toBe(0);
  });

  it('that chooses a file is not obeyed, and loses the path when it is saved again', async () => {
    const secret = join(folder, 'secret');
    await writeFile(secret, 'a secret');
    for (const sources of [['/dev/zero'], [secret], ['-'], '/dev/zero', null, { length: 1 }]) {
      for (const name of await checkpoints())
        await alter(join(out, name), (metadata) => ({
          ...Object.fromEntries(Object.entries(metadata).filter(([key]) => key !== 'corpus')),
          configuration: JSON.stringify({ ...JSON.parse(metadata.configuration as string), corpus: sources }),
        }));
      expect(await train('--resume', out, '--epochs', '1')).toMatchObject({ code: 0 });
      const [name] = await checkpoints();
      const path = join(out, name as string);
      const record = (await readCheckpointMetadata(path)).corpus;
      expect(record?.name).toBe(Array.isArray(sources) ? basename(sources[0] as string) : undefined);
      using model = await LanguageModel.load(path, { device: 'cpu' });
      await model.save(join(folder, 'given away.safetensors'));
      expect(await readFile(join(folder, 'given away.safetensors'), 'latin1')).not.toContain(folder);
    }
    expect((await train('--resume', out, '--epochs', '2')).code).toBe(0);
  });

  it('whose best checkpoint is a path out of the directory is passed over', async () => {
    const elsewhere = join(folder, 'elsewhere.safetensors');
    for (const name of (await checkpoints()).filter((name) => name.startsWith('checkpoint-')))
      await alter(join(out, name), (metadata) => {
        const training = JSON.parse(metadata.training as string) as { best: object };
        return {
          ...metadata,
          training: JSON.stringify({ ...training, best: { ...training.best, file: '../elsewhere' } }),
        };
      });
    await expect(train('--resume', out, '--epochs', '2')).rejects.toMatchObject({ code: 'ERR_CHECKPOINT' });
    expect(existsSync(elsewhere)).toBe(false);
  });
});

describe('the config.json of a run that is resumed', () => {
  const content = (text: string) => (path: string) => writeFile(path, text);
  const named = (...sources: unknown[]) => content(JSON.stringify({ corpus: sources }));
  const kinds: [string, (path: string) => Promise<unknown>, RegExp][] = [
    ['is gone', async () => {}, /config\.json is not there/],
    ['is a directory', (path) => mkdir(path), /config\.json is a directory, not a file/],
    ['is a device', (path) => symlink('/dev/zero', path), /config\.json is a device, not a file/],
    ['is endless', (path) => writeFile(path, '').then(() => truncate(path, 2 ** 33)), /is larger than 1 MiB/],
    ['is no JSON', content('{"corpus'), /is not JSON/],
    ['is no object', content('[]'), /must hold one JSON object/],
    ['names no corpus', content('{}'), /names no corpus/],
    ['names none that is a list', content('{"corpus":"a"}'), /must be a list of files/],
    ['names standard input', named('-'), /^standard input, which /],
    ['names a device', named('/dev/zero'), /^\/dev\/zero, which .* is a device, not a file/],
    ['names what is not there', named('/dev/fd/63'), /^\/dev\/fd\/63 is not there/],
    ['names another text', named(join(__dirname, 'train.test.ts')), /^The corpus is not the one .*give that corpus/],
  ];

  eachWhole(
    it,
    kinds,
    (i) => i % 3 === 0,
  )('%s: says how to name the text, which works', async (_, put, message) => {
    const out = join(folder, 'run');
    await train(corpus, ...tiny, '--epochs', '1', '--out', out);
    await rm(join(out, 'config.json'));
    await put(join(out, 'config.json'));
    await expect(train('--resume', out, '--epochs', '2')).rejects.toMatchObject({
      exitCode: 3,
      message: expect.stringMatching(message),
    });
    if (message.source.includes('directory')) await rm(join(out, 'config.json'), { recursive: true });
    expect((await train(corpus, '--resume', out, '--epochs', '2')).stderr).toMatch(/^epoch 2\/2/m);
    expect((await train('--resume', out, '--epochs', '3')).stderr).toMatch(/^epoch 3\/3/m);
  });
});
