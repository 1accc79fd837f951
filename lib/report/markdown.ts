/** A reproduction as REPORT.md. */
import { plot } from 'asciichart';
import { printable } from '../harmless';
import {
  type FigureRow,
  introduction,
  nothingYet,
  overview,
  remark,
  runFigures,
  shownText,
  summary,
  title,
} from './figures';
import type { Reproduction, RunReport } from './reproduction';

export function renderMarkdown(report: Reproduction): string {
  const parts = [
    `# ${title(report)}`,
    escapeMarkdown(summary(report)),
    introduction(report).map(escapeMarkdown).join('\n\n'),
    table(['run', "the reference's best", 'ours'], overview(report)),
    ...report.runs.map(section),
  ];
  return `${parts.join('\n\n')}\n`;
}

function section(run: RunReport): string {
  const heading = `## epochs = ${run.epochs}${remark(run)}`;
  if (run.records.length === 0) return `${heading}\n\n${nothingYet(run)}`;
  const evaluation = run.record?.evaluation;
  const parts = [
    heading,
    table(['', 'the reference', 'ours'], runFigures(run)),
    `Training loss by epoch:\n\n${fence(curve(run))}`,
  ];
  if (evaluation) {
    parts.push(`Prompt:\n\n${fence(evaluation.prompt)}`);
    parts.push(`Generated text (argmax, sliding window):\n\n${fence(shownText(evaluation.greedy.text))}`);
    parts.push(`Generated text (temperature 0.8, sliding window):\n\n${fence(shownText(evaluation.sampled.text))}`);
  }
  return parts.join('\n\n');
}

/** At most 90 columns: with more epochs, every nth. */
function curve({ records }: RunReport): string {
  const losses = records.map((each) => each.loss);
  const every = Math.ceil(losses.length / 90);
  const shown = losses.filter((_, i) => i % every === 0);
  // asciichart would label a level line with a rounded number.
  const level = Math.min(...shown) === Math.max(...shown);
  const format = (x: number) => x.toFixed(3).padStart(7);
  const drawn = level ? format(shown[0] as number) : plot(shown, { height: 12, format });
  return `${drawn}\nepochs 1 to ${losses.length}${every > 1 ? `, 1 in ${every}` : ''}`;
}

function table(head: readonly string[], rows: readonly FigureRow[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(escapeMarkdown).join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

/** A code block whose fence is longer than any run of backticks inside, so that no text can end it. */
function fence(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const mark = '`'.repeat(longest + 1);
  return `${mark}text\n${printable(text)}\n${mark}`;
}

/** Escapes text, so that nothing in it is markup and it stays on its line. */
function escapeMarkdown(text: string): string {
  return printable(text.replace(/\s*[\r\n]+\s*/g, ' ')).replace(/[\\`*_~$&[\]<>|#]/g, '\\$&');
}
