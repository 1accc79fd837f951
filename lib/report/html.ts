/** A reproduction as one HTML page that needs nothing beside it: uPlot is inlined. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type FigureRow,
  introduction,
  nothingYet,
  overview,
  printable,
  referenceRunOf,
  remark,
  runFigures,
  title,
} from './figures';
import type { Reproduction, RunReport } from './reproduction';

export async function renderHtml(report: Reproduction): Promise<string> {
  const folder = join(dirname(require.resolve('uplot/package.json')), 'dist');
  const script = await readFile(join(folder, 'uPlot.iife.min.js'), 'utf8');
  const style = await readFile(join(folder, 'uPlot.min.css'), 'utf8');
  const curves = report.runs
    .filter((run) => run.records.length > 0)
    .map((run) => ({
      id: curveId(run),
      epochs: run.records.map((each) => each.epoch),
      losses: run.records.map((each) => each.loss),
      reference: referenceRunOf(run)?.bestLoss ?? null,
    }));
  // Should a text become markup in spite of all escaping, it still cannot run or fetch anything.
  const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src ${hash(script)} ${hash(drawing)}`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title(report))}</title>
<style>${style}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
table { border-collapse: collapse; } th, td { border: 1px solid #ccc; padding: .25rem .6rem; text-align: left; vertical-align: top; }
pre { white-space: pre-wrap; background: #f5f5f5; padding: .75rem; overflow-wrap: anywhere; }
</style>
<h1>${escapeHtml(title(report))}</h1>
${introduction(report)
  .map((line) => `<p>${escapeHtml(line)}</p>`)
  .join('\n')}
${table(['run', "the reference's best", 'ours'], overview(report))}
${report.runs.map(section).join('\n')}
<script>${script}</script>
<script type="application/json" id="curves">${json(curves)}</script>
<script>${drawing}</script>
</html>
`;
}

/** Runs in the page. */
const drawing = `
for (const { id, epochs, losses, reference } of JSON.parse(document.getElementById('curves').textContent)) {
  const place = document.getElementById(id);
  const series = [{ label: 'epoch' }, { label: 'training loss', stroke: '#1f6feb', width: 2, points: { show: epochs.length < 60 } }];
  const data = [epochs, losses];
  if (reference !== null) {
    series.push({ label: "the reference's best", stroke: '#b35900', width: 1, dash: [6, 4], points: { show: false } });
    data.push(epochs.map(() => reference));
  }
  new uPlot({
    width: Math.min(900, place.clientWidth || 900), height: 320, series,
    scales: { x: { time: false } },
    axes: [{ label: 'epoch' }, { label: 'nats a character' }],
  }, data, place);
}
`;

function section(run: RunReport): string {
  const heading = `<h2>epochs = ${run.epochs}${escapeHtml(remark(run))}</h2>`;
  if (run.records.length === 0) return `${heading}\n<p>${nothingYet(run)}</p>`;
  const evaluation = run.record?.evaluation;
  return [
    heading,
    table(['', 'the reference', 'ours'], runFigures(run)),
    `<div id="${curveId(run)}"></div>`,
    ...(evaluation
      ? [
          text('Prompt', evaluation.prompt),
          text('Generated text (argmax, sliding window)', evaluation.greedy.text),
          text('Generated text (temperature 0.8, sliding window)', evaluation.sampled.text),
        ]
      : []),
  ].join('\n');
}

function text(heading: string, content: string): string {
  // The parser drops a line break that opens a pre.
  return `<h3>${heading}</h3>\n<pre>\n${escapeHtml(content)}</pre>`;
}

function curveId(run: RunReport): string {
  return `curve-${run.epochs}`;
}

function table(head: readonly string[], rows: readonly FigureRow[]): string {
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<table>\n${[line(head, 'th'), ...rows.map((row) => line(row, 'td'))].join('\n')}\n</table>`;
}

function escapeHtml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return printable(text).replace(/[&<>"']/g, (symbol) => names[symbol] as string);
}

/** JSON that no script element can be ended with. */
function json(value: unknown): string {
  return JSON.stringify(value).replace(/</g, '\\u003c');
}

/** A script as a content security policy names it. */
function hash(script: string): string {
  return `'sha256-${createHash('sha256').update(script).digest('base64')}'`;
}
