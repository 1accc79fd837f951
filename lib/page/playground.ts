/** Type, and let the model go on; under each character stand its likeliest rivals, and choosing one branches the text there. */
import { type Written, write } from './api.js';
import {
  CharacterText,
  Field,
  ModelSelect,
  NumberField,
  RivalList,
  Slider,
  useJob,
  type ViewProps,
  visible,
} from './parts.js';
import { html, useState } from './vendor/preact.js';

export function Playground({ models, fail }: ViewProps) {
  const [model, setModel] = useState(models[0]?.name ?? '');
  const [prompt, setPrompt] = useState('');
  const [begun, setBegun] = useState('');
  const [temperature, setTemperature] = useState(0.7);
  const [topP, setTopP] = useState(1);
  const [length, setLength] = useState(400);
  const [seed, setSeed] = useState(1);
  const [written, setWritten] = useState<Written[]>([]);
  const [chosen, setChosen] = useState<number | undefined>(undefined);
  const { busy, run, end } = useJob(fail);

  const start = (from: string, kept: Written[], newSeed: number) => {
    setBegun(from);
    setWritten(kept);
    setChosen(undefined);
    run(async (signal) => {
      const text = from + kept.map(({ character }) => character).join('');
      const left = Math.max(1, length - kept.length);
      let all = kept;
      for await (const piece of write(
        { model, prompt: text, temperature, topP, length: left, seed: newSeed },
        signal,
      )) {
        all = [...all, ...piece];
        setWritten(all);
      }
    });
  };
  const branch = (character: string) => {
    const at = chosen as number;
    const here = written[at] as Written;
    const next = seed + 1;
    setSeed(next);
    start(begun, [...written.slice(0, at), { ...here, character }], next);
  };
  const here = chosen === undefined ? undefined : written[chosen];

  return html`<h1>Playground</h1>
    <p class="lead">Begin a text and let the model go on. Choose a character to see what else it thought likely there, and take another one to branch.</p>
    <form onSubmit=${(event: Event) => {
      event.preventDefault();
      start(prompt, [], seed);
    }}>
      <${Field} id="prompt" label="The text begins">
        <textarea id="prompt" value=${prompt} placeholder="or leave it empty" onInput=${(event: Event) => setPrompt((event.target as HTMLTextAreaElement).value)}></textarea>
      </${Field}>
      <div class="fields">
        <${ModelSelect} id="model" models=${models} value=${model} change=${setModel} />
        <${Slider} id="temperature" label="Temperature" value=${temperature} low=${0} high=${2} step=${0.05} change=${setTemperature} />
        <${Slider} id="top-p" label="Top-p" value=${topP} low=${0.05} high=${1} step=${0.05} change=${setTopP} />
        <${NumberField} id="length" label="Characters" value=${length} low=${1} high=${5000} change=${setLength} />
        <${NumberField} id="seed" label="Seed" value=${seed} low=${0} high=${4294967295} change=${setSeed} />
      </div>
      <div class="row">
        <button class="main" type="submit">Write</button>
        <button type="button" disabled=${!busy} onClick=${end}>Stop</button>
      </div>
    </form>
    ${
      written.length === 0 && !busy
        ? null
        : html`<div class="split">
          <${CharacterText} label="The text" given=${begun} characters=${written.map(({ character }) => character)} classOf=${() => ''}
            chosen=${chosen} choose=${setChosen} writing=${busy} />
          <aside class="side" aria-live="polite">
            <h2>${here === undefined ? 'Rivals' : html`At <code>${visible(here.character)}</code>`}</h2>
            ${
              here === undefined
                ? html`<p>Choose a character of the text: its five likeliest rivals appear here.</p>`
                : html`<${RivalList} rivals=${here.rivals} pick=${branch} />
                  <p><small>Choose one to continue with it instead.</small></p>`
            }
          </aside>
        </div>`
    }`;
}
