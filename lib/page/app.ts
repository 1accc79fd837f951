/** The page: its four views, and the messages when something fails. */
import { KeyError, keepKey, listModels, type ServedModel } from './api.js';
import { Cells } from './cells.js';
import { Field } from './parts.js';
import { Playground } from './playground.js';
import { Surprise } from './surprise.js';
import { Training } from './training.js';
import { html, render, useEffect, useState } from './vendor/preact.js';

const views = { training: Training, playground: Playground, surprise: Surprise, cells: Cells };
type View = keyof typeof views;
const titles: Record<View, string> = {
  training: 'Training',
  playground: 'Playground',
  surprise: 'Surprise',
  cells: 'Cells',
};

function viewOf(hash: string): View | undefined {
  const name = hash.replace(/^#/, '');
  return Object.hasOwn(views, name) ? (name as View) : undefined;
}

function App() {
  const [models, setModels] = useState<ServedModel[] | undefined>(undefined);
  const [view, setView] = useState<View | undefined>(viewOf(location.hash));
  const [error, setError] = useState<unknown>(undefined);

  const load = () => {
    setError(undefined);
    listModels().then(setModels, setError);
  };
  useEffect(load, []);
  useEffect(() => {
    const change = () => {
      setView(viewOf(location.hash));
      setError(undefined);
    };
    addEventListener('hashchange', change);
    return () => removeEventListener('hashchange', change);
  }, []);

  const current = view ?? (models?.some(({ run }) => run) ? 'training' : 'playground');
  useEffect(() => {
    document.title = `${titles[current]} · cudnn-lstm`;
  }, [current]);
  const message = error instanceof Error ? error.message : error === undefined ? '' : String(error);
  return html`<header>
      <strong>cudnn-lstm</strong>
      <nav aria-label="Views">
        ${Object.entries(titles).map(([name, title]) => html`<a key=${name} href=${`#${name}`} aria-current=${name === current ? 'page' : undefined}>${title}</a>`)}
      </nav>
    </header>
    <main>
      ${error instanceof KeyError ? html`<${KeyForm} message=${message} done=${load} />` : message === '' ? null : html`<p class="error" role="alert">${message}</p>`}
      ${models === undefined ? null : html`<${views[current]} key=${current} models=${models} fail=${setError} />`}
    </main>`;
}

function KeyForm({ message, done }: { message: string; done: () => void }) {
  const [key, setKey] = useState('');
  return html`<form class="error" onSubmit=${(event: Event) => {
    event.preventDefault();
    keepKey(key);
    done();
  }}>
    <p role="alert">${message}</p>
    <${Field} id="key" label="Key"><input id="key" type="password" autocomplete="off" value=${key} onInput=${(event: Event) => setKey((event.target as HTMLInputElement).value)} /></${Field}>
    <div class="row"><button class="main" type="submit">Go on</button></div>
  </form>`;
}

render(html`<${App} />`, document.getElementById('app') as HTMLElement);
