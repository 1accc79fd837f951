/** Any text, coloured by how many bits each character cost one model, or two side by side. */
import { type Inspection, inspect } from './api.js';
import { type CharacterText, costliestList, surpriseClass, surpriseScale, surpriseUnder } from './look.js';
import { Field, Made, ModelSelect, TextView, useJob, type ViewProps } from './parts.js';
import { html, useRef, useState } from './vendor/preact.js';

interface Looked {
  model: string;
  found: Inspection;
}

export function Surprise({ models, fail }: ViewProps) {
  const [text, setText] = useState('');
  const [model, setModel] = useState(models[0]?.name ?? '');
  const [other, setOther] = useState('');
  const [looked, setLooked] = useState<Looked[]>([]);
  const { busy, run } = useJob(fail);

  const look = (event: Event) => {
    event.preventDefault();
    run(async (signal) => {
      const names = other === '' ? [model] : [model, other];
      setLooked(
        await Promise.all(names.map(async (name) => ({ model: name, found: await inspect(name, text, signal) }))),
      );
    });
  };
  return html`<h1>Surprise</h1>
    <p class="lead">How many bits each character of a text costs the model, given all before it: the darker, the less it was expected.</p>
    <form onSubmit=${look}>
      <${Field} id="surprise-text" label="Text">
        <textarea id="surprise-text" value=${text} required onInput=${(event: Event) => setText((event.target as HTMLTextAreaElement).value)}></textarea>
      </${Field}>
      <div class="fields">
        <${ModelSelect} id="surprise-model" models=${models} value=${model} change=${setModel} />
        <${ModelSelect} id="surprise-other" label="Beside it" models=${[{ name: '' }, ...models]} value=${other} change=${setOther} />
      </div>
      <div class="row"><button class="main" type="submit" disabled=${busy}>${busy ? 'Reading…' : 'Look'}</button></div>
    </form>
    ${
      looked.length === 0
        ? null
        : html`<${Made} make=${surpriseScale} />
        <div class="pair">${looked.map(({ model: name, found }, view) => html`<${View} key=${name + String(view)} name=${name} found=${found} />`)}</div>`
    }`;
}

function View({ name, found }: { name: string; found: Inspection }) {
  const { characters, bits, rivals, bitsPerCharacter } = found;
  const text = useRef<CharacterText | null>(null);
  return html`<section aria-label=${name}>
    <h2>${name}: ${bitsPerCharacter === null ? '–' : bitsPerCharacter.toFixed(3)} bits per character</h2>
    <${TextView} label=${`The text as ${name} sees it`} characters=${characters} classOf=${(i: number) => surpriseClass(bits[i] ?? null)}
      under=${(i: number) => surpriseUnder(characters[i] as string, bits[i] ?? null, rivals[i] ?? [])} handle=${text} />
    <h3>The costliest places</h3>
    <${Made} make=${() => costliestList(characters, bits, (i) => text.current?.choose(i))} />
  </section>`;
}
