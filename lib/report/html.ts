/** A reproduction as one self-contained HTML page: uPlot is inlined. */

import { escapeHtml, inlineJson, renderPage } from '../html';
import { plural } from '../numbers';
import {
  absent,
  type FigureRow,
  introduction,
  nothingYet,
  referenceRunOf,
  remark,
  runFigures,
  runTime,
  shownText,
  summary,
  title,
} from './figures';
import type { Reproduction, RunReport } from './reproduction';

export async function renderHtml(report: Reproduction): Promise<string> {
  const curves = report.runs
    .filter((run) => run.records.length > 0)
    .map((run) => ({
      id: curveId(run),
      epochs: run.records.map((each) => each.epoch),
      losses: run.records.map((each) => each.loss),
      reference: referenceRunOf(run)?.bestLoss ?? null,
    }));
  const [about = '', ...remarks] = introduction(report);
  const body = `<header>
<h1>${escapeHtml(title(report))}</h1>
<p class="summary">${escapeHtml(summary(report))}</p>
</header>
<main>
<div class="cards">
${report.runs.map(card).join('\n')}
</div>
${report.runs.map(section).join('\n')}
</main>
<footer>
<h2>How this was made</h2>
${[about, ...remarks].map((line) => `<p>${escapeHtml(line)}</p>`).join('\n')}
</footer>`;
  return renderPage({
    title: title(report),
    body,
    style: look,
    data: { curves: inlineJson(curves) },
    script: drawing,
    charts: true,
  });
}

const look = `
body { max-width: 52rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
.summary { font-size: 1.125rem; margin: 0 0 1.75rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; }
.card { background: var(--card); border-radius: .6rem; padding: 1rem 1.1rem; }
.card .name { margin: 0 0 .6rem; font-size: 1.05rem; font-weight: 600; } .card dl { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; margin: 0; }
.card strong { display: block; font-size: 1.5rem; line-height: 1.3; } .card small { color: var(--soft); }
td:first-child { overflow-wrap: break-word; color: var(--soft); }
td:not(:first-child), thead th { white-space: nowrap; overflow-wrap: normal; }
.notes { display: grid; grid-template-columns: minmax(8rem, 12rem) 1fr; gap: .4rem 1rem; margin: 1rem 0; }
.notes span { display: block; color: inherit; } .notes .reference::before { content: "reference: "; color: var(--reference); }
.notes .ours::before { content: "ours: "; color: var(--ours); }
figure { margin: 1.5rem 0; }
.chart { min-height: 320px; }
footer { color: var(--soft); font-size: .9375rem; }
@media (max-width: 34rem) { .notes { grid-template-columns: 1fr; gap: 0; } .notes dt { margin-top: .6rem; } }
`;

/**
 * Runs in the page. The axis spans the losses: a reference far below all of them would flatten the curve, so it is then given in the
 * caption only.
 */
const drawing = `
const dark = matchMedia('(prefers-color-scheme: dark)');
const curves = JSON.parse(document.getElementById('curves').textContent);
let charts = [];
function draw() {
  for (const chart of charts) chart.destroy();
  charts = curves.map(({ id, epochs, losses, reference }) => {
    const place = document.getElementById(id);
    const low = Math.min(...losses), high = Math.max(...losses);
    const near = reference !== null && low - reference <= Math.max(high - low, 0.05);
    const series = [{}, { stroke: color('--ours'), width: 2, points: { show: epochs.length < 40, size: 6 } }];
    const data = [epochs, losses];
    if (near) {
      series.push({ stroke: color('--reference'), width: 1.5, dash: [6, 5], points: { show: false } });
      data.push(epochs.map(() => reference));
    }
    return new uPlot({
      width: place.clientWidth || 640, height: 320, series, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false, range: (_, min, max) => min === max ? [min - 1, max + 1] : [min, max] } },
      axes: [
        { ...axisLook(), label: 'epoch', labelSize: 22, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
        { ...axisLook(), size: 48 },
      ],
    }, data, place);
  });
}
draw();
dark.addEventListener('change', draw);
addEventListener('resize', draw);
`;

/** A run at a glance. */
function card(run: RunReport): string {
  const reference = referenceRunOf(run);
  const figure = (name: string, loss: string, more: string) =>
    `<div><dt>${name === 'ours' ? 'ours' : 'the reference'}</dt><dd><strong class="${name}">${escapeHtml(loss)}</strong>` +
    `<small>${escapeHtml(more)}</small></dd></div>`;
  return [
    `<div class="card"><p class="name">${plural(run.epochs, 'epoch')}${escapeHtml(remark(run))}</p><dl>`,
    reference
      ? figure('reference', String(reference.bestLoss), `epoch ${reference.bestEpoch}, ${reference.runTime}`)
      : '',
    run.best ? figure('ours', run.best.loss.toFixed(4), `epoch ${run.best.epoch}, ${runTime(run)}`) : '',
    '</dl></div>',
  ].join('\n');
}

function section(run: RunReport): string {
  const heading = `<h2>${plural(run.epochs, 'epoch')}${escapeHtml(remark(run))}</h2>`;
  if (run.records.length === 0) return `${heading}\n<p>${nothingYet(run)}</p>`;
  const evaluation = run.record?.evaluation;
  const rows = runFigures(run);
  return [
    heading,
    chart(run),
    table(['', 'the reference', 'ours'], rows.filter(isNumeric)),
    notes(rows.filter((row) => !isNumeric(row))),
    ...(evaluation
      ? [
          text('Prompt', evaluation.prompt),
          text('Generated text (argmax, sliding window)', evaluation.greedy.text),
          text('Generated text (temperature 0.8, sliding window)', evaluation.sampled.text),
        ]
      : []),
  ].join('\n');
}

function chart(run: RunReport): string {
  const reference = referenceRunOf(run);
  const key = (name: string, label: string) =>
    `<span class="${name}"><span class="swatch${name === 'reference' ? ' dashed' : ''}"></span>${escapeHtml(label)}</span>`;
  return (
    `<figure><figcaption>${key('ours', 'training loss, nats per character')}` +
    `${reference ? key('reference', `the reference's best, ${reference.bestLoss}`) : ''}</figcaption>\n` +
    `<div class="chart" id="${curveId(run)}"></div></figure>`
  );
}

/** Whether a row's values are figures, to be aligned in columns; the others are sentences. */
function isNumeric([, ...values]: FigureRow): boolean {
  return values.every((value) => value === absent || (/^(about )?\d/.test(value) && value.length <= 12));
}

function notes(rows: readonly FigureRow[]): string {
  const value = (name: string, content: string) =>
    content === absent ? '' : `<span class="${name}">${escapeHtml(content)}</span>`;
  const items = rows.map(
    ([what, reference, ours]) =>
      `<dt>${escapeHtml(what)}</dt><dd>${value('reference', reference)}${value('ours', ours)}</dd>`,
  );
  return `<dl class="notes">\n${items.join('\n')}\n</dl>`;
}

function text(heading: string, content: string): string {
  // The parser drops a line break at the start of a pre.
  return `<h3>${heading}</h3>\n<pre>\n${escapeHtml(shownText(content))}</pre>`;
}

function curveId(run: RunReport): string {
  return `curve-${run.epochs}`;
}

function table(head: readonly string[], rows: readonly FigureRow[]): string {
  // An empty cell is no heading.
  const cellOf = (tag: string, cell: string) => (cell === '' ? '<td></td>' : `<${tag}>${escapeHtml(cell)}</${tag}>`);
  const line = (cells: readonly string[], tag: string) => `<tr>${cells.map((cell) => cellOf(tag, cell)).join('')}</tr>`;
  return `<table>\n<thead>${line(head, 'th')}</thead>\n${rows.map((row) => line(row, 'td')).join('\n')}\n</table>`;
}
