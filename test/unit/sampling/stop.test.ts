import fc from 'fast-check';
import { StopMatcher } from '../../../lib/sampling/stop';

function through(stops: string[], pieces: string[]): { text: string; stopped: boolean } {
  const matcher = new StopMatcher(stops);
  let text = '';
  for (const piece of pieces) {
    const result = matcher.push(piece);
    text += result.text;
    if (result.stopped) return { text, stopped: true };
  }
  return { text: text + matcher.end(), stopped: false };
}

describe('StopMatcher', () => {
  it('gives out everything where there is nothing to stop at', () => {
    expect(through([], ['ab', 'c'])).toEqual({ text: 'abc', stopped: false });
  });

  it('finds a stop string across the borders of pieces and gives out none of it', () => {
    expect(through(['END'], ['one E', 'N', 'D two'])).toEqual({ text: 'one ', stopped: true });
  });

  it('gives back what only looked like the beginning of a stop string', () => {
    expect(through(['END'], ['one E', 'NTER'])).toEqual({ text: 'one ENTER', stopped: false });
    expect(through(['END'], ['one EN'])).toEqual({ text: 'one EN', stopped: false });
  });

  it('stops at the one that is completed first; of two completed together, at the longer', () => {
    expect(through(['abcd', 'bc'], ['xabcd'])).toEqual({ text: 'xa', stopped: true });
    expect(through(['bc', 'abc'], ['xabcd'])).toEqual({ text: 'x', stopped: true });
  });

  it('finds a stop string that overlaps a false start', () => {
    expect(through(['aab'], ['aa', 'ab'])).toEqual({ text: 'a', stopped: true });
  });

  it('does not depend on the pieces', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c') });
    fc.assert(
      fc.property(
        letters,
        fc.array(
          letters.filter((stop) => stop !== ''),
          { maxLength: 3 },
        ),
        fc.array(fc.nat(4), { maxLength: 20 }),
        (text, stops, cuts) => {
          const pieces: string[] = [];
          let rest = text;
          for (const cut of cuts) {
            pieces.push(rest.slice(0, cut));
            rest = rest.slice(cut);
          }
          expect(through(stops, [...pieces, rest])).toEqual(through(stops, [...text]));
        },
      ),
      { numRuns: 2000 },
    );
  });
});
