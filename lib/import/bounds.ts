/** Limits on what a foreign file can make this program hold and do; every reader in lib/import keeps to them. */
import { CheckpointError } from '../errors';
import { FileProblem, openFile } from '../files';
import { harmless } from '../harmless';

/** The most bytes of a file, and of what is unpacked from it. A character model takes a thousandth of that. */
export const largestFile = 2 ** 30;
/** The most numbers in one tensor. */
export const largestTensor = 2 ** 28;

const longest = 400;

/**
 * The error for a file that cannot be imported. What the file says about itself is shown on one line of bounded length, free of anything
 * that a terminal would obey.
 */
export function foreign(path: string, problem: string, cause?: unknown): CheckpointError {
  const short = problem.length > longest ? `${problem.slice(0, longest)}…` : problem;
  return new CheckpointError(`cannot import ${harmless(path)}: ${harmless(short)}`, { cause });
}

/** A refusal that does not know the file's name yet: readers throw it, and `importModel` turns it into a CheckpointError. */
export class Refusal extends Error {}

/** All bytes of a file. @throws CheckpointError if it is missing, not a file, or beyond 1 GiB. */
export async function readWhole(path: string, limit = largestFile): Promise<Buffer> {
  try {
    const handle = await openFile(path);
    try {
      const info = await handle.stat();
      if (info.size > limit) throw foreign(path, `it is ${info.size} bytes long, more than the ${limit} that are read`);
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    if (!(error instanceof FileProblem)) throw foreign(path, (error as Error).message, error);
    if (error.kind === 'missing') throw foreign(path, 'there is no such file', error);
    const remedy = '; of a folder name the file in it (manifest.json, model.json)';
    throw foreign(path, `it ${error.problem}${error.kind === 'other' ? remedy : ''}`, error);
  }
}

/** Product of extents. @throws Refusal if one is not a whole number, or the product is more than a tensor may hold. */
export function sizeOf(shape: readonly number[], name: string): number {
  if (shape.length > 8) throw new Refusal(`tensor '${name}' has ${shape.length} dimensions`);
  let product = 1;
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) throw new Refusal(`tensor '${name}' has the extent ${extent}`);
    product *= extent;
    if (product > largestTensor) throw new Refusal(`tensor '${name}' is larger than ${largestTensor} numbers`);
  }
  return product;
}
