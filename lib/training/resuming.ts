/** Resuming a run: which one, its checkpoint, and its texts. */
import { readdir, stat } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import { show } from '../arguments';
import { type Checkpoint, type CheckpointMetadata, checkTrainable, loadCheckpoint } from '../checkpoint/checkpoint';
import { holdsRun, lookAt, newestCheckpoint, RunDirectory } from '../checkpoint/run-directory';
import { unusable } from '../checkpoint/unusable';
import type { Corpus } from '../corpus/corpus';
import { readWeighted } from '../corpus/weighted';
import { takeAllQuietly } from '../endings';
import { CheckpointError, DataError, UsageError } from '../errors';
import { kindOf } from '../files';
import { grouped } from '../numbers';
import { option, told, trainCall } from '../wording';
import { type Configuration, placeOf, readRecordedCorpus, type TextKey } from './configuration';
import { optionsOfBase } from './fine-tuning';
import type { TrainingRequest } from './request';
import { describeParts } from './same';

/** A run being resumed. */
export interface ResumedRun {
  readonly directory: string;
  /** Locked until closed. Absent if another rank of the job has it, or if nothing is saved. */
  readonly run?: RunDirectory | undefined;
  readonly path: string;
  readonly checkpoint: Checkpoint;
}

/**
 * Opens the run's directory and loads the checkpoint to continue from.
 *
 * @param resume The directory, or `true` for the one given by `out`, else the newest in `runs/`.
 * @param request If `save` is false, the directory is not locked and nothing in it changes.
 * @throws UsageError, CheckpointError or DiskError if no run can be continued, or another trainer has it.
 */
export async function openResumedRun(
  resume: string | true,
  configuration: Configuration,
  request: TrainingRequest,
): Promise<ResumedRun> {
  const { out, lock } = configuration.options;
  const { save = true, onNote } = request;
  const directory = resume === true ? (out ?? (await newestRun('runs'))) : resume;
  if (out !== undefined && resolve(out) !== resolve(directory)) {
    throw new UsageError(
      `${placeOf('out', configuration, request)}: a resumed run stays in its directory, ${directory}, so ${out} is impossible; leave it out, or resume a copy.`,
    );
  }
  const found = await lookAt(directory);
  if (!found)
    throw new CheckpointError(`There is no run to resume at ${directory}; say which: ${option({ resume: 'DIR' })}.`);
  if (!found.isDirectory()) {
    const order = told(' (give the CORPUS before --resume)', '');
    throw new UsageError(`${option('resume')} takes a run's directory, and ${directory} is a file${order}.`);
  }
  const run = save ? await RunDirectory.open(directory, { create: false, lock }) : undefined;
  try {
    const path = run ? await run.newest() : await newestCheckpoint(directory, (_, problem) => onNote?.(problem));
    if (path === undefined) {
      throw new CheckpointError(
        `${directory} holds no whole checkpoint to resume from; begin anew in another ${option('out')}.`,
      );
    }
    const checkpoint = await loadCheckpoint(path);
    checkTrainable(path, checkpoint.metadata);
    checkRecorded(path, checkpoint.metadata);
    return { directory, run, path, checkpoint };
  } catch (error) {
    await takeAllQuietly([() => run?.close()]);
    throw error;
  }
}

/**
 * A resumed run takes its options from those recorded in its checkpoint, so these must agree with the model.
 *
 * @throws CheckpointError if they do not.
 */
function checkRecorded(path: string, metadata: CheckpointMetadata): void {
  const { configuration, training } = metadata;
  const said = {
    ...optionsOfBase(metadata).values,
    ...(training ? { batchSize: training.batch, seed: training.seed } : {}),
  };
  for (const [name, is] of Object.entries(said)) {
    const recorded = configuration[name];
    if (recorded === undefined || recorded === is) continue;
    throw unusable(path, `its configuration has ${name} ${show(recorded)}, and its model was trained with ${show(is)}`);
  }
}

/** The most recently written run in `root`; other directories, such as a reproduction's, are not runs. */
async function newestRun(root: string): Promise<string> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  let newest: { path: string; time: number } | undefined;
  for (const entry of entries) {
    const path = join(root, entry.name);
    // A damaged run counts too: opening it reports the problem.
    if (!entry.isDirectory() || !(await holdsRun(path).catch(() => true))) continue;
    const time = (await stat(path)).mtimeMs;
    if (!newest || time > newest.time) newest = { path, time };
  }
  if (newest) return newest.path;
  throw new CheckpointError(`There is no run to resume in ${resolve(root)}; say which: ${option({ resume: 'DIR' })}.`);
}

/**
 * The corpus of a run if none is given: the one named in its directory's config.json, never in its checkpoint. Only files and
 * directories named there are read, since whoever wrote it may not be the one who resumes the run.
 *
 * @throws DataError that says how to name the text, if config.json does not name it or it has moved.
 */
export async function recordedSources(
  { directory, checkpoint }: ResumedRun,
  key: TextKey = 'corpus',
): Promise<readonly string[]> {
  const does = { corpus: 'was trained on', keep: 'keeps', validationFile: 'is validated on' }[key];
  const what = `the run in ${directory} ${does}`;
  const command = (file: string) =>
    trainCall({
      ...(key === 'corpus' ? { corpus: [file] } : {}),
      resume: directory,
      ...(key === 'corpus' ? {} : { [key]: [file] }),
    });
  const remedy = (place: string) => `name ${place}: ${command('FILE')}`;
  const recorded = await readRecordedCorpus(join(directory, 'config.json'), key).catch((error: unknown) => {
    if (!(error instanceof DataError)) throw error;
    const { name } = key === 'corpus' ? (checkpoint.metadata.corpus ?? {}) : {};
    const text = `the text that ${what}${name === undefined ? '' : ` (${name})`}`;
    throw new DataError(`${error.message}, so where ${text} lies is not known; ${remedy('its place')}`, {
      cause: error,
    });
  });
  for (const { name: source } of recorded.map(readWeighted)) {
    if (source === '-') {
      throw new DataError(
        `standard input, which ${what}, is another now; give it again, ${command('-')}, or ${remedy('a file')}`,
      );
    }
    const found = await lookAt(source);
    if (found === undefined && isAbsolute(source)) {
      throw new DataError(`${source} is not there, which ${what}; ${remedy('its new place')}`);
    }
    if (found && !found.isFile() && !found.isDirectory()) {
      throw new DataError(`${source}, which ${what}, is ${kindOf(found)}, not a file; ${remedy('its place')}`);
    }
  }
  return recorded;
}

/** The texts of a run. */
export interface Texts {
  readonly corpus: Corpus;
  readonly kept: Corpus | undefined;
  readonly validation: Corpus | undefined;
}

/**
 * Checks that the texts of a resumed run are those that it was trained on.
 *
 * @param place Where such a text was named.
 * @throws DataError that says which one differs.
 */
export function checkTexts(
  { path, checkpoint }: Pick<ResumedRun, 'path' | 'checkpoint'>,
  { corpus, kept, validation }: Texts,
  place: (name: 'keep' | 'validationFile') => string,
): void {
  const { training, corpus: recorded } = checkpoint.metadata;
  if (!training) return;
  if (training.corpusSha256 !== corpus.sha256 || training.corpusLength !== corpus.length) {
    throw new DataError(
      `The corpus is not the one that ${path} was trained on (${recorded ? `${recorded.name}, ` : ''}${grouped(training.corpusLength)} characters ` +
        `then, ${grouped(corpus.length)} now, or others): give that corpus, or start a new run without ${option('resume')}.`,
    );
  }
  if (JSON.stringify(training.corpusParts) !== JSON.stringify(corpus.parts)) {
    const before = training.corpusParts ?? [{ length: corpus.length, weight: 1 }];
    throw new DataError(
      `The texts have other weights than ${path} was trained with (${describeParts(before)}): give those, or start a new run without ` +
        `${option('resume')}.`,
    );
  }
  if (training.keptSha256 !== kept?.sha256) {
    throw new DataError(
      training.keptSha256 === undefined
        ? `${path} was trained without a text to keep: leave ${place('keep')} out, or begin a new run with ${option({ from: path })}.`
        : `The text to keep is not the one that ${path} keeps: give that one with ${option('keep')}, or start a new run.`,
    );
  }
  if (training.validationSha256 !== validation?.sha256) {
    throw new DataError(
      training.validationSha256 === undefined
        ? `${path} was trained without a validation text of its own: leave ${place('validationFile')} out, or start a new run.`
        : `The validation text is not the one of ${path}: give that one with ${option('validationFile')}, or start a new run.`,
    );
  }
}
