/** `/v1/completions` and `/v1/chat/completions`: a request in, an answer or a stream of chunks out. */
import { randomInt, randomUUID } from 'node:crypto';
import { decodeText, encodeText } from '../corpus/encode';
import { nativeOf } from '../model';
import { fromBeginning, writable } from '../sampling/generate';
import { checkSamplingOptions } from '../sampling/options';
import { checkStops } from '../sampling/stop';
import { inspectIds } from '../scoring/inspect';
import { option } from '../wording';
import { ApiError, asApiError } from './errors';
import type { Limits } from './limits';
import type { Served } from './models';
import { type ChatRequest, type CompletionRequest, drawRulesOf } from './schema';
import { logprobsOf, readText, type TextPiece, type Token, topOf } from './texts';

/** Where a streamed answer goes. */
export interface Output {
  /** Sends a chunk of a stream; resolves when the client has room for more. */
  send(chunk: object): Promise<void>;
}

/** The counts for the metrics. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

interface Plan {
  prompts: { text: string; ids: Int32Array; tokens: Token[] }[];
  length: number;
  /** Texts drawn and texts returned per prompt. */
  drawn: number;
  given: number;
  stop: string[];
  seed: number;
  rivals: number | undefined;
  sampling: object;
}

type Sampled = Omit<CompletionRequest, 'prompt' | 'echo' | 'logprobs' | 'best_of' | 'max_tokens'>;

/** Answers a completion request; if it is streamed, the chunks go to `output` and no answer is returned. */
export async function complete(
  served: Served,
  request: CompletionRequest,
  limits: Limits,
  signal: AbortSignal,
  output: Output,
): Promise<{ answer?: object; usage: Usage }> {
  const plan = await planCompletion(served, request, limits, signal);
  const echo = request.echo ?? false;
  const logprobs = request.logprobs ?? undefined;
  if (echo && logprobs !== undefined) {
    for (const prompt of plan.prompts)
      prompt.tokens = await promptTokens(served, prompt.ids, prompt.text, logprobs, signal);
  }
  const common = {
    id: `cmpl-${randomUUID()}`,
    object: 'text_completion',
    created: now(),
    model: served.name,
    system_fingerprint: served.version,
    seed: plan.seed,
  };
  const choice = (index: number, text: string, tokens: Token[], offset: number, finish: TextPiece['finish']) => ({
    text,
    index,
    logprobs: logprobs === undefined ? null : logprobsOf(tokens, offset),
    finish_reason: finish,
  });
  const promptCharacters = plan.prompts.map(({ ids }) => ids.length);
  const usageOf = (completion: number) =>
    usage(
      promptCharacters.reduce((sum, count) => sum + count, 0),
      completion,
    );

  if (request.stream) {
    const offsets = plan.prompts.flatMap((_, p) =>
      Array.from({ length: plan.given }, () => promptCharacters[p] as number),
    );
    if (echo) {
      for (const [index] of offsets.entries()) {
        const prompt = plan.prompts[Math.floor(index / plan.given)] as Plan['prompts'][number];
        await output.send({ ...common, choices: [choice(index, prompt.text, prompt.tokens, 0, null)] });
      }
    }
    const completion = await draw(served, plan, signal, async (index, { text, tokens, finish }) => {
      const offset = offsets[index] as number;
      offsets[index] = offset + tokens.length;
      await output.send({ ...common, choices: [choice(index, text, tokens, offset, finish)] });
    });
    const total = usageOf(completion);
    if (request.stream_options?.include_usage) await output.send({ ...common, choices: [], usage: total });
    return { usage: total };
  }

  const texts = Array.from({ length: plan.prompts.length * plan.drawn }, () => new Whole());
  const completion = await draw(served, plan, signal, async (index, piece) => texts[index]?.add(piece));
  const choices = plan.prompts.flatMap((prompt, p) =>
    best(texts.slice(p * plan.drawn, (p + 1) * plan.drawn), plan.given).map((text, k) =>
      choice(
        p * plan.given + k,
        (echo ? prompt.text : '') + text.text,
        echo ? [...prompt.tokens, ...text.tokens] : text.tokens,
        echo ? 0 : (promptCharacters[p] as number),
        text.finish,
      ),
    ),
  );
  const total = usageOf(completion);
  return { answer: { ...common, choices, usage: total }, usage: total };
}

/** Continues the user's last message: a character model knows no roles. */
export async function chat(
  served: Served,
  request: ChatRequest,
  limits: Limits,
  signal: AbortSignal,
  output: Output,
): Promise<{ answer?: object; usage: Usage }> {
  const { messages: _, max_completion_tokens, max_tokens, ...rest } = request;
  const prompt = lastMessage(request);
  const plan = await planCompletion(
    served,
    { ...rest, prompt, max_tokens: max_completion_tokens ?? max_tokens ?? 256 },
    limits,
    signal,
  );
  const characters = plan.prompts[0]?.ids.length ?? 0;
  const common = {
    id: `chatcmpl-${randomUUID()}`,
    created: now(),
    model: served.name,
    system_fingerprint: served.version,
    seed: plan.seed,
  };
  if (request.stream) {
    const chunk = (index: number, delta: object, finish: TextPiece['finish']) => ({
      ...common,
      object: 'chat.completion.chunk',
      choices: [{ index, delta, logprobs: null, finish_reason: finish }],
    });
    for (let index = 0; index < plan.given; index++)
      await output.send(chunk(index, { role: 'assistant', content: '' }, null));
    const completion = await draw(served, plan, signal, async (index, { text, finish }) => {
      if (text !== '') await output.send(chunk(index, { content: text }, null));
      if (finish !== null) await output.send(chunk(index, {}, finish));
    });
    const total = usage(characters, completion);
    if (request.stream_options?.include_usage) {
      await output.send({ ...common, object: 'chat.completion.chunk', choices: [], usage: total });
    }
    return { usage: total };
  }
  const texts = Array.from({ length: plan.drawn }, () => new Whole());
  const completion = await draw(served, plan, signal, async (index, piece) => texts[index]?.add(piece));
  const total = usage(characters, completion);
  const choices = texts.map(({ text, finish }, index) => ({
    index,
    message: { role: 'assistant', content: text, refusal: null },
    logprobs: null,
    finish_reason: finish,
  }));
  return { answer: { ...common, object: 'chat.completion', choices, usage: total }, usage: total };
}

/** A whole text, collected from its pieces. */
class Whole {
  text = '';
  finish: TextPiece['finish'] = null;
  readonly tokens: Token[] = [];

  add(piece: TextPiece): void {
    this.text += piece.text;
    this.finish = piece.finish;
    for (const token of piece.tokens) this.tokens.push(token);
  }

  /** Mean log-probability of its characters; 0, the largest possible, for an empty text. */
  get likelihood(): number {
    if (this.tokens.length === 0) return 0;
    return this.tokens.reduce((sum, { logprob }) => sum + (logprob ?? 0), 0) / this.tokens.length;
  }
}

/** The likeliest texts by mean log-probability of their characters, likeliest first; if all are returned, they keep their order. */
function best(texts: readonly Whole[], count: number): readonly Whole[] {
  if (texts.length === count) return texts;
  return [...texts].sort((a, b) => b.likelihood - a.likelihood).slice(0, count);
}

/** Number of texts that a request draws. @throws ApiError if it is more than a request may ask for. */
export function countTexts(
  { n, prompt, best_of }: Pick<Sampled, 'n'> & Pick<Partial<CompletionRequest>, 'prompt' | 'best_of'>,
  limits: Limits,
): number {
  const given = n ?? 1;
  const drawn = best_of ?? given;
  const texts = (Array.isArray(prompt) ? prompt.length : 1) * drawn;
  if (texts <= limits.texts) return texts;
  const param = drawn === given ? 'n' : 'best_of';
  throw new ApiError(400, `A request may ask for ${limits.texts} texts here: prompts times ${param}.`, { param });
}

async function planCompletion(
  served: Served,
  request: Sampled & Pick<Partial<CompletionRequest>, 'prompt' | 'echo' | 'logprobs' | 'best_of' | 'max_tokens'>,
  limits: Limits,
  signal: AbortSignal,
): Promise<Plan> {
  const { model } = served;
  const given = request.n ?? 1;
  const drawn = request.best_of ?? given;
  const length = request.max_tokens ?? (request.echo ? 0 : 16);
  if (drawn < given) throw new ApiError(400, `best_of must be at least n, which is ${given}.`, { param: 'best_of' });
  if (request.stream && drawn > given) throw new ApiError(400, 'best_of cannot be streamed.', { param: 'best_of' });
  if (length > limits.tokens) {
    throw new ApiError(400, `max_tokens must be at most ${limits.tokens} here.`, { param: 'max_tokens' });
  }
  const texts = typeof request.prompt === 'string' ? [request.prompt] : (request.prompt ?? ['']);
  const characters = texts.reduce((sum, text) => sum + text.length, 0);
  if (characters > limits.prompt) {
    throw new ApiError(413, `Prompts may have ${limits.prompt} characters in all here, not ${characters}.`, {
      param: 'prompt',
      code: 'context_length_exceeded',
    });
  }
  const prompts: Plan['prompts'] = [];
  for (const text of texts) {
    try {
      const ids = await encodeText(text, 'the prompt', {
        vocabulary: model.vocabulary,
        normalization: model.metadata.normalization,
        unknown: request.unknown ?? 'error',
        signal,
      });
      prompts.push({ text: request.echo ? await decodeText(ids, model.vocabulary) : '', ids, tokens: [] });
    } catch (error) {
      signal.throwIfAborted();
      const { status, message, param } = asApiError(error, 'prompt');
      throw new ApiError(status, message.replace(option({ unknown: 'skip' }), '"unknown": "skip"'), {
        param: param ?? 'prompt',
      });
    }
  }
  const stop = request.stop.map((text) => model.normalize(text));
  if (stop.includes('')) throw new ApiError(400, 'stop must not be an empty string.', { param: 'stop' });
  try {
    checkStops(stop, model.vocabulary);
  } catch (error) {
    throw asApiError(error, 'stop');
  }
  const seed = request.seed ?? randomInt(2 ** 32);
  const rivals =
    request.logprobs === null || request.logprobs === undefined
      ? undefined
      : Math.min(request.logprobs, model.vocabulary.size);
  const sampling = checkSamplingOptions({ ...drawRulesOf(request), seed });
  return {
    prompts,
    length,
    drawn,
    given,
    stop,
    seed,
    rivals: rivals ?? (drawn > given ? 0 : undefined),
    sampling: { ...sampling, ...writable(model.vocabulary), ...biases(served, request.logit_bias) },
  };
}

/** Logit shifts of single characters. */
function biases(served: Served, given: Record<string, number> | null | undefined): object {
  const entries = Object.entries(given ?? {});
  if (entries.length === 0) return {};
  const ids = entries.map(([symbol]) => {
    const id = served.model.vocabulary.idOf(symbol);
    if (id !== undefined) return id;
    throw new ApiError(
      400,
      `logit_bias: ${JSON.stringify(symbol.slice(0, 20))} is no character that the model knows.`,
      { param: 'logit_bias' },
    );
  });
  return { biasedIds: Int32Array.from(ids), biases: Float32Array.from(entries, ([, value]) => value) };
}

/** Draws all texts of all prompts side by side; returns the number of characters written. */
async function draw(
  served: Served,
  plan: Plan,
  signal: AbortSignal,
  take: (index: number, piece: TextPiece) => Promise<void> | undefined,
): Promise<number> {
  const { model, sampler } = served;
  // If one text fails, the others are aborted.
  const controller = new AbortController();
  const texts = plan.prompts.flatMap(({ ids }) =>
    sampler.open({
      prompt: fromBeginning(ids, model.vocabulary, model.shape.resetId),
      length: plan.length,
      window: model.defaultWindow,
      sampling: Array.from({ length: plan.drawn }, (_, stream) => ({ ...plan.sampling, stream })),
      rivals: plan.rivals,
      signal: AbortSignal.any([signal, controller.signal]),
    }),
  );
  let characters = 0;
  await Promise.all(
    texts.map(async (drawn, index) => {
      try {
        const options = { stop: plan.stop, length: plan.length, logprobs: plan.rivals !== undefined };
        for await (const piece of readText(drawn, model.vocabulary, options)) {
          characters += [...piece.text].length;
          await take(index, piece);
        }
      } catch (error) {
        controller.abort(error);
        throw error;
      }
    }),
  );
  return characters;
}

/** The prompt's own characters, as `score` sees them. */
async function promptTokens(
  served: Served,
  ids: Int32Array,
  text: string,
  logprobs: number,
  signal: AbortSignal,
): Promise<Token[]> {
  const { model } = served;
  const rivals = Math.min(logprobs, model.vocabulary.size);
  // In a model of single lines, something comes before the first character.
  const all = ids.length > 0 ? fromBeginning(ids, model.vocabulary, model.shape.resetId) : ids;
  const lead = all.length - ids.length;
  const found = await inspectIds(nativeOf(model), model.shape, all, { rivals, signal });
  return Array.from(text, (token, i) => {
    if (i + lead === 0) return { token, logprob: null, top: null };
    const logprob = -(found.nats[i + lead] as number);
    const from = (i + lead) * rivals;
    const top =
      rivals === 0
        ? null
        : topOf(
            model.vocabulary,
            ids[i] as number,
            logprob,
            found.rivals.subarray(from, from + rivals),
            (rank) => found.rivalLogProbabilities[from + rank] as number,
          );
    return { token, logprob, top };
  });
}

function lastMessage({ messages }: ChatRequest): string {
  const last = messages.findLast(({ role }) => role === 'user');
  if (last === undefined) throw new ApiError(400, 'messages must hold one of the role user.', { param: 'messages' });
  const { content } = last;
  if (typeof content === 'string') return content;
  return (content ?? [])
    .map(({ type, text }) => {
      if (type === 'text' && text !== undefined) return text;
      throw new ApiError(400, `Parts of the type '${type.slice(0, 50)}' are not supported: only text is.`, {
        param: 'messages',
      });
    })
    .join('');
}

function usage(prompt: number, completion: number): Usage {
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
