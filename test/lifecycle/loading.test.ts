/** A model loaded for sampling or scoring: the peak memory of its process. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as layouts from '../../lib/checkpoint/layout';
import { eachWhole, long, run } from '../fixtures/child';

const { writeSparseCheckpoint } = require('../fixtures/sparse-checkpoint') as {
  writeSparseCheckpoint(path: string, shape: object, vocabulary: string[], layout: typeof layouts): number;
};

const shapes = {
  'two layers': { layers: 2, hidden: 1536, input: 'onehot', embedding: 0, dropout: 0 },
  // Nearly all of it is one matrix.
  'one layer': { layers: 1, hidden: 2400, input: 'scalar', embedding: 0, dropout: 0 },
  'a large vocabulary': { layers: 1, hidden: 800, input: 'embedding', embedding: 400, dropout: 0 },
};
type Name = keyof typeof shapes;
const uses = ['nothing', 'stream', 'streams', 'score', 'score-streams'];

describe('the peak of memory is at most twice the parameters and 64 MiB', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'loading-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const names = Object.keys(shapes) as Name[];
  eachWhole(
    test,
    (long ? names : names.slice(0, 2)).map((name) => [name] as const),
    (i) => i === 0,
  )('%s', async (name) => {
    const path = join(folder, 'model.safetensors');
    const symbols = name === 'a large vocabulary' ? 20_000 : 7;
    const vocabulary = Array.from({ length: symbols }, (_, i) => String.fromCodePoint(0x61 + i));
    const parameters = writeSparseCheckpoint(path, shapes[name], vocabulary, layouts) / 2 ** 20;
    expect(parameters).toBeGreaterThan(80); // Otherwise the 64 MiB would be all that the test shows.
    const program = join(__dirname, 'programs', 'loading.js');
    for (const use of long ? uses : ['stream', 'score-streams']) {
      const argv = [program, join(__dirname, '..', '..'), path, use];
      const { code, stdout, stderr } = await run(process.execPath, argv);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const { peak } = JSON.parse(stdout) as { peak: number };
      expect({ use, above: Math.max(0, peak - (2 * parameters + 64)) }).toEqual({ use, above: 0 });
      expect(peak).toBeGreaterThan(parameters); // All of it was read.
    }
  });
});
