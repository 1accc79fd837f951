/** The code blocks of the documents: their marks, and whether scripts/run-docs.js, which runs them, finds what is wrong. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { packageRoot } from '../../lib/device/native';
import { checkShares } from '../../lib/training/shares';
import { itWhole, run } from '../fixtures/child';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'docs-test-'));
});
afterEach(() => rm(folder, { recursive: true }));

const runDocs = (...args: string[]) => run(process.execPath, [join(packageRoot, 'scripts', 'run-docs.js'), ...args]);

async function document(...lines: string[]): Promise<string> {
  const file = join(folder, 'page.md');
  await writeFile(file, `${lines.join('\n')}\n`);
  return file;
}

it('every block of every document has a language, and those that are not run have a reason', async () => {
  const { code, stdout, stderr } = await runDocs('--list');
  expect(stderr).toBe('');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^README\.md:\d+: sh$/m);
  expect(stdout).toMatch(/^not run README\.md:\d+: .+/m);
});

it('by turns every block still has a place, README.md both, and a page one that suits all of it', async () => {
  const placesOf = async (...args: string[]) => {
    const { stdout } = await runDocs('--list', ...args);
    return new Map(
      Array.from(stdout.matchAll(/^(\S+:\d+): \w+(?:, only in a (\w+))?$/gm), ([, block, place]) => [block, place]),
    );
  };
  const [all, turns] = [await placesOf(), await placesOf('--by-turns')];
  expect([...turns.keys()]).toEqual([...all.keys()]);
  const pages = new Map<string, Set<string | undefined>>();
  for (const [block, place] of turns) {
    const page = (block as string).split(':')[0] as string;
    pages.set(page, (pages.get(page) ?? new Set()).add(place));
    if (all.get(block) !== undefined) expect([block, place]).toEqual([block, all.get(block)]);
  }
  expect([...(pages.get('README.md') as Set<string | undefined>)]).toEqual([undefined]);
  for (const [page, its] of pages) expect([page, its.size]).toEqual([page, 1]);
  const taken = [...pages.values()].flatMap((its) => [...its]);
  for (const place of ['clone', 'project']) expect(taken.filter((each) => each === place).length).toBeGreaterThan(2);
});

/** The fields of a job of the MPI operator (v2beta1), and those of a pod that such a job needs. `*` stands for any name. */
const pod = {
  spec: {
    containers: [
      {
        ...{ name: '', image: '', command: [], args: [], env: [{ name: '', value: '' }] },
        resources: { limits: { '*': '' }, requests: { '*': '' } },
        volumeMounts: [{ name: '', mountPath: '' }],
      },
    ],
    volumes: [{ name: '', persistentVolumeClaim: { claimName: '' } }],
  },
};
const replicas = { replicas: 0, restartPolicy: '', template: pod };
const job = {
  ...{ apiVersion: '', kind: '', metadata: { name: '' } },
  spec: {
    slotsPerWorker: 0,
    sshAuthMountPath: '',
    mpiImplementation: '',
    runPolicy: { cleanPodPolicy: '', ttlSecondsAfterFinished: 0, activeDeadlineSeconds: 0, backoffLimit: 0 },
    mpiReplicaSpecs: { Launcher: replicas, Worker: replicas },
  },
};

function unknownFields(value: unknown, known: unknown, at = ''): string[] {
  if (typeof known !== 'object' || known === null) return typeof value === 'object' ? [at] : [];
  if (Array.isArray(known)) {
    if (!Array.isArray(value)) return [at];
    return value.flatMap((each, i) => unknownFields(each, known[0] ?? '', `${at}[${i}]`));
  }
  const fields = known as Record<string, unknown>;
  return Object.entries(value as object).flatMap(([name, each]) => {
    const field = fields[name] ?? fields['*'];
    return field === undefined ? [`${at}.${name}`] : unknownFields(each, field, `${at}.${name}`);
  });
}

it('the job for Kubernetes has fields that exist, as many ranks as workers, and a share and the files for each', async () => {
  const page = await readFile(join(packageRoot, 'docs', 'scale-out.md'), 'utf8');
  const manifest = parse(/```yaml\n(.*?)```/s.exec(page)?.[1] as string) as typeof job;
  expect(unknownFields(manifest, job)).toEqual([]);
  expect(unknownFields({ spec: { slots: 1, mpiReplicaSpecs: { Launcher: { replicas: [] } } } }, job)).toEqual([
    '.spec.slots',
    '.spec.mpiReplicaSpecs.Launcher.replicas',
  ]);
  expect([manifest.apiVersion, manifest.kind]).toEqual(['kubeflow.org/v2beta1', 'MPIJob']);
  const { slotsPerWorker, mpiReplicaSpecs } = manifest.spec;
  const { Launcher, Worker } = mpiReplicaSpecs;
  const [launcher, worker] = [Launcher, Worker].map(({ template }) => template.spec.containers[0]);
  const words: string[] = [...(launcher?.command ?? []), ...(launcher?.args ?? [])];
  expect(words.every((word) => typeof word === 'string')).toBe(true);
  const after = (name: string) => words[words.indexOf(name) + 1] as string;
  expect(Number(after('-n'))).toBe(Worker.replicas * slotsPerWorker);
  expect(() => checkShares(Number(after('--batch-size')), Number(after('-n')))).not.toThrow();
  const [mounted] = worker?.volumeMounts ?? [];
  for (const path of [after('train'), after('--out')]) expect(path).toContain(`${mounted?.mountPath}/`);
  expect(Worker.template.spec.volumes.map(({ name }) => name)).toEqual([mounted?.name]);
});

it.each([
  ['a block without a language', ['```', 'ls', '```'], "page.md:1: a block's language is one of"],
  [
    'a mark that is none',
    ['<!-- not ran: why -->', '```sh', 'ls', '```'],
    'page.md:2: no such mark: <!-- not ran: why -->',
  ],
  [
    'a comparison of what is no text',
    ['<!-- printed by the block above -->', '```sh', 'ls', '```'],
    'page.md:2: no such mark: <!-- printed by the block above -->',
  ],
  ['a block without an end', ['```sh', 'ls'], 'page.md:1: the block does not end'],
])('%s is an error', async (_what, lines, message) => {
  const { code, stderr } = await runDocs('--list', await document(...lines));
  expect(stderr).toContain(message);
  expect(code).toBe(1);
});

itWhole('what a block printed is compared with what the document shows, line by line', async () => {
  const shown = '<!-- printed by the block above -->';
  const file = await document(
    '```sh',
    "echo 'one [1]'; echo 'not shown'; echo 'it took 17 s' >&2; echo; echo two",
    '```',
    shown,
    '```text',
    'one [1]',
    'it took ... s',
    '',
    'two',
    '```',
    shown,
    '```text',
    'two',
    'one [1]',
    '```',
    shown,
    '```text',
    'one 1',
    '```',
    '```text',
    'of no block',
    '```',
    '```sh',
    'echo $CUDNN_LSTM_CPU_ISA $CUDNN_LSTM_DEVICE',
    '```',
    shown,
    '```text',
    'avx2 cpu',
    '```',
  );
  const { stdout, code } = await runDocs('--in', 'clone', file);
  const said = stdout
    .split('\n')
    .flatMap((line) => /^(ok|skipped|FAILED) \S*page\.md:(\d+)/.exec(line)?.slice(1).join(' ') ?? []);
  if (!/ok \S*page\.md:5 /.test(stdout)) {
    // The addon was built by another compiler, or there is no AVX2: the program says so, and compares nothing.
    expect(stdout).toContain('printed by avx2 kernels of GCC 12');
    expect(said.filter((result) => result.startsWith('FAILED'))).toEqual([]);
    return;
  }
  expect(said).toEqual(['ok 1', 'ok 5', 'FAILED 12', 'FAILED 17', 'ok 20', 'ok 23', 'ok 27']);
  expect(stdout).toContain('this was not printed: one [1]');
  expect(code).toBe(1);
});

itWhole('a block that needs what a skipped one would have made is skipped, too', async () => {
  const needs = (name: string) => [`<!-- needs: ${name} -->`, '```sh', `cat ${name}`, '```'];
  const file = await document(
    // Nothing has been skipped so far, so this one fails.
    ...needs('by-nobody'),
    ...['```python', "open('by-python', 'w')", '```', ...needs('by-python')],
    ...['```sh', 'touch made', '```', ...needs('made')],
  );
  const program = join(packageRoot, 'scripts', 'run-docs.js');
  const env = { ...process.env, CUDNN_LSTM_PYTHON: undefined };
  const { stdout } = await run(process.execPath, [program, '--in', 'clone', file], { env });
  const results = stdout.split('\n').flatMap((line) => /^(ok|skipped|FAILED) /.exec(line)?.[1] ?? []);
  expect(results).toEqual(['FAILED', 'skipped', 'skipped', 'ok', 'ok']);
});

it('blocks run in order in one folder; each that fails is named', async () => {
  const file = await document(
    '```sh',
    'echo one > file',
    'false # refused: as it should be',
    '```',
    '- an indented one',
    '  ```sh',
    '  test "$(cat file)" = one',
    '  ```',
    '```sh',
    'true # refused: but it was not',
    '```',
    '```sh',
    'false',
    'true',
    '```',
    '<!-- file: options.json -->',
    '```json',
    '{ "hidden": 8 }',
    '```',
    '```js',
    "import { readFileSync } from 'node:fs';",
    "if (JSON.parse(readFileSync('options.json', 'utf8')).hidden !== 8) throw new Error('not written');",
    '```',
    '```ts',
    "import { LanguageModel } from 'cudnn-lstm';",
    'const load: number = LanguageModel.load;',
    '```',
    '```ts',
    "import { LanguageModel } from 'cudnn-lstm';",
    'const load: string = typeof LanguageModel.load;',
    "if (load !== 'function') throw new Error(load);",
    '```',
    '```json',
    '{ hidden: 8 }',
    '```',
    '<!-- in the background until: ready -->',
    '```sh',
    'echo ready; touch up; sleep infinity',
    '```',
    '<!-- in the background until: ready -->',
    '```sh',
    'test -f up',
    '```',
    '<!-- not run: it would never end -->',
    '```sh',
    'sleep infinity',
    '```',
    '<!-- only in a project -->',
    '```sh',
    'false',
    '```',
  );
  const { code, stdout } = await runDocs('--in', 'clone', file);
  const said = stdout
    .split('\n')
    .flatMap((line) => /^(ok|FAILED|not run) \S*page\.md:(\d+)/.exec(line)?.slice(1).join(' ') ?? []);
  expect(said).toEqual([
    'not run 45',
    'ok 1',
    'ok 6',
    'FAILED 9',
    'FAILED 12',
    'ok 17',
    'ok 20',
    'FAILED 24',
    'ok 28',
    'FAILED 33',
    'ok 37',
    'FAILED 41',
  ]);
  expect(stdout).toMatch(/page\.md:24.*: exit code \d\n.*TS2322/);
  expect(code).toBe(1);
});
