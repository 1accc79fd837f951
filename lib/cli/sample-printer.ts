/** Several texts that grow at once, printed one after another. */

import type { GeneratedPiece } from '../sampling/generate';

/**
 * Shows the first unfinished text as it grows; those behind it wait for their turn. Each ends with a line break, the last with
 * `end`, and a separator line stands between two, unless the separator is empty.
 */
export class TextPrinter {
  readonly #print: (text: string) => Promise<void>;
  readonly #between: string;
  readonly #end: string;
  /** What is still to be printed of each text. */
  readonly #waiting: string[];
  readonly #finished = new Set<number>();
  #showing = 0;
  /** A line of the text that is shown has begun. */
  #begun = false;

  constructor(print: (text: string) => Promise<void>, count: number, separator: string, before: string, end = '\n') {
    this.#end = end;
    this.#print = print;
    this.#between = separator === '' ? '\n' : `\n${separator}\n`;
    this.#waiting = Array.from({ length: count }, () => before);
  }

  async push({ stream, text, finished }: GeneratedPiece): Promise<void> {
    this.#waiting[stream] += text;
    if (finished) this.#finished.add(stream);
    while (this.#showing < this.#waiting.length) {
      const ready = this.#waiting[this.#showing] as string;
      this.#waiting[this.#showing] = '';
      if (ready !== '') {
        this.#begun = !ready.endsWith('\n');
        await this.#print(ready);
      }
      if (!this.#finished.has(this.#showing)) return;
      this.#showing++;
      this.#begun = false;
      await this.#print(this.#showing < this.#waiting.length ? this.#between : this.#end);
    }
  }

  /** The generation was given up: ends the line that it stopped in. */
  async interrupt(): Promise<void> {
    if (this.#begun) await this.#print('\n');
  }
}
