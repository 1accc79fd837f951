/** Progress of a long scoring on stderr: one line, overwritten, on a terminal; a new line every ten seconds elsewhere. */

import { formatDuration } from '../training/duration';
import { columnsOf, fitParts, wholeNumber } from './layout';
import { pass } from './output';

/** Reports on work counted in characters. */
export class ScoringProgress {
  readonly #stderr: NodeJS.WritableStream;
  readonly #terminal: boolean;
  readonly #started = performance.now();
  #reported: number;
  #open = false;

  constructor(stderr: NodeJS.WritableStream) {
    this.#stderr = stderr;
    this.#terminal = (stderr as NodeJS.WriteStream).isTTY === true;
    this.#reported = this.#started;
  }

  /** Reports that `done` of `total` characters are scored. Short work is done before anything is printed. */
  update(done: number, total: number): void {
    const now = performance.now();
    if (now - this.#reported < (this.#terminal ? 200 : 10_000)) return;
    this.#reported = now;
    const perSecond = done / ((now - this.#started) / 1000);
    const left = Math.ceil((total - done) / perSecond);
    const width = columnsOf(this.#stderr);
    const line = fitParts(
      [
        { text: `scored ${((100 * done) / total).toFixed(0)} %`, rank: 0 },
        { text: `ETA ${formatDuration(left)}`, rank: 1 },
        { text: `${wholeNumber(perSecond)} chars/s`, rank: 2 },
        { text: `${wholeNumber(done)} of ${wholeNumber(total)} characters`, rank: 3 },
      ],
      width && width - 1,
    );
    pass(this.#stderr, this.#terminal ? `\r${line}\u001b[K` : `${line}\n`);
    this.#open = this.#terminal;
  }

  /** Clears the line on a terminal. */
  clear(): void {
    if (this.#open) pass(this.#stderr, '\r\u001b[K');
    this.#open = false;
  }
}
