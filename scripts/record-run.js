// Draws docs/first-run.svg: what a first training run prints on a terminal of 80 columns, from a real run of `node dist/train.js`.
//
//   node scripts/record-run.js [-- options of train]
//
// Needs a minute, a quiet machine, and util-linux's `script`. The run's directory is removed afterwards.
const { spawnSync } = require('node:child_process');
const { rmSync, writeFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const columns = 80;
const options = process.argv.slice(2).filter((word) => word !== '--');
const command = ['node', 'dist/train.js', ...options].join(' ');
const recorded = spawnSync('script', ['-qefc', `stty rows 40 cols ${columns}; exec ${command}`, '/dev/null'], {
  cwd: root,
  encoding: 'utf8',
  env: { ...process.env, TERM: 'xterm' },
});
if (recorded.status !== 0) {
  console.error(recorded.error?.message ?? recorded.stdout);
  process.exit(1);
}

/** What stays on the screen: a line that was cleared and rewritten counts in its final form. */
const lines = recorded.stdout
  .trimEnd()
  .split('\n')
  .map((line) => line.replace(/\r$/, '').split('\u001b[2K').at(-1));

/** Shows the start up to the first sample, and the last epoch to the end; a line says what lies between. */
const plain = lines.map((line) => line.replace(/\u001b\[[?\d;]*[A-Za-z]|\u001b[78]/g, ''));
const firstEnd = plain.indexOf('---') + 1;
const lastEpoch = plain.findLastIndex((line) => /^epoch \d+\/\d+ /.test(line));
const left = plain.slice(firstEnd, lastEpoch).filter((line) => /^epoch /.test(line)).length;
const shown = [
  { text: `$ ${command}`, bold: true },
  ...span(0, firstEnd),
  { text: `[${left} more epochs, each with its sample]`, dim: true },
  ...span(lastEpoch, lines.length),
];

function span(from, to) {
  let sample = false;
  return plain.slice(from, to).flatMap((text, i) => {
    if (text.startsWith('--- ')) sample = true;
    const bold = lines[from + i].startsWith('\u001b[1m');
    const pieces = text.match(new RegExp(`.{1,${columns}}`, 'g')) ?? [''];
    const rows = pieces.map((piece) => ({ text: piece, bold, sample }));
    if (text === '---') sample = false;
    return rows;
  });
}

const [advance, leading, margin] = [8.43, 19, 18];
const [width, height] = [Math.ceil(columns * advance + 2 * margin), shown.length * leading + 2 * margin];
const escapeXml = (text) => text.replace(/[&<>]/g, (symbol) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[symbol]);
const rows = shown.map(({ text, bold, sample, dim }, i) => {
  const kind = ['b', 's', 'd'].filter((_, k) => [bold, sample, dim][k]).join(' ');
  const y = margin + (i + 0.75) * leading;
  return text === '' ? '' : `<text x="${margin}" y="${y}"${kind ? ` class="${kind}"` : ''}>${escapeXml(text)}</text>`;
});
const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img"
  aria-label="A first training run on a terminal: progress, a loss chart, a sample of the best checkpoint, and what to do next">
<style>
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d6dde8; white-space: pre; }
.b { font-weight: bold; fill: #ffffff; } .s { fill: #f2cc8f; } .d { fill: #7d8898; }
</style>
<rect width="100%" height="100%" rx="10" fill="#171c24"/>
${rows.filter(Boolean).join('\n')}
</svg>
`;
writeFileSync(path.join(root, 'docs', 'first-run.svg'), svg);
const out = plain.find((line) => line.startsWith('run: runs/'))?.slice('run: '.length);
if (out) rmSync(path.join(root, out), { recursive: true });
console.log(`docs/first-run.svg: ${shown.length} lines`);
