/**
 * Everything that the commands print goes through here, so that nothing that came from a file, a name or an argument can control a
 * terminal or break a line in two.
 */
import { fromByteString, Utf8Reader } from '../corpus/bytes';
import { harmless, harmlessText } from '../harmless';
import { writeAndDrain } from './command';
import { columnsOf, wrap } from './layout';

/** Writes a line for people, such as a note, wrapped at words where a terminal is narrower. `style` adds what only a terminal gets. */
export function say(
  stream: NodeJS.WritableStream,
  line: string,
  style: (text: string) => string = (text) => text,
): void {
  for (const part of wrap(harmless(line), columnsOf(stream))) stream.write(`${style(part)}\n`);
}

/** Writes a line with a command to copy, which a line break would spoil. */
export function sayCommand(stream: NodeJS.WritableStream, line: string): void {
  stream.write(`${harmless(line)}\n`);
}

/** The same for a reader that may be slow. */
export async function printLine(stream: NodeJS.WritableStream, line: string): Promise<void> {
  await writeAndDrain(stream, `${harmless(line)}\n`);
}

/** Prints a line of JSON. JSON itself escapes what is below U+0020; terminals also obey U+0080 to U+009F. */
export async function printJson(stream: NodeJS.WritableStream, value: unknown): Promise<void> {
  const line = JSON.stringify(value).replace(/[\x7f-\x9f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
  await writeAndDrain(stream, `${line}\n`);
}

/** Prints text that a model has written or that comes from a text; unchanged to a file or a pipe. */
export async function printText(stream: NodeJS.WritableStream, text: string): Promise<void> {
  await writeAndDrain(stream, (stream as NodeJS.WriteStream).isTTY ? harmlessText(text) : text);
}

/** Prints byte strings: to a file or a pipe as the bytes that they stand for; on a terminal as UTF-8, with other bytes as \xNN. */
export function bytePrinter(stream: NodeJS.WritableStream): (text: string) => Promise<void> {
  if (!(stream as NodeJS.WriteStream).isTTY) return (text) => writeAndDrain(stream, fromByteString(text));
  const reader = new Utf8Reader((byte) => `\\x${byte.toString(16).padStart(2, '0')}`);
  return (text) => writeAndDrain(stream, harmlessText(reader.push(text)));
}

/** Writes control sequences for a terminal, and another program's output, unchanged. */
export function pass(stream: NodeJS.WritableStream, content: string | Uint8Array): void {
  stream.write(content);
}
