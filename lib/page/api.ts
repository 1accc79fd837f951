/** The page's requests to the server. */
import type { Rivals } from './look.js';

export interface ServedModel {
  name: string;
  /** Whether it is a run with a training history. */
  run: boolean;
}

export interface Inspection {
  characters: string[];
  bits: (number | null)[];
  rivals: Rivals[];
  bitsPerCharacter: number | null;
}

export interface Follower {
  layer: number;
  unit: number;
  correlation: number;
}

export interface CellValues {
  characters: string[];
  values: number[];
  layers: number;
  hidden: number;
  followers?: Follower[];
}

/** A line of metrics.jsonl; its fields depend on its type. */
export interface RunEvent {
  type: 'start' | 'step' | 'epoch' | 'validation' | 'checkpoint' | 'sample' | 'end';
  epoch?: number;
  epochs?: number;
  step?: number;
  stepsPerEpoch?: number;
  totalSteps?: number;
  loss?: number;
  epochLoss?: number;
  validationLoss?: number;
  gradientNorm?: number;
  learningRate?: number;
  charactersPerSecond?: number;
  etaSeconds?: number;
  elapsedSeconds?: number;
  prompt?: string;
  text?: string;
  reason?: string;
  device?: string;
  corpus?: { sources: string[]; characters: number; symbols: number };
  resumed?: { epoch: number; step: number };
}

export interface Drawing {
  model: string;
  prompt: string;
  temperature: number;
  topP: number;
  length: number;
  seed: number;
}

/** A character that was written, and the likeliest ones in its place. */
export interface Written {
  character: string;
  rivals: Rivals;
}

const keyName = 'cudnn-lstm-key';

/** The server requires a key, or a different one. */
export class KeyError extends Error {}

export function keepKey(key: string): void {
  sessionStorage.setItem(keyName, key);
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const key = sessionStorage.getItem(keyName);
  const headers = { 'Content-Type': 'application/json', ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...init, headers });
  if (response.ok) return response;
  const message = await response
    .json()
    .then((body: { error: { message: string } }) => body.error.message)
    .catch(() => response.statusText);
  throw response.status === 401 ? new KeyError(message) : new Error(message);
}

function post(path: string, body: object, signal?: AbortSignal): Promise<Response> {
  return ask(path, { method: 'POST', body: JSON.stringify(body), ...(signal ? { signal } : {}) });
}

export async function listModels(): Promise<ServedModel[]> {
  return (await ask('/page/api/models')).json() as Promise<ServedModel[]>;
}

export async function inspect(model: string, text: string, signal?: AbortSignal): Promise<Inspection> {
  return (await post('/page/api/inspect', { model, text }, signal)).json() as Promise<Inspection>;
}

export async function inspectCells(
  model: string,
  text: string,
  options: { layer: number; unit: number; pattern?: number[] },
  signal?: AbortSignal,
): Promise<CellValues> {
  return (await post('/page/api/cells', { model, text, ...options }, signal)).json() as Promise<CellValues>;
}

/** The events of a stream, as they arrive. */
async function* readEvents(response: Response): AsyncGenerator<unknown> {
  const reader = (response.body as ReadableStream<Uint8Array>)
    .pipeThrough(new TextDecoderStream() as never)
    .getReader();
  let held = '';
  for (;;) {
    const { done, value } = (await reader.read()) as { done: boolean; value?: string };
    if (done) return;
    held += value;
    const events = held.split('\n\n');
    held = events.pop() as string;
    for (const event of events) {
      // Read to the end, or the connection could not be reused.
      if (event.startsWith('data: {')) yield JSON.parse(event.slice(6));
    }
  }
}

interface Chunk {
  choices: {
    text: string;
    logprobs: { tokens: string[]; top_logprobs: (Record<string, number> | null)[] } | null;
  }[];
  error?: { message: string };
}

/** Text that continues a prompt, a few characters at a time, each with its rivals. */
export async function* write(options: Drawing, signal: AbortSignal): AsyncGenerator<Written[]> {
  const { model, prompt, temperature, topP, length, seed } = options;
  const body = {
    model,
    prompt,
    temperature,
    top_p: topP,
    max_tokens: length,
    seed,
    logprobs: 5,
    stream: true,
    unknown: 'skip',
  };
  for await (const chunk of readEvents(await post('/v1/completions', body, signal)) as AsyncGenerator<Chunk>) {
    if (chunk.error) throw new Error(chunk.error.message);
    const logprobs = chunk.choices[0]?.logprobs;
    if (!logprobs) continue;
    yield logprobs.tokens.map((character, i) => ({
      character,
      rivals: Object.entries(logprobs.top_logprobs[i] ?? {})
        .map(([rival, logprob]): [string, number] => [rival, Math.exp(logprob)])
        .sort((a, b) => b[1] - a[1])
        .slice(0, 5),
    }));
  }
}

/** The events of a run's training: the existing ones at once, then those to come. Reconnects if the connection is lost. */
export async function* follow(run: string, signal: AbortSignal): AsyncGenerator<RunEvent[]> {
  let from = 0;
  while (!signal.aborted) {
    try {
      const response = await ask(`/page/api/events?run=${encodeURIComponent(run)}&from=${from}`, { signal });
      for await (const batch of readEvents(response) as AsyncGenerator<{ events: RunEvent[]; next: number }>) {
        from = batch.next;
        if (batch.events.length > 0) yield batch.events;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof KeyError) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
