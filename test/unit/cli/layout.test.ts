import fc from 'fast-check';
import { fitParts, type Part, wrap } from '../../../lib/cli/layout';
import { lossChart } from '../../../lib/cli/loss-chart';
import { plural } from '../../../lib/numbers';

const word = fc.stringMatching(/^[a-z]{1,12}$/);

describe('fitParts', () => {
  it('fits, keeps the order, and leaves out what ranks highest', () => {
    const part = fc.record({ text: word, rank: fc.integer({ min: 0, max: 4 }) });
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 100 }), (parts, width) => {
        const line = fitParts(parts, width);
        expect(line.length).toBeLessThanOrEqual(width);
        const all = parts.map(({ text }) => text).join('  ');
        if (all.length <= width) expect(line).toBe(all);
        const least = parts
          .filter(({ rank }) => rank === 0)
          .map(({ text }) => text)
          .join('  ');
        if (least.length <= width && least !== '') {
          for (const { text, rank } of parts) if (rank === 0) expect(line).toContain(text);
        }
      }),
    );
  });

  it('counts no column for a style', () => {
    const bold: Part = { text: 'abc', rank: 0, style: (text) => `<b>${text}</b>` };
    expect(fitParts([bold, { text: 'de', rank: 1 }], 7)).toBe('<b>abc</b>  de');
    expect(fitParts([bold, { text: 'de', rank: 1 }], 6)).toBe('<b>abc</b>');
    expect(fitParts([bold], 2)).toBe('ab');
  });
});

describe('wrap', () => {
  it('loses no word and is no wider than asked, but for words that are', () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 30 }), fc.integer({ min: 10, max: 60 }), (words, width) => {
        const lines = wrap(words.join(' '), width);
        expect(lines.flatMap((line) => line.trim().split(/ +/))).toEqual(words);
        for (const line of lines) if (line.trim().includes(' ')) expect(line.length).toBeLessThanOrEqual(width);
      }),
    );
  });
});

it('counts one thing in the singular', () => {
  expect([0, 1, 2, 1000].map((count) => plural(count, 'epoch'))).toEqual([
    '0 epochs',
    '1 epoch',
    '2 epochs',
    '1,000 epochs',
  ]);
});

describe('lossChart', () => {
  it('draws both curves from the first epoch to the last, the highest loss at the top', () => {
    const points = [1, 2, 3, 4].map((epoch) => ({
      epoch,
      training: 4 - epoch,
      validation: epoch === 2 ? undefined : 5 - epoch,
    }));
    const lines = lossChart(points, 50, 5);
    expect(lines).toMatchInlineSnapshot(`
[
  "loss: . training, o validation",
  "  4.00 |ooooooo",
  "       |.......ooooooooooooo",
  "  2.00 |       .............oooooooooooooo",
  "       |                    ..............ooooooo",
  "  0.00 |                                  .......",
  "       +-----------------------------------------",
  "        epoch 1                                 4",
]
`);
  });

  it('is no wider than asked, whatever it draws', () => {
    const loss = fc.double({ min: -10, max: 1e6 });
    const points = fc.array(
      fc.record({ training: fc.option(loss, { nil: undefined }), validation: fc.option(loss, { nil: undefined }) }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(points, fc.integer({ min: 1, max: 200 }), (losses, width) => {
        const lines = lossChart(
          losses.map((point, i) => ({ epoch: i + 1, ...point })),
          width,
        );
        for (const line of lines) expect(line.length).toBeLessThanOrEqual(Math.max(width, 0));
        expect(lines.length === 0 || lines.length === 12).toBe(true);
      }),
    );
  });

  it('draws nothing of one or two epochs, or where there is no room', () => {
    const points = [1, 2, 3].map((epoch) => ({ epoch, training: epoch }));
    expect(lossChart(points.slice(0, 2), 80)).toEqual([]);
    expect(lossChart(points, 25)).toEqual([]);
    expect(lossChart([...points.slice(0, 2), { epoch: 3, training: Number.NaN }], 80)).toEqual([]);
  });
});
