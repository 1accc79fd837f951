/** Lists of files, however long, as shown on one line. */
import { grouped } from '../numbers';

/** The first three of a list, and how many more there are. */
export function nameSome(names: readonly string[]): string {
  const more = names.length - 3;
  return names.slice(0, 3).join(', ') + (more > 0 ? ` and ${grouped(more)} more` : '');
}

/** A corpus's name as a file meant for others may give it: the names of its files, without their folders. */
export function corpusName(sources: readonly string[]): string {
  return nameSome(sources.map((source) => source.split(/[\\/]/).findLast((part) => part !== '') ?? source));
}

/** Numbers of any length, and what lies between them. */
const parts = (name: string) => name.split(/(\d+)/);

/** Natural order, ch2 before ch10, whatever the locale. */
export function compareNaturally(a: string, b: string): number {
  const [left, right] = [parts(a), parts(b)];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [x, y] = [left[i] as string, right[i] as string];
    const order = i % 2 === 1 ? compareNumbers(x, y) : compareUnits(x, y);
    if (order !== 0) return order;
  }
  return left.length - right.length || compareUnits(a, b);
}

function compareNumbers(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+/, ''), b.replace(/^0+/, '')];
  return x.length - y.length || compareUnits(x, y);
}

function compareUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
