/** Protocol Buffers' wire format, as far as messages of numbers, texts and messages need it. */

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  if (rest < 0n) rest += 1n << 64n;
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 128 : low);
  } while (rest > 0n);
  return Buffer.from(bytes);
}

/** A message being written, field by field. */
export class Message {
  readonly #parts: Uint8Array[] = [];

  /** A whole number, of any of the integer types but the zigzag ones. */
  int(field: number, value: number): this {
    this.#parts.push(varint(field * 8), varint(value));
    return this;
  }

  float(field: number, value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    this.#parts.push(varint(field * 8 + 5), bytes);
    return this;
  }

  /** Text, bytes, or a message. */
  bytes(field: number, value: string | Uint8Array | Message): this {
    const pieces = value instanceof Message ? value.#parts : [typeof value === 'string' ? Buffer.from(value) : value];
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#parts.push(varint(field * 8 + 2), varint(length), ...pieces);
    return this;
  }

  /** The encoded message, in pieces. */
  get parts(): readonly Uint8Array[] {
    return this.#parts;
  }
}
