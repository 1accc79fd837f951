/** Upper limits on a request. */
export interface Limits {
  /** Bytes of a request's body; more is answered with 413. */
  body: number;
  /** Characters of all prompts of a request together. */
  prompt: number;
  /** Characters drawn per text. */
  tokens: number;
  /** Texts per request: prompts times `best_of`. */
  texts: number;
  /** Texts of all requests being drawn, inspected by the page, or waiting for that; more is answered with 429. */
  queue: number;
}

export const defaultLimits: Limits = { body: 1 << 20, prompt: 100_000, tokens: 100_000, texts: 64, queue: 512 };
