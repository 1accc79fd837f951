/** What a request may ask for at most. */
export interface Limits {
  /** Bytes of a request's body; more is answered 413. */
  body: number;
  /** Characters of all prompts of a request. */
  prompt: number;
  /** Characters to be drawn for a text. */
  tokens: number;
  /** Texts of a request: prompts times `best_of`. */
  texts: number;
  /** Texts drawn, looked at by the page, or waiting for that, of all requests; more is answered 429. */
  queue: number;
}

export const defaultLimits: Limits = { body: 1 << 20, prompt: 100_000, tokens: 100_000, texts: 64, queue: 512 };
