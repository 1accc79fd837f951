/** The page of `score --per-character --html` in a browser, and the look that all pages share. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';
import type { Browser, BrowserContextOptions } from 'playwright-core';
import { main } from '../../../lib/cli/main';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { packageRoot } from '../../../lib/device/native';
import { exportModel } from '../../../lib/export/export';
import { LanguageModel } from '../../../lib/model';
import { renderHtml } from '../../../lib/report/html';
import { renderSweepHtml } from '../../../lib/sweep/table';
import { executablePath, itInBrowser, itInBrowserWhole } from '../../fixtures/browser';
import { letters, saveModel } from '../../fixtures/served';
import { sinks } from '../../fixtures/sink';

let folder: string;
let checkpoint: string;
let browser: Browser | undefined;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'surprise-'));
  checkpoint = join(folder, 'model.safetensors');
  await saveModel(checkpoint);
  if (executablePath === undefined) return;
  const { chromium } = await import('playwright-core');
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

const newContext = (options?: BrowserContextOptions) => (browser as Browser).newContext(options);

async function pageOf(name: string, ...texts: string[]): Promise<string> {
  const files = texts.map((text, i) => {
    const file = join(folder, `${name}-${i}.txt`);
    writeFileSync(file, text);
    return file;
  });
  const page = join(folder, `${name}.html`);
  const io = sinks();
  const code = await main(['score', checkpoint, ...files, '--per-character', '--html', page, '--device', 'cpu'], io);
  expect(code).toBe(0);
  return page;
}

itInBrowserWhole('shows each text, its bits and rivals under each character, and its costliest places', async () => {
  const texts = ['the fox 🦊 ran.\nand ran', `${letters.join('')}\n`];
  const file = await pageOf('two', ...texts);
  using model = await LanguageModel.load(checkpoint, { device: 'cpu' });
  for (const [width, colorScheme] of [
    [1440, 'light'],
    [390, 'dark'],
  ] as const) {
    const page = await (await newContext({ viewport: { width, height: 900 }, colorScheme })).newPage();
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => faults.push(message.text()));
    page.on('request', (request) => request.url() !== pathToFileURL(file).href && faults.push(request.url()));
    await page.goto(pathToFileURL(file).href);
    for (const [i, text] of texts.entries()) {
      const { bits, rivals, bitsPerCharacter } = await model.inspect(text);
      const section = page.locator('section').nth(i);
      expect(await section.locator('h2').textContent()).toContain(
        `: ${bitsPerCharacter?.toFixed(3)} bits per character`,
      );
      const characters = section.locator('.text span[data-i]');
      expect((await characters.allTextContents()).join('').replaceAll('↵\n', '\n')).toBe(text);
      for (const at of [0, 1, text.length > 20 ? 9 : 3]) {
        await characters.nth(at).click();
        const said = await section.locator('.pop p').textContent();
        expect(said).toBe(
          at === 0 ? 'Nothing comes before the first character, so it is not counted.' : `${bits[at]?.toFixed(2)} bits`,
        );
        const shown = await section.locator('.pop .spoken').allTextContents();
        expect(shown).toEqual(
          rivals[at]?.map(({ character }) => ({ ' ': 'space', '\n': 'line break' })[character] ?? character),
        );
      }
      await page.keyboard.press('Escape');
      expect(await section.locator('.pop').isHidden()).toBe(true);
      const most = bits.reduce<number>((best, each, at) => ((each ?? 0) > (bits[best] ?? 0) ? at : best), 0);
      await section.locator('.places button').first().click();
      expect(await section.locator('.chosen').getAttribute('data-i')).toBe(String(most));
    }
    expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
    expect(faults).toEqual([]);
    await page.evaluate(readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'));
    const { violations } = (await page.evaluate('axe.run()')) as { violations: { id: string }[] };
    expect(violations.map(({ id }) => id)).toEqual([]);
    await page.context().close();
  }
});

itInBrowser('a text that is markup stays a text', async () => {
  const hostile = '</script><img src=x onerror=alert(1)>\u001b]"\'';
  const symbols = [...new Set(hostile)].sort();
  const path = join(folder, '<b>model.safetensors');
  using model = await LanguageModel.create(
    { vocabulary: symbols.length, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 },
    new Vocabulary(symbols),
    { device: 'cpu' },
  );
  await model.save(path);
  const text = join(folder, '<i>hostile.txt');
  const out = join(folder, 'hostile.html');
  writeFileSync(text, hostile);
  expect(await main(['score', path, text, '--per-character', '--html', out, '--device', 'cpu'], sinks())).toBe(0);
  const page = await (await newContext()).newPage();
  await page.goto(pathToFileURL(out).href);
  await page.waitForSelector('.text span[data-i]');
  const shown = (await page.locator('.text span[data-i]').allTextContents()).join('');
  expect(shown).toBe(hostile.replace('\u001b', 'U+001B'));
  expect(await page.locator('img, section b, section i').count()).toBe(0);
  expect(await page.locator('h1').textContent()).toBe('Surprise of <b>model');
});

test('the last colour begins where the legend says', () => {
  const source = readFileSync(join(packageRoot, 'dist', 'page', 'look.js'), 'utf8');
  expect(source).toContain("'8 bits or more'");
  // This is code for a browser, but the function needs none of the browser's objects.
  const classOf = runInNewContext(`${source.replace(/^export (?=class |function )/gm, '')}; surpriseClass`);
  expect([null, 0, 7.99, 8, 100].map((bits) => classOf(bits))).toEqual(['s0', 's0', 's8', 's9', 's9']);
});

test('every page has the rules and the parts of one look', async () => {
  const part = (name: string) => readFileSync(join(packageRoot, 'dist', 'page', name), 'utf8');
  const exported = join(folder, 'exported.html');
  await exportModel(checkpoint, { to: 'html', out: exported });
  const machine = { cpu: 'x', processors: 1, memoryBytes: 1, platform: 'x', node: 'x' };
  const corpus = { sources: ['x'], characters: 1, symbols: 1, sha256: 'x' };
  const reproduction = {
    partial: true,
    date: '',
    version: '',
    machine,
    corpus,
    overrides: {},
    shared: false,
    runs: [],
  };
  const pages = [
    readFileSync(exported, 'utf8'),
    readFileSync(await pageOf('look', 'abc'), 'utf8'),
    await renderHtml(reproduction),
    await renderSweepHtml({ trials: [], best: undefined } as unknown as Parameters<typeof renderSweepHtml>[0]),
  ];
  for (const page of pages) {
    expect(page).toContain(part('base.css'));
    expect(page).toContain(part('look.js').replace(/^export (?=class |function )/gm, ''));
    // The rules that all pages share are not repeated.
    const own = page.slice(page.indexOf(part('base.css')) + part('base.css').length);
    expect(/<style>[^<]*--ink:/.exec(own)).toBeNull();
  }
  const served = part('index.html');
  expect(served).toContain('/base.css');
});
