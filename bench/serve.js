#!/usr/bin/env node
/**
 * A server under load, over loopback: clients that send request after request for a while, half of them streaming.
 *
 *   node bench/serve.js [--clients 64] [--seconds 60] [--hidden 256] [--length 200] [--writers 16] [--rounds 10]
 *
 * It measures each of these by itself, and prints:
 *   trace   a hundred requests of every kind, alone and at once: whether the texts are the same, and in how many calls they were drawn
 *   first   milliseconds to the first piece of a short request while `writers` others write
 *   gone    milliseconds from a client's leaving, in each phase of its work, to the first piece of the next client's text
 *   load    requests, errors and characters per second, compared with what `sample --count CLIENTS` draws with the machine to itself
 *   memory  resident, in JavaScript's objects and outside them, ten times in the run, and whether the last third has more than the second
 */
const { spawn } = require('node:child_process');
const { createHash } = require('node:crypto');
const { mkdtempSync, readFileSync, rmSync } = require('node:fs');
const { Agent, request } = require('node:http');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { parseArgs } = require('node:util');
const { LanguageModel } = require('../dist/model');
const { Vocabulary } = require('../dist/corpus/vocabulary');

const number = (value) => ({ type: 'string', default: String(value) });
const { values } = parseArgs({
  options: {
    clients: number(64),
    seconds: number(60),
    hidden: number(256),
    length: number(200),
    writers: number(16),
    rounds: number(10),
  },
});
const [clients, seconds, hidden, length, writers, rounds] = [
  'clients',
  'seconds',
  'hidden',
  'length',
  'writers',
  'rounds',
].map((name) => Number(values[name]));
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
const quantile = (list, q) => list.sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(q * list.length))];

/** Sends a completion request; returns the status, milliseconds to the first piece, and the characters of the answer. */
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

function textOf(answer, streamed) {
  if (!streamed) return JSON.parse(answer).choices[0].text;
  const events = answer.split('\n\n').filter((event) => event.startsWith('data: {'));
  return events.map((event) => JSON.parse(event.slice(6)).choices[0]?.text ?? '').join('');
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;
const times = (list) =>
  `median ${quantile(list, 0.5).toFixed(1)} ms, 95 % ${quantile(list, 0.95).toFixed(1)} ms, longest ${quantile(list, 1).toFixed(1)} ms`;

/** Begins a request whose answer is not read; returns a function that ends it. */
function begin(port, body) {
  const sent = request({
    port,
    path: '/v1/completions',
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
  });
  sent.on('response', (response) => response.resume());
  sent.on('error', () => {});
  sent.end(JSON.stringify(body));
  return () => sent.destroy();
}

/** Reads /metrics; returns a function that looks up a figure. */
async function metrics(port) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return (name) => Number(new RegExp(`^cudnn_lstm_${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

/** Memory in MB: resident, in objects, outside them. */
async function measure(port, pid) {
  const of = await metrics(port);
  const resident = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
  return [resident, of('heap_bytes') / 2 ** 20, of('external_bytes') / 2 ** 20];
}

/** Sends the same requests one after another, then at once, half of them streamed: the texts must be the same. */
async function trace(port) {
  const bodies = Array.from({ length: 100 }, (_, i) => ({
    prompt: 'abcdefgh'.repeat(i % 5 === 0 ? 40 : 1) + String.fromCharCode(97 + (i % 26)),
    max_tokens: 5 + 3 * i,
    seed: i,
    stream: i % 2 === 0,
    ...[{}, { temperature: 0.5 }, { top_k: 5 }, { top_p: 0.8 }, { repetition_penalty: 1.5 }, { stop: 'q' }][i % 6],
  }));
  const run = async (together) => {
    const before = await metrics(port);
    const texts = [];
    const one = async (body, i) => {
      texts[i] = textOf((await ask(port, body)).text, body.stream);
    };
    if (together) await Promise.all(bodies.map(one));
    else for (const [i, body] of bodies.entries()) await one(body, i);
    const after = await metrics(port);
    const [drawn, calls] = ['drawn_characters', 'draw_calls'].map((name) => after(name) - before(name));
    const hash = createHash('sha256').update(JSON.stringify(texts)).digest('hex').slice(0, 16);
    console.log(
      `trace   ${together ? 'at once' : 'alone  '}: ${bodies.length} texts, ${drawn} characters in ${calls} calls, SHA-256 of the texts ${hash}`,
    );
    return texts;
  };
  const [alone, together] = [await run(false), await run(true)];
  const other = alone.filter((text, i) => text !== together[i]).length;
  console.log(`trace   ${other === 0 ? 'every text is the same' : `${other} texts differ`}`);
  if (other > 0) process.exitCode = 1;
}

async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'bench-serve-'));
  const path = join(folder, 'model.safetensors');
  const symbols = Array.from({ length: 65 }, (_, i) => String.fromCharCode(97 + i));
  const shape = { vocabulary: 65, layers: 2, hidden, input: 'onehot', embedding: 0, dropout: 0 };
  const model = await LanguageModel.create(shape, new Vocabulary(symbols), { device: 'cpu' });
  await model.save(path);
  // The best that one call can draw: as many texts side by side, with nothing else to do.
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
    await trace(port);

    // The time to the first piece of a short request, while others write.
    const leaving = Array.from({ length: writers }, (_, seed) =>
      begin(port, { prompt: 'abc', max_tokens: 100_000, stream: true, seed }),
    );
    await pause(1000);
    const firsts = [];
    for (let i = 0; i < 5 * rounds; i++) {
      firsts.push((await ask(port, { prompt: 'a short one', max_tokens: 20, seed: i, stream: true })).first);
    }
    for (const leave of leaving) leave();
    console.log(`first   ${times(firsts)} while ${writers} write`);

    const long = Array.from({ length: 100_000 }, (_, i) => symbols[(i * i) % 65]).join('');
    for (const [phase, body] of [
      ['its prompt is fed', { prompt: long, max_tokens: 10 }],
      ['its prompt is scored', { prompt: long, max_tokens: 0, echo: true, logprobs: 0 }],
      ['it writes a stream', { prompt: 'abc', max_tokens: 100_000, stream: true }],
      ['64 texts are written', { prompt: 'abc', max_tokens: 100_000, n: 64 }],
    ]) {
      const ends = [];
      for (let i = 0; i < rounds; i++) {
        // A different beginning each time, since a known prompt is not fed again.
        const leave = begin(port, { ...body, prompt: symbols[i] + body.prompt.slice(1), seed: i });
        await pause(150);
        leave();
        ends.push((await ask(port, { prompt: 'z', max_tokens: 1, stream: true, seed: i })).first);
      }
      console.log(`gone    ${times(ends)} when a client leaves while ${phase}`);
    }

    let [requests, errors, characters] = [0, 0, 0];
    const memory = [];
    const end = performance.now() + 1000 * seconds;
    const every = Math.max(20, (1000 * seconds) / 300);
    const timer = setInterval(() => void measure(port, server.pid).then((point) => memory.push(point)), every);
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
          const got = answer.status === 200 ? [...textOf(answer.text, stream)].length : -1;
          if (got !== length) errors++;
          else characters += got;
        }
      }),
    );
    clearInterval(timer);
    memory.push(await measure(port, server.pid));
    const elapsed = (performance.now() - start) / 1000;
    const rate = characters / elapsed;
    console.log(
      `load    ${clients} clients, ${elapsed.toFixed(0)} s: ${requests} requests, ${errors} errors, ${rate.toFixed(0)} characters/s`,
    );
    console.log(
      `        sample --count ${clients}: ${alone.toFixed(0)} characters/s; the server reaches ${(rate / alone).toFixed(2)} of it`,
    );
    for (const [name, column] of [
      ['resident', 0],
      ['objects', 1],
      ['beside', 2],
    ]) {
      const values = memory.map((point) => point[column]);
      const some = Array.from({ length: 10 }, (_, i) => values[Math.ceil(((i + 1) * values.length) / 10) - 1]);
      const third = (i) =>
        mean(values.slice(Math.floor((i * values.length) / 3), Math.ceil(((i + 1) * values.length) / 3)));
      const change = `${third(2) >= third(1) ? '+' : ''}${(third(2) - third(1)).toFixed(1)}`;
      console.log(
        `memory  ${name.padEnd(9)}${some.map((each) => each.toFixed(0)).join(' ')} MB; last third ${change} MB over the second`,
      );
    }
    if (errors > 0) process.exitCode = 1;
  } finally {
    agent.destroy();
    server.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

void main();
