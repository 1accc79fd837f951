/**
 * The page in a real browser, on a real run: each view does its job, also by keyboard alone, on a phone and on a wide screen, without an
 * error and without a violation found by axe. With SCREENSHOTS=1 pictures of all views go to build/screenshots, for people.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { chromium } from 'playwright-core';
import { packageRoot } from '../../lib/device/native';
import { type ModelServer, serveModels } from '../../lib/serve/server';
import { executablePath, noBrowser } from '../fixtures/browser';
import { eachWhole, itWhole, node } from '../fixtures/child';

const describeIn = executablePath ? describe : describe.skip;
const title = executablePath ? 'the page' : `the page (skipped: ${noBrowser})`;
const views = ['training', 'playground', 'surprise', 'cells'] as const;
const text = 'The "hare" ran (far).\nThe "fox" sat (down) and said: "No".\n';

describeIn(title, () => {
  let folder: string;
  let server: ModelServer;
  let browser: Browser;
  let errors: string[];
  let page: Page;
  const screenshots = process.env.SCREENSHOTS === '1' ? join(packageRoot, 'build', 'screenshots') : undefined;
  const axe = executablePath ? readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8') : '';

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'page-'));
    const corpus = join(folder, 'tale.txt');
    writeFileSync(corpus, text.repeat(60));
    for (const [name, seed] of [
      ['hare', '1'],
      ['fox', '2'],
    ] as const) {
      const args = [
        corpus,
        '--out',
        join(folder, name),
        '--epochs',
        '4',
        '--hidden',
        '32',
        '--seed',
        seed,
        '--threads',
        '1',
      ];
      const { code, stderr } = await node('train.js', args);
      if (code !== 0) throw new Error(stderr);
    }
    server = await serveModels([join(folder, 'hare'), join(folder, 'fox')], { port: 0, device: 'cpu' });
    const flags = [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
    ];
    browser = await chromium.launch({ executablePath: executablePath as string, args: flags });
    if (screenshots !== undefined) mkdirSync(screenshots, { recursive: true });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const openPage = async (width: number, colorScheme: 'light' | 'dark' = 'light') => {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    page = await context.newPage();
    errors = [];
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('requestfailed', (request) => {
      const problem = request.failure()?.errorText;
      // The page itself cancels requests for what is no longer looked at.
      if (problem !== 'net::ERR_ABORTED') errors.push(`${request.url()}: ${problem}`);
    });
  };
  afterEach(async () => {
    await page?.context().close();
  });
  const visit = async (view: (typeof views)[number]) => {
    await page.goto(`${server.url}/#${view}`);
    await page.waitForSelector('main h1');
  };
  /** Waits until an expression holds in the page, whose policy forbids the page itself to evaluate one. */
  const seen = async (expression: string) => {
    while (!(await page.evaluate(expression))) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const characters = () => page.locator('.text span[data-i]');
  /** Checks that the popup is right under a character, and within the page. */
  const under = async (index: number) => {
    const character = await characters().nth(index).boundingBox();
    const pop = await page.locator('.pop:visible').boundingBox();
    if (!character || !pop) throw new Error('nothing pops up');
    expect(Math.abs(pop.y - (character.y + character.height))).toBeLessThan(2);
    expect(pop.x).toBeLessThanOrEqual(character.x + character.width / 2);
    expect(pop.x + pop.width).toBeGreaterThanOrEqual(character.x + character.width / 2);
    expect(pop.x).toBeGreaterThanOrEqual(0);
    expect(pop.x + pop.width).toBeLessThanOrEqual(page.viewportSize()?.width as number);
  };

  test('training: curves, figures and samples of one run, then of two', async () => {
    await openPage(1440);
    await page.goto(server.url);
    await page.waitForSelector('.samples article');
    await expect(page.title()).resolves.toBe('Training · cudnn-lstm');
    expect(await page.locator('.tiles').textContent()).toMatch(/hare.*4 of 4.*finished/);
    expect(await page.locator('figure canvas').count()).toBe(4);
    const wide = page.locator('figure.wide [role=img]');
    expect(await wide.getAttribute('aria-label')).toMatch(/training \d.*validation \d/);
    expect(await page.locator('.samples article').count()).toBe(4);
    await page.getByLabel('fox').check();
    await seen(`document.querySelectorAll('.samples article').length === 8`);
    expect(await wide.getAttribute('aria-label')).toMatch(/hare training \d.*fox validation \d/);
    // Nothing in it names a folder.
    expect(await page.content()).not.toContain(folder);
    expect(errors).toEqual([]);
  });

  itWhole('train --page shows a run while it is trained', async () => {
    await openPage(1440);
    const args = [
      join(folder, 'tale.txt'),
      '--out',
      join(folder, 'live'),
      '--epochs',
      '1000000',
      '--hidden',
      '16',
      '--page',
      '0',
    ];
    let opened: Promise<void> | undefined;
    const ended = await node('train.js', [...args, '--threads', '1'], {
      onStart: (child) => {
        let said = '';
        child.stderr?.on('data', (piece: string) => {
          said += piece;
          const url = /page: (http:\S+)/.exec(said)?.[1];
          if (url === undefined || opened) return;
          opened = (async () => {
            await page.goto(url);
            await page.waitForSelector('.samples article');
            const epoch = async () =>
              Number(/(\d+) of 1000000/.exec((await page.locator('.tiles').textContent()) ?? '')?.[1]);
            const first = await epoch();
            while ((await epoch()) <= first + 1) await new Promise((resolve) => setTimeout(resolve, 50));
          })().finally(() => child.kill('SIGTERM'));
        });
      },
    });
    await opened;
    expect([ended.code, errors]).toEqual([143, []]);
  });

  test('playground: writes the text of its seed, and branches', async () => {
    await openPage(1440);
    await visit('playground');
    await page.fill('#prompt', 'The ');
    await page.fill('#length', '50');
    await page.click('text=Write');
    await seen(`document.querySelectorAll('.text span[data-i]').length === 50`);
    const body = { model: 'hare', prompt: 'The ', max_tokens: 50, seed: 1, temperature: 0.7 };
    const answer = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json' },
    });
    const { choices } = (await answer.json()) as { choices: { text: string }[] };
    const written = async () => (await characters().allTextContents()).join('').replaceAll('↵\n', '\n');
    expect(await written()).toBe(choices[0]?.text);
    // Shown under a character while the mouse rests on it, and gone with the mouse.
    const pop = page.locator('.pop');
    await characters().nth(20).hover();
    await pop.waitFor({ state: 'visible' });
    await under(20);
    await page.mouse.move(0, 0);
    await pop.waitFor({ state: 'hidden' });
    // Kept once the character is clicked.
    await characters().nth(10).click();
    await page.mouse.move(0, 0);
    expect(await page.locator('.rivals button').count()).toBe(5);
    await under(10);
    const before = await written();
    const rival = page.locator('.rivals button').nth(1);
    const name = (await rival.locator('.spoken').textContent()) as string;
    await rival.click();
    await seen(`document.querySelectorAll('.text span[data-i]').length === 50`);
    const after = await written();
    expect(after.slice(0, 10)).toBe(before.slice(0, 10));
    expect(after[10]).toBe({ space: ' ', 'line break': '\n' }[name] ?? name);
    expect(errors).toEqual([]);
  });

  itWhole('surprise: the bits of the score, two models side by side, and the costliest place', async () => {
    await openPage(1440);
    await visit('surprise');
    await page.fill('#surprise-text', 'The "hare" sat (down).');
    await page.selectOption('#surprise-other', 'fox');
    await page.click('text=Look');
    await seen(`document.querySelectorAll('.pair section').length === 2`);
    await server.models.use('hare', async ({ model }) => {
      const { bitsPerCharacter } = await model.score('The "hare" sat (down).');
      expect(await page.locator('.pair h2').first().textContent()).toBe(
        `hare: ${bitsPerCharacter.toFixed(3)} bits per character`,
      );
    });
    await page.locator('.pair section').nth(1).locator('.places button').first().click();
    const bits = /(\d+\.\d\d) bits$/.exec(
      (await page.locator('.pair section').nth(1).locator('.places button').first().textContent()) ?? '',
    )?.[1];
    expect(await page.locator('.pop:visible p').textContent()).toBe(`${bits} bits`);
    expect(await page.locator('.pop:visible .rival').count()).toBe(5);
    expect(errors).toEqual([]);
  });

  itWhole('cells: values of one, and those that follow a pattern', async () => {
    await openPage(1440);
    await visit('cells');
    await page.fill('#cells-text', text);
    await page.click('text=Show');
    await page.waitForSelector('.text span[data-i]');
    expect(await page.locator('.text span[class^="n"], .text span[class^="p"]').count()).toBeGreaterThan(0);
    await page.click('text=capitals');
    await page.click('button:text-is("Find")');
    await page.waitForSelector('.side table');
    const rows = await page.locator('.side tbody tr').allTextContents();
    expect(rows).toHaveLength(10);
    const correlations = rows.map((row) => Math.abs(Number(/-?\d\.\d\d$/.exec(row)?.[0])));
    expect(correlations).toEqual([...correlations].sort((a, b) => b - a));
    expect(correlations[0]).toBeGreaterThan(0.3);
    // An invalid expression is reported, and what was there stays.
    await page.fill('#pattern', '(');
    await page.click('button:text-is("Find")');
    await page.waitForSelector('[role=alert]');
    expect(errors).toEqual([]);
  });

  itWhole('by the keyboard alone', async () => {
    await openPage(1440);
    await visit('playground');
    await page.focus('#prompt');
    await page.keyboard.type('The ');
    const tabTo = async (selector: string) => {
      for (let i = 0; i < 40; i++) {
        await page.keyboard.press('Tab');
        if (await page.evaluate(`document.activeElement?.matches(${JSON.stringify(selector)})`)) return;
      }
      throw new Error(`the Tab key does not reach ${selector}`);
    };
    await tabTo('button.main');
    await page.keyboard.press('Enter');
    await seen(`document.querySelectorAll('.text span[data-i]').length === 400`);
    await tabTo('.text');
    for (let i = 0; i < 6; i++) await page.keyboard.press('ArrowRight');
    expect(await page.locator('.text .chosen').getAttribute('data-i')).toBe('5');
    await tabTo('.rivals button');
    await page.keyboard.press('Enter');
    await seen(`!document.querySelector('.chosen')`);
    for (const view of views) {
      await page.evaluate('document.activeElement?.blur()');
      await tabTo(`nav a[href="#${view}"]`);
      await page.keyboard.press('Enter');
      await seen(`document.title.toLowerCase().startsWith('${view}')`);
    }
  });

  const looks = [
    [390, 'light'],
    [1440, 'dark'],
    [1440, 'light'],
    [390, 'dark'],
  ] as const;
  eachWhole(
    test,
    looks,
    (i) => i === 0,
  )('%i pixels wide, %s: nothing overflows, axe finds no violation', async (width, scheme) => {
    await openPage(width, scheme);
    for (const view of views) {
      await visit(view);
      if (view === 'training') await page.waitForSelector('.samples article');
      if (view === 'playground') {
        await page.fill('#prompt', 'The ');
        await page.click('text=Write');
        await seen(`document.querySelectorAll('.text span[data-i]').length === 400`);
        await characters().nth(7).click();
      }
      if (view === 'surprise') {
        await page.fill('#surprise-text', text);
        await page.click('text=Look');
        await page.waitForSelector('.text span[data-i]');
        await characters().nth(7).click();
      }
      if (view === 'cells') {
        await page.fill('#cells-text', text);
        await page.click('text=inside quotes');
        await page.click('button:text-is("Find")');
        await page.waitForSelector('.side table');
      }
      if (screenshots !== undefined)
        await page.screenshot({ path: join(screenshots, `${view}-${width}-${scheme}.png`), fullPage: true });
      expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
      await page.evaluate(axe);
      // The only thing that can be wrong with a dark page but not with a light one is its colours.
      const rules = scheme === 'dark' ? "{ runOnly: ['color-contrast', 'link-in-text-block'] }" : '{}';
      const { violations } = (await page.evaluate(`axe.run(document, ${rules})`)) as {
        violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
      };
      expect(violations.map(({ id, nodes }) => [id, nodes[0]?.html, nodes[0]?.failureSummary])).toEqual([]);
    }
    expect(errors).toEqual([]);
  });

  itWhole('asks for the key that the server requires, and continues with it', async () => {
    const guarded = await serveModels([join(folder, 'hare')], { port: 0, device: 'cpu', key: 'a-long-key' });
    try {
      await openPage(1440);
      await page.goto(guarded.url);
      await page.fill('#key', 'a-long-key');
      await page.keyboard.press('Enter');
      await page.waitForSelector('.samples article');
    } finally {
      await page.context().close();
      await guarded.close();
    }
  });
});
