/**
 * A server under requests of every kind for a given time: `node --expose-gc serve-soak.js SECONDS`. The clients run in a separate process,
 * 16 at once: streams, whole answers and scores, some that disconnect early, some that ask for what is refused. Prints as JSON how the
 * server's memory changed, measured after every round once all garbage is collected; a sixth of the time is warm-up.
 */
const { fork } = require('node:child_process');
const { mkdtempSync, rmSync } = require('node:fs');
const { Agent, request } = require('node:http');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const { LanguageModel, Vocabulary } = require('../../../dist');
const { serveModels } = require('../../../dist/serve/server');

const clients = 16;
const requestsEach = 24;
const letters = [...'abcdefghijklmnopqrstuvwxyz \n'];

/** Sends a request; disconnects after the first piece of the answer if `leaves` is set. */
function ask(agent, port, path, body, leaves) {
  return new Promise((resolve) => {
    const headers = { 'Content-Type': 'application/json' };
    const sent = request({ port, agent, path, method: 'POST', headers }, (response) => {
      response.on('data', () => leaves && sent.destroy());
      response.on('close', resolve);
    });
    sent.on('error', resolve);
    sent.end(JSON.stringify(body));
  });
}

async function runClients(port, round) {
  const agent = new Agent({ keepAlive: true });
  const text = (length, key) => Array.from({ length }, (_, i) => letters[(i * i + key) % letters.length]).join('');
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      for (let i = 0; i < requestsEach; i++) {
        const key = (round * clients + client) * requestsEach + i;
        const basic = { prompt: text(20 + 37 * (key % 20), key), max_tokens: 60, seed: key };
        const [path, body, leaves] = [
          ['/v1/completions', basic],
          ['/v1/completions', { ...basic, stream: true, logprobs: 2 }],
          ['/v1/completions', { ...basic, stream: true, max_tokens: 50_000 }, true],
          ['/v1/completions', { ...basic, n: 3, best_of: 4, stop: 'zz' }],
          ['/v1/completions', { ...basic, echo: true, logprobs: 0, max_tokens: 0 }],
          ['/v1/chat/completions', { messages: [{ role: 'user', content: basic.prompt }], max_tokens: 30, stream: true }],
          ['/v1/completions', { ...basic, prompt: `${key}É` }],
          ['/page/api/inspect', { text: basic.prompt }],
        ][key % 8];
        await ask(agent, port, path, body, leaves);
      }
    }),
  );
  agent.destroy();
}

async function memory() {
  for (let i = 0; i < 4; i++) {
    global.gc();
    await pause(20); // Finalizers run on the event loop.
  }
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
  return [rss, heapUsed, external, arrayBuffers].map((bytes) => bytes / 2 ** 20);
}

async function main(seconds) {
  const folder = mkdtempSync(join(tmpdir(), 'serve-soak-'));
  const path = join(folder, 'model.safetensors');
  const shape = { vocabulary: letters.length, layers: 2, hidden: 32, input: 'onehot', embedding: 0, dropout: 0 };
  const model = await LanguageModel.create(shape, new Vocabulary(letters), { device: 'cpu' });
  await model.save(path);
  model.dispose();
  const server = await serveModels([path], { port: 0, device: 'cpu' });
  const child = fork(__filename, ['clients', new URL(server.url).port]);
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const points = [];
  let requests = 0;
  try {
    for (let round = 0; elapsed() < seconds; round++) {
      child.send(round);
      await new Promise((resolve) => child.once('message', resolve));
      requests += clients * requestsEach;
      while (server.models.active > 0) await pause(5);
      points.push([elapsed(), ...(await memory())]);
    }
  } finally {
    child.kill();
    await server.close();
    rmSync(folder, { recursive: true });
  }
  const settled = points.filter(([at]) => at > seconds / 6);
  const third = Math.ceil(settled.length / 3);
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const growth = (column) =>
    median(settled.slice(-third).map((point) => point[column])) - median(settled.slice(0, third).map((point) => point[column]));
  const report = {
    requests,
    rounds: points.length,
    seconds: elapsed(),
    /** Growth in MiB from the first third of the rounds to the last. */
    resident: growth(1),
    heap: growth(2),
    external: growth(3),
  };
  console.log(JSON.stringify(process.env.VERBOSE ? { ...report, points } : report));
}

if (process.argv[2] === 'clients') {
  process.on('message', async (round) => {
    await runClients(Number(process.argv[3]), round);
    process.send('done');
  });
} else {
  void main(Number(process.argv[2]));
}
