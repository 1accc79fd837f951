import fc from 'fast-check';
import { StopMatcher, TextEnd } from '../../../lib/sampling/stop';

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

describe('TextEnd', () => {
  type Ends = Partial<ConstructorParameters<typeof TextEnd>[0]>;
  function ended(ends: Ends, pieces: readonly string[]): string | undefined {
    const end = new TextEnd({ stop: [], keepStop: false, ...ends });
    let text = '';
    for (const piece of pieces) {
      const result = end.push(piece);
      text += result.text;
      if (result.stopped) return text;
    }
    return undefined;
  }

  it.each<[Ends, string, string | undefined]>([
    [{ untilLines: 1 }, 'one\ntwo\n', 'one'],
    [{ untilLines: 2 }, 'one\ntwo\n', 'one\ntwo'],
    [{ untilLines: 2 }, '\n\nx', '\n'],
    [{ untilLines: 3 }, 'one\ntwo\n', undefined],
    [{ untilSentences: 1 }, 'It was so. And', 'It was so.'],
    [{ untilSentences: 2 }, '"So?" It was... so!\nAnd', '"So?" It was...'],
    [{ untilSentences: 1 }, '"It was 3.5, a.b!" she said', '"It was 3.5, a.b!"'],
    [{ untilSentences: 1 }, '(It was.) x', '(It was.)'],
    [{ untilSentences: 2 }, '\u305d\u3046\u3002\u306f\u3044\uff01x', '\u305d\u3046\u3002\u306f\u3044\uff01'],
    [{ untilSentences: 1 }, 'It was.', undefined],
    [{ untilSentences: 9, untilLines: 1 }, 'It was.\nx', 'It was.'],
    [{ untilLines: 1, stop: ['was'] }, 'It was.\nx', 'It '],
    [{ untilLines: 1, stop: ['was.\nx'] }, 'It was.\nx', 'It was.'],
    [{ untilLines: 1, stop: ['was'], keepStop: true }, 'It was.\nx', 'It was'],
  ])('%j in %j: %j, in whatever pieces', (ends, text, expected) => {
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 6 }), (places) => {
        const cuts = [0, ...places.sort((a, b) => a - b), text.length];
        const pieces = cuts.slice(1).map((to, i) => text.slice(cuts[i], to));
        expect(ended(ends, pieces)).toBe(expected);
      }),
      { numRuns: 40 },
    );
  });
});
