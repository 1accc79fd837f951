/** Type, and let the model continue; under each character are its likeliest rivals, and choosing one branches the text there. */
import { type Written, write } from './api.js';
import { type CharacterText, element, rivalList, visible } from './look.js';
import { Field, ModelSelect, NumberField, Slider, TextView, useJob, type ViewProps } from './parts.js';
import { html, useRef, useState } from './vendor/preact.js';

export function Playground({ models, fail }: ViewProps) {
  const [model, setModel] = useState(models[0]?.name ?? '');
  const [prompt, setPrompt] = useState('');
  const [begun, setBegun] = useState('');
  const [temperature, setTemperature] = useState(0.7);
  const [topP, setTopP] = useState(1);
  const [length, setLength] = useState(400);
  const [seed, setSeed] = useState(1);
  const [written, setWritten] = useState<Written[]>([]);
  const text = useRef<CharacterText | null>(null);
  const { busy, run, end } = useJob(fail);

  const start = (from: string, kept: Written[], newSeed: number) => {
    setBegun(from);
    setWritten(kept);
    text.current?.choose(undefined);
    run(async (signal) => {
      const beginning = from + kept.map(({ character }) => character).join('');
      const left = Math.max(1, length - kept.length);
      let all = kept;
      for await (const piece of write(
        { model, prompt: beginning, temperature, topP, length: left, seed: newSeed },
        signal,
      )) {
        all = [...all, ...piece];
        setWritten(all);
      }
    });
  };
  const branch = (at: number, character: string) => {
    const here = written[at] as Written;
    const next = seed + 1;
    setSeed(next);
    text.current?.focus();
    start(begun, [...written.slice(0, at), { ...here, character }], next);
  };
  const under = (at: number) => {
    const here = written[at];
    if (!here) return [];
    const list = rivalList(here.rivals, (character) => branch(at, character), here.character);
    list.ariaLabel = `Likeliest in place of ${visible(here.character)}; choose one to branch`;
    return [element('p', '', 'Take another:'), list];
  };

  return html`<h1>Playground</h1>
    <p class="lead">Begin a text and let the model go on. Under each character stand its five likeliest rivals: rest on it, tap it, or go there with the arrow keys, and take another one to branch.</p>
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
        : html`<${TextView} label="The text" given=${begun} characters=${written.map(({ character }) => character)} under=${under} writing=${busy} handle=${text} />`
    }`;
}
