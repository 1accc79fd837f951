/** The parts of the exported page that are its own: its script uses those that all pages share and the class of lib/browser.mts. */
import { escapeHtml } from '../html';

export const style = `
main { max-width: 48rem; margin: 0 auto; padding: clamp(1rem, 4vw, 3rem) clamp(.8rem, 4vw, 1.5rem); }
textarea { min-height: 42vh; background: var(--card); border-color: transparent; border-radius: .6rem; padding: .9rem 1.1rem; line-height: 1.75; }
#guesses { min-height: 2.2rem; margin: .7rem 0; }
.fields { align-items: end; }
.row .main { min-width: 6rem; }
.status { min-height: 1.5rem; margin: 0; color: var(--soft); font-size: .875rem; }
`;

export function body(title: string, about: string): string {
  return `<main>
<h1>${escapeHtml(title)}</h1>
<p class="lead">${escapeHtml(about)}</p>
<textarea id="text" rows="14" spellcheck="false" autocapitalize="off" aria-label="Text" placeholder="Type the beginning of a text, or press Write."></textarea>
<div id="guesses" aria-label="Likeliest next characters" role="group"></div>
<div class="fields">
<div class="field"><label for="temperature">Temperature <output id="temperature-value"></output></label><input id="temperature" type="range" min="0" max="1.5" step="0.05" value="0.8"></div>
<div class="field"><label for="seed">Seed</label><input id="seed" type="number" min="0" step="1" inputmode="numeric" placeholder="random"></div>
<div class="field"><label for="length">Characters</label><input id="length" type="number" min="1" max="100000" step="1" value="500" inputmode="numeric"></div>
</div>
<div class="row"><button id="write" class="main" type="button">Write</button><button id="clear" type="button">Clear</button></div>
<p id="status" class="status" role="status"></p>
</main>`;
}

export const script = `
const find = (id) => document.getElementById(id);
const text = find('text'), button = find('write'), status = find('status'), guesses = find('guesses');
const encoded = find('weights').textContent, binary = atob(encoded);
const model = new CharacterModel(Uint8Array.from(binary, (symbol) => symbol.charCodeAt(0)));
find('weights').remove();

// What has been read so far: typing at the end costs one step a character, not the whole text again.
let read = { ids: [], state: model.state(), logits: undefined };
function logitsOf(value) {
  let ids = model.begin(model.encode(value));
  if (model.window) return model.read(ids);
  const known = read.logits !== undefined && read.ids.length <= ids.length && read.ids.every((id, i) => id === ids[i]);
  if (!known) read = { ids: [], state: model.state(), logits: undefined };
  for (const id of ids.slice(read.ids.length)) read.logits = model.step(id, read.state);
  read.ids = ids;
  return read.logits;
}

const temperature = () => Number(find('temperature').value);

function guess() {
  const logits = logitsOf(text.value);
  const likely = [...model.probabilities(logits, temperature() || 1e-3).entries()].sort((a, b) => b[1] - a[1]).slice(0, 6);
  const list = rivalList(likely.map(([id, share]) => [model.vocabulary[id], share]), (symbol) => { text.value += symbol; follow(); guess(); });
  list.classList.add('across');
  guesses.replaceChildren(list);
}

function follow() { text.scrollTop = text.scrollHeight; }

let running;
function stop(message) {
  running = undefined;
  button.textContent = 'Write';
  text.readOnly = false;
  status.textContent = message;
  guess();
}

function start() {
  const typed = find('seed').value;
  const seed = typed === '' ? Math.floor(Math.random() * 2 ** 32) : Math.max(0, Math.floor(Number(typed)));
  const length = Math.min(100000, Math.max(1, Math.floor(Number(find('length').value)) || 500));
  const job = { seed, length, done: 0, logits: logitsOf(text.value), ids: model.begin(model.encode(text.value)), began: performance.now() };
  running = job;
  button.textContent = 'Stop';
  text.readOnly = true;
  const frame = () => {
    if (running !== job) return;
    const until = performance.now() + 12;
    let added = '';
    do {
      const id = model.draw(job.logits, temperature(), job.seed, job.done++);
      added += model.vocabulary[id];
      job.ids.push(id);
      if (model.window) job.logits = model.read(job.ids);
      else { job.logits = model.step(id, read.state); read.ids.push(id); read.logits = job.logits; }
    } while (job.done < job.length && performance.now() < until);
    text.value += added;
    follow();
    const seconds = (performance.now() - job.began) / 1000;
    const line = job.done + ' characters, seed ' + job.seed + ', ' + Math.round(job.done / seconds) + ' a second';
    if (job.done >= job.length) stop(line);
    else { status.textContent = line; requestAnimationFrame(frame); }
  };
  requestAnimationFrame(frame);
}

button.addEventListener('click', () => (running ? stop(status.textContent) : start()));
find('clear').addEventListener('click', () => { text.value = ''; stop(''); text.focus(); });
text.addEventListener('input', guess);
find('temperature').addEventListener('input', () => { find('temperature-value').textContent = temperature().toFixed(2); if (!running) guess(); });
find('temperature-value').textContent = temperature().toFixed(2);
guess();
`;
