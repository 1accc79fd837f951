/**
 * Requests of the completions API, as a character model understands them: a token is a character. A field that would change what is
 * generated but is not supported here is refused, unless its value asks for nothing; it is never ignored.
 */

import { type DrawRuleName, eachDrawRule } from '../device/draw-rules';
import { nearest } from '../nearest';
import * as z from '../zod-parts';
import { ApiError, fieldOf } from './errors';

const whole = (low: number, high: number) => z.number().int().min(low).max(high).nullish();

const stop = z
  .union([z.string(), z.array(z.string()).max(4)])
  .nullish()
  .transform((given) => (given === null || given === undefined ? [] : typeof given === 'string' ? [given] : given));

/** Checks an object's own members, including `__proto__`, which a zod record skips. */
function isBias(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((each) => typeof each === 'number' && Math.abs(each) <= 100);
}

/** The fields of the sampling rules: `topK` is top_k. */
const rules = eachDrawRule((_, { low, high, above, whole: integer }) => {
  const real = integer ? z.number().int() : z.number();
  return (above ? real.gt(low) : real.min(low)).max(high).nullish();
});
type Field<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `_${Lowercase<First>}`}${Field<Rest>}`
  : Name;
type RuleFields = { [Name in DrawRuleName as Field<Name>]: (typeof rules)[Name] };

const common = {
  ...(Object.fromEntries(
    Object.entries(rules).map(([name, schema]) => [fieldOf(name as DrawRuleName), schema]),
  ) as RuleFields),
  model: z.string().nullish(),
  n: whole(1, 4096),
  stop,
  seed: whole(0, Number.MAX_SAFE_INTEGER),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  logit_bias: z
    .custom<Record<string, number>>(isBias, 'an object of characters and numbers from -100 to 100 is expected')
    .nullish(),
  unknown: z.enum(['error', 'skip']).nullish(),
};

const completion = z.object({
  ...common,
  prompt: z.union([z.string(), z.array(z.string()).min(1)]).nullish(),
  max_tokens: whole(0, 1e9),
  best_of: whole(1, 4096),
  echo: z.boolean().nullish(),
  logprobs: whole(0, 5),
});

const part = z.looseObject({ type: z.string(), text: z.string().optional() });
const chat = z.object({
  ...common,
  messages: z
    .array(z.looseObject({ role: z.string(), content: z.union([z.string(), z.array(part), z.null()]).optional() }))
    .min(1),
  max_tokens: whole(0, 1e9),
  max_completion_tokens: whole(0, 1e9),
});

export type CompletionRequest = z.output<typeof completion>;
export type ChatRequest = z.output<typeof chat>;

/** Fields that identify the client, or say how it is billed and served: they change no text. */
const without = ['user', 'metadata', 'store', 'service_tier', 'safety_identifier', 'prompt_cache_key'];

/** Fields that would change the text, with the values that ask for nothing. */
const neutral: Record<string, readonly unknown[]> = {
  presence_penalty: [0],
  frequency_penalty: [0],
  suffix: [''],
  logprobs: [false],
  top_logprobs: [0],
  tools: [[]],
  tool_choice: ['none', 'auto'],
  parallel_tool_calls: [true, false],
  functions: [[]],
  response_format: [{ type: 'text' }],
  modalities: [['text']],
  reasoning_effort: ['none'],
};

/** The values of the sampling rules that a request asks for; the others are `plain`. */
export function drawRulesOf(request: Pick<CompletionRequest, keyof RuleFields>): Record<DrawRuleName, number> {
  return eachDrawRule((name, { plain }) => request[fieldOf(name) as keyof RuleFields] ?? plain);
}

export function readCompletion(body: unknown): CompletionRequest {
  return read(completion, body);
}

export function readChat(body: unknown): ChatRequest {
  return read(chat, body);
}

function read<T extends z.ZodObject>(schema: T, body: unknown): z.output<T> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ApiError(400, 'The body must be a JSON object.');
  }
  const known: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(body)) {
    if (Object.hasOwn(schema.shape, name)) known[name] = value;
    else refuseUnknown(name, value, Object.keys(schema.shape));
  }
  const result = schema.safeParse(known);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const param = issue?.path.join('.') || undefined;
  const problem = issue?.code === 'invalid_union' ? 'Invalid input' : issue?.message;
  const hint =
    param === 'prompt' ? ': a string or an array of strings is expected; arrays of tokens are not supported' : '';
  throw new ApiError(400, `${param ?? 'The request'}: ${problem}${hint}.`, param === undefined ? {} : { param });
}

function refuseUnknown(name: string, value: unknown, names: string[]): void {
  if (value === null || without.includes(name)) return;
  const neutralValues = Object.hasOwn(neutral, name) ? (neutral[name] as readonly unknown[]) : [];
  if (neutralValues.some((each) => JSON.stringify(each) === JSON.stringify(value))) return;
  if (neutralValues.length > 0) {
    throw new ApiError(400, `${name} is not supported: leave it out.`, { param: name, code: 'unsupported_parameter' });
  }
  const near = nearest(name, names);
  const meant = near === undefined ? '' : `; did you mean ${near}?`;
  throw new ApiError(400, `Unknown parameter: '${name.slice(0, 100)}'${meant}`, {
    param: name.slice(0, 100),
    code: 'unknown_parameter',
  });
}
