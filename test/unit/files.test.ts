/** What may be found where a file is expected: every kind of thing. Only a pipe that is given as input is waited for. */
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import {
  FileProblem,
  linesOf,
  openFile,
  openInput,
  openToAppend,
  readSmallFile,
  readSmallInput,
} from '../../lib/files';
import { canRun, itWhere } from '../fixtures/child';

const pipes = canRun('mkfifo', ['--version']);
const place = () => mkdtempSync(join(tmpdir(), 'files-'));
let folder: string;
let server: Server;
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = place();
  if (pipes) execFileSync('mkfifo', [at('pipe')]);
  mkdirSync(at('directory'));
  symlinkSync(at('nothing'), at('dangling'));
  symlinkSync(at('loop'), at('loop'));
  writeFileSync(at('file'), 'hello\n');
  symlinkSync(at('file'), at('link'));
  writeFileSync(at('huge'), '');
  truncateSync(at('huge'), 2 ** 33);
  server = createServer().listen(at('socket'));
  await new Promise((resolve) => server.once('listening', resolve));
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

const others: [string, string][] = [
  ...(pipes ? ([['pipe', 'is a named pipe, not a file']] as [string, string][]) : []),
  ['directory', 'is a directory, not a file'],
  ['dangling', 'is a link to nothing'],
  ['socket', 'is a socket, not a file'],
];

it.each([
  ...others.map(([name, problem]) => [name, () => at(name), problem] as const),
  ...['/dev/zero', '/dev/null', '/dev/full', '/dev/random', '/dev/tty']
    .filter(existsSync)
    .map((path) => [path, () => path, 'is a device, not a file'] as const),
])('what is no file: %s', async (_, path, problem) => {
  for (const open of [
    openFile,
    (name: string) => readSmallFile(name, 100),
    (name: string) => linesOf(name, 100).next(),
  ]) {
    await expect(open(path())).rejects.toEqual(
      expect.objectContaining({ kind: 'other', problem, message: `${path()} ${problem}` }),
    );
  }
});

it('nothing, and a link that leads round in a circle', async () => {
  await expect(openFile(at('nothing'))).rejects.toMatchObject({ kind: 'missing', problem: 'is not there' });
  await expect(openFile(join(at('file'), 'below'))).rejects.toMatchObject({ kind: 'missing' });
  await expect(openFile(at('loop'))).rejects.toMatchObject({ kind: 'system' });
  await expect(openFile('a\0b')).rejects.toBeInstanceOf(FileProblem);
});

it('opens all that is read', () => {
  // These open only what the package wrote itself or contains, /proc and /sys, or a directory to flush it.
  const own = [
    'checkpoint/disk.ts',
    'corpus/ids.ts',
    'corpus/temporary.ts',
    'device/check-record.ts',
    'device/threads.ts',
    'html.ts',
    'ranks/ranks.ts',
    'serve/page.ts',
  ];
  const folder = join(packageRoot, 'lib');
  const opening = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && name !== 'files.ts')
    .filter((name) => {
      const imports = readFileSync(join(folder, name), 'utf8').matchAll(
        /import ([^;]*) from 'node:fs(?:\/promises)?'/g,
      );
      return [...imports].some(([, names]) =>
        /\* as|\b(readFile|readFileSync|createReadStream|appendFile|appendFileSync|open|openSync)\b/.test(
          names as string,
        ),
      );
    });
  expect(opening.sort()).toEqual(own);
});

describe('readSmallFile', () => {
  it('reads a file, and through a link', async () => {
    expect((await readSmallFile(at('file'), 6)).toString()).toBe('hello\n');
    expect((await readSmallFile(at('link'), 6)).toString()).toBe('hello\n');
  });

  it('reads no further than the bound', async () => {
    await expect(readSmallFile(at('file'), 5)).rejects.toMatchObject({
      kind: 'large',
      problem: 'is larger than 5 bytes',
    });
    await expect(readSmallFile(at('huge'), 1 << 20)).rejects.toMatchObject({ problem: 'is larger than 1 MiB' });
  });

  itWhere(existsSync('/proc/self/maps'), 'no /proc')('nor of a file that says it is empty', async () => {
    expect((await readSmallFile('/proc/self/maps', 1 << 24)).length).toBeGreaterThan(100);
    await expect(readSmallFile('/proc/self/maps', 100)).rejects.toMatchObject({ kind: 'large' });
  });
});

describe('linesOf', () => {
  const lines = async (text: string, limit = 1 << 20, longest = 8) => {
    writeFileSync(at('lines'), text);
    const all: string[] = [];
    for await (const line of linesOf(at('lines'), limit, longest)) all.push(line);
    return all;
  };

  it.each([
    ['', []],
    ['a', ['a']],
    ['a\n', ['a']],
    ['\n\na', ['', '', 'a']],
    ['12345678\n123456789\n1\n', ['12345678', '1']],
    [`1\n${'x'.repeat(200_000)}\n2`, ['1', '2']],
    [`${'é\n'.repeat(20_000)}`, new Array(20_000).fill('é')],
  ])('%#', async (text, expected) => {
    expect(await lines(text)).toEqual(expected);
  });

  it('ends at the bound', async () => {
    expect(await lines('a\n'.repeat(500), 1000)).toHaveLength(500);
    await expect(lines('a\n'.repeat(500), 999)).rejects.toMatchObject({ kind: 'large' });
  });

  it('reads nothing of a file that says it is larger', async () => {
    writeFileSync(at('lines'), 'first\n'.repeat(200_000));
    const read: string[] = [];
    const reading = async () => {
      for await (const line of linesOf(at('lines'), 1_000_000)) read.push(line);
    };
    await expect(reading()).rejects.toMatchObject({ kind: 'large' });
    expect(read).toEqual([]);
  });
});

describe('openToAppend', () => {
  it('makes a file, and adds to it', async () => {
    for (const text of ['a', 'b']) {
      const handle = await openToAppend(at('appended'));
      await handle.appendFile(text);
      await handle.close();
    }
    expect(readFileSync(at('appended'), 'utf8')).toBe('ab');
  });

  it.each([...others.filter(([name]) => name !== 'dangling').map(([name]) => name), 'dangling', 'link'])(
    'refuses: %s',
    async (name) => {
      await expect(openToAppend(at(name))).rejects.toMatchObject({ kind: 'other' });
    },
  );

  it('adds nothing to what a link leads to', () => {
    expect(readFileSync(at('file'), 'utf8')).toBe('hello\n');
    expect(existsSync(at('nothing'))).toBe(false);
  });
});

describe('openInput', () => {
  it('refuses what is neither file nor pipe', async () => {
    for (const [name, problem] of others.filter(([name]) => name !== 'pipe'))
      await expect(openInput(at(name))).rejects.toMatchObject({ problem });
    await expect(openInput('/dev/zero')).rejects.toMatchObject({ problem: 'is a device, not a file' });
  });

  it('reads a file up to the bound', async () => {
    expect((await readSmallInput(at('file'), 6)).toString()).toBe('hello\n');
    await expect(readSmallInput(at('huge'), 1 << 20)).rejects.toMatchObject({ kind: 'large' });
  });

  itWhere(pipes, 'no mkfifo')('waits for a writer, up to an abort', async () => {
    const reading = readSmallInput(at('pipe'), 100);
    spawn('sh', ['-c', 'exec > "$0"; printf one; sleep 0.1; printf two', at('pipe')]);
    expect((await reading).toString()).toBe('onetwo');

    const controller = new AbortController();
    const waiting = readSmallInput(at('pipe'), 100, controller.signal);
    setImmediate(() => controller.abort());
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
  });
});
