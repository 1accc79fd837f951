/**
 * An HTTP server with OpenAI's API for one or several models. Requests share the models' calls (lib/sampling/shared.ts); when a client
 * goes away, its work ends in whatever phase it is.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { takeAll } from '../endings';
import { CudnnLstmError, exitCodes, UsageError } from '../errors';
import { option } from '../wording';
import { chat, complete, countTexts, type Output, type Usage } from './completions';
import { ApiError, asApiError } from './errors';
import { Guard, type GuardOptions, isLoopback } from './guard';
import { defaultLimits, type Limits } from './limits';
import { Metrics } from './metrics';
import { Models, type ModelsOptions, type Served } from './models';
import { isPageFile, sendPageFile } from './page';
import { followRun, hasMetrics } from './runs';
import { type ChatRequest, type CompletionRequest, readChat, readCompletion } from './schema';
import { Cells, inspectCells, inspectText } from './views';

export interface ServeOptions extends ModelsOptions, GuardOptions {
  /** Address to listen on; any but a loopback one needs a `key`. Default 127.0.0.1. */
  host?: string | undefined;
  /** Default 8080; 0: any free port. */
  port?: number | undefined;
  limits?: Partial<Limits> | undefined;
  /** Milliseconds that running answers have to finish when the server is closed. Default 10,000. */
  grace?: number | undefined;
}

/** A running server. */
export interface ModelServer {
  readonly url: string;
  readonly models: Models;
  /** Stops taking requests, lets running ones finish within the grace period, then aborts the rest and frees the models. */
  close(): Promise<void>;
}

/** Milliseconds between the comments in a stream that keep proxies from closing it. */
const heartbeat = 15_000;

/**
 * Serves checkpoints or run directories.
 *
 * @throws UsageError if others could reach the server without a key; ERR_LISTEN if it cannot listen there.
 */
export async function serveModels(paths: readonly string[], options: ServeOptions = {}): Promise<ModelServer> {
  const { host = '127.0.0.1', port = 8080, key, hosts: _, origins: __, limits: ___, grace, ...ofModels } = options;
  if (!isLoopback(host) && !options.key) {
    throw new UsageError(
      `At ${host} others can reach the server: a key is needed (${option({ keyFile: 'FILE' })}, or CUDNN_LSTM_KEY).`,
    );
  }
  const models = new Models(paths, ofModels);
  const app = new App(models, options);
  const server = createServer((request, response) => {
    // A connection that becomes idle during the close would keep the server open.
    response.on('close', () => setImmediate(() => app.closing && server.closeIdleConnections()));
    void app.answer(request, response);
  });
  // Longer than proxies keep a connection, so that none is closed under a request that is on its way.
  server.keepAliveTimeout = 65_000;
  server.headersTimeout = 66_000;
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (error) {
    models.close();
    throw listenError(error as NodeJS.ErrnoException, host, port);
  }
  const address = server.address() as AddressInfo;
  const name = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${name}:${address.port}`,
    models,
    close: async () => {
      await takeAll([() => closeServer(server, app, options.grace ?? 10_000), () => models.close()]);
    },
  };
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const remedies: Record<string, string> = {
    EADDRINUSE: `another program listens there; ${option('port')} takes another port, and 0 any that is free`,
    EACCES: `that port is for the administrator; ${option('port')} takes another port, such as 8080`,
    EADDRNOTAVAIL: `this machine has no such address; ${option('host')} takes 127.0.0.1 or one of its own`,
    ENOTFOUND: `there is no such host; ${option('host')} takes an address of this machine`,
  };
  const remedy = remedies[error.code ?? ''];
  if (remedy === undefined) return error;
  const message = `cannot listen at ${host}, port ${port}: ${remedy}`;
  return new CudnnLstmError('ERR_LISTEN', message, exitCodes.runtime, { cause: error });
}

async function closeServer(server: Server, app: App, grace: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  app.beginClosing();
  server.closeIdleConnections();
  const timer = setTimeout(() => {
    app.abort();
    // Those that still do not end by themselves.
    setTimeout(() => server.closeAllConnections(), 500).unref();
  }, grace);
  await closed;
  clearTimeout(timer);
}

/** Answers a request: {@link complete}, {@link chat}. */
type Writer<Asked> = (
  served: Served,
  asked: Asked,
  limits: Limits,
  signal: AbortSignal,
  output: Output,
) => Promise<{ answer?: object; usage: Usage }>;

class App {
  /** Ends streams that have no end of their own. */
  readonly #closing = new AbortController();
  readonly #models: Models;
  readonly #limits: Limits;
  readonly #guard: Guard;
  readonly #metrics = new Metrics();
  readonly #running = new Set<AbortController>();
  /** Texts of all requests being answered, including those whose model is still being loaded. */
  #texts = 0;
  readonly #cells = new Cells();
  readonly #log: (line: string) => void;

  constructor(models: Models, options: ServeOptions) {
    this.#models = models;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#guard = new Guard({
      ...options,
      hosts: [...(options.hosts ?? []), ...(options.host && !options.key ? [options.host] : [])],
    });
    this.#log = options.log ?? (() => {});
  }

  get closing(): boolean {
    return this.#closing.signal.aborted;
  }

  beginClosing(): void {
    this.#closing.abort();
  }

  /** Aborts all running requests. */
  abort(): void {
    for (const controller of this.#running)
      controller.abort(new ApiError(503, 'The server is shutting down.', { retryAfter: 5 }));
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const controller = new AbortController();
    this.#running.add(controller);
    response.on('close', () => {
      if (response.writableFinished) return;
      this.#metrics.aborted();
      controller.abort(new Error('the client went away'));
    });
    response.on('error', () => {});
    const path = (request.url ?? '').replace(/[?#].*$/s, '');
    try {
      this.#secure(response);
      this.#guard.checkHost(request);
      if (this.#guard.answerPreflight(request, response)) return;
      await this.#route(path, request, response, controller.signal);
    } catch (error) {
      if (!controller.signal.aborted || !response.destroyed) this.#refuse(error, request, response);
    } finally {
      this.#running.delete(controller);
      this.#metrics.request(known.has(path) ? path : 'other', response.statusCode);
    }
  }

  #secure(response: ServerResponse): void {
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Cache-Control', 'no-store');
    if (this.closing) response.setHeader('Connection', 'close');
  }

  async #route(path: string, request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    if (path === '/health') {
      allow(request, 'GET');
      return sendJson(response, 200, { status: this.#closing.signal.aborted ? 'closing' : 'ok' });
    }
    if (isPageFile(path)) {
      allow(request, 'GET');
      return sendPageFile(path, response);
    }
    this.#guard.checkKey(request);
    if (path.startsWith('/page/api/'))
      return this.#answerPage(path.slice('/page/api/'.length), request, response, signal);
    if (path === '/metrics') {
      allow(request, 'GET');
      response.writeHead(200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' });
      response.end(this.#metrics.text(this.#models));
      return;
    }
    if (path === '/v1/models' || path.startsWith('/v1/models/')) {
      allow(request, 'GET');
      return sendJson(response, 200, this.#describeModels(path.slice('/v1/models/'.length)));
    }
    if (path === '/v1/completions') return this.#generate(request, response, signal, readCompletion, complete);
    if (path === '/v1/chat/completions') return this.#generate(request, response, signal, readChat, chat);
    throw new ApiError(404, `There is nothing at ${request.method} ${path.slice(0, 200)}.`, { code: 'unknown_url' });
  }

  /** Answers the page's own requests. */
  async #answerPage(
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    if (path === 'models') {
      allow(request, 'GET');
      const describe = async (name: string) => ({ name, run: await hasMetrics(this.#models.pathOf(name) as string) });
      return sendJson(response, 200, await Promise.all(this.#models.names.map(describe)));
    }
    if (path === 'inspect' || path === 'cells') {
      allow(request, 'POST');
      const body = await readBody(request, this.#limits.body);
      const answer = await this.#inQueue(1, () =>
        this.#models.use(nameIn(body), (served) => {
          signal.throwIfAborted();
          return path === 'inspect'
            ? inspectText(served, body, this.#limits, signal)
            : inspectCells(served, body, this.#cells, signal);
        }),
      );
      return sendJson(response, 200, answer);
    }
    if (path === 'events') {
      allow(request, 'GET');
      const query = new URLSearchParams((request.url ?? '').replace(/^[^?]*/, ''));
      const run = this.#models.pathOf(query.get('run') ?? '');
      if (run === undefined) throw new ApiError(404, 'There is no such run.', { param: 'run' });
      const stream = new EventStream(response, signal, () => {});
      try {
        const until = AbortSignal.any([signal, this.#closing.signal]);
        for await (const batch of followRun(run, placeIn(query.get('from')), until)) await stream.send(batch);
      } finally {
        stream.end();
      }
      response.end();
      return;
    }
    throw new ApiError(404, 'There is nothing there.', { code: 'unknown_url' });
  }

  #describeModels(name: string): object {
    const describe = (id: string) => ({ id, object: 'model', created: 0, owned_by: 'cudnn-lstm' });
    if (name === '') return { object: 'list', data: this.#models.names.map(describe) };
    const found = this.#models.names.find((each) => encodeURIComponent(each) === name || each === name);
    if (found !== undefined) return describe(found);
    throw new ApiError(404, `The model '${name.slice(0, 100)}' does not exist.`, {
      param: 'model',
      code: 'model_not_found',
    });
  }

  async #generate<Asked extends CompletionRequest | ChatRequest>(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
    read: (body: unknown) => Asked,
    write: Writer<Asked>,
  ): Promise<void> {
    allow(request, 'POST');
    const asked = read(await readBody(request, this.#limits.body));
    await this.#inQueue(countTexts(asked, this.#limits), async () => {
      const began = performance.now();
      const { answer, usage } = await this.#models.use(asked.model, async (served) => {
        signal.throwIfAborted();
        const stream = new EventStream(response, signal, () =>
          this.#metrics.firstPiece((performance.now() - began) / 1000),
        );
        try {
          return await write(served, asked, this.#limits, signal, stream);
        } finally {
          stream.end();
        }
      });
      this.#metrics.usage(usage.prompt_tokens, usage.completion_tokens);
      if (answer) sendJson(response, 200, answer);
      else {
        response.write('data: [DONE]\n\n');
        response.end();
      }
    });
  }

  /** Runs a job that takes a model's time for so many texts, counted meanwhile. @throws ApiError 429 if there are too many already. */
  async #inQueue<T>(texts: number, job: () => Promise<T>): Promise<T> {
    if (this.#texts >= this.#limits.queue) {
      throw new ApiError(429, 'Too many texts are being written or looked at: try again soon.', {
        code: 'rate_limit_exceeded',
        type: 'rate_limit_error',
        retryAfter: 1,
      });
    }
    this.#texts += texts;
    try {
      return await job();
    } finally {
      this.#texts -= texts;
    }
  }

  #refuse(thrown: unknown, request: IncomingMessage, response: ServerResponse): void {
    const error = asApiError(thrown);
    if (error.status >= 500 && !(thrown instanceof ApiError))
      this.#log(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
    if (response.headersSent) {
      // In mid-stream, all that can still be sent is an event.
      if (!response.destroyed) response.end(`data: ${JSON.stringify(error.body)}\n\n`);
      return;
    }
    if (error.retryAfter !== undefined) response.setHeader('Retry-After', String(error.retryAfter));
    if (error.status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
    // The unread rest of the body is not waited for.
    if (!request.complete) response.setHeader('Connection', 'close');
    sendJson(response, error.status, error.body);
    if (!request.complete) response.once('finish', () => request.destroy());
  }
}

const known = new Set(['/health', '/metrics', '/v1/models', '/v1/completions', '/v1/chat/completions', '/']);

/** Server-sent events; the response begins with the first. */
class EventStream implements Output {
  readonly #response: ServerResponse;
  readonly #signal: AbortSignal;
  readonly #first: () => void;
  #timer: NodeJS.Timeout | undefined;
  #room: Promise<void> | undefined;

  constructor(response: ServerResponse, signal: AbortSignal, first: () => void) {
    this.#response = response;
    this.#signal = signal;
    this.#first = first;
  }

  async send(chunk: object): Promise<void> {
    this.#signal.throwIfAborted();
    if (!this.#timer) {
      this.#response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'X-Accel-Buffering': 'no' });
      this.#response.socket?.setNoDelay(true);
      this.#timer = setInterval(() => this.#response.write(': \n\n'), heartbeat);
      this.#first();
    }
    if (this.#response.write(`data: ${JSON.stringify(chunk)}\n\n`)) return;
    // Wait until the client has room, or has gone; all texts of the answer wait for the same promise.
    this.#room ??= once(this.#response, 'drain', { signal: this.#signal }).then(() => {
      this.#room = undefined;
    });
    await this.#room.catch(() => {});
    this.#signal.throwIfAborted();
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

function allow(request: IncomingMessage, method: 'GET' | 'POST'): void {
  if (request.method === method || (method === 'GET' && request.method === 'HEAD')) return;
  throw new ApiError(405, `Only ${method} is understood here.`, { code: 'method_not_allowed' });
}

/** The model that a body names. */
function nameIn(body: unknown): string | undefined {
  const named = (body as { model?: unknown } | null)?.model;
  return typeof named === 'string' ? named : undefined;
}

/** A byte offset in a file; 0 if the text is not one. */
function placeIn(text: string | null): number {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : 0;
}

/** Accepts JSON only: a browser does not send another site's form with that content type without a preflight. */
async function readBody(request: IncomingMessage, limit: number): Promise<unknown> {
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new ApiError(415, "The Content-Type must be application/json: curl -H 'Content-Type: application/json'.", {
      code: 'unsupported_media_type',
    });
  }
  const tooLarge = () => new ApiError(413, `The body may have ${limit} bytes here.`, { code: 'request_too_large' });
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLarge();
  const parts: Buffer[] = [];
  let length = 0;
  // The iterator must not destroy the request: the answer uses the same socket.
  for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > limit) throw tooLarge();
    parts.push(part);
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts)));
  } catch (error) {
    throw new ApiError(400, `The body is not JSON: ${(error as Error).message.replaceAll('\n', ' ')}`);
  }
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
}
