// Lists the relative links in a folder's Markdown files that lead nowhere: check-links.js [FOLDER]
const { existsSync, readdirSync, readFileSync } = require('node:fs');
const path = require('node:path');

const folder = path.resolve(process.argv[2] ?? path.join(__dirname, '..'));
const skipped = /(^|\/)(node_modules|build[^/]*|docs\/api|\.nvidia)\//;
let broken = 0;
for (const name of readdirSync(folder, { recursive: true })) {
  if (!name.endsWith('.md') || skipped.test(`${name}/`)) continue;
  const text = readFileSync(path.join(folder, name), 'utf8').replace(/^```[\s\S]*?^```/gm, '');
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^(https?:|mailto:|#)/.test(target)) continue;
    if (existsSync(path.join(folder, path.dirname(name), target.replace(/#.*/, '')))) continue;
    console.error(`${name} links to ${target}, which is not there`);
    broken++;
  }
}
process.exitCode = broken > 0 ? 1 : 0;
