/** What a run's best checkpoint is worth: the texts it writes, their measures, and its loss by the window protocol. */
import { basename } from 'node:path';
import { readCheckpointMetadata } from '../checkpoint/checkpoint';
import { resolveCheckpoint } from '../checkpoint/run-directory';
import type { Corpus } from '../corpus/corpus';
import { CheckpointError } from '../errors';
import { LanguageModel } from '../model';
import { keyedInteger } from '../training/keyed-random';
import { optionDefinitions } from '../training/options';
import { measureQuality } from './quality';
import { type Evaluation, type RunRecord, readRunRecord, type SampleRecord, writeRunRecord } from './run-record';
import { type PlannedRun, permittedEnvironment } from './run-training';

/** Characters per generated text, as in the reference's notes. */
const sampleLength = 1000;

export interface EvaluationListener {
  /** Called with one line when something begins. */
  onNote?: ((line: string) => void) | undefined;
  /** Called with how many characters are scored, and the total. */
  onScored?: ((done: number, total: number) => void) | undefined;
}

/**
 * Samples from the best checkpoint in a run's directory, scores it, and adds the results to the run's record; what the record already has
 * is not done again. An abort leaves the rest for the next time.
 *
 * @param stride The window protocol takes every nth window.
 */
export async function evaluateRun(
  run: PlannedRun,
  corpus: Corpus,
  stride: number,
  listener: EvaluationListener,
): Promise<void> {
  const { directory, signal } = run;
  const record = await readRunRecord(directory);
  if (!record || signal?.aborted) return;
  const path = await resolveCheckpoint(directory).catch((error) => {
    if (error instanceof CheckpointError) return undefined;
    throw error;
  });
  if (path === undefined) return;
  const known = record.evaluation?.checkpoint === basename(path) ? record.evaluation : undefined;
  if (known?.windows !== undefined && known.windows.stride <= stride) return;
  try {
    await evaluate(run, corpus, path, stride, { ...record, evaluation: known }, listener);
  } catch (error) {
    if (!signal?.aborted) throw error;
  }
}

async function evaluate(
  { directory, identity, device, threads, check, signal }: PlannedRun,
  corpus: Corpus,
  path: string,
  stride: number,
  record: RunRecord,
  { onNote, onScored }: EvaluationListener,
): Promise<void> {
  // A run is evaluated in the precision that it was trained in.
  const { precision } = (await readCheckpointMetadata(path)).configuration;
  using model = await LanguageModel.load(path, {
    device,
    threads,
    check,
    env: permittedEnvironment(),
    onNote,
    signal,
    precision: optionDefinitions.precision.schema.safeParse(precision).data,
  });
  let { evaluation } = record;
  if (evaluation === undefined) {
    onNote?.(`sampling from ${path}`);
    evaluation = await samplesOf(model, corpus, basename(path), identity.seed, signal);
    await writeRunRecord(directory, { ...record, evaluation });
  }
  onNote?.(`scoring ${path} by the window protocol, ${stride === 1 ? 'every window' : `1 window in ${stride}`}`);
  const window = model.metadata.seqLength;
  const score = await model.scoreWindows(corpus.ids, { window, stride, signal, onProgress: onScored });
  const windows = {
    stride,
    count: score.windows,
    lossWithDropout: score.dropoutOn.loss,
    loss: score.dropoutOff.loss,
  };
  await writeRunRecord(directory, { ...record, evaluation: { ...evaluation, windows } });
}

/** What the model writes after a window of the corpus that the seed selects, each character from the window before it. */
async function samplesOf(
  model: LanguageModel,
  corpus: Corpus,
  checkpoint: string,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<Evaluation> {
  const { seqLength: window } = model.metadata;
  const start = keyedInteger(corpus.length - window, 'reproduction', seed);
  const prompt = model.vocabulary.decode(corpus.ids.read(start, window));
  const text = model.vocabulary.decode(corpus.ids.read(0, corpus.length));
  const write = async (temperature: number): Promise<SampleRecord> => {
    let written = '';
    const settings = { prompt, length: sampleLength, window, temperature, seed, signal };
    for await (const piece of model.generate(settings)) written += piece;
    const { knownWords, longestCopy, loop } = measureQuality(written, text);
    return {
      text: written,
      quality: {
        knownWords: Number.isFinite(knownWords) ? knownWords : null,
        longestCopy: longestCopy.characters,
        ...(loop ? { loop: loop.text } : {}),
      },
    };
  };
  return { checkpoint, prompt, greedy: await write(0), sampled: await write(0.8) };
}
