/**
 * Self-contained pages in the style of the one that `serve` shows: texts escaped, scripts inlined and listed in a content security
 * policy.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from './device/native';
import { printable } from './harmless';

export function escapeHtml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return printable(text).replace(/[&<>"']/g, (symbol) => names[symbol] as string);
}

/** JSON that cannot end a script element. */
export function inlineJson(value: unknown): string {
  return JSON.stringify(value).replace(/</g, '\\u003c');
}

/** What a page is made of. */
export interface PageParts {
  title: string;
  /** Markup. */
  body: string;
  /** CSS rules that follow those shared by all pages (lib/page/base.css). */
  style?: string;
  /** Text for the script, by the id of its element; must not contain `<`. */
  data?: Readonly<Record<string, string>>;
  /** Runs as a module after lib/page/look.ts, and may use its exports. */
  script: string;
  /** Modules of the package that run before the script, as paths in `dist`. Each imports only from those before it. */
  modules?: readonly string[];
  /** Whether they compile WebAssembly. Default false. */
  wasm?: boolean;
  /** Whether to load uPlot. Default false. */
  charts?: boolean;
}

/** Renders a page as one file. Even if a text became markup in spite of all escaping, it could not run or fetch anything. */
export async function renderPage(parts: PageParts): Promise<string> {
  const { title, body, style = '', data = {}, script, modules = [], charts = false, wasm = false } = parts;
  const file = (...path: string[]) => readFile(join(packageRoot, 'dist', ...path), 'utf8');
  const chart = charts ? await file('uplot', 'uPlot.iife.min.js') : undefined;
  const styles = [await file('page', 'base.css'), charts ? await file('uplot', 'uPlot.min.css') : '', style];
  const code = [
    ...(await Promise.all(['page/look.js', ...modules].map((name) => file(name)))).map(inline),
    script,
  ].join('\n');
  if (/<\/script|^\s*(import|export)\b/im.test(code)) throw new Error('the page cannot hold its script');
  const hashes = [chart, code].flatMap((each) => (each === undefined ? [] : hash(each)));
  const scripts = [...hashes, ...(wasm ? ["'wasm-unsafe-eval'"] : [])].join(' ');
  const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src ${scripts}`;
  const elements = Object.entries(data).map(([id, text]) => `<script type="text/plain" id="${id}">${text}</script>`);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${styles.join('\n')}</style>
${body}
${[...(chart === undefined ? [] : [`<script>${chart}</script>`]), ...elements].join('\n')}
<script type="module">${code}</script>
</html>
`;
}

/** A module without its exports and imports: an inline script cannot be imported from, and what it needs comes before it. */
function inline(module: string): string {
  return module
    .replace(/^import \{[^}]*\} from '\.\/[^']*';$/gm, '')
    .replace(/^export (?=class |function |const )/gm, '')
    .replace(/^export \{.*\};?$/gm, '');
}

/** A script's source expression in a content security policy. */
function hash(script: string): string {
  return `'sha256-${createHash('sha256').update(script).digest('base64')}'`;
}
