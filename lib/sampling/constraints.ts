/** Constraints on how a text may continue, character by character, independent of what the model finds likely. */
import type { TextIndex } from '../corpus/text-index';
import { nameCharacters, type Vocabulary } from '../corpus/vocabulary';
import { DataError } from '../errors';

/** The constraints on one text. */
export interface Constraint {
  /** The ids that may come next, ascending; undefined: any. */
  allowed(): Int32Array | undefined;
  /** Takes the id that was written. It may end the text, either before or after itself. */
  push(id: number): 'before' | 'after' | undefined;
  /** Whether the text is over before anything is drawn. */
  readonly ended?: boolean;
}

/** Makes the constraints on each text of a call. */
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

/** Allows only these ids. */
export function within(ids: ReadonlySet<number>): ConstraintMaker {
  const allowed = Int32Array.from(ids).sort();
  return () => ({ allowed: () => allowed, push: () => undefined });
}

/** Forbids any run of more than `most` characters that occurs in the index's text, whose ids are the model's for symbols that it knows. */
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

/** The intersection of two ascending lists of ids. */
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
