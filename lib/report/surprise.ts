/** Texts coloured by how many bits each character cost a model, as one self-contained HTML page. */
import { escapeHtml, inlineJson, renderPage } from '../html';
import type { InspectedPiece } from '../scoring/inspect';

/** The most characters of all texts of a page: each is an element of it. */
export const mostPageCharacters = 100_000;

/** A text as a model sees it, in the form that the page holds. */
export class SurpriseText {
  readonly name: string;
  readonly ids: number[] = [];
  /** Hundredths of a bit; -1 for the first character, which has nothing before it. */
  readonly bits: number[] = [];
  /** [N, R] ids, and their probabilities in ten-thousandths. */
  readonly rivals: number[] = [];
  readonly probabilities: number[] = [];

  constructor(name: string) {
    this.name = name;
  }

  add({ ids, nats, rivals, rivalLogProbabilities }: InspectedPiece): void {
    for (const id of ids) this.ids.push(id);
    for (const each of nats) this.bits.push(Number.isNaN(each) ? -1 : Math.round((each / Math.LN2) * 100));
    for (const rival of rivals) this.rivals.push(rival);
    for (const each of rivalLogProbabilities) this.probabilities.push(Math.round(Math.exp(each) * 1e4) || 0);
  }
}

/** @param bitsPerCharacter Of each text. */
export function renderSurprise(
  model: string,
  symbols: readonly string[],
  texts: readonly { text: SurpriseText; bitsPerCharacter: number }[],
): Promise<string> {
  const title = `Surprise of ${model}`;
  const sections = texts.map(
    ({ text, bitsPerCharacter }, i) =>
      `<section><h2>${escapeHtml(text.name)}: ${bitsPerCharacter.toFixed(3)} bits per character</h2>\n` +
      `<div id="text-${i}"></div>\n<h3>The costliest places</h3>\n<div id="places-${i}"></div></section>`,
  );
  const body = `<main><h1>${escapeHtml(title)}</h1>
<p class="lead">How many bits each character cost the model, given all before it: the darker, the less it was expected. Rest on a character, tap it, or go there with the arrow keys, to see what was likelier.</p>
<div id="scale"></div>
${sections.join('\n')}
<noscript><p class="error">This page draws its texts by a script of its own, which this browser does not run.</p></noscript>
</main>`;
  const data = { symbols, texts: texts.map(({ text }) => text) };
  return renderPage({ title, body, style, data: { data: inlineJson(data) }, script });
}

const style = `
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
main h2 { margin: 2rem 0 .6rem; font-size: 1.1rem; }
.text { max-height: none; }
`;

/** Runs in the page. */
const script = `
const { symbols, texts } = JSON.parse(document.getElementById('data').textContent);
document.getElementById('scale').replaceWith(surpriseScale());
for (const [i, { name, ids, bits: hundredths, rivals, probabilities }] of texts.entries()) {
  const each = ids.length > 0 ? rivals.length / ids.length : 0;
  const characters = ids.map((id) => symbols[id]);
  const bits = hundredths.map((value) => value < 0 ? null : value / 100);
  const rivalsAt = (at) => Array.from({ length: each }, (_, r) => [symbols[rivals[at * each + r]], probabilities[at * each + r] / 1e4]);
  const text = new CharacterText(document.getElementById('text-' + i), {
    label: name, under: (at) => surpriseUnder(characters[at], bits[at], bits[at] === null ? [] : rivalsAt(at)),
  });
  text.show(characters, (at) => surpriseClass(bits[at]));
  document.getElementById('places-' + i).append(costliestList(characters, bits, (at) => text.choose(at)));
}
`;
