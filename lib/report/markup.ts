/** Pages that need nothing beside them: texts escaped, scripts inlined and named by a policy. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../device/native';
import { printable } from './figures';

export function escapeHtml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return printable(text).replace(/[&<>"']/g, (symbol) => names[symbol] as string);
}

/** JSON that no script element can be ended with. */
export function inlineJson(value: unknown): string {
  return JSON.stringify(value).replace(/</g, '\\u003c');
}

/** What a page is made of. */
export interface PageParts {
  title: string;
  /** Markup. */
  body: string;
  /** Rules after those that all pages share. */
  style: string;
  /** JSON for the script, by the id of its element. */
  data: Readonly<Record<string, unknown>>;
  /** Runs after uPlot has been loaded. */
  script: string;
}

/** One file. Should a text become markup in spite of all escaping, it still cannot run or fetch anything. */
export async function renderPage({ title, body, style, data, script }: PageParts): Promise<string> {
  const file = (...path: string[]) => readFile(join(packageRoot, 'dist', ...path), 'utf8');
  const chart = await file('uplot', 'uPlot.iife.min.js');
  const styles = [await file('page', 'base.css'), await file('uplot', 'uPlot.min.css'), style];
  const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src ${hash(chart)} ${hash(script)}`;
  const elements = Object.entries(data).map(
    ([id, value]) => `<script type="application/json" id="${id}">${inlineJson(value)}</script>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${styles.join('\n')}</style>
${body}
<script>${chart}</script>
${elements.join('\n')}
<script>${script}</script>
</html>
`;
}

/** A script as a content security policy names it. */
function hash(script: string): string {
  return `'sha256-${createHash('sha256').update(script).digest('base64')}'`;
}
