/** Components of the views. */
import { CharacterText } from './look.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

/** Properties that the page passes to a view. */
export interface ViewProps {
  models: { name: string; run: boolean }[];
  fail: (error: unknown) => void;
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
      ${models.map(({ name }) => html`<option key=${name} value=${name}>${name === '' ? 'no other' : name}</option>`)}
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
 * A text whose characters can be inspected.
 *
 * @param under Content of the pop-up under a character.
 * @param handle Receives the text itself, so that a character can be chosen from elsewhere.
 */
export function TextView(props: {
  label: string;
  characters: readonly string[];
  classOf?: (index: number) => string;
  under: (index: number) => Node[];
  given?: string;
  writing?: boolean;
  handle?: { current: CharacterText | null };
}) {
  const { label, characters, classOf, given, writing = false, handle } = props;
  const place = useRef<HTMLDivElement | null>(null);
  const text = useRef<CharacterText | null>(null);
  const newest = useRef(props);
  newest.current = props;
  useEffect(() => {
    const made = new CharacterText(place.current as HTMLElement, {
      label,
      under: (index) => newest.current.under(index),
    });
    text.current = made;
    if (handle) handle.current = made;
    return () => made.dispose();
  }, [label]);
  useEffect(() => {
    text.current?.show(characters, classOf, given);
    if (text.current) text.current.writing = writing;
  });
  return html`<div ref=${place}></div>`;
}

/** Shows a node made without preact, such as the parts of look.ts. */
export function Made({ make }: { make: () => Node }) {
  const place = useRef<HTMLDivElement | null>(null);
  useEffect(() => place.current?.replaceChildren(make()));
  return html`<div ref=${place}></div>`;
}

/** A job that a button starts and ends; its errors are shown, unless the job was ended. */
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
