/** How the exported page looks, and what it does. Its script stands below lib/browser.mts and uses its class. */

export const style = `
:root { --paper: #fffdf8; --ground: #f3efe6; --ink: #23201b; --soft: #6f685c; --line: #ddd5c5; --accent: #9a3b26; --on-accent: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #1f1e1b; --ground: #161513; --ink: #ece6da; --soft: #a39b8c; --line: #3a372f; --accent: #e08a6d; --on-accent: #1b1410; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: clamp(1rem, 4vw, 3rem) clamp(0.8rem, 4vw, 1.5rem); }
h1 { margin: 0; font: 600 clamp(1.5rem, 5vw, 2.1rem)/1.2 Georgia, "Times New Roman", serif; overflow-wrap: anywhere; }
.about { margin: 0.3rem 0 1.2rem; color: var(--soft); font-size: 0.9rem; }
.paper { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.paper:focus-within { border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent); }
textarea { display: block; width: 100%; min-height: 40vh; padding: 1.1rem 1.2rem; border: 0; outline: 0; resize: vertical;
  background: transparent; color: inherit; font: 1.06rem/1.6 Georgia, "Times New Roman", serif; }
textarea::placeholder { color: var(--soft); }
.guesses { display: flex; flex-wrap: wrap; gap: 0.4rem; align-items: center; min-height: 3.1rem; padding: 0.55rem 0.8rem; border-top: 1px solid var(--line); }
.guess { position: relative; min-width: 3.6rem; padding: 0.2rem 0.5rem; border: 1px solid var(--line); border-radius: 6px; overflow: hidden;
  background: none; color: inherit; font: 0.92rem/1.4 ui-monospace, monospace; text-align: left; cursor: pointer; }
.guess::before { content: ""; position: absolute; inset: 0 auto 0 0; width: var(--share); background: var(--accent); opacity: 0.2; }
.guess b { position: relative; } .guess span { position: relative; color: var(--soft); margin-left: 0.4rem; font-size: 0.8rem; }
.controls { display: grid; grid-template-columns: auto 1fr 8rem 8rem; gap: 0.8rem 1.2rem; align-items: end; margin-top: 1rem; }
.buttons { display: flex; gap: 0.5rem; }
button { font: inherit; cursor: pointer; }
.buttons button { min-width: 5.2rem; padding: 0.5rem 1rem; border: 1px solid var(--line); border-radius: 8px; background: var(--paper); color: inherit; }
.buttons .primary { border-color: var(--accent); background: var(--accent); color: var(--on-accent); font-weight: 600; }
button:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.field { display: block; font-size: 0.86rem; color: var(--soft); min-width: 0; }
.field span { display: flex; justify-content: space-between; margin-bottom: 0.25rem; }
.field input { display: block; width: 100%; accent-color: var(--accent); }
.field input[type="range"] { height: 2.4rem; margin: 0; }
.field input[type="number"] { height: 2.4rem; padding: 0 0.6rem; border: 1px solid var(--line); border-radius: 8px; background: var(--paper); color: var(--ink); font: inherit; }
output { color: var(--ink); font-variant-numeric: tabular-nums; }
.status { min-height: 1.5rem; margin: 0.9rem 0 0; color: var(--soft); font-size: 0.86rem; }
@media (max-width: 40rem) {
  .controls { grid-template-columns: 1fr 1fr; } .buttons, .controls .field:nth-of-type(1) { grid-column: 1 / -1; }
  .buttons button { flex: 1; } textarea { min-height: 45vh; padding: 0.9rem; }
}
`;

export const script = `
const find = (id) => document.getElementById(id);
const text = find('text'), button = find('write'), status = find('status'), guesses = find('guesses');
const encoded = find('weights').textContent, binary = atob(encoded);
const model = new CharacterModel(Uint8Array.from(binary, (symbol) => symbol.charCodeAt(0)));
find('weights').remove();

// What has been read so far: typing at the end costs one step a character, not the whole text again.
let read = { ids: [], state: model.state(), logits: undefined };
function logitsOf(value) {
  let ids = model.encode(value);
  if (ids.length === 0) ids = [model.startId];
  if (model.window) return model.read(ids);
  const known = read.logits !== undefined && read.ids.length <= ids.length && read.ids.every((id, i) => id === ids[i]);
  if (!known) read = { ids: [], state: model.state(), logits: undefined };
  for (const id of ids.slice(read.ids.length)) read.logits = model.step(id, read.state);
  read.ids = ids;
  return read.logits;
}

const temperature = () => Number(find('temperature').value);
const shown = { ' ': '␣', '\\n': '⏎', '\\t': '⇥', '\\r': '␍' };

function guess() {
  const logits = logitsOf(text.value);
  const likely = [...model.probabilities(logits, temperature() || 1e-3).entries()].sort((a, b) => b[1] - a[1]).slice(0, 6);
  guesses.replaceChildren(...likely.map(([id, share]) => {
    const symbol = model.vocabulary[id], each = document.createElement('button');
    each.type = 'button';
    each.className = 'guess';
    each.style.setProperty('--share', (share * 100).toFixed(1) + '%');
    const name = document.createElement('b'), amount = document.createElement('span');
    name.textContent = shown[symbol] ?? symbol;
    amount.textContent = share < 0.01 ? '<1 %' : Math.round(share * 100) + ' %';
    each.append(name, amount);
    each.title = 'Add this character';
    each.addEventListener('click', () => { text.value += symbol; follow(); guess(); });
    return each;
  }));
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
  const job = { seed, length, done: 0, logits: logitsOf(text.value), ids: model.encode(text.value), began: performance.now() };
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
