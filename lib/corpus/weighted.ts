/** Arguments that name a file followed by a number: `old.txt:0.2`. */
import { existsSync } from 'node:fs';

/** A file or directory, and the number given with it. */
export interface Weighted {
  name: string;
  weight?: number | undefined;
}

/** The most times that an epoch has a text. */
export const largestWeight = 1000;

/** Splits off the number, unless a file or directory has exactly that name. */
export function readWeighted(argument: string): Weighted {
  const [, name, digits] = /^(.+):(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)$/i.exec(argument) ?? [];
  if (name === undefined || existsSync(argument)) return { name: argument };
  return { name, weight: Number(digits) };
}
