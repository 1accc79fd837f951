/** Words as a shell takes them: what a message names as a part of a command can be copied. */
import { harmless } from './harmless';

/** A word as a shell takes it back: as it is where it may be, else quoted. */
export function shellQuote(word: string, windows = process.platform === 'win32'): string {
  if (windows) return /^[\w@%+=:,./\\-]+$/.test(word) ? word : `"${word.replaceAll('"', '""')}"`;
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  // A line shows these escaped (see harmless), which the shell has to take back as what they are.
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

/** A path as a word of a command that a message names. */
export function pathWord(path: string): string {
  return shellQuote(pathArgument(path));
}
