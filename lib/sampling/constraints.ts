/** What a text may be continued with, character by character, apart from what the model finds likely. */
import type { TextIndex } from '../corpus/text-index';
import { nameCharacters, type Vocabulary } from '../corpus/vocabulary';
import { DataError } from '../errors';

/** The constraints on one text. */
export interface Constraint {
  /** The ids that may come next, ascending; undefined: any. */
  allowed(): Int32Array | undefined;
  /** What came. It may end the text, which is without it then, or with it. */
  push(id: number): 'before' | 'after' | undefined;
  /** The text is over before anything is drawn. */
  readonly ended?: boolean;
}

/** The constraints on every text of a call. */
export type ConstraintMaker = () => Constraint;

/** The ids of these characters. @throws DataError if the model knows none of them. */
export function onlyCharacters(characters: string, vocabulary: Vocabulary): ReadonlySet<number> {
  const ids = new Set<number>();
  for (const symbol of characters) {
    const id = vocabulary.idOf(symbol);
    if (id !== undefined) ids.add(id);
  }
  if (ids.size === 0) {
    throw new DataError(
      `of the characters that are to be written, ${nameCharacters(new Set(characters))}, the model knows none`,
    );
  }
  return ids;
}

/** Nothing but these. */
export function within(ids: ReadonlySet<number>): ConstraintMaker {
  const allowed = Int32Array.from(ids).sort();
  return () => ({ allowed: () => allowed, push: () => undefined });
}

/** No run of a text above `most` characters that the index's text holds, whose ids are the model's where it knows the symbol. */
export function noCopies(index: TextIndex, most: number, vocabulary: Vocabulary): ConstraintMaker {
  const V = vocabulary.size;
  return () => {
    const last: number[] = [];
    return {
      allowed: () => {
        if (last.length < most) return undefined;
        const refused = new Set(index.after(last));
        if (refused.size === 0) return undefined;
        const rest: number[] = [];
        for (let id = 0; id < V; id++) if (!refused.has(id)) rest.push(id);
        return Int32Array.from(rest);
      },
      push: (id) => {
        last.push(id);
        if (last.length > most) last.shift();
        return undefined;
      },
    };
  };
}

/** What two ascending lists of ids have in common. */
export function inBoth(a: Int32Array, b: Int32Array): Int32Array {
  let at = 0;
  return a.filter((id) => {
    while (at < b.length && (b[at] as number) < id) at++;
    return b[at] === id;
  });
}

/** Several constraints at once. */
export function allOf(makers: readonly ConstraintMaker[]): ConstraintMaker | undefined {
  if (makers.length === 0) return undefined;
  return () => {
    const parts = makers.map((make) => make());
    return {
      allowed: () => {
        let allowed: Int32Array | undefined;
        for (const part of parts) {
          const ids = part.allowed();
          if (ids === undefined) continue;
          allowed = allowed === undefined ? ids : inBoth(allowed, ids);
        }
        return allowed;
      },
      push: (id) => {
        const ends = parts.map((part) => part.push(id));
        return ends.find((end) => end === 'before') ?? ends.find((end) => end !== undefined);
      },
      get ended() {
        return parts.some(({ ended }) => ended);
      },
    };
  };
}
