#!/usr/bin/env node
/**
 * A server under load, over loopback: clients that ask again and again for a while, half of them streaming. Characters a second
 * beside one native call that draws as many texts at once, the time to the first piece of a short request while others
 * write, errors, and the memory at the beginning and at the end.
 *
 *   node bench/serve.js [--clients 64] [--seconds 60] [--hidden 256] [--length 200]
 */
const { spawn } = require('node:child_process');
const { mkdtempSync, readFileSync, rmSync } = require('node:fs');
const { Agent, request } = require('node:http');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { parseArgs } = require('node:util');
const { LanguageModel } = require('../dist/model');
const { Vocabulary } = require('../dist/corpus/vocabulary');

const number = (value) => ({ type: 'string', default: String(value) });
const { values } = parseArgs({
  options: { clients: number(64), seconds: number(60), hidden: number(256), length: number(200), writers: number(16) },
});
const [clients, seconds, hidden, length, writers] = ['clients', 'seconds', 'hidden', 'length', 'writers'].map((name) =>
  Number(values[name]),
);
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
const quantile = (list, q) => list.sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(q * list.length))];

/** Sends a completion; gives status, milliseconds to the first piece, and the characters of the answer. */
function ask(port, body) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    let first;
    let text = '';
    const options = {
      port,
      agent,
      path: '/v1/completions',
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
    };
    const sent = request(options, (response) => {
      response.setEncoding('utf8');
      response.on('data', (piece) => {
        first ??= performance.now() - began;
        text += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode, first, text, done: performance.now() - began }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

function charactersOf(text, streamed) {
  if (!streamed) return [...JSON.parse(text).choices[0].text].length;
  const events = text.split('\n\n').filter((event) => event.startsWith('data: {'));
  return events.reduce((sum, event) => sum + [...(JSON.parse(event.slice(6)).choices[0]?.text ?? '')].length, 0);
}

const rss = (pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;

async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'bench-serve-'));
  const path = join(folder, 'model.safetensors');
  const symbols = Array.from({ length: 65 }, (_, i) => String.fromCharCode(97 + i));
  const shape = { vocabulary: 65, layers: 2, hidden, input: 'onehot', embedding: 0, dropout: 0 };
  const model = await LanguageModel.create(shape, new Vocabulary(symbols), { device: 'cpu' });
  await model.save(path);
  // What one call draws at its best: as many texts side by side, nothing else to do.
  const began = performance.now();
  let drawn = 0;
  for await (const { text } of model.generateMany(clients, { length: 10 * length, temperature: 1, seed: 1 }))
    drawn += [...text].length;
  const alone = drawn / ((performance.now() - began) / 1000);
  model.dispose();

  const server = spawn(process.execPath, [
    join(__dirname, '../dist/cli/main.js'),
    'serve',
    path,
    '--port',
    '0',
    '--device',
    'cpu',
  ]);
  const port = await new Promise((resolve, reject) => {
    let said = '';
    server.stderr.on('data', (piece) => {
      said += piece;
      const found = /:(\d+)\/v1/.exec(said);
      if (found) resolve(Number(found[1]));
    });
    server.on('exit', () => reject(new Error(said)));
  });
  try {
    // The time to the first piece of a short request, while others write.
    const writing = { prompt: 'abc', max_tokens: 100_000, stream: true };
    const controllers = Array.from({ length: writers }, (_, seed) => {
      const body = JSON.stringify({ ...writing, seed });
      const sent = request({
        port,
        path: '/v1/completions',
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
      });
      sent.on('response', (response) => response.resume());
      sent.on('error', () => {});
      sent.end(body);
      return sent;
    });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const firsts = [];
    for (let i = 0; i < 50; i++) {
      firsts.push((await ask(port, { prompt: 'a short one', max_tokens: 20, seed: i, stream: true })).first);
    }
    for (const sent of controllers) sent.destroy();
    console.log(
      `first piece of a short request while ${writers} write: median ${quantile(firsts, 0.5).toFixed(1)} ms, 95 % ${quantile(firsts, 0.95).toFixed(1)} ms, longest ${quantile(firsts, 1).toFixed(1)} ms`,
    );

    let [requests, errors, characters] = [0, 0, 0];
    const memory = [];
    const end = performance.now() + 1000 * seconds;
    const timer = setInterval(() => memory.push(rss(server.pid)), 1000);
    const start = performance.now();
    await Promise.all(
      Array.from({ length: clients }, async (_, client) => {
        for (let round = 0; performance.now() < end; round++) {
          const stream = client % 2 === 0;
          const body = {
            prompt: 'abc def '.repeat(1 + (client % 4)).replaceAll(' ', 'x'),
            max_tokens: length,
            seed: client * 1000 + round,
            stream,
          };
          const answer = await ask(port, body).catch((error) => ({ error }));
          requests++;
          const got = answer.status === 200 ? charactersOf(answer.text, stream) : -1;
          if (got !== length) errors++;
          else characters += got;
        }
      }),
    );
    clearInterval(timer);
    const elapsed = (performance.now() - start) / 1000;
    const early = memory.slice(3, 8);
    console.log(
      `${clients} clients, ${elapsed.toFixed(0)} s: ${requests} requests, ${errors} errors, ${(characters / elapsed).toFixed(0)} characters/s`,
    );
    console.log(
      `one call with ${clients} texts: ${alone.toFixed(0)} characters/s; the server reaches ${(characters / elapsed / alone).toFixed(2)} of it`,
    );
    console.log(
      `memory: ${(early.reduce((a, b) => a + b, 0) / early.length).toFixed(0)} MB after 5 s, ${memory.at(-1).toFixed(0)} MB at the end`,
    );
    process.exitCode = errors === 0 ? 0 : 1;
  } finally {
    agent.destroy();
    server.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

void main();
