/** Prints several texts that grow at once, one after another. */

import type { GeneratedPiece } from '../sampling/generate';

/**
 * Shows the first unfinished text as it grows; those after it wait their turn. Each ends with a line break, the last with
 * `end`, and a separator line comes between texts unless the separator is empty.
 */
export class TextPrinter {
  readonly #print: (text: string) => Promise<void>;
  readonly #between: string;
  readonly #end: string;
  /** The part of each text that is still to be printed. */
  readonly #waiting: string[];
  readonly #finished = new Set<number>();
  #showing = 0;
  /** Whether the text being shown is in the middle of a line. */
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

  /** Ends the line in which the generation was given up. */
  async interrupt(): Promise<void> {
    if (this.#begun) await this.#print('\n');
  }
}
