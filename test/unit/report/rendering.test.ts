import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';
import { renderHtml } from '../../../lib/report/html';
import { renderMarkdown } from '../../../lib/report/markdown';
import type { Reproduction, RunReport } from '../../../lib/report/reproduction';
import { asCommand } from '../../../lib/wording';
import { executablePath, itInBrowserWhole } from '../../fixtures/browser';

const hostile = '</script><img src=x onerror=alert(1)> ```` | # [a](b)\n```\n*not* markup \u001b[31mred\r';

function run(options: Partial<RunReport> = {}): RunReport {
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
      identity: { seed: 2, corpusSha256: 'ab', overrides: '{}' },
      device: 'CPU (AVX2, 2 threads, fp32)',
      parameters: 801_583,
      stepsPerEpoch: 2256,
      cpuSeconds: 1200,
      wallSeconds: 660,
      threads: 2,
      peakBytes: 2 ** 29,
      evaluation: {
        checkpoint: 'weights-improvement-2-2.5000-bigger-epochs-100.safetensors',
        prompt: hostile,
        greedy: { text: hostile, quality: { knownWords: null, longestCopy: 3, loop: ' the' } },
        sampled: { text: 'plain', quality: { knownWords: 0.5, longestCopy: 4 } },
        windows: { stride: 50, count: 2887, lossWithDropout: 2.41, loss: 2.35 },
      },
    },
    ...options,
  };
}

function report(runs: RunReport[], options: Partial<Reproduction> = {}): Reproduction {
  return {
    partial: true,
    date: '2026-01-02T03:04:05.000Z',
    version: '0.1.0',
    machine: { cpu: 'A <b>CPU</b>', processors: 4, memoryBytes: 2 ** 33, platform: 'linux x64', node: 'v20.17.0' },
    corpus: { sources: ['alice'], characters: 144_424, symbols: 47, sha256: 'ab' },
    overrides: {},
    shared: false,
    runs,
    ...options,
  };
}

const notBegun: RunReport = { epochs: 200, seed: 3, state: 'not begun', records: [] };

describe('REPORT.md', () => {
  const text = renderMarkdown(report([run(), notBegun]));

  it('sets our figures beside the reference’s', () => {
    expect(text).toContain(
      '| 100 epochs (partial: 2 of 100 epochs) | epoch 70, loss 1.2341, 42,012 s | epoch 2, loss 2.5000, 657 s',
    );
    expect(text).toContain('| best loss (training, dropout on) | 1.2341 | 2.5000 |');
    expect(text).toContain('| utilisation | GPU 40 % | CPU 91 % of 2 threads |');
    expect(text).toContain('330.0, 326.0 (median 330.0, 326.0 to 330.0)');
    expect(text).toContain('| window protocol over 2,887 windows, 1 in 50, dropout on | 1.2341 | 2.4100 |');
    expect(text).toContain('| the same, dropout off | - | 2.3500 |');
    expect(text).toContain('| random seed | - | 2 |');
    expect(text).toContain("| text by argmax | loops: the sea. 'it it it ... | loops: ");
  });

  it('says that it is partial, and of each run how far it is', () => {
    expect(text).toMatch(/^# The Keras reference, reproduced \(partial\)\n/);
    expect(text).toContain('This report is partial (100 epochs: partial: 2 of 100 epochs; 200 epochs: not begun).');
    expect(text).toContain('## epochs = 100 (partial: 2 of 100 epochs)');
    expect(text).toContain('## epochs = 200 (not begun)\n\nThis run has not begun.');
  });

  it.each([
    [1.2, 'That is 0.0341 better\\.'],
    [1.3, 'That is 0.0659 worse\\.'],
    [1.2341, 'They are equal\\.'],
  ])('compares a best loss of %d with the reference where all is done', (loss, verdict) => {
    const records = [{ epoch: 1, loss, seconds: 1, elapsedSeconds: 90 }];
    const done = run({ epochs: 1, state: 'finished', records, best: records[0] as (typeof records)[number] });
    const summed = renderMarkdown(report([done], { partial: false }));
    const sentence = `^The best training loss is ${loss.toFixed(4)} nats per character, after epoch 1 of 1, in 1m30s; the reference's is 1.2341, `;
    expect(summed).toMatch(new RegExp(`${sentence}after epoch 70 of 100, in 42,012 s\\. ${verdict}$`, 'm'));
    const corpus = { sources: ['x.txt'], characters: 9, symbols: 3, sha256: '' };
    expect(renderMarkdown(report([done], { partial: false, corpus }))).toContain('not to be compared.');
  });

  it('counts a single epoch in the singular', async () => {
    const runs = [
      run({ epochs: 1, state: 'not begun', records: [] }),
      run({ epochs: 2, state: 'not begun', records: [] }),
    ];
    for (const page of [renderMarkdown(report(runs)), await renderHtml(report(runs))]) {
      expect(page).toContain('1 epoch: not begun; 2 epochs: not begun');
      expect(page).not.toMatch(/\b1 epochs/);
    }
  });

  it('has a figure to reach where no epoch is complete', () => {
    expect(renderMarkdown(report([notBegun]))).toContain(
      'No epoch is complete yet. The figure to reach is a training loss of 1.2341.',
    );
  });

  it('says what an epoch that is not complete has reached, and what is left', () => {
    const progress = { epoch: 3, step: 809, stepsPerEpoch: 2256, loss: 2.25 };
    const begun = renderMarkdown(report([run({ progress }), notBegun]));
    const reached = 'partial: 2 of 100 epochs, and step 809 of 2,256 of epoch 3, mean loss 2.2500';
    expect(begun).toContain(`## epochs = 100 (${reached})`);
    expect(begun).toContain(
      `(100 epochs: ${reached}; 200 epochs: not begun). The same command continues it: 298 epochs are left, about `,
    );
    const { best: _, ...first } = run({ records: [], progress: { ...progress, epoch: 1 } });
    const nothing = renderMarkdown(report([first]));
    expect(nothing).toContain('No epoch is complete yet: step 809 of 2,256 of epoch 1, mean loss 2.2500. The figure');
    expect(nothing).toContain(
      'No epoch of this run is complete yet: step 809 of 2,256 of epoch 1, mean loss 2.2500.\n',
    );
  });

  it('says that one training served every row, and counts its epochs once', async () => {
    const rows = [run({ epochs: 2, state: 'finished' }), run({ epochs: 50, state: 'passed' }), run({ epochs: 100 })];
    const shared = await asCommand(() => renderMarkdown(report(rows, { shared: true })));
    expect(shared).toContain('So far 2 of 100 epochs are trained.');
    expect(shared).toContain('One training served every row (--shared): ');
    expect(shared).toContain('## epochs = 50 (its checkpoint was not kept)');
    expect(shared).toContain('The same command continues it: 98 epochs are left, about ');
    expect(text).not.toContain('One training');
  });

  it('does not say so where all is done', () => {
    const done = renderMarkdown(report([run({ epochs: 2, state: 'finished' })], { partial: false }));
    expect(done).toMatch(/^# The Keras reference, reproduced\n/);
    expect(done).not.toMatch(/partial/);
  });

  it('says so of a run that is trained and not measured', () => {
    const trained = run({ epochs: 2, state: 'finished' });
    const { evaluation: _, ...record } = trained.record as NonNullable<typeof trained.record>;
    const unmeasured = renderMarkdown(report([{ ...trained, record }]));
    expect(unmeasured).toContain('## epochs = 2 (partial: trained, not yet measured)');
    expect(unmeasured).not.toContain('Generated text');
  });

  it('warns where the corpus or the recipe is another', () => {
    const other = renderMarkdown(
      report([notBegun], {
        corpus: { sources: ['x.txt'], characters: 9, symbols: 3, sha256: '' },
        overrides: { hidden: 8 },
      }),
    );
    expect(other).toContain("not the reference's corpus");
    expect(other).toContain('Not the recipe: {"hidden":8}');
    expect(text).not.toContain("not the reference's corpus");
  });

  it('keeps generated text inside its block, whatever it holds', () => {
    const fences = text.split('\n').filter((line) => line === '`````text' || line === '`````');
    expect(fences).toEqual(['`````text', '`````', '`````text', '`````']);
    expect(text).toContain('A \\<b\\>CPU\\</b\\>');
    expect(text).not.toMatch(/[\u001b\r]/);
    expect(text).toContain('loops: " the"; no words; longest verbatim copy 3 characters |');
    expect(text).toContain('does not loop; 50.0 % of its words occur in the corpus');
  });

  it('draws the curve, of a single epoch too', () => {
    expect(text).toContain('epochs 1 to 2');
    const records = [{ epoch: 1, loss: 3.244, seconds: 1, elapsedSeconds: 1 }];
    expect(renderMarkdown(report([run({ records })]))).toContain('```text\n  3.244\nepochs 1 to 1\n```');
  });

  it('draws every nth epoch of many', () => {
    const records = Array.from({ length: 200 }, (_, i) => ({
      epoch: i + 1,
      loss: 3 - i / 100,
      seconds: 1,
      elapsedSeconds: i + 1,
    }));
    const many = renderMarkdown(report([run({ epochs: 200, records })]));
    expect(many).toContain('epochs 1 to 200, 1 in 3');
    expect(many).toContain('1.0, 1.0, 1.0, 1.0, 1.0, ... (median 1.0, 1.0 to 1.0)');
    expect(Math.max(...many.split('\n').map((line) => line.length))).toBeLessThan(400);
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
    expect(withGpu).toContain('| utilisation | GPU 40 % | GPU 56 %, its memory interface 12 % of the time |');
    expect(withGpu).toContain("1.0 GiB of the GPU's 16.0 GiB");
  });
});

/** The elements of a page with this name: the attributes and the content of each. */
function elements(page: string, name: string): { attributes: string; content: string }[] {
  const found = page.matchAll(new RegExp(`<${name}([^>]*)>([\\s\\S]*?)</${name}>`, 'g'));
  return [...found].map(([, attributes = '', content = '']) => ({ attributes, content }));
}

describe('report.html', () => {
  let page: string;
  beforeAll(async () => {
    page = await renderHtml(report([run(), notBegun]));
  });

  it('is one page whose text cannot become markup or script', () => {
    expect(page).not.toContain('<img');
    expect(page).toContain('&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;');
    expect(page).not.toContain('<b>CPU</b>');
    expect(page).not.toMatch(/[\u001b\r]/);
    expect(page.match(/<script/g)).toHaveLength(3);
    expect(page).not.toMatch(/(src|href)=["']?https?:/);
  });

  it('allows no script but its own two', () => {
    const [, policy = ''] = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page) ?? [];
    const hashes = elements(page, 'script')
      .filter(({ attributes }) => !attributes.includes('text/plain'))
      .map(({ content }) => `'sha256-${createHash('sha256').update(content).digest('base64')}'`);
    expect(hashes).toHaveLength(2);
    expect(policy).toBe(`default-src 'none'; style-src 'unsafe-inline'; script-src ${hashes.join(' ')}`);
  });

  it('says that it is partial, and of each run how far it is', () => {
    expect(page).toContain('<h1>The Keras reference, reproduced (partial)</h1>');
    expect(page).toContain('<h2>100 epochs (partial: 2 of 100 epochs)</h2>');
    expect(page).toContain('<h2>200 epochs (not begun)</h2>\n<p>This run has not begun.</p>');
  });

  it('sums up in a sentence, and sets figures apart from notes', () => {
    expect(page).toContain(
      '<p class="summary">So far 2 of 300 epochs are trained. The best training loss yet is 2.5000 nats per character, after epoch 2 of ' +
        '100, in 10m57s; the reference&#39;s is 1.2341, after epoch 70 of 100, in 42,012 s.</p>',
    );
    const [table] = elements(page, 'table');
    expect(table?.content).toContain('<td>best epoch</td><td>70</td><td>2</td>');
    expect(table?.content).not.toContain('utilisation');
    expect(page).toContain(
      '<dt>utilisation</dt><dd><span class="reference">GPU 40 %</span><span class="ours">CPU 91 %',
    );
  });

  it('says of a text of spaces that it is one', async () => {
    const blank = run();
    (blank.record as NonNullable<typeof blank.record>).evaluation = {
      ...(run().record?.evaluation as NonNullable<NonNullable<typeof blank.record>['evaluation']>),
      greedy: { text: ' '.repeat(1000), quality: { knownWords: null, longestCopy: 5 } },
    };
    expect(await renderHtml(report([blank]))).toContain('(1,000 characters, all of them spaces)');
    expect(renderMarkdown(report([blank]))).toContain('(1,000 characters, all of them spaces)');
  });

  it('draws every epoch of every run that has one', () => {
    const [library, data, drawing] = elements(page, 'script').map(({ content }) => content);
    expect(library).toContain('uPlot');
    const curves = [{ id: 'curve-100', epochs: [1, 2], losses: [2.9, 2.5], reference: 1.2341 }];
    expect(JSON.parse(data as string)).toEqual(curves);
    expect(page).toContain('<div class="chart" id="curve-100">');
    const drawn: unknown[][] = [];
    const listeners: string[] = [];
    runInNewContext(drawing as string, {
      document: { getElementById: (id: string) => ({ id, clientWidth: 600, textContent: data }), documentElement: {} },
      getComputedStyle: () => ({ getPropertyValue: (name: string) => ` ${name}` }),
      matchMedia: () => ({ addEventListener: (name: string) => listeners.push(name) }),
      addEventListener: (name: string) => listeners.push(name),
      uPlot: function uPlot(...args: unknown[]) {
        drawn.push(args);
      },
    });
    expect(drawn).toHaveLength(1);
    const [options, columns, place] = JSON.parse(JSON.stringify(drawn[0]));
    // The reference, 1.2341, is so far below both losses that its line would flatten the curve: it is in the caption instead.
    expect(columns).toEqual([
      [1, 2],
      [2.9, 2.5],
    ]);
    expect(page).toContain("the reference's best, 1.2341".replace("'", '&#39;'));
    expect(options.series).toHaveLength(2);
    expect(options.series[1].stroke).toBe('--ours');
    expect(options.width).toBe(600);
    expect(place.id).toBe('curve-100');
    expect(listeners).toEqual(['change', 'resize']); // It is redrawn when the colour scheme or the width changes.
  });

  itInBrowserWhole('fits a phone and a desk, light and dark, and anybody can read it', async () => {
    const { chromium } = await import('playwright-core');
    const folder = await mkdtemp(join(tmpdir(), 'report-'));
    const browser = await chromium.launch({
      executablePath: executablePath as string,
      args: ['--no-sandbox', '--disable-gpu'],
    });
    try {
      const file = join(folder, 'report.html');
      const corpus = { sources: [`${'a-long-name-of-a-file'.repeat(9)}.txt`], characters: 144_424, symbols: 47 };
      const wide = report([run(), notBegun], { corpus: { ...corpus, sha256: '0123456789abcdef'.repeat(4) } });
      await writeFile(file, await renderHtml(wide));
      for (const [width, colorScheme] of [
        [1440, 'light'],
        [390, 'dark'],
      ] as const) {
        const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
        const view = await context.newPage();
        const faults: string[] = [];
        view.on('pageerror', (error) => faults.push(error.message));
        view.on('console', (message) => faults.push(message.text()));
        await view.goto(pathToFileURL(file).href);
        await view.locator('canvas').first().waitFor();
        expect([width, await view.evaluate('document.documentElement.scrollWidth - innerWidth')]).toEqual([width, 0]);
        const [red] = (await view.evaluate(
          'getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)',
        )) as number[];
        expect((red as number) < 128).toBe(colorScheme === 'dark');
        expect(faults).toEqual([]);
        await view.evaluate(readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'));
        const { violations } = (await view.evaluate('axe.run()')) as { violations: { id: string }[] };
        expect(violations.map(({ id }) => id)).toEqual([]);
        await context.close();
      }
    } finally {
      await browser.close();
      await rm(folder, { recursive: true });
    }
  });
});
