// Draws the loss curves of one process and of several ranks in one figure, to show how far apart they are, epoch by epoch.
//
//   node bench/curve.js [--ranks 2,3] [--epochs 6] [--launcher mpirun.mpich] [--out curve.svg] [TEXT]
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { parseArgs } = require('node:util');

const { values: options, positionals } = parseArgs({
  options: {
    ranks: { type: 'string', default: '2,3' },
    epochs: { type: 'string', default: '6' },
    launcher: { type: 'string', default: 'mpirun' },
    out: { type: 'string', default: 'curve.svg' },
  },
  allowPositionals: true,
});
const main = path.join(__dirname, '..', 'dist', 'cli', 'main.js');
const text = positionals[0] ?? path.join(__dirname, '..', 'corpora', 'the-lamplighters-road.txt');
const recipe = ['--hidden', '64', '--batch-size', '48', '--dropout', '0.2', '--sample-length', '0', '--patience', '0'];
const folder = mkdtempSync(path.join(tmpdir(), 'curve-'));

/** Training and validation loss of each epoch. */
function curveOf(ranks) {
  const out = path.join(folder, String(ranks));
  const args = [
    main,
    'train',
    text,
    ...recipe,
    '--epochs',
    options.epochs,
    '--device',
    'cpu',
    '--threads',
    '1',
    '--out',
    out,
  ];
  const isOpenMpi = ranks > 1 && /open/i.test(String(spawnSync(options.launcher, ['--version']).stdout));
  const more = isOpenMpi ? ['--oversubscribe', '--bind-to', 'none'] : [];
  const [command, rest] =
    ranks === 1
      ? [process.execPath, args]
      : [options.launcher, [...more, '-n', String(ranks), process.execPath, ...args]];
  const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };
  const { status, stderr } = spawnSync(command, rest, { encoding: 'utf8', env });
  if (status !== 0) throw new Error(`${command} ended with ${status}: ${stderr}`);
  const lines = readFileSync(path.join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line)).filter(({ type }) => type === 'epoch');
}

const [width, height, left, top] = [640, 420, 70, 30];
const [plotWidth, plotHeight] = [width - left - 20, height - top - 60];

function draw(curves) {
  const all = curves.flatMap(({ epochs }) => epochs.map(({ validationLoss }) => validationLoss));
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const epochs = curves[0].epochs.length;
  const x = (epoch) => left + (plotWidth * (epoch - 1)) / Math.max(1, epochs - 1);
  const y = (loss) => top + (plotHeight * (high - loss)) / (high - low || 1);
  const styles = [
    'stroke="#888" stroke-width="7"',
    'stroke="#06c" stroke-width="3"',
    'stroke="#c30" stroke-width="1.2"',
  ];
  const paths = curves.map(({ epochs }, i) => {
    const points = epochs.map(({ epoch, validationLoss }) => `${x(epoch).toFixed(1)},${y(validationLoss).toFixed(1)}`);
    return `<polyline fill="none" ${styles[i % styles.length]} points="${points.join(' ')}"/>`;
  });
  const legend = curves.map(
    ({ name, apart }, i) =>
      `<line x1="${left + 200}" x2="${left + 230}" y1="${top + 15 + 20 * i}" y2="${top + 15 + 20 * i}" ${styles[i % styles.length]}/>` +
      `<text x="${left + 240}" y="${top + 19 + 20 * i}">${name}${apart === undefined ? '' : `: at most ${apart.toExponential(1)} nats apart`}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
<text x="10" y="18">validation loss, nats per character</text>
<text x="${left - 8}" y="${top + 5}" text-anchor="end">${high.toFixed(3)}</text>
<text x="${left - 8}" y="${top + plotHeight + 5}" text-anchor="end">${low.toFixed(3)}</text>
<text x="${left}" y="${height - 30}">epoch 1</text>
<text x="${left + plotWidth}" y="${height - 30}" text-anchor="end">${epochs}</text>
<path d="M${left} ${top}V${top + plotHeight}H${left + plotWidth}" fill="none" stroke="#333"/>
${paths.join('\n')}
${legend.join('\n')}
</svg>
`;
}

try {
  const one = curveOf(1);
  const curves = [{ name: 'one process', epochs: one }];
  for (const ranks of options.ranks.split(',').map(Number)) {
    const epochs = curveOf(ranks);
    const apart = Math.max(
      ...epochs.flatMap((epoch, i) => ['loss', 'validationLoss'].map((name) => Math.abs(epoch[name] - one[i][name]))),
    );
    curves.push({ name: `${ranks} ranks`, epochs, apart });
    console.log(`${ranks} ranks: at most ${apart.toExponential(2)} nats from one process in ${epochs.length} epochs`);
  }
  writeFileSync(options.out, draw(curves));
  console.log(`written to ${options.out}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
