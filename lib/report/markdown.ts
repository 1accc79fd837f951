/** A reproduction as REPORT.md. */
import { plot } from 'asciichart';
import { type FigureRow, introduction, overview, qualityLine, runFigures, stateOf, title } from './figures';
import type { Reproduction, RunReport } from './reproduction';
import type { SampleRecord } from './run-record';

export function renderMarkdown(report: Reproduction): string {
  const parts = [
    `# ${title(report)}`,
    introduction(report).map(escapeMarkdown).join('\n\n'),
    table(['run', "the seed's best", 'ours'], overview(report)),
    ...report.runs.map(section),
  ];
  return `${parts.join('\n\n')}\n`;
}

function section(run: RunReport): string {
  const heading = `## epochs = ${run.epochs}${run.state === 'finished' ? '' : ` (${stateOf(run)})`}`;
  if (run.records.length === 0) {
    const none = run.state === 'not begun' ? 'This run has not begun.' : 'No epoch of this run is complete yet.';
    return `${heading}\n\n${none}`;
  }
  const evaluation = run.record?.evaluation;
  const parts = [
    heading,
    table(['', 'the seed', 'ours'], runFigures(run)),
    `Training loss by epoch:\n\n${fence(curve(run))}`,
  ];
  if (evaluation) {
    parts.push(`Seed text:\n\n${fence(evaluation.seedText)}`);
    parts.push(sample('Generated text (argmax, sliding window)', evaluation.greedy));
    parts.push(sample('Generated text (temperature 0.8, sliding window)', evaluation.sampled));
  }
  return parts.join('\n\n');
}

function sample(what: string, record: SampleRecord): string {
  return `${what}:\n\n${fence(record.text)}\n\n${escapeMarkdown(qualityLine(record))}`;
}

/** At most 90 columns: where there are more epochs, every nth. */
function curve({ records }: RunReport): string {
  const losses = records.map((each) => each.loss);
  const every = Math.ceil(losses.length / 90);
  const shown = losses.filter((_, i) => i % every === 0);
  const points = shown.length === 1 ? [shown[0] as number, shown[0] as number] : shown;
  return `${plot(points, { height: 12, format: (x: number) => x.toFixed(3).padStart(7) })}\n${every > 1 ? `every ${every}th epoch, ` : ''}epochs 1 to ${losses.length}`;
}

function table(head: readonly string[], rows: readonly FigureRow[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(escapeMarkdown).join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

/** A code block whose fence is longer than any run of backticks inside, so that no text can end it. */
function fence(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const mark = '`'.repeat(longest + 1);
  return `${mark}text\n${text}\n${mark}`;
}

/** Text as text: nothing in it is markup, and it stays on its line. */
function escapeMarkdown(text: string): string {
  return text.replace(/[\\`*_[\]<>|#]/g, '\\$&').replace(/\s*\r?\n\s*/g, ' ');
}
