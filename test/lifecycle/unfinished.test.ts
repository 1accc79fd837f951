/** Ctrl-C while a command writes a file: nothing of it is left, whether the command ends in an orderly way or at once. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compiled, type Ended, eachWhole, node, run, whenSaid } from '../fixtures/child';

let folder: string;
const at = (...names: string[]) => join(folder, ...names);
const cpu = ['--device', 'cpu', '--threads', '1'];
const tiny = ['--hidden', '8', '--layers', '1', '--epochs', '1', '--batch-size', '2', '--seq-length', '5', ...cpu];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'unfinished-'));
  writeFileSync(at('text.txt'), 'a sheep and a goat went over the hill\n'.repeat(40));
  expect(await node('cli/main.js', ['train', at('text.txt'), ...tiny, '--out', at('run')])).toMatchObject({ code: 0 });
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Each writes into its own folder. */
const commands: Record<string, (out: string) => string[]> = {
  'export --to pytorch': (out) => ['export', at('run'), '--to', 'pytorch', '--out', join(out, 'model.pt')],
  'export --to keras': (out) => ['export', at('run'), '--to', 'keras', '--out', join(out, 'model.keras')],
  'export --to onnx': (out) => ['export', at('run'), '--to', 'onnx', '--out', join(out, 'model.onnx')],
  'export --to html': (out) => ['export', at('run'), '--to', 'html', '--out', join(out, 'page.html')],
  'export --to int8': (out) => ['export', at('run'), '--to', 'int8', '--out', join(out, 'small.safetensors')],
  'score --html': (out) => [
    'score',
    at('run'),
    at('text.txt'),
    '--per-character',
    '--html',
    join(out, 'x.html'),
    ...cpu,
  ],
  train: (out) => ['train', at('text.txt'), ...tiny, '--out', join(out, 'run')],
  'train --resume': (out) => {
    cpSync(at('run'), join(out, 'run'), { recursive: true });
    return ['train', '--resume', join(out, 'run'), '--epochs', '2', ...cpu];
  },
};

/** Runs a command whose file is held at its beginning, with one Ctrl-C, or with more until it ends. */
function interrupted(argv: string[], times: number): Promise<Ended> {
  const held = join(__dirname, 'programs', 'held-write.js');
  return run(process.execPath, ['--require', held, compiled('cli/main.js'), ...argv], {
    env: { ...process.env, ...(times > 1 ? { HOLD: 'ever' } : {}) },
    onStart: (child) => {
      const held = (seen: string) => seen.includes('held\n');
      whenSaid(child.stderr, held, () => {
        child.kill('SIGINT');
        if (times === 1) return;
        // Two signals before the process next runs count as one; a signal while it ends would find no handler.
        for (const delay of [300, 10_000, 20_000]) setTimeout(() => child.kill('SIGINT'), delay).unref();
      });
    },
  });
}

const files = (out: string) => readdirSync(out, { recursive: true, encoding: 'utf8' });

eachWhole(
  describe,
  Object.entries(commands).map(([name, argv], i) => [name, argv, i % 2] as const),
  (i) => [0, 3, 5, 6].includes(i),
)('%s', (name, argv, odd) => {
  const isExport = /^export|^score/.test(name);
  const ends = [
    ['ends in good order', 1],
    ['ends at once', 2],
  ] as const;
  eachWhole(
    it,
    ends,
    (i) => i === odd,
  )('%s', async (_, times) => {
    const out = at(`${name} ${times}`.replaceAll('/', ' '));
    mkdirSync(out);
    const ended = await interrupted(argv(out), times);
    expect(ended).toMatchObject({ code: 130, signal: null });
    expect(files(out).filter((file) => /\.tmp-/.test(file))).toEqual([]);
    if (isExport) expect(files(out)).toEqual([]);
  });
});
