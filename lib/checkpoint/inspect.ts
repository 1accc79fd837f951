/** What a checkpoint says of itself. */
import { stat } from 'node:fs/promises';
import { type CheckpointMetadata, readCheckpointMetadata } from './checkpoint';
import { canonicalLayout } from './layout';
import { resolveCheckpoint } from './run-directory';

/** A checkpoint's metadata, where it was found, and its size. */
export interface CheckpointInfo extends CheckpointMetadata {
  path: string;
  bytes: number;
  parameters: number;
}

/** Reads what a checkpoint says of itself; no weights are loaded. */
export async function inspectCheckpoint(pathOrDirectory: string): Promise<CheckpointInfo> {
  const path = await resolveCheckpoint(pathOrDirectory);
  const metadata = await readCheckpointMetadata(path);
  const layout = canonicalLayout({ ...metadata.model, vocabulary: metadata.vocabulary.length });
  const parameters = layout.reduce((sum, parameter) => sum + parameter.size, 0);
  return { path, bytes: (await stat(path)).size, parameters, ...metadata };
}
