/** What the views are made of. */
import type { Rivals } from './api.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

/** What a view is given by the page around it. */
export interface ViewProps {
  models: { name: string; run: boolean }[];
  fail: (error: unknown) => void;
}

/** A character as it can be seen by itself. */
export function visible(character: string): string {
  return { '\n': '↵', ' ': '␣', '\t': '⇥' }[character] ?? character;
}

/** Its name for those who hear the page. */
export function spoken(character: string): string {
  return { '\n': 'line break', ' ': 'space', '\t': 'tab' }[character] ?? character;
}

export function Field({
  id,
  label,
  value,
  children,
}: {
  id: string;
  label: string;
  value?: string;
  children: unknown;
}) {
  return html`<div class="field"><label for=${id}>${label}${value === undefined ? '' : html`<output>${value}</output>`}</label>${children}</div>`;
}

export function ModelSelect({
  id,
  models,
  value,
  change,
  label = 'Model',
}: {
  id: string;
  models: { name: string }[];
  value: string;
  change: (name: string) => void;
  label?: string;
}) {
  return html`<${Field} id=${id} label=${label}>
    <select id=${id} value=${value} onChange=${(event: Event) => change((event.target as HTMLSelectElement).value)}>
      ${models.map(({ name }) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>
  </${Field}>`;
}

export function Slider({
  id,
  label,
  value,
  low,
  high,
  step,
  change,
}: {
  id: string;
  label: string;
  value: number;
  low: number;
  high: number;
  step: number;
  change: (value: number) => void;
}) {
  return html`<${Field} id=${id} label=${label} value=${String(value)}>
    <input id=${id} type="range" min=${low} max=${high} step=${step} value=${value}
      onInput=${(event: Event) => change(Number((event.target as HTMLInputElement).value))} />
  </${Field}>`;
}

export function NumberField({
  id,
  label,
  value,
  low,
  high,
  change,
}: {
  id: string;
  label: string;
  value: number;
  low: number;
  high: number;
  change: (value: number) => void;
}) {
  return html`<${Field} id=${id} label=${label}>
    <input id=${id} type="number" min=${low} max=${high} value=${value}
      onInput=${(event: Event) => {
        const given = (event.target as HTMLInputElement).valueAsNumber;
        if (Number.isInteger(given)) change(Math.max(low, Math.min(high, given)));
      }} />
  </${Field}>`;
}

/**
 * A text whose characters can be chosen, with the mouse or, once the text has the focus, with the arrow keys.
 *
 * @param classOf The class of each character.
 */
export function CharacterText(props: {
  label: string;
  characters: readonly string[];
  classOf: (index: number) => string;
  chosen: number | undefined;
  choose: (index: number) => void;
  given?: string;
  writing?: boolean;
}) {
  const { label, characters, classOf, chosen, choose, given = '', writing = false } = props;
  const place = useRef<HTMLDivElement | null>(null);
  const move = (event: KeyboardEvent) => {
    const at = chosen ?? -1;
    const to = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      ArrowDown: at + 60,
      ArrowUp: at - 60,
      Home: 0,
      End: characters.length - 1,
    }[event.key];
    if (to === undefined || characters.length === 0) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(characters.length - 1, to)));
  };
  useEffect(() => {
    place.current?.querySelector('.chosen')?.scrollIntoView({ block: 'nearest' });
  }, [chosen]);
  const click = (event: MouseEvent) => {
    const index = (event.target as HTMLElement).dataset.i;
    if (index !== undefined) choose(Number(index));
  };
  return html`<div class=${`text${writing ? ' writing' : ''}`} ref=${place} tabindex="0" role="group" onKeyDown=${move} onClick=${click}
      aria-label=${`${label}. Arrow keys go from character to character.`}>
    ${given === '' ? null : html`<span class="given">${given}</span>`}
    ${characters.map((character, i) => {
      const classes = `${classOf(i)}${i === chosen ? ' chosen' : ''}`;
      return character === '\n'
        ? html`<span class=${`break ${classes}`} data-i=${i}>↵</span>${'\n'}`
        : html`<span class=${classes} data-i=${i}>${character}</span>`;
    })}
  </div>`;
}

/** The likeliest characters at a place; where `pick` is given, each can be chosen instead. */
export function RivalList({ rivals, pick }: { rivals: Rivals; pick?: (character: string) => void }) {
  return html`<ul class="rivals">
    ${rivals.map(([character, probability]) => {
      const percent = `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`;
      const row = html`<code aria-hidden="true">${visible(character)}</code><span class="spoken">${spoken(character)}</span><meter min="0" max="1" value=${probability} aria-hidden="true"></meter><i>${percent}</i>`;
      return pick
        ? html`<li key=${character}><button type="button" onClick=${() => pick(character)}>${row}</button></li>`
        : html`<li key=${character} class="rival">${row}</li>`;
    })}
  </ul>`;
}

/** A job that a button begins and ends; what it throws is shown, but not that it was ended. */
export function useJob(fail: (error: unknown) => void): {
  busy: boolean;
  run: (job: (signal: AbortSignal) => Promise<void>) => void;
  end: () => void;
} {
  const [busy, setBusy] = useState(false);
  const controller = useRef<AbortController | null>(null);
  useEffect(() => () => controller.current?.abort(), []);
  const end = () => controller.current?.abort();
  const run = (job: (signal: AbortSignal) => Promise<void>) => {
    end();
    const own = new AbortController();
    controller.current = own;
    setBusy(true);
    fail(undefined);
    job(own.signal)
      .catch((error: unknown) => {
        if (!own.signal.aborted) fail(error);
      })
      .finally(() => {
        if (controller.current !== own) return;
        controller.current = null;
        setBusy(false);
      });
  };
  return { busy, run, end };
}
