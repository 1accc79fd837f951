/** Parses JSON that may be hostile. Duplicate keys, __proto__ and deep nesting, which JSON.parse would quietly accept, are errors. */
import { Breather } from '../breather';

const maximumDepth = 16;
/** Values in total, without keys: twice those of the largest thing stored as JSON, a vocabulary of 65,536 symbols. */
const maximumValues = 1 << 17;
const longestScalar = 64;
/** Code units of a string or of whitespace, and values, after which the parser can pause. */
const pieceUnits = 1 << 16;
const pieceValues = 1 << 8;
const scalarToken = /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)$/;

const quote = 0x22;
const backslash = 0x5c;

function isSpace(unit: number): boolean {
  return unit === 0x20 || unit === 0x0a || unit === 0x0d || unit === 0x09;
}

/** Letters, digits and + - . : the characters of numbers and literals. NaN, for the end of the text, is not one. */
function isScalarPart(unit: number): boolean {
  return (
    (unit >= 0x30 && unit <= 0x39) ||
    (unit >= 0x61 && unit <= 0x7a) ||
    (unit >= 0x41 && unit <= 0x5a) ||
    unit === 0x2b ||
    unit === 0x2d ||
    unit === 0x2e
  );
}

function Nothing() {}
Nothing.prototype = Object.create(null);
/** Makes objects that inherit nothing. Those of Object.create(null) are hash tables, which take four times the memory and more. */
const Bare = Nothing as unknown as new () => Record<string, unknown>;

/** Its methods are generators, which yield where the parser can pause. */
class Parser {
  #at = 0;
  #values = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  *parse(): Generator<void, unknown> {
    const value = yield* this.#value(0);
    while (this.#skip()) yield;
    if (this.#at !== this.#text.length) this.#fail('text after the end');
    return value;
  }

  #fail(problem: string): never {
    throw new SyntaxError(`${problem} at character ${this.#at}`);
  }

  /** Skips whitespace, a piece of it at most; true if there may be more. */
  #skip(): boolean {
    const end = this.#at + pieceUnits;
    while (this.#at < end && isSpace(this.#text.charCodeAt(this.#at))) this.#at++;
    return this.#at === end;
  }

  /** Steps over the character if it is the next. */
  #takes(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #expect(character: string): void {
    if (!this.#takes(character)) this.#fail(`no '${character}'`);
  }

  /** A string without an escape, as nearly all are; undefined for one that has one, is long or is wrong: #string reads those. */
  #plainString(): string | undefined {
    if (this.#text.charCodeAt(this.#at) !== quote) return undefined;
    const begin = this.#at + 1;
    for (let i = begin; i - begin < pieceUnits; i++) {
      const unit = this.#text.charCodeAt(i);
      if (unit === quote) {
        this.#at = i + 1;
        return this.#text.slice(begin, i);
      }
      if (!(unit >= 0x20) || unit === backslash) return undefined;
    }
    return undefined;
  }

  *#string(): Generator<void, string> {
    if (this.#text.charCodeAt(this.#at) !== quote) this.#fail('no string');
    const begin = this.#at;
    const pieces: string[] = [];
    let from = begin + 1;
    let escaped = false;
    let plain = true; // Without an escape, it is a slice of the text, not a copy.
    let afterEscape = 0; // No piece ends within an escape.
    let rested = from;
    const take = (end: number) => {
      const raw = this.#text.slice(from, end);
      from = end;
      try {
        pieces.push(escaped ? (JSON.parse(`"${raw}"`) as string) : raw);
      } catch {
        this.#at = begin;
        this.#fail('an impossible escape in the string');
      }
      escaped = false;
    };
    for (let i = from; ; i++) {
      const unit = this.#text.charCodeAt(i);
      if (unit === quote) {
        this.#at = i + 1;
        if (plain) return this.#text.slice(begin + 1, i);
        take(i);
        this.#at = i + 1;
        return pieces.join('');
      }
      if (!(unit >= 0x20)) {
        this.#at = Math.min(i, this.#text.length);
        this.#fail(Number.isNaN(unit) ? 'a string without an end' : 'a control character in a string');
      }
      if (i - rested >= pieceUnits && i >= afterEscape) {
        rested = i;
        if (!plain) take(i);
        yield;
      }
      if (unit === backslash) {
        if (plain) take(i);
        plain = false;
        escaped = true;
        afterEscape = i + (this.#text[i + 1] === 'u' ? 6 : 2);
        i++;
      }
    }
  }

  #scalar(): unknown {
    let end = this.#at;
    while (end - this.#at <= longestScalar && isScalarPart(this.#text.charCodeAt(end))) end++;
    const token = this.#text.slice(this.#at, end);
    if (!scalarToken.test(token)) this.#fail('no value');
    this.#at = end;
    return JSON.parse(token) as unknown;
  }

  *#value(depth: number): Generator<void, unknown> {
    if (depth > maximumDepth) this.#fail('nested too deeply');
    if (++this.#values > maximumValues) this.#fail(`more than ${maximumValues} values`);
    if (this.#values % pieceValues === 0) yield;
    while (this.#skip()) yield;
    const first = this.#text[this.#at];
    if (first === '{') return yield* this.#object(depth);
    if (first === '[') return yield* this.#array(depth);
    if (first === '"') return this.#plainString() ?? (yield* this.#string());
    return this.#scalar();
  }

  *#object(depth: number): Generator<void, Record<string, unknown>> {
    const result = new Bare();
    this.#at++;
    while (this.#skip()) yield;
    if (this.#takes('}')) return result;
    do {
      while (this.#skip()) yield;
      const key = this.#plainString() ?? (yield* this.#string());
      if (key === '__proto__') this.#fail('a key named __proto__');
      if (key in result) this.#fail(`the key ${JSON.stringify(key)} stands twice`);
      while (this.#skip()) yield;
      this.#expect(':');
      result[key] = yield* this.#value(depth + 1);
      while (this.#skip()) yield;
    } while (this.#takes(','));
    this.#expect('}');
    return result;
  }

  *#array(depth: number): Generator<void, unknown[]> {
    const result: unknown[] = [];
    this.#at++;
    while (this.#skip()) yield;
    if (this.#takes(']')) return result;
    do {
      result.push(yield* this.#value(depth + 1));
      while (this.#skip()) yield;
    } while (this.#takes(','));
    this.#expect(']');
    return result;
  }
}

/** @throws SyntaxError with the position of the character where it went wrong. */
export function parseStrictJson(text: string): unknown {
  const parser = new Parser(text).parse();
  for (;;) {
    const { done, value } = parser.next();
    if (done) return value;
  }
}

/** The same, with turns of the event loop in between: a few megabytes take a tenth of a second. */
export async function parseStrictJsonInTurns(text: string): Promise<unknown> {
  const parser = new Parser(text).parse();
  const breather = new Breather();
  for (;;) {
    const { done, value } = parser.next();
    if (done) return value;
    if (breather.due()) await breather.rest();
  }
}
