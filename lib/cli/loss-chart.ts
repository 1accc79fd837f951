/** Draws a run's losses in characters. */

export interface LossPoint {
  /** Epochs done, with a fraction in mid-epoch. */
  epoch: number;
  /** Nats per character, with dropout. */
  training?: number | undefined;
  /** Nats per character on the validation text. */
  validation?: number | undefined;
}

const marks = { training: '.', validation: 'o' } as const;
const mostColumns = 100;
const labelWidth = 6;

/**
 * The losses as lines of text no wider than `width`; none if there are fewer than three points to draw, or too little room.
 *
 * @param rows Height of the plot itself.
 */
export function lossChart(points: readonly LossPoint[], width = 80, rows = 9): string[] {
  const finite = points.filter((point) => valuesOf(point).every(Number.isFinite));
  const values = finite.flatMap(valuesOf);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const columns = Math.min(mostColumns, width) - labelWidth - 3;
  if (finite.length < 3 || columns < 25) return [];
  const [first, last] = [finite[0] as LossPoint, finite.at(-1) as LossPoint];
  const grid = Array.from({ length: rows }, () => Array<string>(columns).fill(' '));
  const rowOf = (value: number) => Math.round(((high - value) / (high - low || 1)) * (rows - 1));
  for (const series of ['training', 'validation'] as const) {
    const drawn = finite.filter((point) => point[series] !== undefined);
    for (let column = 0; column < columns; column++) {
      const epoch = first.epoch + ((last.epoch - first.epoch) * column) / (columns - 1);
      const value = interpolate(drawn, series, epoch);
      if (value !== undefined) (grid[rowOf(value)] as string[])[column] = marks[series];
    }
  }
  const lines = grid.map((row, i) => {
    const value = high - ((high - low) * i) / (rows - 1);
    return `${(i % 2 === 0 ? scaleLabel(value) : '').padStart(labelWidth)} |${row.join('')}`.trimEnd();
  });
  const validated = finite.some(({ validation }) => validation !== undefined);
  const from = `epoch ${label(first.epoch)}`;
  const to = label(last.epoch);
  const legend = `loss: ${marks.training} training${validated ? `, ${marks.validation} validation` : ''}`;
  return [
    legend,
    ...lines,
    `${' '.repeat(labelWidth)} +${'-'.repeat(columns)}`,
    `${' '.repeat(labelWidth + 2)}${from}${to.padStart(columns - from.length)}`,
  ];
}

function valuesOf({ training, validation }: LossPoint): number[] {
  return [training, validation].filter((value) => value !== undefined);
}

/** Linear interpolation between two neighbouring points; undefined outside their range. */
function interpolate(points: readonly LossPoint[], series: 'training' | 'validation', epoch: number) {
  const next = points.findIndex((point) => point.epoch >= epoch - 1e-9);
  const b = points[next];
  if (b === undefined) return undefined;
  if (Math.abs(b.epoch - epoch) < 1e-9) return b[series];
  const a = points[next - 1];
  if (a === undefined) return undefined;
  const share = (epoch - a.epoch) / (b.epoch - a.epoch);
  return (a[series] as number) * (1 - share) + (b[series] as number) * share;
}

/** Six characters at most. */
function scaleLabel(value: number): string {
  const fixed = value.toFixed(2);
  return fixed.length <= labelWidth ? fixed : value.toExponential(0);
}

function label(epoch: number): string {
  return String(Number(epoch.toFixed(2)));
}
