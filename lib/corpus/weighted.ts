/** Arguments that name a file with a number behind it: `old.txt:0.2`. */
import { existsSync } from 'node:fs';

/** A file or directory, and the number that was given with it. */
export interface Weighted {
  name: string;
  weight?: number | undefined;
}

/** The most times that an epoch has a text. */
export const largestWeight = 1000;

/** Takes the number off, unless there is a file or directory of just that name. */
export function readWeighted(argument: string): Weighted {
  const [, name, digits] = /^(.+):(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)$/i.exec(argument) ?? [];
  if (name === undefined || existsSync(argument)) return { name: argument };
  return { name, weight: Number(digits) };
}
