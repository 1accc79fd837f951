/** The figures of a reproduction as rows of text, the same for every format of the report. */
import { grouped, plural } from '../numbers';
import { formatDuration } from '../training/duration';
import { option } from '../wording';
import {
  type ReferenceRun,
  referenceCorpus,
  referenceModel,
  referenceRuns,
  referenceSample,
} from './reference-figures';
import type { Reproduction, RunReport } from './reproduction';
import type { EpochProgress, SampleRecord } from './run-record';

/** A row of the table: the name of a figure, its value in the reference, and ours. */
export type FigureRow = readonly [what: string, reference: string, ours: string];

/** Stands where there is no figure. */
export const absent = '-';

export function referenceRunOf(run: RunReport): ReferenceRun | undefined {
  return referenceRuns.find((each) => each.epochs === run.epochs);
}

export function title(report: Reproduction): string {
  return `The Keras reference, reproduced${report.partial ? ' (partial)' : ''}`;
}

/** The result in a sentence or two. */
export function summary({ runs, corpus, overrides, partial, shared }: Reproduction): string {
  const goal = referenceRuns.reduce((best, each) => (each.bestLoss < best.bestLoss ? each : best));
  const total = (counts: number[]) => counts.reduce((sum, each) => (shared ? Math.max(sum, each) : sum + each), 0);
  const asked = total(runs.map((run) => run.epochs));
  const trained = total(runs.map((run) => run.records.length));
  const reference = `the reference's is ${goal.bestLoss}, after epoch ${goal.bestEpoch} of ${goal.epochs}, in ${goal.runTime}`;
  const best = runs
    .filter((run) => run.best !== undefined)
    .reduce<RunReport | undefined>((a, b) => (a?.best && a.best.loss <= (b.best?.loss ?? 0) ? a : b), undefined);
  if (!best?.best) {
    const progress = runs.find((run) => run.progress)?.progress;
    const where = progress ? `: ${progressed(progress)}` : '';
    return `No epoch is complete yet${where}. The figure to reach is a training loss of ${goal.bestLoss}.`;
  }
  const so = trained < asked ? `So far ${count(trained)} of ${count(asked)} epochs are trained. ` : '';
  const ours =
    `The best training loss${so ? ' yet' : ''} is ${best.best.loss.toFixed(4)} nats per character, after epoch ` +
    `${count(best.best.epoch)} of ${count(best.epochs)}, in ${formatDuration(best.best.elapsedSeconds)}`;
  const same = corpus.characters === referenceCorpus.characters && corpus.symbols === referenceCorpus.symbols;
  if (!same || Object.keys(overrides).length > 0) return `${so}${ours}; ${anotherRecipe}.`;
  const done = partial || trained < asked ? '' : verdict(best.best.loss - goal.bestLoss);
  return `${so}${ours}; ${reference}.${done}`;
}

const anotherRecipe = "with another text or recipe than the reference's, so the two are not to be compared";

function verdict(difference: number): string {
  const size = Math.abs(difference).toFixed(4);
  if (Number(size) === 0) return ' They are equal.';
  return ` That is ${size} ${difference < 0 ? 'better' : 'worse'}.`;
}

/** The lines at the top: what was computed where, and what differs from the reference. */
export function introduction(report: Reproduction): string[] {
  const { machine, version, date, corpus, overrides, partial, shared, runs } = report;
  const devices = [...new Set(runs.flatMap(({ record }) => record?.device ?? []))];
  const lines = [
    `cudnn-lstm ${version}, ${date.slice(0, 10)}. Machine: ${machine.cpu}, ${machine.processors} processors, ` +
      `${gigabytes(machine.memoryBytes)} of memory, ${machine.platform}, Node ${machine.node}.` +
      (devices.length > 0 ? ` Trained on: ${devices.join('; ')}.` : ''),
    `Corpus: ${corpus.sources.join(', ')}: ${count(corpus.characters)} characters, ${corpus.symbols} symbols, SHA-256 ` +
      `${corpus.sha256} (of the text as it was trained on).`,
  ];
  if (corpus.characters !== referenceCorpus.characters || corpus.symbols !== referenceCorpus.symbols) {
    lines.push(
      `This is not the reference's corpus (${count(referenceCorpus.characters)} characters, ${referenceCorpus.symbols} symbols), so the figures ` +
        'are not to be compared.',
    );
  }
  if (Object.keys(overrides).length > 0) {
    lines.push(`Not the recipe: ${JSON.stringify(overrides)}.`);
  }
  if (shared) {
    lines.push(
      `One training served every row (${option('shared')}): the rate is constant and the number of epochs is no part of the recipe, so a row is ` +
        "the training's beginning. The reference's three runs were three trainings.",
    );
  }
  if (partial) {
    const states = runs.map((run) => `${plural(run.epochs, 'epoch')}: ${stateOf(run)}`);
    lines.push(`This report is partial (${states.join('; ')}). The same command continues it${timeLeft(report)}.`);
  }
  return lines;
}

/** The time left at the pace of the epochs so far, as the end of a sentence. */
function timeLeft({ runs, shared }: Reproduction): string {
  const seconds = runs.flatMap(({ records }) => records.map((each) => each.seconds)).sort((a, b) => a - b);
  const median = seconds[seconds.length >> 1];
  const left = runs.map(({ epochs, records }) => Math.max(0, epochs - records.length));
  const epochs = shared ? Math.max(0, ...left) : left.reduce((sum, each) => sum + each, 0);
  if (median === undefined || epochs === 0) return '';
  return `: ${count(epochs)} ${epochs === 1 ? 'epoch is' : 'epochs are'} left, about ${formatDuration(epochs * median)} at the pace so far`;
}

/** One line per run. */
export function overview(report: Reproduction): FigureRow[] {
  return report.runs.map((run) => {
    const reference = referenceRunOf(run);
    return [
      `${plural(run.epochs, 'epoch')}${remark(run)}`,
      reference ? `epoch ${reference.bestEpoch}, loss ${reference.bestLoss}, ${reference.runTime}` : absent,
      run.best ? `epoch ${run.best.epoch}, loss ${run.best.loss.toFixed(4)}, ${runTime(run)}` : absent,
    ] as const;
  });
}

function stateOf(run: RunReport): string {
  if (run.state === 'not begun') return 'not begun';
  if (run.state === 'passed') return 'its checkpoint was not kept';
  if (run.state === 'partial') {
    const begun = run.progress ? `, and ${progressed(run.progress)}` : '';
    return `partial: ${count(run.records.length)} of ${count(run.epochs)} epochs${begun}`;
  }
  return run.record?.evaluation?.windows ? 'finished' : 'partial: trained, not yet measured';
}

/** What follows the name of an unfinished run. */
export function remark(run: RunReport): string {
  const state = stateOf(run);
  return state === 'finished' ? '' : ` (${state})`;
}

/** The text for a run without a complete epoch. */
export function nothingYet({ state, progress }: RunReport): string {
  if (state === 'not begun') return 'This run has not begun.';
  return `No epoch of this run is complete yet${progress ? `: ${progressed(progress)}` : ''}.`;
}

function progressed({ epoch, step, stepsPerEpoch, loss }: EpochProgress): string {
  return `step ${count(step)} of ${count(stepsPerEpoch)} of epoch ${count(epoch)}, mean loss ${loss.toFixed(4)}`;
}

/** The reference's notes on a run, line by line, with ours next to them. */
export function runFigures(run: RunReport): FigureRow[] {
  const reference = referenceRunOf(run);
  const { record, gpu, best } = run;
  const rows: FigureRow[] = [
    ['device', referenceModel.device, record?.device ?? absent],
    ['utilisation', reference?.utilisation ?? absent, utilisation(run)],
    [
      'memory',
      reference?.memory ?? absent,
      gpu
        ? `${gigabytes(gpu.memoryUsedBytes)} of the GPU's ${gigabytes(gpu.memoryTotalBytes)}`
        : record
          ? `${gigabytes(record.peakBytes)} resident at most`
          : absent,
    ],
    ['random seed', absent, String(run.seed)],
    ['steps per epoch', count(referenceModel.stepsPerEpoch), record ? count(record.stepsPerEpoch) : absent],
    ['parameters', count(referenceModel.parameters), record ? count(record.parameters) : absent],
    ['seconds per epoch', reference?.secondsPerEpoch ?? absent, epochSeconds(run)],
    ['run time', reference?.runTime ?? absent, runTime(run)],
    ['best epoch', reference ? String(reference.bestEpoch) : absent, best ? String(best.epoch) : absent],
    [
      'best loss (training, dropout on)',
      reference ? String(reference.bestLoss) : absent,
      best ? best.loss.toFixed(4) : absent,
    ],
  ];
  const evaluation = record?.evaluation;
  if (evaluation) rows.push(['its checkpoint', absent, evaluation.checkpoint]);
  if (evaluation?.windows) {
    const { stride, count: scored, lossWithDropout, loss } = evaluation.windows;
    const which = stride === 1 ? `all ${count(scored)} windows` : `${count(scored)} windows, 1 in ${stride}`;
    rows.push([
      `window protocol over ${which}, dropout on`,
      reference ? String(reference.bestLoss) : absent,
      lossWithDropout.toFixed(4),
    ]);
    rows.push(['the same, dropout off', absent, loss.toFixed(4)]);
  }
  if (evaluation) {
    rows.push(['text by argmax', referenceSample, qualityLine(evaluation.greedy)]);
    rows.push(['text at temperature 0.8', absent, qualityLine(evaluation.sampled)]);
  }
  return rows;
}

/** The measures of a generated text, on one line. */
function qualityLine({ quality }: SampleRecord): string {
  const known =
    quality.knownWords === null
      ? 'no words'
      : `${(100 * quality.knownWords).toFixed(1)} % of its words occur in the corpus`;
  const loop = quality.loop === undefined ? 'does not loop' : `loops: ${JSON.stringify(quality.loop)}`;
  return `${loop}; ${known}; longest verbatim copy ${quality.longestCopy} characters`;
}

function utilisation({ record, gpu }: RunReport): string {
  if (gpu)
    return `GPU ${gpu.gpuPercent.toFixed(0)} %, its memory interface ${gpu.memoryPercent.toFixed(0)} % of the time`;
  if (!record || record.wallSeconds === 0) return absent;
  const share = record.cpuSeconds / record.wallSeconds / record.threads;
  return `CPU ${(100 * share).toFixed(0)} % of ${plural(record.threads, 'thread')}`;
}

function epochSeconds({ records }: RunReport): string {
  if (records.length === 0) return absent;
  const seconds = records.map((each) => each.seconds);
  const sorted = [...seconds].sort((a, b) => a - b);
  const at = (share: number) => (sorted[Math.round(share * (sorted.length - 1))] as number).toFixed(1);
  const first = seconds.slice(0, 5).map((each) => each.toFixed(1));
  return `${first.join(', ')}${seconds.length > 5 ? ', ...' : ''} (median ${at(0.5)}, ${at(0)} to ${at(1)})`;
}

export function runTime({ records }: RunReport): string {
  const last = records.at(-1);
  return last ? `${count(last.elapsedSeconds)} s (${formatDuration(last.elapsedSeconds)})` : absent;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function count(value: number): string {
  return grouped(Math.round(value));
}

/** A generated text as shown: one of spaces alone would look empty. */
export function shownText(text: string): string {
  return text.trim() === '' ? `(${count(text.length)} characters, all of them spaces)` : text;
}
