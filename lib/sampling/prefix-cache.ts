/**
 * States after prompt prefixes, so that a prefix that comes again is not computed again.
 *
 * Shapes: L layers, H hidden.
 */
import { createHash } from 'node:crypto';

/** Evicts the least recently used states when together they take more than a number of bytes. */
export class PrefixCache {
  readonly #most: number;
  #bytes = 0;
  /** Keyed by {@link prefixKeys}, least recently used first. */
  readonly #states = new Map<string, Float32Array>();

  /** @param most Bytes; 0 keeps nothing. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Bytes of all states kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The state [L, 2, 1, H] after the prefix that `key` stands for. */
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

/** A key for each prefix of `ids`: its SHA-256, which no other text has. `ends` ascend. */
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
