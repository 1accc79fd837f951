/** JSON that may be hostile: no duplicate keys, no __proto__, no deep nesting. What JSON.parse would quietly accept is an error here. */

const maximumDepth = 16;
/** Values and keys in all. A vocabulary of 65,536 symbols is the largest thing that is kept as JSON. */
const maximumValues = 1 << 18;
const longestScalar = 64;
const scalarToken = /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)$/;

const quote = 0x22;
const backslash = 0x5c;

function isSpace(unit: number): boolean {
  return unit === 0x20 || unit === 0x0a || unit === 0x0d || unit === 0x09;
}

/** Letters, digits and + - . : what numbers and literals are made of. NaN, for the end of the text, is none. */
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

class Parser {
  #at = 0;
  #values = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): unknown {
    const value = this.#value(0);
    this.#skip();
    if (this.#at !== this.#text.length) this.#fail('text after the end');
    return value;
  }

  #fail(problem: string): never {
    throw new SyntaxError(`${problem} at character ${this.#at}`);
  }

  #skip(): void {
    while (isSpace(this.#text.charCodeAt(this.#at))) this.#at++;
  }

  #expect(character: string): void {
    this.#skip();
    if (this.#text[this.#at] !== character) this.#fail(`no '${character}'`);
    this.#at++;
  }

  #count(): void {
    if (++this.#values > maximumValues) this.#fail(`more than ${maximumValues} values`);
  }

  #string(): string {
    if (this.#text.charCodeAt(this.#at) !== quote) this.#fail('no string');
    const begin = this.#at;
    let escaped = false;
    for (let i = begin + 1; ; i++) {
      const unit = this.#text.charCodeAt(i);
      if (unit === quote) {
        this.#at = i + 1;
        break;
      }
      if (unit === backslash) {
        escaped = true;
        i++;
      } else if (!(unit >= 0x20)) {
        this.#at = Math.min(i, this.#text.length);
        this.#fail(Number.isNaN(unit) ? 'a string without an end' : 'a control character in a string');
      }
    }
    if (!escaped) return this.#text.slice(begin + 1, this.#at - 1);
    try {
      return JSON.parse(this.#text.slice(begin, this.#at)) as string;
    } catch {
      this.#at = begin;
      return this.#fail('an impossible escape in the string');
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

  #value(depth: number): unknown {
    if (depth > maximumDepth) this.#fail('nested too deeply');
    this.#count();
    this.#skip();
    const first = this.#text[this.#at];
    if (first === '{') return this.#object(depth);
    if (first === '[') return this.#array(depth);
    if (first === '"') return this.#string();
    return this.#scalar();
  }

  /** What follows an item: true if there is another. */
  #more(close: string): boolean {
    this.#skip();
    if (this.#text[this.#at] !== ',') this.#expect(close);
    else this.#at++;
    return this.#text[this.#at - 1] === ',';
  }

  #isEmpty(close: string): boolean {
    this.#at++;
    this.#skip();
    if (this.#text[this.#at] !== close) return false;
    this.#at++;
    return true;
  }

  #object(depth: number): Record<string, unknown> {
    const result: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    if (this.#isEmpty('}')) return result;
    do {
      this.#skip();
      const key = this.#string();
      if (key === '__proto__') this.#fail('a key named __proto__');
      if (key in result) this.#fail(`the key ${JSON.stringify(key)} stands twice`);
      this.#expect(':');
      result[key] = this.#value(depth + 1);
    } while (this.#more('}'));
    return result;
  }

  #array(depth: number): unknown[] {
    const result: unknown[] = [];
    if (this.#isEmpty(']')) return result;
    do result.push(this.#value(depth + 1));
    while (this.#more(']'));
    return result;
  }
}

/** @throws SyntaxError with the character where it went wrong. */
export function parseStrictJson(text: string): unknown {
  return new Parser(text).parse();
}
