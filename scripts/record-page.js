#!/usr/bin/env node
/**
 * Takes the pictures of docs/serve.md from real runs: docs/page-<view>.png, one per view. Needs Chromium.
 *
 *   node scripts/record-page.js RUN [OTHER]
 */
const { existsSync, statSync } = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');
const { serveModels } = require('../dist/serve/server');

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const text = [
  'ROMEO:',
  'But, soft! what light through yonder window breaks?',
  'It is the east, and Juliet is the sun.',
  '',
  'JULIET:',
  'O Romeo, Romeo! wherefore art thou Romeo?',
  'Deny thy father and refuse thy name;',
].join('\n');
const most = 150_000;

async function main() {
  const runs = process.argv.slice(2);
  if (runs.length === 0 || !executablePath)
    throw new Error('usage: node scripts/record-page.js RUN [OTHER], with Chromium installed');
  const server = await serveModels(runs, { port: 0, device: 'cpu' });
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking'],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 1180, height: 760 } });
    const shoot = async (view) => {
      const file = path.join(__dirname, '..', 'docs', `page-${view}.png`);
      await page.screenshot({ path: file });
      const { size } = statSync(file);
      console.log(`${path.relative(process.cwd(), file)}: ${size.toLocaleString('en')} bytes`);
      if (size > most) throw new Error(`${file} is larger than ${most} bytes`);
    };
    const visit = async (view, ready) => {
      await page.goto(`${server.url}/#${view}`);
      await page.waitForSelector('main h1');
      await ready();
      await page.waitForTimeout(400);
      await shoot(view);
    };
    await visit('training', async () => {
      await page.waitForSelector('.samples article');
      for (const box of await page.locator('[aria-label=Runs] input').all()) await box.check();
      await page.evaluate('document.querySelector(".tiles").scrollIntoView({ block: "start" })');
    });
    await visit('playground', async () => {
      await page.fill('#prompt', 'ROMEO:\n');
      await page.fill('#length', '300');
      await page.click('text=Write');
      await page.locator('.text span[data-i]').nth(299).waitFor();
      await page.locator('.text span[data-i]').nth(51).click();
      await page.mouse.move(0, 0);
      await page.evaluate('scrollTo(0, document.querySelector("form").getBoundingClientRect().top + scrollY - 20)');
    });
    await visit('surprise', async () => {
      await page.fill('#surprise-text', text);
      if (runs.length > 1) await page.selectOption('#surprise-other', { index: 2 });
      await page.click('text=Look');
      await page.waitForSelector('.places button');
      await page.locator('.places button').nth(2).click();
      await page.mouse.move(0, 0);
      await page.evaluate('document.querySelector(".scale").scrollIntoView({ block: "start" })');
    });
    await visit('cells', async () => {
      await page.fill('#cells-text', text);
      await page.click('text=the place in the line');
      await page.click('button:text-is("Find")');
      await page.waitForSelector('.side table');
      await page.evaluate('document.querySelector(".scale").scrollIntoView({ block: "start" })');
    });
  } finally {
    await browser.close();
    await server.close();
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
