/** Where an imported model goes: a file, or a directory that `sample`, `score` and `info` accept like a run's. */
import { stat } from 'node:fs/promises';
import { fieldsOf, optionsOf, pathOf, show, signalOf } from '../arguments';
import { saveCheckpoint } from '../checkpoint/checkpoint';
import { holdsRun, RunDirectory } from '../checkpoint/run-directory';
import { UsageError } from '../errors';
import { isTaken } from '../files';
import { option } from '../wording';
import type { ImportedModel } from './import';

/** @throws UsageError if something is already there: an import replaces nothing. */
export async function checkFree(out: string): Promise<void> {
  if (!(await isTaken(out))) return;
  const found = await stat(out).catch(() => undefined);
  if (out.endsWith('.safetensors') || !found?.isDirectory())
    throw new UsageError(`${out} is there already: name another ${option('out')}.`);
  if (await holdsRun(out)) throw new UsageError(`${out} holds a run already: name another ${option('out')}.`);
}

/**
 * Writes an imported model to a .safetensors file or, under any other name, to a directory with one checkpoint in it.
 *
 * @param options `signal` aborts the writing of a file, which throws its reason.
 * @returns The checkpoint's path.
 * @throws UsageError if something is already there; DiskError without space or permission.
 * @category Models of other programs
 */
export async function saveImported(
  imported: ImportedModel,
  out: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<string> {
  const { signal } = optionsOf<{ signal?: AbortSignal | undefined }>('options', options, { signal: signalOf });
  const { checkpoint, layout, proof } = fieldsOf<ImportedModel>('imported', imported, [
    'checkpoint',
    'layout',
    'proof',
  ]);
  const { loss } = fieldsOf<ImportedModel['proof']>('proof', proof, ['loss']);
  if (typeof loss !== 'number') throw new UsageError(`loss of proof must be a number, not ${show(loss)}.`);
  pathOf('out', out);
  await checkFree(out);
  signal?.throwIfAborted();
  if (out.endsWith('.safetensors')) {
    await saveCheckpoint(out, checkpoint, layout, { signal });
    return out;
  }
  await using run = await RunDirectory.open(out, { create: true });
  // Awaited here: the directory is released when this function returns.
  return await run.saveBest(checkpoint, layout, `imported-${loss.toFixed(4)}.safetensors`);
}
