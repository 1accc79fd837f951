/** Guesses which option, key or command was probably meant. */
import { UsageError } from './errors';
import { harmless } from './harmless';

/**
 * The candidate that `word` probably stands for; undefined if none is likely. Tried in this order: the same apart from case, `_`
 * and camelCase; one that begins with the word; what other tools call it (`synonyms`, in kebab-case, each with the candidates it
 * may mean, likeliest first); a spelling at most a third of the length away.
 */
export function nearest(
  word: string,
  candidates: readonly string[],
  synonyms: Readonly<Record<string, readonly string[]>> = {},
): string | undefined {
  const asked = plain(word);
  const names = candidates.map((candidate) => ({ candidate, name: plain(candidate) }));
  const same = names.find(({ name }) => name === asked);
  if (same) return same.candidate;
  // One letter begins too many names to tell which was meant.
  const longer = asked.length < 2 ? [] : names.filter(({ name }) => name.startsWith(asked));
  if (longer.length > 0) return longer.reduce((a, b) => (b.name.length < a.name.length ? b : a)).candidate;
  const meant = Object.hasOwn(synonyms, asked) ? (synonyms[asked] as readonly string[]) : [];
  for (const meaning of meant) {
    const found = names.find(({ name }) => name === meaning);
    if (found) return found.candidate;
  }
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const { candidate, name } of names) {
    const distance = levenshtein(asked, name);
    if (distance > Math.max(asked.length, name.length) / 3 || distance >= bestDistance) continue;
    best = candidate;
    bestDistance = distance;
  }
  return best;
}

/** `--batch_size`, `batchSize` and `CUDNN_LSTM_BATCH_SIZE` in one spelling. */
function plain(name: string): string {
  const bare = name.replace(/^-+/, '');
  const kebab = /[a-z]/.test(bare) ? bare.replace(/(?<=[a-z\d])[A-Z]/g, (letter) => `-${letter}`) : bare;
  return kebab.replaceAll('_', '-').toLowerCase();
}

/** What the options of training, sampling and scoring are called in char-rnn, torch-rnn, textgenrnn, Keras and PyTorch scripts. */
export const optionSynonyms: Readonly<Record<string, readonly string[]>> = {
  lr: ['learning-rate'],
  alpha: ['learning-rate'],
  'rnn-size': ['hidden'],
  size: ['hidden'],
  units: ['hidden'],
  'num-units': ['hidden'],
  'n-units': ['hidden'],
  'hidden-size': ['hidden'],
  'hidden-dim': ['hidden'],
  nhid: ['hidden'],
  'num-layers': ['layers'],
  'n-layers': ['layers'],
  nlayers: ['layers'],
  'num-epochs': ['epochs'],
  'max-epochs': ['epochs'],
  'n-epochs': ['epochs'],
  nepochs: ['epochs'],
  'seq-len': ['seq-length', 'window'],
  'sequence-length': ['seq-length', 'window'],
  bptt: ['seq-length'],
  maxlen: ['seq-length', 'length'],
  'max-length': ['length', 'seq-length'],
  'wordvec-size': ['embedding-size'],
  'embedding-dim': ['embedding-size'],
  emsize: ['embedding-size'],
  'drop-prob': ['dropout'],
  'grad-clip': ['clip'],
  'clip-norm': ['clip'],
  clipnorm: ['clip'],
  'max-norm': ['clip'],
  'lr-decay': ['decay-factor'],
  'lr-decay-every': ['decay-every'],
  'lr-decay-factor': ['decay-factor'],
  'decay-rate': ['decay-factor'],
  'val-frac': ['validation'],
  'val-split': ['validation'],
  'test-split': ['validation'],
  'eval-val-every': ['validation-every'],
  'eval-every': ['validation-every'],
  'eval-interval': ['validation-every'],
  'checkpoint-every': ['save-every'],
  'early-stopping': ['patience'],
  'init-from': ['from', 'resume'],
  'train-from': ['from', 'resume'],
  'start-from': ['from', 'resume'],
  'load-weights': ['from', 'resume'],
  'fine-tune': ['from', 'resume'],
  continue: ['resume'],
  restore: ['resume'],
  savedir: ['out'],
  'save-dir': ['out'],
  'checkpoint-dir': ['out'],
  outdir: ['out'],
  output: ['out'],
  'output-dir': ['out'],
  savefile: ['checkpoint-name'],
  gpu: ['device'],
  gpuid: ['device'],
  'gpu-id': ['device'],
  cuda: ['device'],
  cpu: ['device'],
  backend: ['device'],
  'no-cuda': ['device'],
  fp16: ['precision'],
  half: ['precision'],
  text: ['corpus'],
  texts: ['corpus'],
  data: ['corpus'],
  dataset: ['corpus'],
  files: ['corpus'],
  jobs: ['threads'],
  'num-threads': ['threads'],
  temp: ['temperature', 'sample-temperature'],
  temperature: ['sample-temperature'],
  primetext: ['prompt'],
  prime: ['prompt'],
  'prime-text': ['prompt'],
  'start-text': ['prompt'],
  'seed-text': ['prompt'],
  start: ['prompt'],
  prefix: ['prompt'],
  'prime-file': ['prompt-file'],
  'start-file': ['prompt-file'],
  n: ['count'],
  'num-samples': ['count'],
  'n-samples': ['count'],
  'num-chars': ['length'],
  'n-chars': ['length'],
  'max-tokens': ['length'],
  'max-new-tokens': ['length'],
  'n-predict': ['length'],
  argmax: ['greedy'],
  'random-seed': ['seed'],
  'manual-seed': ['seed'],
  nucleus: ['top-p'],
  'repeat-penalty': ['repetition-penalty'],
  'stop-at': ['stop'],
  'end-text': ['stop'],
};

/** What the commands are called elsewhere. */
export const commandSynonyms: Readonly<Record<string, readonly string[]>> = {
  fit: ['train'],
  resume: ['train'],
  continue: ['train'],
  learn: ['train'],
  'fine-tune': ['train'],
  finetune: ['train'],
  generate: ['sample'],
  gen: ['sample'],
  inference: ['sample'],
  predict: ['sample'],
  write: ['sample'],
  eval: ['score'],
  evaluate: ['score'],
  perplexity: ['score'],
  test: ['score'],
  validate: ['score'],
  inspect: ['info'],
  show: ['info'],
  describe: ['info'],
  devices: ['info'],
  convert: ['import', 'export'],
  'load-model': ['import'],
  compile: ['build'],
  rebuild: ['build'],
};

/** Insertions, deletions and replacements of code units that turn `a` into `b` (Levenshtein 1966; Wagner and Fischer 1974). */
export function levenshtein(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, (previous[j] as number) + 1, (row[j - 1] as number) + 1));
    }
    previous = row;
  }
  return previous[b.length] as number;
}

/**
 * Refuses keys that would otherwise be silently ignored.
 *
 * @throws UsageError on one of `given` that is not among `known`, naming the one that was probably meant.
 */
export function checkKeys(given: readonly string[], known: readonly string[], call: string): void {
  const unknown = given.find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const near = nearest(unknown, known, optionSynonyms);
  throw new UsageError(
    `Unknown option '${harmless(unknown)}' of ${call}${near === undefined ? '.' : `; did you mean '${near}'?`}`,
  );
}
