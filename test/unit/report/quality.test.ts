import fc from 'fast-check';
import { findLoop, longestCopy, measureQuality } from '../../../lib/report/quality';

test('counts the words that the corpus knows, whatever their case', () => {
  const quality = measureQuality("The cat didn't gloop. Sat!", "the cat sat; it didn't move");
  expect(quality.words).toBe(5);
  expect(quality.knownWords).toBeCloseTo(4 / 5);
});

test('finds the longest verbatim copy', () => {
  expect(longestCopy('xx the white rabbit ran yy', 'see the white rabbit run')).toEqual({
    characters: ' the white rabbit r'.length,
    text: ' the white rabbit r',
  });
  expect(longestCopy('abc', 'xyz')).toEqual({ characters: 0, text: '' });
});

test('the longest copy is what brute force finds', () => {
  const text = fc.array(fc.constantFrom('a', 'b', '𝒙'), { maxLength: 24 }).map((symbols) => symbols.join(''));
  fc.assert(
    fc.property(text, text, (sample, corpus) => {
      const symbols = [...sample];
      let best = 0;
      for (let i = 0; i < symbols.length; i++)
        for (let j = i + 1; j <= symbols.length; j++)
          if (corpus.includes(symbols.slice(i, j).join(''))) best = Math.max(best, j - i);
      const found = longestCopy(sample, corpus);
      expect(found.characters).toBe(best);
      expect(sample).toContain(found.text);
      expect(corpus).toContain(found.text);
    }),
    { numRuns: 1000 },
  );
});

test('sees a loop at the end, and none in running text', () => {
  expect(findLoop('once upon a time it was it was it was it was it was it was it was ')).toEqual({
    period: 7,
    text: 'it was ',
  });
  expect(findLoop('a plain sentence that walks away and does not come back to where it began')).toBeUndefined();
  expect(findLoop('short short short')).toBeUndefined();
});
