/** Random decisions determined by a key alone, so that no state has to be saved. */
import { createHash } from 'node:crypto';

/** 32 bytes that depend on the whole key and on nothing else. */
export function keyedBytes(...key: (string | number)[]): Buffer {
  return createHash('sha256').update(key.join(' ')).digest();
}

/** An integer in 0..below-1; `below` at most 2^48, and far less for a uniform draw. */
export function keyedInteger(below: number, ...key: (string | number)[]): number {
  return keyedBytes(...key).readUIntBE(0, 6) % below;
}

/**
 * A pseudo-random permutation of 0..size-1, computed one element at a time without an array: a Feistel network (Luby and Rackoff 1988)
 * over the next even power of two, walking its cycle until it is back inside the range (Black and Rogaway 2002).
 *
 * @param size 1..2^52.
 */
export class KeyedPermutation {
  readonly #size: number;
  readonly #half: number;
  readonly #keys: number[];

  constructor(size: number, ...key: (string | number)[]) {
    this.#size = size;
    const halfBits = Math.max(1, Math.ceil(Math.log2(size) / 2));
    this.#half = 2 ** halfBits;
    const bytes = keyedBytes(...key);
    this.#keys = Array.from({ length: 8 }, (_, round) => bytes.readUInt32LE(4 * round));
  }

  /** The image of `index`. */
  at(index: number): number {
    let place = index;
    do place = this.#round(place);
    while (place >= this.#size);
    return place;
  }

  #round(index: number): number {
    let left = Math.floor(index / this.#half);
    let right = index % this.#half;
    for (const key of this.#keys) {
      const mixed = (left ^ mix(right, key)) & (this.#half - 1);
      left = right;
      right = mixed;
    }
    return left * this.#half + right;
  }
}

/** The finaliser of MurmurHash3 (Appleby 2011) applied to value and key. */
function mix(value: number, key: number): number {
  let h = (value ^ key) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
