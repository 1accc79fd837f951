/** Popular clients, with and without streaming, and with whatever they send by default. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { ChatOpenAI, OpenAI as LangChainOpenAI } from '@langchain/openai';
import { generateText, streamText } from 'ai';
import OpenAI, { APIError } from 'openai';
import { type Served, startServer, stopServer, until } from '../../fixtures/served';

let served: Served;
let text: string;
const asked = { prompt: 'the wolf', max_tokens: 40, seed: 7 };
beforeAll(async () => {
  served = await startServer({ key: 'sk-test-key' });
  const client = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'sk-test-key' });
  text = (await client.completions.create({ model: 'book', ...asked })).choices[0]?.text as string;
  expect([...text]).toHaveLength(40);
});
afterAll(() => stopServer(served));

describe('openai', () => {
  let client: OpenAI;
  beforeAll(() => {
    client = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'sk-test-key', maxRetries: 0 });
  });

  test('lists models and streams text', async () => {
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['book']);
    const stream = await client.completions.create({ model: 'book', ...asked, stream: true });
    let streamed = '';
    for await (const chunk of stream) streamed += chunk.choices[0]?.text ?? '';
    expect(streamed).toBe(text);
  });

  test('chats, streaming and not', async () => {
    const body = { model: 'book', seed: 7, max_tokens: 40, messages: [{ role: 'user' as const, content: 'the wolf' }] };
    expect((await client.chat.completions.create(body)).choices[0]?.message.content).toBe(text);
    const stream = await client.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    let streamed = '';
    let usage: number | undefined;
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage?.completion_tokens;
    }
    expect([streamed, usage]).toEqual([text, 40]);
  });

  test('ends a stream that is given up, and reads errors', async () => {
    const stream = await client.completions.create({ model: 'book', ...asked, max_tokens: 100_000, stream: true });
    for await (const _ of stream) break;
    await until(() => served.server.models.active === 0);
    const error = await client.completions.create({ model: 'book', prompt: 'É' }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ status: 400, param: 'prompt' });
    const other = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'wrong', maxRetries: 0 });
    await expect(other.models.list()).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
  });
});

describe('LangChain', () => {
  const options = () => ({
    model: 'book',
    apiKey: 'sk-test-key',
    maxTokens: 40,
    maxRetries: 0,
    modelKwargs: { seed: 7 },
    configuration: { baseURL: `${served.url}/v1` },
  });

  test('completes, streams and stops', async () => {
    const model = new LangChainOpenAI(options());
    expect(await model.invoke('the wolf')).toBe(text);
    let streamed = '';
    for await (const piece of await model.stream('the wolf')) streamed += piece;
    expect(streamed).toBe(text);
    const stop = [...text][10] as string;
    expect(await model.invoke('the wolf', { stop: [stop] })).toBe(text.slice(0, text.indexOf(stop)));
  });

  test('hears an abort', async () => {
    const model = new LangChainOpenAI({ ...options(), maxTokens: 100_000 });
    const controller = new AbortController();
    const running = model.invoke('the wolf', { signal: controller.signal });
    await until(() => served.server.models.active > 0);
    controller.abort();
    await expect(running).rejects.toThrow();
    await until(() => served.server.models.active === 0);
  });

  test('chats', async () => {
    const model = new ChatOpenAI(options());
    expect((await model.invoke('the wolf')).content).toBe(text);
    let streamed = '';
    for await (const piece of await model.stream('the wolf')) streamed += piece.content;
    expect(streamed).toBe(text);
  });
});

describe('the AI SDK', () => {
  const provider = () => createOpenAICompatible({ name: 'local', baseURL: `${served.url}/v1`, apiKey: 'sk-test-key' });

  test('completes, with the prompt as it writes it', async () => {
    // The SDK writes `user:` and `assistant:` around the prompt, and this model does not know the colon.
    const result = await generateText({
      model: provider().completionModel('book'),
      prompt: 'the wolf',
      maxOutputTokens: 40,
      seed: 7,
    }).catch((error: Error) => error.message);
    expect(result).toMatch(/does not know: ':'.*"unknown": "skip"/);
  });

  test('chats, streaming and not, and gives up', async () => {
    const model = provider().chatModel('book');
    expect((await generateText({ model, prompt: 'the wolf', maxOutputTokens: 40, seed: 7 })).text).toBe(text);
    let streamed = '';
    for await (const piece of streamText({ model, prompt: 'the wolf', maxOutputTokens: 40, seed: 7 }).textStream)
      streamed += piece;
    expect(streamed).toBe(text);
    const controller = new AbortController();
    const long = streamText({
      model,
      prompt: 'the wolf',
      maxOutputTokens: 100_000,
      seed: 7,
      abortSignal: controller.signal,
    });
    for await (const _ of long.textStream) {
      controller.abort();
      break;
    }
    await until(() => served.server.models.active === 0);
  });
});
