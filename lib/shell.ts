/** Words quoted for a shell, so that the commands in messages can be copied. */
import { harmless } from './harmless';

/** A word as a shell reads it back: unchanged if possible, otherwise quoted. */
export function shellQuote(word: string, windows = process.platform === 'win32'): string {
  if (windows) return /^[\w@%+=:,./\\-]+$/.test(word) ? word : `"${word.replaceAll('"', '""')}"`;
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  // Messages show such characters escaped (see harmless); here they become escapes that the shell turns back.
  if (harmless(word) !== word) return `$'${[...Buffer.from(word)].map(ansiC).join('')}'`;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** A byte between `$'` and `'`, as bash, zsh and ksh read it. */
function ansiC(byte: number): string {
  const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c;
  return plain ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`;
}

/** A path as an argument: one that begins with a dash would be read as an option. */
export function pathArgument(path: string): string {
  return path.startsWith('-') ? `./${path}` : path;
}

/** A path as a word of a command in a message. */
export function pathWord(path: string): string {
  return shellQuote(pathArgument(path));
}
