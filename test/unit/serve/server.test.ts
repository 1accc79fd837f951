/** Who may use the server, how much, and what happens to the work of a client that goes away. */
import { once } from 'node:events';
import { rename } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { UsageError } from '../../../lib/errors';
import { Models } from '../../../lib/serve/models';
import { serveModels } from '../../../lib/serve/server';
import { readEvents, type Served, saveModel, startServer, stopServer, until } from '../../fixtures/served';

const open: Served[] = [];
async function start(...args: Parameters<typeof startServer>): Promise<Served> {
  const served = await startServer(...args);
  open.push(served);
  return served;
}
afterEach(async () => {
  for (const served of open.splice(0)) await stopServer(served);
});

/** The status of a request with any headers: fetch does not allow a Host header. */
async function statusWith(url: string, headers: Record<string, string>, path = '/v1/models'): Promise<number> {
  const request = httpRequest(`${url}${path}`, { headers });
  request.end();
  const [response] = await once(request, 'response');
  response.resume();
  return response.statusCode;
}

test('only names of this machine reach it, or those that are allowed', async () => {
  const { url } = await start({ hosts: ['Models.example.org'] });
  for (const host of ['localhost', 'localhost:80', '127.0.0.1:1', '[::1]:8080', 'models.example.org:443']) {
    expect([host, await statusWith(url, { host })]).toEqual([host, 200]);
  }
  for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example', '10.0.0.1']) {
    expect([host, await statusWith(url, { host })]).toEqual([host, 403]);
  }
});

test('with a key, every request needs it but /health', async () => {
  const { url } = await start({ key: 'secret-key' });
  expect(await statusWith(url, { authorization: 'Bearer secret-key' })).toBe(200);
  expect(await statusWith(url, { authorization: 'bearer secret-key', host: 'any.example' })).toBe(200);
  for (const authorization of ['', 'Bearer secret-ke', 'Bearer secret-key2', 'secret-key', 'Basic secret-key']) {
    expect([authorization, await statusWith(url, { authorization })]).toEqual([authorization, 401]);
    expect(await statusWith(url, { authorization }, '/metrics')).toBe(401);
  }
  expect(await statusWith(url, {}, '/health')).toBe(200);
});

test('without a key it listens to this machine alone', async () => {
  await expect(serveModels(['x'], { host: '0.0.0.0' })).rejects.toThrow(UsageError);
  await expect(serveModels(['x'], { host: '::' })).rejects.toThrow(/a key is needed/);
});

test('pages of other origins get nothing, unless they are named', async () => {
  const { url } = await start({ origins: ['https://a.example'] });
  const named = await fetch(`${url}/v1/models`, { headers: { Origin: 'https://a.example' } });
  expect(named.headers.get('access-control-allow-origin')).toBe('https://a.example');
  const other = await fetch(`${url}/v1/models`, { headers: { Origin: 'https://b.example' } });
  expect(other.headers.get('access-control-allow-origin')).toBeNull();
  const preflight = await fetch(`${url}/v1/completions`, {
    method: 'OPTIONS',
    headers: { Origin: 'https://a.example' },
  });
  expect([preflight.status, preflight.headers.get('access-control-allow-headers')]).toEqual([
    204,
    'Authorization, Content-Type',
  ]);
});

test('connections are kept for longer than proxies keep them', async () => {
  const { url } = await start();
  const request = httpRequest(`${url}/health`, { headers: { connection: 'keep-alive' } });
  request.end();
  const [response] = await once(request, 'response');
  response.resume();
  expect(response.headers['keep-alive']).toBe('timeout=65');
});

test('errors of HTTP have their codes', async () => {
  const { url, post } = await start({ limits: { body: 1000 } });
  expect((await fetch(`${url}/v1/completions`)).status).toBe(405);
  expect((await fetch(`${url}/v1/nothing`)).status).toBe(404);
  expect((await post('/v1/completions', {}, { headers: { 'Content-Type': 'text/plain' } })).status).toBe(415);
  const form = { body: '{"prompt": "a"}', headers: { 'Content-Type': 'application/x-www-form-urlencoded' } };
  const ofCurl = await fetch(`${url}/v1/completions`, { method: 'POST', ...form });
  expect([ofCurl.status, await ofCurl.text()]).toEqual([
    415,
    expect.stringContaining("curl -H 'Content-Type: application/json'"),
  ]);
  const long = JSON.stringify({ prompt: 'a'.repeat(2000) });
  expect((await post('/v1/completions', long)).status).toBe(413);
  // A chunked body, whose length is not known in advance.
  const stream = new ReadableStream({
    start(controller) {
      for (let i = 0; i < 50; i++) controller.enqueue(new TextEncoder().encode('a'.repeat(100)));
      controller.close();
    },
  });
  const chunked = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    body: stream,
    duplex: 'half',
    headers: { 'Content-Type': 'application/json' },
  } as RequestInit);
  expect(chunked.status).toBe(413);
  expect(((await chunked.json()) as { error: { code: string } }).error.code).toBe('request_too_large');
});

test('a queue that is full says when to come back', async () => {
  const { post, server } = await start({ limits: { queue: 2 } });
  const controller = new AbortController();
  const body = { prompt: 'a', max_tokens: 100_000, n: 2, stream: true };
  const running = await post('/v1/completions', body, { signal: controller.signal });
  const refused = await post('/v1/completions', { prompt: 'a' });
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
  controller.abort();
  await running.text().catch(() => {});
  await until(() => server.models.active === 0);
  expect((await post('/v1/completions', { prompt: 'a' })).status).toBe(200);
});

test('requests whose model is still being loaded count in the queue', async () => {
  const { post, server } = await start({ limits: { queue: 2 } });
  const controller = new AbortController();
  const body = { prompt: 'a', max_tokens: 100_000, stream: true };
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => post('/v1/completions', body, { signal: controller.signal })),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, ...Array(6).fill(429)]);
  controller.abort();
  await Promise.all(answers.map((answer) => answer.text().catch(() => {})));
  await until(() => server.models.active === 0);
});

test('what the page looks at counts in the queue, as texts that are written do', async () => {
  const { post, server } = await start({ limits: { queue: 2 } });
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const use = server.models.use.bind(server.models);
  const using = jest.spyOn(server.models, 'use').mockImplementation(async (name, job) => {
    await held;
    return use(name, job);
  });
  const running = (['inspect', 'cells'] as const).map((view) => post(`/page/api/${view}`, { text: 'abc' }));
  await until(() => using.mock.calls.length === 2);
  for (const [path, body] of [
    ['/page/api/inspect', { text: 'abc' }],
    ['/page/api/cells', { text: 'abc' }],
    ['/v1/completions', { prompt: 'a' }],
  ] as const) {
    const refused = await post(path, body);
    expect([path, refused.status, refused.headers.get('retry-after')]).toEqual([path, 429, '1']);
  }
  release();
  expect((await Promise.all(running)).map(({ status }) => status)).toEqual([200, 200]);
  expect((await post('/page/api/inspect', { text: 'abc' })).status).toBe(200);
});

test('a client that goes away ends its work: while a prompt is fed, while text is drawn, while it is not read', async () => {
  const { post, server, url } = await start();
  const prompt = Array.from({ length: 90_000 }, (_, i) => String.fromCharCode(97 + ((i * i) % 26))).join('');
  for (const body of [
    { prompt, max_tokens: 100_000 },
    { prompt, max_tokens: 0, echo: true, logprobs: 0 },
    { prompt: 'a', max_tokens: 100_000 },
    { prompt: 'a', max_tokens: 100_000, stream: true },
  ]) {
    const controller = new AbortController();
    const answer = post('/v1/completions', body, { signal: controller.signal }).then((response) => response.text());
    await until(() => server.models.active > 0 || ('echo' in body && server.models.loaded.length > 0));
    controller.abort();
    await expect(answer).rejects.toThrow();
    await until(() => server.models.active === 0);
  }
  // This client reads nothing: its texts wait for it, and end with its connection.
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const text = JSON.stringify({ prompt: 'a', max_tokens: 100_000, n: 8, stream: true });
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
  );
  await until(() => server.models.active === 8);
  socket.destroy();
  await until(() => server.models.active === 0);
});

test('requests side by side get what each gets alone', async () => {
  const { complete, post } = await start();
  const bodies = Array.from({ length: 24 }, (_, i) => ({
    prompt: 'abc def '.repeat(i % 5 === 0 ? 40 : 1) + String.fromCharCode(97 + i),
    max_tokens: 10 + 13 * i,
    seed: i,
    ...(i % 3 === 0 ? { top_k: 5 } : {}),
    ...(i % 4 === 0 ? { logprobs: i % 3 } : {}),
    ...(i % 5 === 0 ? { stop: 'e' } : {}),
    ...(i % 7 === 0 ? { repetition_penalty: 1.5 } : {}),
  }));
  const together = await Promise.all(
    bodies.map(async (body, i) => {
      if (i % 2 === 0) return (await complete(body)).choices[0]?.text;
      const events = await readEvents(await post('/v1/completions', { ...body, stream: true }));
      return events.map(({ choices }) => choices[0]?.text).join('');
    }),
  );
  for (const [i, body] of bodies.entries()) expect(together[i]).toBe((await complete(body)).choices[0]?.text);
});

test('a model is loaded once, though requests come while the server loads it', async () => {
  const { folder, server } = await start();
  const lines: string[] = [];
  const models = new Models([join(folder, 'book.safetensors')], { device: 'cpu', log: (line) => lines.push(line) });
  const used = () => models.use('book', async ({ model }) => model);
  const [, first, second] = await Promise.all([models.preload(), used(), used()]);
  expect(first).toBe(second);
  expect([lines.length, first.disposed, server.models.loaded.length]).toEqual([1, false, 0]);
  models.close();
});

test('models are evicted when memory is short, and come back', async () => {
  const { complete, server, lines } = await start({ memory: 1 }, ['one', 'two', 'three']);
  const ask = async (model: string) => (await complete({ model, prompt: 'a', seed: 1 })).choices[0]?.text;
  const first = await ask('one');
  await ask('two');
  expect(server.models.loaded.map(({ name }) => name)).toEqual(['two']);
  const all = await Promise.all(['one', 'three', 'one', 'two', 'three', 'one'].map(ask));
  expect(all[0]).toBe(first);
  expect(all[5]).toBe(first);
  expect(lines.filter((line) => line.startsWith('evicted')).length).toBeGreaterThan(1);
});

test('with watch, a newer checkpoint is served as soon as it is there; a broken one is not', async () => {
  const { complete, folder, lines } = await start({ watch: true });
  const path = join(folder, 'book.safetensors');
  const text = async () => (await complete({ prompt: 'a', max_tokens: 30, seed: 1 })).choices[0]?.text;
  const before = await text();
  expect(await text()).toBe(before);
  await saveModel(join(folder, 'next'), 9);
  await rename(join(folder, 'next'), path);
  const after = await text();
  expect(after).not.toBe(before);
  await rename(path, join(folder, 'away'));
  expect(await text()).toBe(after);
  expect(lines.at(-1)).toMatch(/book/);
});

test('a model that cannot be loaded is said without a word of where it is', async () => {
  const { post, folder, lines } = await start();
  await rename(join(folder, 'book.safetensors'), join(folder, 'away'));
  const response = await post('/v1/completions', { prompt: 'a' });
  const text = await response.text();
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
  expect(text).not.toContain(folder);
  expect(lines.join()).toContain(folder);
});

test('closing lets a short answer end, and ends a long one', async () => {
  const served = await startServer({ grace: 60_000 });
  const short = await served.post('/v1/completions', { prompt: 'a', max_tokens: 3000, stream: true });
  const closed = stopServer(served); // The answer has begun.
  const text = (await readEvents(short)).map(({ choices }) => choices[0]?.text).join('');
  expect([...text]).toHaveLength(3000);
  await closed;

  const other = await startServer({ grace: 10 });
  const long = await other.post('/v1/completions', { prompt: 'a', max_tokens: 100_000, n: 16, stream: true });
  const reading = long.text();
  await stopServer(other);
  expect(await reading.catch(() => 'cut')).not.toContain('[DONE]');
});

test('metrics count what was done', async () => {
  const { complete, url } = await start();
  await complete({ prompt: 'abc', max_tokens: 20 });
  const text = await (await fetch(`${url}/metrics`)).text();
  expect(text).toContain('cudnn_lstm_requests_total{path="/v1/completions",status="200"} 1\n');
  expect(text).toContain('cudnn_lstm_prompt_characters_total 3\n');
  expect(text).toContain('cudnn_lstm_generated_characters_total 20\n');
  for (const line of text.trimEnd().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{[^}]*\})? [\d.e+-]+)$/);
});

test('a port that is taken is said, with what to do', async () => {
  const { url } = await start();
  const port = Number(new URL(url).port);
  await expect(serveModels(['x'], { port })).rejects.toMatchObject({
    code: 'ERR_LISTEN',
    message: expect.stringMatching(/another program listens there; `port`/),
  });
});

test('two models of one name need names of their own', async () => {
  await expect(serveModels(['a/book', 'b/book'], { port: 0 })).rejects.toThrow(/other=b\/book/);
});
