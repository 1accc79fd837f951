/** A large text is prepared in a limited amount of memory. */
import { createHash } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compiled, itWhere, long, run } from '../../fixtures/child';

const MB = 1_000_000;

/** Writes lines of pseudo-random words in several scripts; returns the text's hash and length. */
async function writeText(path: string, bytes: number): Promise<{ sha256: string; characters: number }> {
  const words = ['the', 'sheep', 'went', 'über', 'горы', '🦊', 'and', '山羊', 'far', 'away'];
  const hash = createHash('sha256');
  const file = await open(path, 'w');
  let written = 0;
  let characters = 0;
  let seed = 1;
  while (written < bytes) {
    const parts: string[] = [];
    for (let i = 0; i < 100_000; i++) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
      parts.push(words[seed >>> 16 === 0 ? 0 : (seed >>> 16) % words.length] as string, i % 12 === 11 ? '\n' : ' ');
    }
    const text = parts.join('');
    hash.update(text);
    for (const _ of text) characters++;
    written += (await file.write(text)).bytesWritten;
  }
  await file.close();
  return { sha256: hash.digest('hex'), characters };
}

const script = `
  const { openCorpus } = require(${JSON.stringify(compiled('corpus/corpus.js'))});
  const { peakMemory } = require(${JSON.stringify(join(__dirname, '..', '..', 'fixtures', 'peak-memory'))});
  openCorpus([process.argv[1]]).then(({ ids, length, sha256, notes, vocabulary, close }) => {
    let sum = 0;
    for (let at = 0; at + 101 < length; at += 999_983) sum += ids.read(at, 101).reduce((a, b) => a + b, 0);
    close();
    console.log(JSON.stringify({ length, sha256, notes, sum, symbols: vocabulary.size, resident: peakMemory() }));
  });`;

itWhere(long, 'it takes a minute; LONG=1 runs it')(
  '200 MB are prepared in less than 512 MB, from a file and from standard input',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'large-'));
    try {
      const path = join(folder, 'text.txt');
      const { sha256, characters } = await writeText(path, 200 * MB);
      const argv = ['-e', script];
      for (const [command, args] of [
        [process.execPath, [...argv, path]],
        ['bash', ['-c', 'exec "$0" "${@:1:2}" - < "$3"', process.execPath, ...argv, path]],
      ] as const) {
        const { stdout, stderr } = await run(command, args);
        if (stdout === '') throw new Error(stderr);
        const found = JSON.parse(stdout) as { resident: number; sum: number };
        expect(found).toMatchObject({
          length: characters,
          sha256,
          notes: [expect.stringContaining('temporary id file')],
        });
        expect(found.sum).toBeGreaterThan(0);
        expect(found.resident).toBeLessThan(512 * MB);
        process.stdout.write(
          `${command === 'bash' ? 'standard input' : 'a file'} of 200 MB: ${Math.round(found.resident / MB)} MB resident\n`,
        );
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);
