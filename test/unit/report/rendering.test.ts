import { renderHtml } from '../../../lib/report/html';
import { renderMarkdown } from '../../../lib/report/markdown';
import type { Reproduction, RunReport } from '../../../lib/report/reproduction';

const hostile = '</script><img src=x onerror=alert(1)> ```` | # [a](b)\n```\n*not* markup';

function run(o: Partial<RunReport> = {}): RunReport {
  const records = [
    { epoch: 1, loss: 2.9, seconds: 330.04, elapsedSeconds: 331 },
    { epoch: 2, loss: 2.5, seconds: 325.96, elapsedSeconds: 657 },
  ];
  return {
    epochs: 100,
    seed: 2,
    state: 'partial',
    records,
    best: records[1] as (typeof records)[number],
    record: {
      device: 'CPU (AVX2, 2 threads, fp32)',
      parameters: 801_583,
      stepsPerEpoch: 2256,
      cpuSeconds: 1200,
      wallSeconds: 660,
      threads: 2,
      peakBytes: 2 ** 29,
      evaluation: {
        checkpoint: 'weights-improvement-2-2.5000-bigger-epochs-100.safetensors',
        seedText: hostile,
        greedy: { text: hostile, quality: { knownWords: null, longestCopy: 3, loop: ' the' } },
        sampled: { text: 'plain', quality: { knownWords: 0.5, longestCopy: 4 } },
        windows: { stride: 50, count: 2887, lossWithDropout: 2.41, loss: 2.35 },
      },
    },
    ...o,
  };
}

function report(runs: RunReport[], o: Partial<Reproduction> = {}): Reproduction {
  return {
    partial: true,
    date: '2026-01-02T03:04:05.000Z',
    version: '0.1.0',
    machine: { cpu: 'A <b>CPU</b>', threads: 2, memoryBytes: 2 ** 33, platform: 'linux x64', node: 'v20.17.0' },
    corpus: { sources: ['alice'], characters: 144_424, symbols: 47, sha256: 'ab' },
    overrides: {},
    runs,
    ...o,
  };
}

const notBegun: RunReport = { epochs: 200, seed: 3, state: 'not begun', records: [] };

describe('REPORT.md', () => {
  const text = renderMarkdown(report([run(), notBegun]));

  it('sets our figures beside the seed’s', () => {
    expect(text).toContain(
      '| 100 epochs (partial: 2 of 100 epochs) | epoch 70, loss 1.2341, 42,012 s | epoch 2, loss 2.5000, 657 s',
    );
    expect(text).toContain('| best loss (training, dropout on) | 1.2341 | 2.5000 |');
    expect(text).toContain('| utilisation | GPU 40 % | CPU 91 % of 2 threads |');
    expect(text).toContain('330.0, 326.0 (median 330.0, 326.0 to 330.0)');
    expect(text).toContain('every 50th window, 2,887, dropout on | 1.2341 | 2.4100 |');
  });

  it('says that it is partial, and of each run how far it is', () => {
    expect(text).toMatch(/^# proj-basic, reproduced \(partial\)\n/);
    expect(text).toContain('This report is partial');
    expect(text).toContain('## epochs = 100 (partial: 2 of 100 epochs)');
    expect(text).toContain('## epochs = 200 (not begun)\n\nThis run has not begun.');
  });

  it('does not say so where all is done', () => {
    const done = renderMarkdown(report([run({ epochs: 2, state: 'finished' })], { partial: false }));
    expect(done).toMatch(/^# proj-basic, reproduced\n/);
    expect(done).not.toMatch(/partial/);
  });

  it('warns where the corpus or the recipe is another', () => {
    const other = renderMarkdown(
      report([notBegun], {
        corpus: { sources: ['x.txt'], characters: 9, symbols: 3, sha256: '' },
        overrides: { hidden: 8 },
      }),
    );
    expect(other).toContain("not the seed's corpus");
    expect(other).toContain('Not the recipe: {"hidden":8}');
    expect(text).not.toContain("not the seed's corpus");
  });

  it('keeps generated text inside its block, whatever it holds', () => {
    const fences = text.split('\n').filter((line) => line === '`````text' || line === '`````');
    expect(fences).toEqual(['`````text', '`````', '`````text', '`````']);
    expect(text).toContain('A \\<b\\>CPU\\</b\\>');
    expect(text).toContain('no words; longest verbatim copy 3 characters; its end loops on " the".');
    expect(text).toContain('50.0 % of its words occur in the corpus');
  });

  it('draws the curve, of a single epoch too', () => {
    expect(text).toContain('epochs 1 to 2');
    const records = [{ epoch: 1, loss: 3, seconds: 1, elapsedSeconds: 1 }];
    expect(renderMarkdown(report([run({ records })]))).toContain('epochs 1 to 1');
  });

  it('names the GPU and its memory where one ran', () => {
    const gpu = {
      name: 'Some GPU',
      gpuPercent: 55.5,
      memoryPercent: 12,
      memoryUsedBytes: 2 ** 30,
      memoryTotalBytes: 2 ** 34,
    };
    const withGpu = renderMarkdown(report([run({ gpu })]));
    expect(withGpu).toContain('Some GPU: GPU 56 %');
    expect(withGpu).toContain("1.0 GiB of the GPU's 16.0 GiB");
  });
});

describe('report.html', () => {
  it('is one page whose text cannot become markup or script', async () => {
    const page = await renderHtml(report([run(), notBegun]));
    expect(page).not.toContain('<img');
    expect(page).toContain('&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;');
    expect(page).not.toContain('<b>CPU</b>');
    expect(page.match(/<script/g)).toHaveLength(3);
    expect(page).not.toMatch(/(src|href)=["']?https?:/);
    expect(page).toContain('uPlot');
  });

  it('carries every epoch of every run that has one', async () => {
    const page = await renderHtml(report([run(), notBegun]));
    const data = /<script type="application\/json" id="curves">(.*)<\/script>/.exec(page)?.[1] ?? '';
    expect(JSON.parse(data)).toEqual([{ id: 'curve-100', epochs: [1, 2], losses: [2.9, 2.5], seed: 1.2341 }]);
  });
});
