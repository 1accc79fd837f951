/**
 * States after the beginnings of prompts, so that a beginning which comes again is not computed again.
 *
 * Shapes: L layers, H hidden.
 */
import { createHash } from 'node:crypto';

/** The least recently used states go when they take more than a number of bytes together. */
export class PrefixCache {
  readonly #most: number;
  #bytes = 0;
  /** By {@link prefixKeys}, the least recently used first. */
  readonly #states = new Map<string, Float32Array>();

  /** @param most Bytes; 0 keeps nothing. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Bytes of all states kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The state [L, 2, 1, H] after the beginning that `key` stands for. */
  get(key: string): Float32Array | undefined {
    const state = this.#states.get(key);
    if (state === undefined) return undefined;
    this.#states.delete(key);
    this.#states.set(key, state);
    return state;
  }

  keep(key: string, state: Float32Array): void {
    if (state.byteLength > this.#most) return;
    this.#bytes += state.byteLength - (this.#states.get(key)?.byteLength ?? 0);
    this.#states.delete(key);
    this.#states.set(key, state);
    for (const [oldest, old] of this.#states) {
      if (this.#bytes <= this.#most) break;
      this.#states.delete(oldest);
      this.#bytes -= old.byteLength;
    }
  }
}

/** What stands for each beginning of `ids`: a SHA-256 of it, which no other text has. `ends` ascend. */
export function prefixKeys(ids: Int32Array, ends: readonly number[]): string[] {
  const hash = createHash('sha256');
  let from = 0;
  return ends.map((end) => {
    const part = ids.subarray(from, end);
    hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
    from = end;
    return hash.copy().digest('base64');
  });
}
