/** Classes of page.css for values along a text. */

/** Of bits of surprise: s0, as expected, to s9, eight bits or more. */
export function surpriseClass(bits: number | null): string {
  return `s${bits === null ? 0 : Math.max(0, Math.min(9, Math.floor(bits * 1.2)))}`;
}

/** Of a cell's value, -1 to 1: n4 to n1, none, p1 to p4. */
export function cellClass(value: number): string {
  const strength = Math.min(4, Math.round(Math.abs(value) * 4));
  return strength === 0 ? '' : `${value < 0 ? 'n' : 'p'}${strength}`;
}

/** A line of a chart: one color of the page's for each run. */
export function lineColor(index: number): string {
  const names = ['--ours', '--reference'];
  const style = getComputedStyle(document.documentElement);
  const named = names[index % 5];
  if (named) return style.getPropertyValue(named).trim();
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  return (dark ? ['#5ed39b', '#be95ff', '#ff9a90'] : ['#137a4b', '#8a3ffc', '#b3261e'])[(index % 5) - 2] as string;
}

export function color(name: '--ink' | '--soft' | '--line'): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
