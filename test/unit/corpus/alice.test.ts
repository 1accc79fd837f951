/** The corpus named alice, fetched from a local server. */
import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { alicePath } from '../../../lib/corpus/alice';
import { openCorpus } from '../../../lib/corpus/corpus';
import { packageVersion } from '../../../lib/version';

const book =
  'Licence\n*** START OF THE PROJECT GUTENBERG EBOOK ALICE ***\nDown the rabbit-hole.\n*** END OF THE PROJECT GUTENBERG EBOOK ALICE ***\n';

let folder: string;
let cached: string;
let server: Server;
let origin: string;
let requests: IncomingMessage[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
const before = { cache: process.env.XDG_CACHE_HOME, url: process.env.CUDNN_LSTM_ALICE_URL };

function setEnvironment(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}

beforeAll(async () => {
  server = createServer((request, response) => {
    requests.push(request);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  setEnvironment('XDG_CACHE_HOME', before.cache);
  setEnvironment('CUDNN_LSTM_ALICE_URL', before.url);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'alice-'));
  cached = join(folder, 'cudnn-lstm', 'alice.txt');
  process.env.XDG_CACHE_HOME = folder;
  process.env.CUDNN_LSTM_ALICE_URL = `${origin}/book.txt`;
  requests = [];
  answer = (_, response) => response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end(book);
});
afterEach(() => rm(folder, { recursive: true }));

const failed = (problem: RegExp, remedy: RegExp = /; check the network, or put the book's text at .*alice\.txt$/) => ({
  code: 'ERR_DATA',
  exitCode: 3,
  message: expect.stringMatching(
    new RegExp(
      `^the corpus 'alice' could not be fetched from ${process.env.CUDNN_LSTM_ALICE_URL}: .*${problem.source}.*${remedy.source}`,
    ),
  ),
});
const nothingKept = async () => expect(await readdir(folder, { recursive: true })).toEqual([]);

it('is fetched once, by a request that says who asks, and kept with its hash', async () => {
  const corpus = await openCorpus(['alice']);
  expect(corpus.sources).toEqual(["Alice's Adventures in Wonderland"]);
  expect(corpus.vocabulary.decode(corpus.ids.read(0, corpus.length))).toBe('Down the rabbit-hole.\n');
  expect(requests.map(({ url, headers }) => [url, headers['user-agent']])).toEqual([
    ['/book.txt', expect.stringMatching(`^cudnn-lstm/${packageVersion} `)],
  ]);
  expect(await readFile(cached, 'utf8')).toBe(book);
  expect(await readFile(`${cached}.sha256`, 'utf8')).toBe(`${createHash('sha256').update(book).digest('hex')}\n`);
  expect(await alicePath()).toBe(cached);
  expect(requests).toHaveLength(1);
  expect((await readdir(join(folder, 'cudnn-lstm'))).sort()).toEqual(['alice.txt', 'alice.txt.sha256']);
});

it('is not asked for unless named', async () => {
  (await openCorpus([])).close();
  expect(requests).toEqual([]);
});

it('is taken from where a user has put it', async () => {
  await mkdir(join(folder, 'cudnn-lstm'));
  await writeFile(cached, 'my own copy');
  expect(await alicePath()).toBe(cached);
  expect(requests).toEqual([]);
  expect(await readFile(cached, 'utf8')).toBe('my own copy');
});

it('is fetched again where it is not what was fetched; without a network the error says what to do', async () => {
  await alicePath();
  await writeFile(cached, 'altered');
  const working = answer;
  answer = (_, response) => response.writeHead(503).end();
  await expect(alicePath()).rejects.toMatchObject(
    failed(
      /the server answered 503/,
      /alice\.txt is there, but not as it was fetched: check the network, or delete .*alice\.txt\.sha256 to use it as it is$/,
    ),
  );
  expect(await readFile(cached, 'utf8')).toBe('altered');
  answer = working;
  await alicePath();
  expect(await readFile(cached, 'utf8')).toBe(book);
  await writeFile(cached, 'altered');
  await unlink(`${cached}.sha256`);
  await alicePath();
  expect(requests).toHaveLength(3);
});

it('is fetched again where only the hash is there', async () => {
  await alicePath();
  await unlink(cached);
  await alicePath();
  expect(await readFile(cached, 'utf8')).toBe(book);
});

it('is cached in ~/.cache where XDG_CACHE_HOME is not an absolute path', async () => {
  for (const value of [undefined, '', 'relative']) {
    setEnvironment('XDG_CACHE_HOME', value);
    // The server refuses, so nothing is written to the home directory, and the error names the path; or the book is cached there already.
    answer = (_, response) => response.writeHead(404).end();
    const place = await alicePath().catch(({ message }: Error) => message);
    expect(place).toMatch(/[/\\]\.cache[/\\]cudnn-lstm[/\\]alice\.txt/);
  }
});

describe('redirects', () => {
  it('are followed, relative ones too', async () => {
    answer = ({ url }, response) => {
      if (url === '/book.txt') response.writeHead(301, { location: '/elsewhere/' }).end('moved');
      else if (url === '/elsewhere/') response.writeHead(302, { location: 'there.txt' }).end();
      else response.end(book);
    };
    await alicePath();
    expect(requests.map(({ url }) => url)).toEqual(['/book.txt', '/elsewhere/', '/elsewhere/there.txt']);
  });

  it('are followed five times', async () => {
    const hops =
      (count: number): typeof answer =>
      ({ url }, response) => {
        const hop = Number(new URL(url as string, origin).searchParams.get('hop'));
        if (hop < count) response.writeHead(307, { location: `?hop=${hop + 1}` }).end();
        else response.end(book);
      };
    answer = hops(6);
    await expect(alicePath()).rejects.toMatchObject(failed(/more than 5 redirects/));
    await nothingKept();
    expect(requests).toHaveLength(6);
    answer = hops(5);
    await alicePath();
  });

  it.each(['file:///etc/passwd', 'ftp://example.org/x', 'data:text/plain,hello', 'http://', 'javascript:1'])(
    'are not followed to %s',
    async (location) => {
      answer = (_, response) => response.writeHead(302, { location }).end();
      await expect(alicePath()).rejects.toMatchObject(failed(/is not a web address/));
      await nothingKept();
    },
  );

  it('to nowhere are an answer like any other', async () => {
    answer = (_, response) => response.writeHead(302).end(book);
    await expect(alicePath()).rejects.toMatchObject(failed(/the server answered 302/));
  });
});

describe('is refused, and not kept, where', () => {
  it.each([
    [
      'it is larger than 4 MiB, though the server does not say so',
      (response: ServerResponse) => {
        response.on('error', () => {});
        const piece = 'x'.repeat(1 << 16);
        const more = () => {
          while (!response.destroyed && response.write(piece));
          if (!response.destroyed) response.once('drain', more);
        };
        more(); // Goes on until the client hangs up.
      },
      /larger than 4194304 bytes/,
    ],
    ['it is not there', (response: ServerResponse) => response.writeHead(404).end('gone'), /answered 404/],
    [
      'a network requires a login first',
      (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
      /web page/,
    ],
    ['it is empty', (response: ServerResponse) => response.end(), /empty/],
    [
      'the connection breaks',
      (response: ServerResponse) => {
        response.writeHead(200, { 'content-length': '1000' }).write('half');
        setTimeout(() => response.destroy(), 20);
      },
      /closed|terminated|aborted/,
    ],
    ['the server hangs up', (response: ServerResponse) => response.destroy(), /closed|other side|socket|ECONNRESET/],
    ['the server does not speak HTTP', (response: ServerResponse) => response.socket?.end('hello\r\n\r\n'), /./],
  ])('%s', async (_, respond, problem) => {
    answer = (_request, response) => void respond(response);
    await expect(alicePath()).rejects.toMatchObject(failed(problem));
    await nothingKept();
  });

  it.each([
    ['before it answers', () => {}],
    ['in the middle', (response: ServerResponse) => void response.write('a little')],
  ])('the server falls silent %s', async (_, respond) => {
    answer = (_request, response) => respond(response);
    await expect(alicePath(undefined, 200)).rejects.toMatchObject(failed(/no answer within 0\.2 s/));
    await nothingKept();
  });

  it('there is no network', async () => {
    process.env.CUDNN_LSTM_ALICE_URL = 'http://127.0.0.1:1/book.txt';
    await expect(alicePath()).rejects.toMatchObject(failed(/ECONNREFUSED|bad port/));
    process.env.CUDNN_LSTM_ALICE_URL = 'http://no-such-host.invalid/book.txt';
    await expect(alicePath()).rejects.toMatchObject(failed(/ENOTFOUND|EAI_AGAIN/));
  });

  it.each(['alice', 'file:///etc/passwd', '/tmp/book'])('its address is %s', async (url) => {
    process.env.CUDNN_LSTM_ALICE_URL = url;
    await expect(alicePath()).rejects.toMatchObject(failed(/is not a web address/));
  });
});

it.each([
  ['before it answers', () => {}],
  ['in the middle', (response: ServerResponse) => void response.write('a little')],
])('ends with the reason of an abort %s', async (_, respond) => {
  const controller = new AbortController();
  answer = (_request, response) => {
    respond(response);
    setTimeout(() => controller.abort(new Error('enough')), 50);
  };
  await expect(alicePath(controller.signal)).rejects.toThrow('enough');
  await nothingKept();
});

it('that cannot be kept is an error of the disk, with the remedy', async () => {
  await writeFile(join(folder, 'file'), '');
  for (const place of [join(folder, 'file'), ...(process.platform === 'linux' ? ['/proc/x'] : [])]) {
    process.env.XDG_CACHE_HOME = place;
    await expect(alicePath()).rejects.toMatchObject({
      code: 'ERR_DISK',
      exitCode: 5,
      message: expect.stringMatching(
        /^cannot keep the corpus 'alice' at .*; set XDG_CACHE_HOME to a folder you may write to$/,
      ),
    });
  }
  if (process.getuid?.() === 0) return; // Root may write anywhere.
  process.env.XDG_CACHE_HOME = folder;
  await chmod(folder, 0o555);
  await expect(alicePath()).rejects.toMatchObject({ code: 'ERR_DISK' });
  await chmod(folder, 0o755);
  expect(await stat(cached).catch(() => undefined)).toBeUndefined();
});
