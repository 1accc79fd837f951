/** The exported page in a real browser, opened from the disk. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { exportModel } from '../../../lib/export/export';
import { LanguageModel } from '../../../lib/model';
import { executablePath, itInBrowser, itInBrowserWhole } from '../../fixtures/browser';
import { cases, ids, saveCase } from '../../fixtures/exports';
import { largestDifference, logitsOf } from '../../fixtures/interop';

let folder: string;
let browser: Browser | undefined;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'page-'));
  if (executablePath === undefined) return;
  const { chromium } = await import('playwright-core');
  browser = await chromium.launch({
    executablePath,
    args: ['--headless', '--no-sandbox', '--disable-gpu'],
  });
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

/** Opens a page. Faults are its errors, whatever it logs, and requests for anything but the page itself. */
async function open(
  path: string,
  width = 1100,
  scheme: 'light' | 'dark' = 'light',
): Promise<{ page: Page; faults: string[] }> {
  const context = await (browser as Browser).newContext({ viewport: { width, height: 900 }, colorScheme: scheme });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => faults.push(message.text()));
  page.on('request', (request) => {
    if (request.url() !== pathToFileURL(path).href) faults.push(request.url());
  });
  await page.goto(pathToFileURL(path).href);
  return { page, faults };
}

const written = (page: Page) => page.inputValue('#text');

const writers = [
  ['onehot', false],
  ['hard', true],
  ['scalar', false],
] as const;
for (const [name, half] of writers) {
  (name === 'onehot' ? itInBrowser : itInBrowserWhole)(
    `${name}${half ? ', half precision' : ''}: writes what sample writes, and guesses while one types`,
    async () => {
      const path = await saveCase(folder, cases.find((each) => each.name === name) as (typeof cases)[number]);
      const out = join(folder, `${name}.html`);
      await exportModel(path, { to: 'html', out, half, title: '</script><b>"Alice & co"' });
      const { page, faults } = await open(out);
      expect(await page.title()).toBe('</script><b>"Alice & co"');
      await page.fill('#text', 'ab');
      await page.fill('#seed', '5');
      await page.fill('#length', '80');
      await page.click('#write');
      await page.locator('#status', { hasText: /^80 characters/ }).waitFor();
      if (!half) {
        using model = await LanguageModel.load(path, { device: 'cpu', threads: 1 });
        let expected = 'ab';
        for await (const part of model.generate({ prompt: 'ab', length: 80, seed: 5 })) expected += part;
        expect(await written(page)).toBe(expected);
      }
      expect([...(await written(page))]).toHaveLength(82);

      // Six guesses, the likeliest first; clicking one adds it to the text.
      await page.fill('#text', 'abba c');
      const guesses = await page.locator('.rival').allTextContents();
      expect(guesses).toHaveLength(6);
      const shares = guesses.map((guess) =>
        guess.endsWith('<0.1 %') ? 0 : Number(/(\d+(\.\d)?) %$/.exec(guess)?.[1]),
      );
      expect(shares).toEqual([...shares].sort((a, b) => b - a));
      await page.locator('.rival').first().click();
      expect([...(await written(page))]).toHaveLength(7);
      // Typing the text character by character gives the same guesses as setting it at once.
      await page.fill('#text', '');
      await page.locator('#text').pressSequentially('abba c');
      expect(await page.locator('.rival').allTextContents()).toEqual(guesses);

      // A second click stops the writing, and Clear empties the text. Frames come when the test lets them: on a busy machine all would
      // be written before that click.
      await page.evaluate('globalThis.frames = []; globalThis.requestAnimationFrame = (frame) => frames.push(frame)');
      const runFrame = () => page.evaluate('void globalThis.frames.shift()()');
      await page.fill('#length', '100000');
      await page.click('#write');
      expect(await page.textContent('#write')).toBe('Stop');
      await runFrame();
      const begun = await written(page);
      expect(begun.length).toBeGreaterThan('abba c'.length);
      await page.click('#write');
      expect(await page.textContent('#write')).toBe('Write');
      await runFrame();
      expect(await written(page)).toBe(begun);
      await page.click('#clear');
      expect(await written(page)).toBe('');
      expect(faults).toEqual([]);
      await page.context().close();
    },
  );
}

// Without WHOLE=1, one case is enough here: export.test.ts computes all of them in Node, with the same code.
for (const [i, { name }] of cases.entries()) {
  (i === 0 ? itInBrowser : itInBrowserWhole)(`${name}: computes in the browser what the package computes`, async () => {
    const path = await saveCase(folder, cases.find((each) => each.name === name) as (typeof cases)[number]);
    const out = join(folder, `${name}-logits.html`);
    await exportModel(path, { to: 'html', out });
    const expected = await logitsOf(path, ids);
    const original = readFileSync(out, 'utf8');
    for (const policy of ["'wasm-unsafe-eval'", '']) {
      // Exposes the page's model to the test. The hash of the changed script goes into the policy, whose other rules stay.
      const shown = original.replace('const model = new', 'const model = globalThis.model = new');
      const code = /<script type="module">(.*)<\/script>/s.exec(shown)?.[1] as string;
      const hash = createHash('sha256').update(code).digest('base64');
      writeFileSync(out, shown.replace(/script-src [^"]*/, `script-src 'sha256-${hash}' ${policy}`));
      const { page, faults } = await open(out);
      const { simd, logits } = await page.evaluate<{ simd: boolean; logits: number[] }>(
        `(() => {
          const state = model.state();
          return { simd: model.simd, logits: ${JSON.stringify(ids)}.flatMap((id) => [...model.step(id, state)]) };
        })()`,
      );
      expect(simd).toBe(policy !== '');
      // Where the policy forbids WebAssembly, the browser reports that, and nothing else.
      expect(faults.filter((fault) => policy !== '' || !/WebAssembly/.test(fault))).toEqual([]);
      expect(largestDifference(logits, expected)).toBeLessThan(1e-5);
      await page.context().close();
    }
  });
}

itInBrowserWhole('fits a telephone, in light and in dark, and half precision halves it', async () => {
  const path = await saveCase(folder, cases[0] as (typeof cases)[number]);
  const [out, small] = [join(folder, 'a.html'), join(folder, 'b.html')];
  await exportModel(path, { to: 'html', out });
  await exportModel(path, { to: 'html', out: small, half: true });
  expect(statSync(out).size - statSync(small).size).toBeGreaterThan(1000);
  const grounds: string[] = [];
  for (const scheme of ['light', 'dark'] as const) {
    const { page } = await open(out, 390, scheme);
    const { scroll, width, ground } = await page.evaluate<{ scroll: number; width: number; ground: string }>(
      '({ scroll: document.documentElement.scrollWidth, width: innerWidth, ground: getComputedStyle(document.body).backgroundColor })',
    );
    expect(scroll).toBe(width);
    grounds.push(ground);
    await page.context().close();
  }
  expect(new Set(grounds).size).toBe(2);
});
