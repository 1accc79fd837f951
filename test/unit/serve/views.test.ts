/** The server's cache of cells: it stays within a limit, computes one text at a time, and none that it still holds. */
import type { LanguageModel } from '../../../lib/model';
import type { Served } from '../../../lib/serve/models';
import { Cells } from '../../../lib/serve/views';

const never = new AbortController().signal;

/** A stand-in for a model with this many cells, the texts that it was asked for, and how many of them at once. */
function fake(name: string, layers: number, hidden: number) {
  const asked: string[] = [];
  let together = 0;
  let most = 0;
  const inspect = async (text: string) => {
    asked.push(text);
    most = Math.max(most, ++together);
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
    together--;
    const cells = Array.from({ length: layers }, () =>
      Array.from({ length: hidden }, () => new Float32Array(text.length).fill(text.length)),
    );
    return { characters: [...text], cells };
  };
  const model = { shape: { layers, hidden }, inspect } as unknown as LanguageModel;
  return { served: { name, model, version: '1' } as Served, asked, most: () => most };
}

it('keeps the last texts of all models, as many as there is room for', async () => {
  const cells = new Cells(4 * 6 * 10); // Room for ten characters of six cells, four bytes each.
  const [a, b] = [fake('a', 2, 3), fake('b', 1, 6)];
  for (const [model, text, bytes] of [
    [a, 'abcd', 96],
    [b, 'abcd', 192],
    [a, 'abcd', 192],
    [a, 'ab', 240],
    [b, 'abc', 216], // Replaces b's 'abcd', which was used least recently.
    [a, 'abcd', 216],
    [b, 'abcd', 192],
    [a, 'abcdefghij', 240],
    [b, '', 240],
  ] as const) {
    const found = await cells.of(model.served, text, never);
    expect(found.characters).toEqual([...text]);
    expect([model.served.name, text, cells.bytes]).toEqual([model.served.name, text, bytes]);
  }
  expect(a.asked).toEqual(['abcd', 'ab', 'abcdefghij']);
  expect(b.asked).toEqual(['abcd', 'abc', 'abcd', '']);
});

it('never holds more than its bound, nor finds two texts at once', async () => {
  const cells = new Cells(4 * 4 * 100);
  const models = [fake('a', 1, 4), fake('b', 2, 2), fake('c', 4, 1)];
  await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      await cells.of((models[i % 3] as (typeof models)[0]).served, 'x'.repeat((i * 37) % 101), never);
      expect(cells.bytes).toBeLessThanOrEqual(1600);
    }),
  );
  expect(models.map(({ most }) => most())).toEqual([1, 1, 1]);
});

it('finds a text that many ask for at once a single time', async () => {
  const cells = new Cells();
  const { served, asked } = fake('a', 1, 1);
  const found = await Promise.all(Array.from({ length: 8 }, () => cells.of(served, 'abc', never)));
  expect(new Set(found).size).toBe(1);
  expect(asked).toEqual(['abc']);
});

it.each([
  [1, 1, 5000],
  [2, 6710, 5000],
  [2, 6711, 4999],
  [1, 13_422, 4999],
  [64, 65_536, 16],
])('takes of a model of %i times %i cells %i characters, and no more', (layers, hidden, longest) => {
  const { served } = fake('a', layers, hidden);
  const controller = new AbortController();
  controller.abort(new Error('it was taken'));
  const cells = new Cells();
  const refusal = `A text may have ${longest.toLocaleString('en')} characters for its cells.`;
  expect(() => cells.of(served, 'x'.repeat(longest + 1), controller.signal)).toThrow(refusal);
  return expect(cells.of(served, 'x'.repeat(longest), controller.signal)).rejects.toThrow('it was taken');
});

it('asks nothing for a client that has gone while it waited, and goes on after an error', async () => {
  const cells = new Cells();
  const { served, asked } = fake('a', 1, 1);
  const broken = {
    ...served,
    model: { shape: { layers: 1, hidden: 1 }, inspect: () => Promise.reject(new Error('no')) },
  };
  const controller = new AbortController();
  const failed = cells.of(broken as unknown as Served, 'abc', never);
  const first = cells.of(served, 'abc', never);
  const gone = cells.of(served, 'abcd', controller.signal);
  controller.abort(new Error('gone'));
  await expect(failed).rejects.toThrow('no');
  await expect(gone).rejects.toThrow('gone');
  expect((await first).characters).toEqual(['a', 'b', 'c']);
  expect(asked).toEqual(['abc']);
});
