/** What a checkpoint says about itself. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type CheckpointMetadata, readCheckpointMetadata } from './checkpoint';
import { canonicalLayout } from './layout';
import { lastCheckpoints, lookAt, resolveCheckpoint } from './run-directory';

/**
 * A checkpoint's metadata, where it was found, and its size.
 *
 * @category Checkpoints and runs
 */
export interface CheckpointInfo extends CheckpointMetadata {
  path: string;
  bytes: number;
  parameters: number;
}

/**
 * Reads what a checkpoint says about itself; no weights are loaded.
 *
 * @category Checkpoints and runs
 */
export async function inspectCheckpoint(pathOrDirectory: string): Promise<CheckpointInfo> {
  const path = await resolveCheckpoint(pathOrDirectory);
  const metadata = await readCheckpointMetadata(path);
  const layout = canonicalLayout({ ...metadata.model, vocabulary: metadata.vocabulary.length });
  const parameters = layout.reduce((sum, parameter) => sum + parameter.size, 0);
  return { path, bytes: (await stat(path)).size, parameters, ...metadata };
}

/**
 * Where a run stands, according to the newest of its last checkpoints, from which it is resumed; undefined if the directory has none
 * that can be read, or the path is not a directory.
 */
export async function inspectRun(directory: string): Promise<CheckpointInfo | undefined> {
  if (!(await lookAt(directory))?.isDirectory()) return undefined;
  for (const name of await lastCheckpoints(directory)) {
    const info = await inspectCheckpoint(join(directory, name)).catch(() => undefined);
    if (info?.training) return info;
  }
  return undefined;
}
