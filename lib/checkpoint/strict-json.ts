/** JSON from a stranger: no duplicate keys, no __proto__, no deep nesting. What JSON.parse would quietly accept is an error here. */

const maximumDepth = 16;
const stringToken = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const scalarToken = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const space = /[ \t\n\r]*/y;

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  parse(): unknown {
    const value = this.value(0);
    this.skip();
    if (this.at !== this.text.length) this.fail('text after the end');
    return value;
  }

  private fail(problem: string): never {
    throw new SyntaxError(`${problem} at character ${this.at}`);
  }

  private skip(): void {
    space.lastIndex = this.at;
    space.test(this.text);
    this.at = space.lastIndex;
  }

  private take(token: RegExp): string | undefined {
    token.lastIndex = this.at;
    const match = token.exec(this.text);
    if (match === null) return undefined;
    this.at = token.lastIndex;
    return match[0];
  }

  private expect(character: string): void {
    this.skip();
    if (this.text[this.at] !== character) this.fail(`no '${character}'`);
    this.at++;
  }

  private string(): string {
    const token = this.take(stringToken);
    if (token === undefined) this.fail('no string');
    return JSON.parse(token) as string;
  }

  private value(depth: number): unknown {
    if (depth > maximumDepth) this.fail('nested too deeply');
    this.skip();
    const first = this.text[this.at];
    if (first === '{') return this.object(depth);
    if (first === '[') return this.array(depth);
    if (first === '"') return this.string();
    const token = this.take(scalarToken);
    if (token === undefined) this.fail('no value');
    return JSON.parse(token) as unknown;
  }

  private object(depth: number): Record<string, unknown> {
    const result: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    this.at++;
    this.skip();
    if (this.text[this.at] === '}') {
      this.at++;
      return result;
    }
    for (;;) {
      this.skip();
      const key = this.string();
      if (key === '__proto__') this.fail('a key named __proto__');
      if (key in result) this.fail(`the key ${JSON.stringify(key)} stands twice`);
      this.expect(':');
      result[key] = this.value(depth + 1);
      this.skip();
      if (this.text[this.at] === ',') {
        this.at++;
        continue;
      }
      this.expect('}');
      return result;
    }
  }

  private array(depth: number): unknown[] {
    const result: unknown[] = [];
    this.at++;
    this.skip();
    if (this.text[this.at] === ']') {
      this.at++;
      return result;
    }
    for (;;) {
      result.push(this.value(depth + 1));
      this.skip();
      if (this.text[this.at] === ',') {
        this.at++;
        continue;
      }
      this.expect(']');
      return result;
    }
  }
}

/** @throws SyntaxError with the character where it went wrong. */
export function parseStrictJson(text: string): unknown {
  return new Parser(text).parse();
}
