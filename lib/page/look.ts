/**
 * The parts that the page, the reports and the exported page share. Imports nothing, so that a single file can hold it: the page loads it
 * as a module, the others inline it (lib/html.ts). Their shared style rules are in base.css.
 */

/** The likeliest characters at a place, with their probabilities, in descending order. */
export type Rivals = readonly (readonly [character: string, probability: number])[];

/** A character in visible form. */
export function visible(character: string): string {
  const named = { '\n': '↵', ' ': '␣', '\t': '⇥', '\r': '␍' }[character];
  if (named !== undefined) return named;
  if (/^\p{M}/u.test(character)) return `◌${character}`;
  return /^[\p{C}\p{Z}]/u.test(character) ? codePoint(character) : character;
}

/** A character's name for screen readers. */
export function spoken(character: string): string {
  const named = { '\n': 'line break', ' ': 'space', '\t': 'tab', '\r': 'carriage return' }[character];
  return named ?? (/^[\p{C}\p{Z}\p{M}]/u.test(character) ? codePoint(character) : character);
}

function codePoint(character: string): string {
  return `U+${(character.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, '0')}`;
}

/** Formats a probability. */
export function percent(probability: number): string {
  if (probability < 0.0005) return '<0.1 %';
  return `${(100 * probability).toFixed(probability < 0.0995 ? 1 : 0)} %`;
}

/** The CSS class for bits of surprise: s0, as expected, to s9, eight bits or more. */
export function surpriseClass(bits: number | null): string {
  return `s${bits === null ? 0 : Math.max(0, Math.min(9, Math.floor((bits * 9) / 8)))}`;
}

/** The CSS class for a cell's value, -1 to 1: n4 to n1, none, p1 to p4. */
export function cellClass(value: number): string {
  const strength = Math.min(4, Math.round(Math.abs(value) * 4));
  return strength === 0 ? '' : `${value < 0 ? 'n' : 'p'}${strength}`;
}

/** The current value of one of the page's colours, which differ between light and dark. */
export function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A number in a chart, as short as possible. */
export function figure(value: number): string {
  const tiny = value !== 0 && Math.abs(value) < 1e-4;
  return tiny ? value.toExponential(1) : value.toLocaleString('en', { maximumSignificantDigits: 4 });
}

/** The style of a uPlot axis. */
export function axisLook() {
  return {
    stroke: color('--soft'),
    grid: { stroke: color('--line'), width: 1 },
    ticks: { show: false },
    values: (_: unknown, splits: (number | null)[]) => splits.map((value) => (value === null ? '' : figure(value))),
  };
}

/** Creates an element with a class and content. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className !== '') made.className = className;
  made.append(...children);
  return made;
}

/** The likeliest characters at a place; with `pick`, each is a button. `real`: the character actually there. */
export function rivalList(rivals: Rivals, pick?: (character: string) => void, real?: string): HTMLUListElement {
  const list = element('ul', 'rivals');
  for (const [character, probability] of rivals) {
    const row = element(pick ? 'button' : 'div', character === real ? 'rival real' : 'rival');
    if (row instanceof HTMLButtonElement) {
      row.type = 'button';
      row.addEventListener('click', () => pick?.(character));
    }
    // Set as a property, because the page's policy forbids style attributes.
    row.style.setProperty('--share', `${(100 * probability).toFixed(1)}%`);
    const shown = element('code', '', visible(character));
    shown.ariaHidden = 'true';
    row.append(shown, element('span', 'spoken', spoken(character)), element('i', '', percent(probability)));
    list.append(element('li', '', row));
  }
  return list;
}

/** The places where a text cost most bits, costliest first, each with its surroundings. */
export function costliestList(
  characters: readonly string[],
  bits: readonly (number | null)[],
  choose: (index: number) => void,
): HTMLOListElement {
  const order = [...bits.keys()].filter((i) => bits[i] !== null);
  order.sort((a, b) => (bits[b] as number) - (bits[a] as number) || a - b);
  const between = (from: number, to: number) => characters.slice(Math.max(0, from), to).map(visible).join('');
  const list = element('ol', 'places');
  for (const i of order.slice(0, 8)) {
    const button = element('button', '', between(i - 18, i), element('code', '', visible(characters[i] as string)));
    button.type = 'button';
    button.append(between(i + 1, i + 8), ' ', element('small', '', `${(bits[i] as number).toFixed(2)} bits`));
    button.addEventListener('click', () => choose(i));
    list.append(element('li', '', button));
  }
  return list;
}

/** The legend for the colours of surprise. */
export function surpriseScale(): HTMLDivElement {
  const swatches = Array.from({ length: 10 }, (_, i) => element('span', `s${i}`));
  return element(
    'div',
    'scale',
    element('small', '', 'as expected'),
    ...swatches,
    element('small', '', '8 bits or more'),
  );
}

/** The details of a character that was read: its bits, and what was likelier. */
export function surpriseUnder(character: string, bits: number | null, rivals: Rivals): Node[] {
  if (bits === null) return [element('p', '', 'Nothing comes before the first character, so it is not counted.')];
  const said = element('p', '', element('b', '', `${bits.toFixed(2)} bits`));
  return rivals.length === 0 ? [said] : [said, rivalList(rivals, undefined, character)];
}

/** Options of a {@link CharacterText}. */
export interface CharacterTextOptions {
  /** The text's description for screen readers. */
  label: string;
  /** The pop-up's content under a character; none if there is nothing to say. */
  under: (index: number) => Node[];
}

/** Milliseconds that the mouse must rest on a character before something pops up. */
const rest = 90;

/**
 * A text whose characters can be inspected: details pop up under a character while the mouse rests on it, or stay once it is clicked,
 * tapped or chosen with the arrow keys. Tab moves on to the pop-up, and so does Enter; Escape moves back.
 */
export class CharacterText {
  readonly #options: CharacterTextOptions;
  readonly #text = element('div', 'text');
  readonly #pop = element('div', 'pop');
  readonly #observer = new ResizeObserver(() => this.#place());
  #given: HTMLSpanElement | undefined;
  #spans: HTMLSpanElement[] = [];
  #characters: readonly string[] = [];
  #chosen: number | undefined;
  #hovered: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #elsewhere = (event: Event) => {
    if (this.#chosen !== undefined && !this.#text.parentElement?.contains(event.target as Node)) this.choose(undefined);
  };

  constructor(parent: HTMLElement, options: CharacterTextOptions) {
    this.#options = options;
    const text = this.#text;
    text.tabIndex = 0;
    text.role = 'group';
    text.ariaLabel = `${options.label}. Arrow keys go from character to character.`;
    this.#pop.hidden = true;
    this.#pop.ariaLive = 'polite';
    const both = element('div', 'characters', text, this.#pop);
    parent.replaceChildren(both);
    text.addEventListener('keydown', (event) => this.#onKey(event));
    text.addEventListener('click', (event) => {
      const index = this.#indexOf(event.target);
      if (index !== undefined) this.choose(index === this.#chosen ? undefined : index);
    });
    text.addEventListener('pointerover', (event) => {
      if (event.pointerType === 'mouse') this.#hoverSoon(this.#indexOf(event.target));
    });
    // The mouse may rest on the pop-up for as long as it likes.
    this.#pop.addEventListener('pointerenter', () => clearTimeout(this.#timer));
    both.addEventListener('pointerleave', () => this.#hoverSoon(undefined));
    this.#pop.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      this.choose(undefined);
      text.focus();
    });
    text.addEventListener('scroll', () => this.#place());
    document.addEventListener('pointerdown', this.#elsewhere);
    this.#observer.observe(text);
  }

  /** Index of the chosen character. */
  get chosen(): number | undefined {
    return this.#chosen;
  }

  /** Removes timers and listeners; call it when the parent element goes away. */
  dispose(): void {
    clearTimeout(this.#timer);
    this.#observer.disconnect();
    document.removeEventListener('pointerdown', this.#elsewhere);
  }

  /** Shows a text, keeping the part that is already shown. `given` precedes it and cannot be chosen. */
  show(characters: readonly string[], classOf: (index: number) => string = () => '', given = ''): void {
    if (given !== '' || this.#given) {
      this.#given ??= this.#text.insertBefore(element('span', 'given'), this.#text.firstChild);
      this.#given.textContent = given;
    }
    for (const left of this.#spans.splice(characters.length)) left.remove();
    const added = document.createDocumentFragment();
    for (const [i, character] of characters.entries()) {
      let span = this.#spans[i];
      if (!span) {
        span = element('span');
        span.dataset.i = String(i);
        this.#spans.push(span);
        added.append(span);
      }
      if (this.#characters[i] !== character || span.textContent === '') {
        span.textContent =
          character === '\n' ? '↵\n' : /^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(character) ? visible(character) : character;
      }
      const classes = `${character === '\n' ? 'break ' : ''}${classOf(i)}`.trim();
      if (i !== this.#chosen && span.className !== classes) span.className = classes;
    }
    this.#text.append(added);
    this.#characters = characters;
    if (this.#chosen !== undefined && this.#chosen >= characters.length) this.choose(undefined);
    if (this.#hovered !== undefined && this.#hovered >= characters.length) this.#hovered = undefined;
    this.#place();
  }

  /** Whether more text is being written at the end. */
  set writing(writing: boolean) {
    this.#text.classList.toggle('writing', writing);
  }

  /** Chooses a character, so that its pop-up stays. */
  choose(index: number | undefined): void {
    this.#spans[this.#chosen ?? -1]?.classList.remove('chosen');
    this.#chosen = index;
    clearTimeout(this.#timer);
    this.#hovered = undefined;
    const span = this.#spans[index ?? -1];
    if (span) {
      span.classList.add('chosen');
      this.#intoView(span);
    }
    this.#fill();
    if (span && !this.#pop.hidden) this.#pop.scrollIntoView({ block: 'nearest' });
  }

  focus(): void {
    this.#text.focus({ preventScroll: true });
  }

  /** Updates the pop-up when its content has changed. */
  refresh(): void {
    this.#fill();
  }

  #indexOf(target: EventTarget | null): number | undefined {
    const index = target instanceof HTMLElement ? target.dataset.i : undefined;
    return index === undefined ? undefined : Number(index);
  }

  /** Scrolls only the text, and only as far as needed. */
  #intoView(span: HTMLElement): void {
    const text = this.#text;
    const [top, bottom] = [span.offsetTop - text.offsetTop, span.offsetTop - text.offsetTop + span.offsetHeight];
    if (top < text.scrollTop) text.scrollTop = top - 8;
    else if (bottom > text.scrollTop + text.clientHeight) text.scrollTop = bottom - text.clientHeight + 8;
  }

  #hoverSoon(index: number | undefined): void {
    clearTimeout(this.#timer);
    if (this.#chosen !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#hovered = index;
      this.#fill();
    }, rest);
  }

  #onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || this.#spans.length === 0) return;
    const at = this.#chosen ?? -1;
    const last = this.#spans.length - 1;
    const to = {
      ArrowRight: () => Math.min(last, at + 1),
      ArrowLeft: () => Math.max(0, at - 1),
      ArrowDown: () => this.#lineFrom(at, 1),
      ArrowUp: () => this.#lineFrom(at, -1),
      Home: () => 0,
      End: () => last,
    }[event.key];
    if (to) this.choose(to());
    else if (event.key === 'Escape') this.choose(undefined);
    else if (event.key === 'Enter' || event.key === ' ') this.#pop.querySelector('button')?.focus();
    else return;
    event.preventDefault();
  }

  /** The character in the next line, or in the previous one, that is nearest to the one at `at`. */
  #lineFrom(at: number, step: 1 | -1): number {
    const spans = this.#spans;
    const from = spans[at];
    if (!from) return 0;
    let i = at + step;
    while (spans[i]?.offsetTop === from.offsetTop) i += step;
    const line = spans[i]?.offsetTop;
    let best = line === undefined ? at : i;
    const away = (index: number) => Math.abs((spans[index] as HTMLElement).offsetLeft - from.offsetLeft);
    for (; line !== undefined && spans[i]?.offsetTop === line; i += step) if (away(i) < away(best)) best = i;
    return best;
  }

  #fill(): void {
    const index = this.#chosen ?? this.#hovered;
    const content = index === undefined ? [] : this.#options.under(index);
    this.#pop.hidden = content.length === 0;
    this.#pop.replaceChildren(...content);
    this.#place();
  }

  /** Places the pop-up under its character, within the text's width; hidden while the character is out of sight. */
  #place(): void {
    const span = this.#spans[this.#chosen ?? this.#hovered ?? -1];
    if (!span || this.#pop.hidden) return;
    const text = this.#text.getBoundingClientRect();
    const own = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const width = this.#pop.offsetWidth;
    const left = Math.max(0, Math.min(text.width - width, own.left + own.width / 2 - text.left - width / 2));
    this.#pop.style.setProperty('left', `${left}px`);
    this.#pop.style.setProperty('top', `${own.bottom - text.top}px`);
    this.#pop.style.setProperty(
      'visibility',
      own.bottom > text.bottom + 1 || own.top < text.top - 1 ? 'hidden' : 'visible',
    );
  }
}
