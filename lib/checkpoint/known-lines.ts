/** The lines of a run's corpus, stored next to its checkpoints: what `sample --novel` leaves out. */
import { dirname, join } from 'node:path';
import { fieldsOf } from '../arguments';
import { KnownLines, knownLinesBytes } from '../corpus/known-lines';
import { DataError } from '../errors';
import { FileProblem, readSmallFile } from '../files';
import { told } from '../wording';
import type { CheckpointMetadata, CorpusRecord } from './checkpoint';
import { writeFileAtomically } from './disk';
import { lookAt, resolveCheckpoint } from './run-directory';

/** The file's name in a run's directory. */
const fileName = 'known-lines.bin';

/** For a corpus with more lines, none are stored: they would take more than 128 MiB. */
export const mostKnownLines = 1 << 23;

/** Whether a run's directory has them. */
export async function hasKnownLines(directory: string): Promise<boolean> {
  return (await lookAt(join(directory, fileName))) !== undefined;
}

/** @throws DiskError without space or permission. */
export async function saveKnownLines(directory: string, lines: KnownLines, corpusSha256: string): Promise<void> {
  await writeFileAtomically(join(directory, fileName), [await lines.toBytes(corpusSha256)]);
}

/**
 * The lines of the corpus that a checkpoint's model was trained on, from the file next to it.
 *
 * @param pathOrDirectory The checkpoint, or its run's directory.
 * @throws DataError if they are missing, or are those of another corpus.
 * @category Checkpoints and runs
 */
export async function loadKnownLines(
  pathOrDirectory: string,
  metadata: Pick<CheckpointMetadata, 'corpus'>,
): Promise<KnownLines> {
  const { corpus } = fieldsOf<Pick<CheckpointMetadata, 'corpus'>>('metadata', metadata, ['corpus']);
  const { sha256 = '' } = fieldsOf<CorpusRecord>('corpus of metadata', corpus, ['sha256']);
  const path = join(dirname(await resolveCheckpoint(pathOrDirectory)), fileName);
  const refuse = (problem: string, cause?: unknown): never => {
    const remedy = told(
      'name the text that the model was trained on: --not-in FILE',
      'give the lines of the text that the model was trained on: `known: await KnownLines.of(lines)`',
    );
    throw new DataError(`${problem}; ${remedy}`, { cause });
  };
  let bytes: Buffer;
  try {
    bytes = await readSmallFile(path, knownLinesBytes(mostKnownLines));
  } catch (error) {
    if (!(error instanceof FileProblem)) throw error;
    return refuse(`which lines the corpus holds is not known: ${error.message}`, error);
  }
  const lines = await KnownLines.fromBytes(bytes, sha256);
  return typeof lines === 'string' ? refuse(`${path} ${lines}`) : lines;
}
