/** Any text, colored by how many bits each character cost: by one model, or by two side by side. */
import { type Inspection, inspect } from './api.js';
import { surpriseClass } from './colors.js';
import { CharacterText, Field, ModelSelect, RivalList, spoken, useJob, type ViewProps, visible } from './parts.js';
import { html, useState } from './vendor/preact.js';

interface Looked {
  model: string;
  found: Inspection;
}

export function Surprise({ models, fail }: ViewProps) {
  const [text, setText] = useState('');
  const [model, setModel] = useState(models[0]?.name ?? '');
  const [other, setOther] = useState('');
  const [looked, setLooked] = useState<Looked[]>([]);
  const [chosen, setChosen] = useState<[view: number, index: number] | undefined>(undefined);
  const { busy, run } = useJob(fail);

  const look = (event: Event) => {
    event.preventDefault();
    run(async (signal) => {
      const names = other === '' ? [model] : [model, other];
      setLooked(
        await Promise.all(names.map(async (name) => ({ model: name, found: await inspect(name, text, signal) }))),
      );
      setChosen(undefined);
    });
  };
  const at = chosen && (looked[chosen[0]] as Looked).found;
  const index = chosen?.[1] as number;

  return html`<h1>Surprise</h1>
    <p class="lead">How many bits each character of a text costs the model, given all before it: the darker, the less it was expected.</p>
    <form onSubmit=${look}>
      <${Field} id="surprise-text" label="Text">
        <textarea id="surprise-text" value=${text} required onInput=${(event: Event) => setText((event.target as HTMLTextAreaElement).value)}></textarea>
      </${Field}>
      <div class="fields">
        <${ModelSelect} id="surprise-model" models=${models} value=${model} change=${setModel} />
        <${ModelSelect} id="surprise-other" label="Beside" models=${[{ name: '' }, ...models]} value=${other} change=${setOther} />
      </div>
      <div class="row"><button class="main" type="submit" disabled=${busy}>${busy ? 'Reading…' : 'Look'}</button></div>
    </form>
    ${
      looked.length === 0
        ? null
        : html`<div class="scale"><small>as expected</small>${Array.from({ length: 10 }, (_, i) => html`<span class=${`s${i}`}></span>`)}<small>8 bits or more</small></div>
        <div class="split">
          <div class="pair">
            ${looked.map(
              ({ model: name, found }, view) => html`<section key=${name + String(view)} aria-label=${name}>
                <h2>${name}: ${found.bitsPerCharacter === null ? '–' : found.bitsPerCharacter.toFixed(3)} bits a character</h2>
                <${CharacterText} label=${`The text as ${name} sees it`} characters=${found.characters} classOf=${(i: number) => surpriseClass(found.bits[i] ?? null)}
                  chosen=${chosen?.[0] === view ? index : undefined} choose=${(i: number) => setChosen([view, i])} />
                <h3>The costliest places</h3>
                <${Costliest} found=${found} choose=${(i: number) => setChosen([view, i])} />
              </section>`,
            )}
          </div>
          <aside class="side" aria-live="polite">
            <h2>${at === undefined ? 'A character' : html`<code>${visible(at.characters[index] as string)}</code> ${bitsAt(at, index)}`}</h2>
            ${
              at === undefined
                ? html`<p>Choose a character: what the model expected there appears here.</p>`
                : at.bits[index] === null
                  ? html`<p>Nothing comes before the first character, so it is not counted.</p>`
                  : html`<p><small>${`It read ${spoken(at.characters[index] as string)}; likeliest were:`}</small></p><${RivalList} rivals=${at.rivals[index] ?? []} />`
            }
          </aside>
        </div>`
    }`;
}

function bitsAt(found: Inspection, index: number): string {
  const bits = found.bits[index];
  return bits === null || bits === undefined ? '' : `${bits.toFixed(2)} bits`;
}

function Costliest({ found, choose }: { found: Inspection; choose: (index: number) => void }) {
  const order = [...found.bits.keys()].filter((i) => found.bits[i] !== null);
  order.sort((a, b) => (found.bits[b] as number) - (found.bits[a] as number));
  const around = (i: number) =>
    found.characters
      .slice(Math.max(0, i - 18), i)
      .map(visible)
      .join('');
  const after = (i: number) =>
    found.characters
      .slice(i + 1, i + 8)
      .map(visible)
      .join('');
  return html`<ol class="places">
    ${order
      .slice(0, 8)
      .map(
        (i) =>
          html`<li key=${i}><button type="button" onClick=${() => choose(i)}>${around(i)}<code>${visible(found.characters[i] as string)}</code>${after(i)} <small>${bitsAt(found, i)}</small></button></li>`,
      )}
  </ol>`;
}
