/** A sweep's results as tables for the terminal and for Markdown, and as a page with the curves. */
import { escapeHtml, inlineJson, renderPage } from '../html';
import { ranked, type SweepReport, type TrialResult } from './results';

/** The head, then one row per trial, best first. Only options that differ have a column. */
export function rowsOf({ trials }: SweepReport): string[][] {
  const names = [...new Set(trials.flatMap(({ varied }) => Object.keys(varied)))];
  const validated = trials.some((trial) => trial.validated);
  const head = [
    'trial',
    ...names,
    validated ? 'validation loss' : 'training loss',
    'bits/char',
    'best epoch',
    'epochs',
    'seconds',
    'state',
  ];
  return [head, ...ranked(trials).map((trial) => rowOf(trial, names))];
}

function rowOf(trial: TrialResult, names: readonly string[]): string[] {
  const { name, varied, loss, bestEpoch, epoch, epochs, seconds, state } = trial;
  return [
    name.replace(/-.*/s, ''),
    ...names.map((each) => (varied[each] === undefined ? '' : String(varied[each]))),
    loss?.toFixed(4) ?? '',
    loss === undefined ? '' : (loss / Math.LN2).toFixed(3),
    bestEpoch === undefined ? '' : String(bestEpoch),
    `${epoch} of ${epochs}`,
    seconds > 0 ? seconds.toFixed(0) : '',
    state,
  ];
}

/** Columns that a narrow terminal omits, in this order; sweep.md has them. */
const dispensable = ['seconds', 'best epoch', 'epochs', 'bits/char'];

/** Lines of aligned columns, as many columns as fit `width`. */
export function textTable(rows: readonly string[][], width = Number.POSITIVE_INFINITY): string[] {
  const head = rows[0] ?? [];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  const left = new Set(head.keys());
  const needed = () => [...left].reduce((sum, column) => sum + (widths[column] as number) + 2, -2);
  for (const name of dispensable) if (needed() > width) left.delete(head.indexOf(name));
  return rows.map((row) =>
    [...left]
      .map((column) => (row[column] as string).padEnd(widths[column] as number))
      .join('  ')
      .trimEnd(),
  );
}

export function renderSweepMarkdown(report: SweepReport): string {
  const [head = [], ...rows] = rowsOf(report);
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replace(/[|\\`*_<]/g, '\\$&')).join(' | ')} |`;
  const best = sentence(report).replace(/[|\\`*_<]/g, '\\$&');
  return `# Sweep\n\n${best}\n\n${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}\n`;
}

/** The result, in a sentence. */
export function sentence({ trials, best }: SweepReport): string {
  const found = trials.find(({ name }) => name === best);
  const done = trials.filter(({ state }) => state === 'finished').length;
  const ended = `${done} of ${trials.length} trials finished`;
  if (!found) return `${ended}; none has a loss yet.`;
  const options = Object.entries(found.varied).map(([name, value]) => `${name} ${String(value)}`);
  return (
    `${ended}. The best is ${found.name}${options.length > 0 ? ` (${options.join(', ')})` : ''}, with a ` +
    `${found.validated ? 'validation' : 'training'} loss of ${found.loss?.toFixed(4)} after epoch ${found.bestEpoch}.`
  );
}

export function renderSweepHtml(report: SweepReport): Promise<string> {
  const [head = [], ...rows] = rowsOf(report);
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  const body = `<h1>Sweep</h1>
<p class="summary">${escapeHtml(sentence(report))}</p>
<figure><figcaption>Loss by epoch, nats per character; the best trial is drawn thick</figcaption><div id="chart"></div></figure>
<div class="wide"><table>
<thead>${line(head, 'th')}</thead>
<tbody>${rows.map((row) => line(row, 'td')).join('\n')}</tbody>
</table></div>`;
  const curves = report.trials
    .filter(({ curve }) => curve.length > 0)
    .map(({ name, curve }) => ({ name, curve, best: name === report.best }));
  return renderPage({ title: 'Sweep', body, style, data: { curves: inlineJson(curves) }, script, charts: true });
}

const style = `
body { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
.summary { font-size: 1.125rem; }
figure { margin: 1.5rem 0; }
.wide { overflow-x: auto; }
th, td { white-space: nowrap; }
tbody tr:first-child { font-weight: 600; }
`;

/** Runs in the page. */
const script = `
const curves = JSON.parse(document.getElementById('curves').textContent);
const dark = matchMedia('(prefers-color-scheme: dark)');
let chart;
function draw() {
  chart?.destroy();
  if (curves.length === 0) return;
  const place = document.getElementById('chart');
  const epochs = [...new Set(curves.flatMap(({ curve }) => curve.map(([epoch]) => epoch)))].sort((a, b) => a - b);
  chart = new uPlot({
    width: place.clientWidth, height: 320, legend: { show: false }, cursor: { show: false }, scales: { x: { time: false } },
    axes: [{ ...axisLook(), label: 'epoch', labelSize: 22 }, { ...axisLook(), size: 56 }],
    series: [{}, ...curves.map(({ best }) => ({
      stroke: color(best ? '--ours' : '--soft'), width: best ? 3 : 1, alpha: best ? 1 : .6, spanGaps: true, points: { show: epochs.length < 3 },
    }))],
  }, [epochs, ...curves.map(({ curve }) => { const at = new Map(curve); return epochs.map((epoch) => at.get(epoch) ?? null); })], place);
}
draw();
dark.addEventListener('change', draw);
addEventListener('resize', draw);
`;
