/** One cell along a text, as Karpathy drew it, and the cells that follow a pattern. */
import { type CellValues, type Follower, inspectCells } from './api.js';
import { type CharacterText, cellClass, element } from './look.js';
import { Field, ModelSelect, NumberField, TextView, useJob, type ViewProps } from './parts.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

const patterns: [name: string, pattern: string][] = [
  ['inside quotes', '"[^"]*"'],
  ['inside brackets', '\\([^)]*\\)'],
  ['capitals', '[A-Z]'],
  ['spaces', ' '],
  ['the place in the line', 'line'],
];

export function Cells({ models, fail }: ViewProps) {
  const [text, setText] = useState('');
  const [model, setModel] = useState(models[0]?.name ?? '');
  const [layer, setLayer] = useState(1);
  const [unit, setUnit] = useState(1);
  const [pattern, setPattern] = useState('');
  const [found, setFound] = useState<CellValues | undefined>(undefined);
  const [followers, setFollowers] = useState<Follower[]>([]);
  const shown = useRef<CharacterText | null>(null);
  useEffect(() => shown.current?.refresh(), [found]);
  const { busy, run } = useJob(fail);

  const show = (toLayer: number, toUnit: number) => {
    setLayer(toLayer);
    setUnit(toUnit);
    run(async (signal) => {
      setFound(await inspectCells(model, text, { layer: toLayer - 1, unit: toUnit - 1 }, signal));
    });
  };
  const search = () => {
    run(async (signal) => {
      const { characters } = found ?? (await inspectCells(model, text, { layer: layer - 1, unit: unit - 1 }, signal));
      const answer = await inspectCells(
        model,
        text,
        { layer: layer - 1, unit: unit - 1, pattern: valuesOf(pattern, characters) },
        signal,
      );
      const [best] = answer.followers ?? [];
      setFollowers(answer.followers ?? []);
      if (!best) return;
      setLayer(best.layer + 1);
      setUnit(best.unit + 1);
      setFound(await inspectCells(model, text, { layer: best.layer, unit: best.unit }, signal));
    });
  };

  return html`<h1>Cells</h1>
    <p class="lead">The value of one cell of the model along a text: green where it is positive, blue where it is negative. Many follow nothing that a person can name; some follow quotes, brackets or the length of a line.</p>
    <form onSubmit=${(event: Event) => {
      event.preventDefault();
      shown.current?.choose(undefined);
      setFollowers([]);
      show(layer, unit);
    }}>
      <${Field} id="cells-text" label="Text, up to 5,000 characters">
        <textarea id="cells-text" value=${text} maxlength="5000" required onInput=${(event: Event) => {
          setText((event.target as HTMLTextAreaElement).value);
          setFound(undefined);
        }}></textarea>
      </${Field}>
      <div class="fields">
        <${ModelSelect} id="cells-model" models=${models} value=${model} change=${(name: string) => {
          setModel(name);
          setFound(undefined);
        }} />
        <${NumberField} id="layer" label="Layer" value=${layer} low=${1} high=${found?.layers ?? 8} change=${(value: number) => (found ? show(value, unit) : setLayer(value))} />
        <${NumberField} id="unit" label="Unit" value=${unit} low=${1} high=${found?.hidden ?? 4096} change=${(value: number) => (found ? show(layer, value) : setUnit(value))} />
      </div>
      <div class="row"><button class="main" type="submit" disabled=${busy || text === ''}>${busy ? 'Reading…' : 'Show'}</button></div>
    </form>
    <form onSubmit=${(event: Event) => {
      event.preventDefault();
      search();
    }}>
      <${Field} id="pattern" label="Find cells that follow a pattern (a regular expression)">
        <input id="pattern" type="text" value=${pattern} onInput=${(event: Event) => setPattern((event.target as HTMLInputElement).value)} />
      </${Field}>
      <div class="row">
        <button type="submit" disabled=${busy || text === '' || pattern === ''}>Find</button>
        ${patterns.map(([name, value]) => html`<button type="button" key=${name} onClick=${() => setPattern(value)}>${name}</button>`)}
      </div>
    </form>
    ${
      found === undefined
        ? null
        : html`<div class="scale"><small>-1</small>${['n4', 'n3', 'n2', 'n1', '', 'p1', 'p2', 'p3', 'p4'].map((name) => html`<span class=${name}></span>`)}<small>1</small><b>layer ${layer}, unit ${unit}</b></div>
        <div class=${followers.length > 0 ? 'split' : ''}>
          <${TextView} label="The text" characters=${found.characters} classOf=${(i: number) => cellClass(found.values[i] as number)} handle=${shown}
            under=${(i: number) => [element('p', '', `layer ${layer}, unit ${unit}: `, element('b', '', found.values[i]?.toFixed(3) ?? ''))]} />
          ${
            followers.length === 0
              ? null
              : html`<aside class="side" aria-live="polite"><h2>Closest to the pattern</h2>
              <table><thead><tr><th scope="col">Cell</th><th scope="col">Correlation</th></tr></thead><tbody>
                ${followers.map(
                  (cell) =>
                    html`<tr key=${`${cell.layer}-${cell.unit}`}><td><button type="button" aria-pressed=${cell.layer + 1 === layer && cell.unit + 1 === unit} onClick=${() => show(cell.layer + 1, cell.unit + 1)}>layer ${cell.layer + 1}, unit ${cell.unit + 1}</button></td><td>${cell.correlation.toFixed(2)}</td></tr>`,
                )}
              </tbody></table></aside>`
          }
        </div>`
    }`;
}

/** 1 where a pattern matches; for `line`, the character's distance from the last line break, up to 80, divided by 80. */
function valuesOf(pattern: string, characters: readonly string[]): number[] {
  if (pattern === 'line') {
    let at = 0;
    return characters.map((character) => {
      at = character === '\n' ? 0 : at + 1;
      return Math.min(80, at) / 80;
    });
  }
  const values = new Array<number>(characters.length).fill(0);
  // A match is in code units, of which a character may have two.
  const starts: number[] = [];
  for (const [i, character] of characters.entries()) for (let unit = 0; unit < character.length; unit++) starts.push(i);
  for (const match of characters.join('').matchAll(new RegExp(pattern, 'gsu'))) {
    for (let at = match.index; at < match.index + match[0].length; at++) values[starts[at] as number] = 1;
  }
  return values;
}
