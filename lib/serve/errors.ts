/** Errors in the form that API clients expect. */
import { CudnnLstmError, OptionError, OutOfMemoryError } from '../errors';

/** A refused request; `status` is HTTP's, the rest is the body's. */
export class ApiError extends Error {
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
  /** Seconds after which to try again, for `Retry-After`. */
  readonly retryAfter: number | undefined;

  constructor(
    status: number,
    message: string,
    details: { type?: string; param?: string; code?: string; retryAfter?: number } = {},
  ) {
    super(message);
    this.status = status;
    this.type = details.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error');
    this.param = details.param ?? null;
    this.code = details.code ?? null;
    this.retryAfter = details.retryAfter;
  }

  get body(): { error: { message: string; type: string; param: string | null; code: string | null } } {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } };
  }
}

/** An option's name in a request: `topK` is top_k. */
export function fieldOf(option: string): string {
  return option.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/**
 * What a client is told of an error. Faults in its request keep the library's wording; any other error may name files of this machine,
 * and stays here.
 */
export function asApiError(thrown: unknown, param?: string): ApiError {
  if (thrown instanceof ApiError) return thrown;
  if (thrown instanceof OutOfMemoryError)
    return new ApiError(503, 'Out of memory.', { code: 'out_of_memory', retryAfter: 5 });
  if (thrown instanceof CudnnLstmError && (thrown.code === 'ERR_USAGE' || thrown.code === 'ERR_DATA')) {
    const message = thrown instanceof OptionError ? `${fieldOf(thrown.option)} ${thrown.problem}` : thrown.message;
    return new ApiError(400, message, param === undefined ? {} : { param });
  }
  return new ApiError(500, 'The server failed; its log says more.');
}
