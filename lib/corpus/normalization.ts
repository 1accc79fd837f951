/** What is done to a text before it becomes symbols. Stored in every checkpoint, so that prompts get the same. */
export interface Normalization {
  /** Each code point lower-cased by itself, so that the result does not depend on its neighbours (no final-sigma rule). */
  lowercase: boolean;
}

function lowerCodePoints(text: string): string {
  const lower = text.toLowerCase();
  // The only context rule of JavaScript's lower-casing is the Greek final sigma.
  return text.includes('Σ') ? Array.from(text, (symbol) => symbol.toLowerCase()).join('') : lower;
}

/** Drops byte order marks at the beginning, turns CRLF and CR into LF, lower-cases if asked. Idempotent. */
export function normalizeText(text: string, normalization: Normalization): string {
  let out = text.startsWith('\uFEFF') ? text.replace(/^\uFEFF+/, '') : text;
  if (out.includes('\r')) out = out.replace(/\r\n?/g, '\n');
  return normalization.lowercase ? lowerCodePoints(out) : out;
}

/**
 * The same for a text that comes in pieces: a CR at the end of one piece and a surrogate pair across a border are held back
 * until the next.
 */
export class StreamNormalizer {
  private held = '';
  private started = false;

  constructor(private readonly normalization: Normalization) {}

  push(piece: string): string {
    let text = this.held + piece;
    this.held = '';
    if (text === '') return '';
    if (!this.started) {
      text = text.replace(/^\uFEFF+/, '');
      if (text === '') return '';
      this.started = true;
    }
    const last = text.charCodeAt(text.length - 1);
    if (last === 0x0d || (last >= 0xd800 && last <= 0xdbff)) {
      this.held = text.slice(-1);
      text = text.slice(0, -1);
    }
    return this.rest(text);
  }

  end(): string {
    const text = this.held;
    this.held = '';
    return this.rest(text);
  }

  private rest(text: string): string {
    const lines = text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text;
    return this.normalization.lowercase ? lowerCodePoints(lines) : lines;
  }
}
