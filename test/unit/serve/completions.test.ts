/** The API gives the same results as the library. */
import { join } from 'node:path';
import { LanguageModel } from '../../../lib/model';
import { letters, readEvents, type Served, startServer, stopServer } from '../../fixtures/served';
import { activeRules } from '../../oracle/sampling';

let served: Served;
let model: LanguageModel;
beforeAll(async () => {
  served = await startServer({}, ['book', 'other']);
  model = await LanguageModel.load(join(served.folder, 'book.safetensors'), { device: 'cpu' });
});
afterAll(async () => {
  model.dispose();
  await stopServer(served);
});

/** The texts that the library writes. */
async function expected(
  prompt: string,
  length: number,
  options: Parameters<LanguageModel['generate']>[0] = {},
  count = 1,
) {
  const texts = Array.from({ length: count }, () => '');
  for await (const { stream, text } of model.generateMany(count, { temperature: 1, prompt, length, ...options })) {
    texts[stream] += text;
  }
  return texts;
}

test('a text is the one that the library draws with that seed', async () => {
  const { choices, usage, seed } = await served.complete({ prompt: 'abc', max_tokens: 50, seed: 7 });
  expect(choices).toEqual([
    { index: 0, text: (await expected('abc', 50, { seed: 7 }))[0], finish_reason: 'length', logprobs: null },
  ]);
  expect(usage).toEqual({ prompt_tokens: 3, completion_tokens: 50, total_tokens: 53 });
  expect(seed).toBe(7);
});

const field = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const asked: [string, object, object][] = Object.entries(activeRules).map(([name, value]) => {
  const rules = { [name]: value, ...(name === 'penaltyWindow' ? { repetitionPenalty: 2 } : {}) };
  return [field(name), Object.fromEntries(Object.entries(rules).map(([each, n]) => [field(each), n])), rules];
});

test.each<[string, object, object]>([
  ...asked,
  ['temperature 0', { temperature: 0 }, { greedy: true }],
  ['stop', { stop: ['e', 'xyz'] }, { stop: ['e', 'xyz'] }],
  ['capitals in stop', { stop: 'E' }, { stop: 'e' }],
])('%s does what it does in the library', async (_, asked, options) => {
  const { choices } = await served.complete({ prompt: 'It was', max_tokens: 80, seed: 3, ...asked });
  const [text] = await expected('It was', 80, { seed: 3, ...options });
  expect(choices[0]?.text).toBe(text);
  expect(choices[0]?.finish_reason).toBe([...(text as string)].length === 80 ? 'length' : 'stop');
});

test('n texts of several prompts are those of each prompt alone', async () => {
  const { choices, usage } = await served.complete({ prompt: ['abc', 'q', ''], n: 3, max_tokens: 20, seed: 5 });
  const texts = [
    ...(await expected('abc', 20, { seed: 5 }, 3)),
    ...(await expected('q', 20, { seed: 5 }, 3)),
    ...(await expected('', 20, { seed: 5 }, 3)),
  ];
  expect(choices.map(({ text }) => text)).toEqual(texts);
  expect(choices.map(({ index }) => index)).toEqual([...texts.keys()]);
  expect(usage).toEqual({ prompt_tokens: 4, completion_tokens: 180, total_tokens: 184 });
});

test('a stream brings the same text in pieces, and its usage where it is asked for', async () => {
  for (const asked of [
    { stop: 'a' },
    { n: 3 },
    { prompt: ['abc', 'def'], echo: true, max_tokens: 30 },
    { logprobs: 2, echo: true, max_tokens: 9 },
  ]) {
    const body = { prompt: 'wolf', max_tokens: 70, seed: 9, ...asked };
    const whole = await served.complete(body);
    const response = await served.post('/v1/completions', {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const events = await readEvents(response);
    expect(events.pop()).toMatchObject({ choices: [], usage: whole.usage });
    for (const { index, text, finish_reason, logprobs } of whole.choices) {
      const pieces = events.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
      expect(pieces.map((piece) => piece.text).join('')).toBe(text);
      expect(pieces.map((piece) => piece.finish_reason)).toEqual([...pieces.slice(1).map(() => null), finish_reason]);
      if (logprobs === null) continue;
      expect(pieces.flatMap((piece) => piece.logprobs?.tokens)).toEqual(logprobs.tokens);
      expect(pieces.flatMap((piece) => piece.logprobs?.token_logprobs)).toEqual(logprobs.token_logprobs);
      expect(pieces.flatMap((piece) => piece.logprobs?.text_offset)).toEqual(logprobs.text_offset);
    }
  }
});

test('echo and logprobs without a text score the prompt as the library does', async () => {
  const prompt = 'The fox, the 🦊.';
  const { choices, usage } = await served.complete({ prompt, max_tokens: 0, echo: true, logprobs: 3 });
  const { text, logprobs } = choices[0] as (typeof choices)[0];
  expect(text).toBe(prompt.toLowerCase());
  expect(logprobs?.tokens.join('')).toBe(text);
  expect(logprobs?.text_offset).toEqual([...text].map((_, i) => i));
  expect(logprobs?.token_logprobs[0]).toBeNull();
  expect(logprobs?.top_logprobs?.[0]).toBeNull();
  const nats = logprobs?.token_logprobs.slice(1).map((value) => -(value as number)) as number[];
  const score = await model.score(prompt);
  expect(nats.reduce((sum, each) => sum + each, 0) / nats.length).toBeCloseTo(score.loss, 6);
  // Exactly what `score --per-character` gives for each character.
  const { bits } = await model.inspect(prompt);
  expect(nats.map((each) => each / Math.LN2)).toEqual([...bits.slice(1)]);
  for (const [i, top] of (logprobs?.top_logprobs ?? []).entries()) {
    if (top === null) continue;
    expect(Object.keys(top).length).toBeGreaterThanOrEqual(3);
    expect(top[logprobs?.tokens[i] as string]).toBe(logprobs?.token_logprobs[i]);
  }
  expect(usage.completion_tokens).toBe(0);
});

test('log-probabilities of a text are those that scoring it gives', async () => {
  const { choices } = await served.complete({ prompt: 'abc', max_tokens: 40, logprobs: 0, seed: 2, temperature: 3 });
  const { text, logprobs } = choices[0] as (typeof choices)[0];
  expect(logprobs?.top_logprobs).toBeNull();
  expect(logprobs?.text_offset).toEqual([...text].map((_, i) => 3 + i));
  const { bits } = await model.inspect(`abc${text}`);
  for (const [i, logprob] of (logprobs?.token_logprobs ?? []).entries()) {
    expect(logprob).toBeCloseTo(-(bits[3 + i] as number) * Math.LN2, 5);
  }
});

test('best_of gives the likeliest', async () => {
  const all = await served.complete({ prompt: 'abc', max_tokens: 12, n: 9, seed: 4, logprobs: 0 });
  const mean = (choice: (typeof all.choices)[0]) =>
    (choice.logprobs?.token_logprobs ?? []).reduce<number>((sum, value) => sum + (value as number), 0) / 12;
  const order = [...all.choices].sort((a, b) => mean(b) - mean(a)).map(({ text }) => text);
  const best = await served.complete({ prompt: 'abc', max_tokens: 12, n: 2, best_of: 9, seed: 4 });
  expect(best.choices.map(({ text }) => text)).toEqual(order.slice(0, 2));
  expect(best.choices[0]?.logprobs).toBeNull();
});

test('logit_bias makes characters likelier, or bans them', async () => {
  const { choices } = await served.complete({ prompt: 'a', max_tokens: 60, seed: 1, logit_bias: { e: 100 } });
  expect(choices[0]?.text).toBe('e'.repeat(60));
  const banned = Object.fromEntries(letters.slice(3).map((letter) => [letter, -100]));
  const few = await served.complete({ prompt: 'a', max_tokens: 60, seed: 1, logit_bias: banned });
  expect(few.choices[0]?.text).toMatch(/^[abc]{60}$/);
});

test('models are named; each has its own texts', async () => {
  const list = (await (await fetch(`${served.url}/v1/models`)).json()) as { data: { id: string }[] };
  expect(list.data.map(({ id }) => id)).toEqual(['book', 'other']);
  expect(await (await fetch(`${served.url}/v1/models/other`)).json()).toMatchObject({ id: 'other', object: 'model' });
  const [one, other] = await Promise.all(
    ['book', 'other'].map((name) => served.complete({ model: name, prompt: 'a', max_tokens: 30, seed: 1 })),
  );
  expect(one?.choices[0]?.text).toBe((await expected('a', 30, { seed: 1 }))[0]);
  expect(other?.choices[0]?.text).not.toBe(one?.choices[0]?.text);
});

test('the chat shim continues the last message of the user', async () => {
  const messages = [
    { role: 'system', content: 'Be a wolf.' },
    { role: 'user', content: 'no' },
    { role: 'assistant', content: 'ok' },
    {
      role: 'user',
      content: [
        { type: 'text', text: 'ab' },
        { type: 'text', text: 'c' },
      ],
    },
  ];
  const body = { messages, max_tokens: 50, seed: 7 };
  const answer = (await (await served.post('/v1/chat/completions', body)).json()) as {
    choices: { message: object; finish_reason: string }[];
  };
  const [text] = await expected('abc', 50, { seed: 7 });
  expect(answer.choices).toEqual([
    { index: 0, message: { role: 'assistant', content: text, refusal: null }, logprobs: null, finish_reason: 'length' },
  ]);
  const response = await served.post('/v1/chat/completions', { ...body, stream: true });
  const events = (await readEvents(response)) as unknown as {
    choices: { delta: { role?: string; content?: string } }[];
  }[];
  expect(events[0]?.choices[0]?.delta.role).toBe('assistant');
  expect(events.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(text);
});

test.each([
  ['no JSON', '{', 400, null],
  ['no object', '[]', 400, null],
  ['an unknown character', { prompt: 'ünder' }, 400, 'prompt'],
  ['tokens as a prompt', { prompt: [1, 2] }, 400, 'prompt'],
  ['no prompt of an empty array', { prompt: [] }, 400, 'prompt'],
  ['a model that is not there', { model: 'gpt-4' }, 404, 'model'],
  ['a temperature out of range', { temperature: -1 }, 400, 'temperature'],
  ['top_p of 0', { top_p: 0 }, 400, 'top_p'],
  ['five stops', { stop: ['a', 'b', 'c', 'd', 'e'] }, 400, 'stop'],
  ['an empty stop', { stop: '' }, 400, 'stop'],
  ['a stop that never comes', { stop: 'É' }, 400, 'stop'],
  ['six rivals', { logprobs: 6 }, 400, 'logprobs'],
  ['best_of below n', { n: 3, best_of: 2 }, 400, 'best_of'],
  ['best_of in a stream', { best_of: 2, stream: true }, 400, 'best_of'],
  ['a bias of two characters', { logit_bias: { ab: 1 } }, 400, 'logit_bias'],
  ['a bias of __proto__', '{"logit_bias": {"__proto__": 1}}', 400, 'logit_bias'],
  ['a penalty that it has not', { frequency_penalty: 0.5 }, 400, 'frequency_penalty'],
  ['a suffix', { suffix: 'end' }, 400, 'suffix'],
  ['a misspelt parameter', { max_token: 5 }, 400, 'max_token'],
  ['too many characters', { max_tokens: 100_001 }, 400, 'max_tokens'],
  ['too many texts', { prompt: ['a', 'b', 'c'], n: 22 }, 400, 'n'],
  ['a prompt that is too long', { prompt: 'a'.repeat(100_001) }, 413, 'prompt'],
])('%s is refused', async (_, body, status, param) => {
  const response = await served.post('/v1/completions', body);
  const { error } = (await response.json()) as {
    error: { message: string; type: string; param: string; code: string };
  };
  expect([response.status, error.param]).toEqual([status, param]);
  expect(error.type).toBe('invalid_request_error');
  expect(error.message).not.toMatch(/\n|\/tmp/);
});

test('what asks for nothing, or says who asks, is accepted', async () => {
  const body = {
    prompt: 'a',
    presence_penalty: 0,
    frequency_penalty: 0,
    suffix: null,
    user: 'me',
    metadata: { a: 1 },
    top_p: null,
  };
  const { choices } = await served.complete({ ...body, seed: 1 });
  expect(choices[0]?.text).toBe((await expected('a', 16, { seed: 1 }))[0]);
});
