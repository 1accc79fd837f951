/** The page's files, which come only from the package, whatever path is requested. */
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { packageRoot } from '../device/native';

const script = 'text/javascript; charset=utf-8';
const style = 'text/css; charset=utf-8';

const files: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/icon.svg': ['icon.svg', 'image/svg+xml'],
  '/base.css': ['base.css', style],
  '/page.css': ['page.css', style],
  ...Object.fromEntries(
    ['app', 'api', 'parts', 'training', 'playground', 'surprise', 'cells', 'look'].map((name) => [
      `/page/${name}.js`,
      [`${name}.js`, script] as const,
    ]),
  ),
  '/page/vendor/preact.js': ['vendor/preact.js', script],
  '/page/vendor/uplot.js': ['vendor/uplot.js', script],
  '/uplot.css': ['vendor/uplot.css', style],
};

/** Nothing from elsewhere, nothing inline: even a text that became markup could not run. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

export function isPageFile(path: string): boolean {
  return Object.hasOwn(files, path);
}

export async function sendPageFile(path: string, response: ServerResponse): Promise<void> {
  const [file, type] = files[path] as readonly [string, string];
  const content = await readFile(join(packageRoot, 'dist', 'page', file));
  response.setHeader('Content-Security-Policy', policy);
  response.setHeader('Cache-Control', 'no-cache');
  response.writeHead(200, { 'Content-Type': type, 'Content-Length': content.length });
  response.end(content);
}
