/** Whole corpora, in memory and streamed: they differ only in where the ids are stored. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import iconv from 'iconv-lite';
import { type Corpus, type CorpusOptions, openCorpus } from '../../../lib/corpus/corpus';
import { normalizeText } from '../../../lib/corpus/normalization';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { canRun, compiled, itWhere, long, run, share } from '../../fixtures/child';
import { codePoint } from '../../fixtures/texts';

let folder: string;
let temporary: string;
jest.mock('node:os', () => ({ ...jest.requireActual<typeof os>('node:os') }));
const temporaryFolder = jest.spyOn(jest.requireMock<typeof os>('node:os'), 'tmpdir');
beforeAll(async () => {
  folder = await mkdtemp(join(os.tmpdir(), 'corpus-'));
  temporary = join(folder, 'temporary');
  await mkdir(temporary);
  temporaryFolder.mockReturnValue(temporary);
});
afterAll(() => rm(folder, { recursive: true }));
// No test may leave temporary files, whatever its outcome.
afterEach(async () => expect(await readdir(temporary)).toEqual([]));

let files = 0;
async function write(...texts: (string | Uint8Array)[]): Promise<string[]> {
  const paths = texts.map(() => join(folder, `text-${files++}.txt`));
  for (const [i, path] of paths.entries()) await writeFile(path, texts[i] as string);
  return paths;
}

/** The whole text, decoded from its ids. */
const textOf = ({ vocabulary, ids }: Corpus) => vocabulary.decode(ids.read(0, ids.length));

const ways: [string, CorpusOptions][] = [
  ['in memory', {}],
  ['streamed', { streamAbove: 0 }],
];

describe.each(ways)('%s', (way, how) => {
  const streamed = way === 'streamed';
  const open = (paths: string[], options: CorpusOptions = {}) => openCorpus(paths, { ...how, ...options });
  async function read(texts: (string | Uint8Array)[], options: CorpusOptions = {}) {
    const corpus = await open(await write(...texts), options);
    const text = textOf(corpus);
    const notes = corpus.notes.filter((note) => !note.includes('temporary id file'));
    expect(corpus.notes.length - notes.length).toBe(streamed ? 1 : 0);
    expect(corpus.sha256).toBe(createHash('sha256').update(text).digest('hex'));
    expect(corpus.length).toBe([...text].length);
    corpus.close();
    return { ...corpus, text, notes };
  }

  it('normalises, and says how', async () => {
    expect(await read(['\uFEFFA\r\nB\rΣ🦊'])).toMatchObject({
      text: 'A\nB\nΣ🦊',
      normalization: { lowercase: false },
      notes: [],
    });
    expect(await read(['\uFEFFA\r\nB\rΣ🦊'], { lowercase: true })).toMatchObject({
      text: 'a\nb\nσ🦊',
      normalization: { lowercase: true },
    });
  });

  it('has its symbols sorted by code point', async () => {
    expect((await read(['b🦊\uFFFDa'])).vocabulary.symbols).toEqual(['a', 'b', '\uFFFD', '🦊']);
  });

  it('puts a line break between two files where the first does not end in one', async () => {
    expect((await read(['a', 'b\n', 'c', '', 'd\r\n', '', '\uFEFF', 'e', ''])).text).toBe('a\nb\nc\nd\ne');
    expect((await read(['', 'a', '\nb'])).text).toBe('a\n\nb');
  });

  it('is wider than a byte above 256 symbols', async () => {
    for (const size of [256, 257]) {
      const symbols = Array.from({ length: size }, (_, i) => String.fromCodePoint(0x4e00 + i)).join('');
      const corpus = await open(await write(symbols));
      expect(corpus.ids.bytesPerId).toBe(size > 256 ? 2 : 1);
      expect([...corpus.ids.read(0, size)]).toEqual(Array.from({ length: size }, (_, i) => i));
      corpus.close();
    }
  });

  it("strips Project Gutenberg's frame, file by file, and says so", async () => {
    const framed = (name: string) =>
      `Licence\r\n*** START OF THE PROJECT GUTENBERG EBOOK ${name} ***\r\n${name}!\r\n*** END OF THE PROJECT GUTENBERG EBOOK ${name} ***\r\nDonate`;
    const twice = `${framed('c')}\n${framed('c')}`;
    const open = `${framed('d')}\n${framed('e').slice(0, 70)}`;
    const texts = [framed('a'), 'plain', framed('b'), twice, open];
    const { text, notes, sources } = await read(texts);
    expect(text).toBe(`a!\nplain\nb!\nc!\nc!\n${normalizeText(open, { lowercase: false })}`);
    expect(notes).toEqual([
      `${sources[0]}: Project Gutenberg's header and footer left out (\`gutenberg: 'keep'\` to have them in)`,
      `${sources[2]}: Project Gutenberg's header and footer left out (\`gutenberg: 'keep'\` to have them in)`,
      `${sources[3]}: Project Gutenberg's headers and footers of 2 books left out (\`gutenberg: 'keep'\` to have them in)`,
      `${sources[4]}: Project Gutenberg's text left in, as it has 2 starts and 1 end, not one of each for every book`,
    ]);
    const kept = await read(texts, { gutenberg: 'keep' });
    expect(kept.text).toBe(texts.join('\n').replaceAll('\r\n', '\n'));
    expect(kept.notes).toEqual([]);
    expect((await read([framed('A')], { lowercase: true })).text).toBe('a!\n');
  });

  it('names unknown characters with their place in their own file', async () => {
    const vocabulary = new Vocabulary(['\n', 'a', 'b']);
    const [first, second] = await write('ab🦊', 'abé🦊é');
    await expect(open([first as string], { vocabulary })).rejects.toMatchObject({
      code: 'ERR_DATA',
      message: `${first} has characters the model does not know: '🦊' (U+1F98A) (the first at character 2); remove them, or leave them out with \`unknown: 'skip'\``,
    });
    const [good] = await write('abab');
    await expect(open([good as string, second as string], { vocabulary })).rejects.toThrow(
      `${second} has characters the model does not know: 'é' (U+00E9), '🦊' (U+1F98A) (the first at character 2)`,
    );
  });

  it('skips them if asked to, and says how many', async () => {
    const vocabulary = new Vocabulary(['\n', 'a', 'b']);
    const skipped = await open(await write('aéb🦊', 'éba'), { vocabulary, unknown: 'skip' });
    expect(textOf(skipped)).toBe('ab\nba');
    expect(skipped.length).toBe(5);
    expect(skipped.notes[0]).toBe("3 characters that the model does not know left out: 'é' (U+00E9), '🦊' (U+1F98A)");
    skipped.close();
    const one = await open(await write('abx'), { vocabulary, unknown: 'skip' });
    expect(one.notes[0]).toBe("1 character that the model does not know left out: 'x' (U+0078)");
    one.close();
    const none = await open(await write('ab'), { vocabulary, unknown: 'skip' });
    expect(none.notes).toHaveLength(streamed ? 1 : 0);
    none.close();
  });

  it('keeps a given vocabulary, though the text has less of it', async () => {
    const vocabulary = new Vocabulary([...'abcdef']);
    const corpus = await open(await write('fa'), { vocabulary });
    expect(corpus.vocabulary).toBe(vocabulary);
    expect([...corpus.ids.read(0, 2)]).toEqual([5, 0]);
    corpus.close();
    await open(await write('a'), { vocabulary }).then((single) => single.close()); // One symbol is enough if the vocabulary has more.
  });

  it('is refused where it is empty, without a word about training', async () => {
    const vocabulary = new Vocabulary(['a', 'b']);
    for (const texts of [[''], ['\uFEFF'], ['', '']]) {
      for (const options of [{}, { vocabulary }, { vocabulary, unknown: 'skip' as const }]) {
        const paths = await write(...texts);
        const what = paths.length > 1 ? 'the corpus (2 files)' : paths[0];
        await expect(open(paths, options)).rejects.toMatchObject({
          code: 'ERR_DATA',
          message: `${what} is empty; give a text of at least two characters`,
        });
      }
    }
    await expect(open(await write('xyz'), { vocabulary, unknown: 'skip' })).rejects.toThrow(
      /has no character that the model knows; give a text like those it was trained on$/,
    );
    await expect(open(await write('aaaa'))).rejects.toThrow(/has only one symbol, "a": give a text with at least two$/);
  });

  it('is refused where it is not in its encoding, with the offset and the remedy', async () => {
    await expect(read([Buffer.from('caf\xe9 au lait', 'latin1')])).rejects.toMatchObject({
      code: 'ERR_DATA',
      message: expect.stringMatching(
        /text-\d+\.txt is not valid UTF-8: byte 0xE9 at offset 3; .*`encoding: 'windows-1252'`$/,
      ),
    });
    await expect(read(['good', Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0x80, 0xff])])).rejects.toThrow(
      'at offset 8',
    );
    await expect(read([Buffer.from('\uFEFFab', 'utf16le')])).rejects.toThrow("`encoding: 'utf-16'`");
    await expect(read(['ab'], { encoding: 'klingon' })).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });

  it('is read in the encoding named', async () => {
    expect((await read([Buffer.from('caf\xe9 \x93', 'latin1')], { encoding: 'windows-1252' })).text).toBe('café “');
    expect((await read([Buffer.from('caf\xe9', 'latin1')], { encoding: 'latin1' })).text).toBe('café');
    expect((await read([Buffer.from('\uFEFFab🦊', 'utf16le')], { encoding: 'utf-16' })).text).toBe('ab🦊');
  });

  it('says in which of the wide encodings a text with NUL characters seems to be, and that it is right', async () => {
    const text = 'It was late.\nThe night had come.\n';
    for (const encoding of ['utf-16le', 'utf-16be', 'utf-32le', 'utf-32be']) {
      const bytes = iconv.encode(text, encoding, { addBOM: false });
      expect((await read([bytes])).notes).toEqual([
        expect.stringMatching(`has NUL characters: it looks like ${encoding} \\(\`encoding: '${encoding}'\`\\)$`),
      ]);
      expect(await read([bytes], { encoding })).toMatchObject({ text, notes: [] });
    }
    expect((await read(['a plain\0text with\0\0three NUL characters'])).notes).toEqual([
      expect.stringMatching(/has NUL characters: it may not be a text$/),
    ]);
  });

  it('says that it has control characters of C1, with a remedy that ends them', async () => {
    const bytes = Buffer.from('It\x92s \x93late\x94.\n', 'latin1');
    const { notes } = await read([bytes], { encoding: 'latin1' });
    expect(notes).toEqual([expect.stringMatching(/C1, U\+0092, U\+0093, U\+0094: .*`encoding: 'windows-1252'`$/)]);
    expect(await read([bytes], { encoding: 'windows-1252' })).toMatchObject({ text: 'It’s “late”.\n', notes: [] });
    expect((await read(['It\x92s'])).notes).toEqual([expect.stringMatching(/C1, U\+0092: which stand where/)]);
    expect((await read(['a\x85b'])).notes).toEqual([]); // NEL is a line end.
  });

  it('says that it mixes normal forms, with a remedy that ends that', async () => {
    const text = 'café cafe\u0301 а\u0301 ガ カ\u3099\n';
    const { notes, vocabulary } = await read([text]);
    expect(notes).toEqual([expect.stringMatching(/has 'é' \(U\+00E9\), 'ガ' \(U\+30AC\) both .*`normalize: 'nfc'`/)]);
    const nfc = await read([text], { normalize: 'nfc' });
    expect(nfc).toMatchObject({
      text: text.normalize('NFC'),
      notes: [],
      normalization: { lowercase: false, form: 'nfc' },
    });
    expect(nfc.vocabulary.size).toBeLessThan(vocabulary.size);
    expect((await read(['cafe\u0301 only'])).notes).toEqual([]);
    expect((await read(['café only, and а\u0301'])).notes).toEqual([]); // Cyrillic а́ has no precomposed form.
    expect((await read(['ﬁ Ⅷ', 'x'], { normalize: 'nfkc' })).text).toBe('fi VIII\nx');
    expect((await read(['é e', '\u0301'])).notes).toEqual([]); // There is a line break between the files.
  });

  it('is refused where there are too many symbols', async () => {
    const all = Array.from({ length: 66_000 }, (_, i) => String.fromCodePoint(0x10000 + i)).join('');
    await expect(read([all])).rejects.toThrow('66,000 different characters, more than 65,536: is it a text file?');
  });

  it('ends with the reason of an abort', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(open(await write('abc'), { signal })).rejects.toThrow('enough');
  });
});

it('is the same streamed and in memory, whatever the texts', async () => {
  const unit = fc.oneof(
    fc.constantFrom(
      '\r',
      '\n',
      '\uFEFF',
      'e\u0301',
      'é',
      '\u0323',
      'Σ',
      'a',
      'B',
      ' ',
      '🦊',
      '*** START OF THE PROJECT GUTENBERG EBOOK\n',
      '\n*** END OF THE PROJECT GUTENBERG EBOOK\n',
    ),
    codePoint,
  );
  const texts = fc.array(fc.string({ unit, maxLength: 25 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(
      texts,
      fc.boolean(),
      fc.constantFrom('auto' as const, 'keep' as const),
      fc.boolean(),
      fc.constantFrom('none' as const, 'nfc' as const, 'nfkc' as const),
      async (all, lowercase, gutenberg, resumed, normalize) => {
        const options: CorpusOptions = {
          lowercase,
          gutenberg,
          normalize,
          ...(resumed ? { vocabulary: new Vocabulary([...'\n abσ']), unknown: 'skip' } : {}),
        };
        const paths = all.map((_, i) => join(folder, `same-${i}.txt`));
        for (const [i, path] of paths.entries()) await writeFile(path, all[i] as string);
        const results = [];
        for (const [way, how] of ways) {
          const corpus = await openCorpus(paths, { ...options, ...how }).catch(
            (error: Error & { code?: string }) => error,
          );
          if (corpus instanceof Error) {
            expect(corpus).toMatchObject({ code: 'ERR_DATA' });
            results.push({ error: corpus.message });
            continue;
          }
          const { vocabulary, length, sha256, sources } = corpus;
          const notes = corpus.notes.slice(0, way === 'streamed' ? -1 : undefined);
          results.push({
            symbols: vocabulary.symbols,
            ids: [...corpus.ids.read(0, length)],
            length,
            sha256,
            sources,
            notes,
          });
          corpus.close();
        }
        expect(JSON.stringify(results[1])).toBe(JSON.stringify(results[0]));
      },
    ),
    { numRuns: long ? 3000 : share(250) },
  );
});

it('streamed is the same where characters, line ends and frames lie on the borders of what is read at once', async () => {
  const MiB = 1 << 20;
  const start = '*** START OF THE PROJECT GUTENBERG EBOOK X ***';
  const end = '*** END OF THE PROJECT GUTENBERG EBOOK X ***';
  for (let shift = 0; shift < 5; shift++) {
    for (const border of ['🦊🦊', 'é\r\né', '\r\n', `\n${start}\nbook\n${end}\n`, `${start.slice(0, 20)}`]) {
      const fill = 'y'.repeat(MiB - shift - 1);
      const [path] = await write(`${fill}${border}z`);
      const [a, b] = [await openCorpus([path as string]), await openCorpus([path as string], { streamAbove: 1 })];
      expect([b.sha256, b.length, b.vocabulary.symbols]).toEqual([a.sha256, a.length, a.vocabulary.symbols]);
      expect(Buffer.compare(Buffer.from(a.ids.read(0, a.length)), Buffer.from(b.ids.read(0, b.length)))).toBe(0);
      a.close();
      b.close();
    }
  }
});

describe('standard input and pipes', () => {
  const script = `
    const { openCorpus } = require(${JSON.stringify(compiled('corpus/corpus.js'))});
    const [sources, options] = JSON.parse(process.argv[1]);
    const { abortAfter, ...given } = options;
    const signal = abortAfter ? AbortSignal.timeout(abortAfter) : undefined;
    openCorpus(sources, { ...given, signal }).then(
      (corpus) => {
        const { ids, length, sha256, vocabulary } = corpus;
        console.log(JSON.stringify({ text: length < 100 ? vocabulary.decode(ids.read(0, length)) : undefined, length, sha256, sources: corpus.sources }));
        corpus.close();
      },
      ({ name, code, message }) => console.log(JSON.stringify({ name, code, message })),
    );`;
  async function open(sources: string[], options: object, input: string | Uint8Array | Uint8Array[], shell?: string) {
    const argv = [script, JSON.stringify([sources, options])];
    const { stdout, stderr } = shell
      ? await run('bash', ['-c', shell, process.execPath, '-e', ...argv], { input })
      : await run(process.execPath, ['-e', ...argv], { input });
    expect(stderr).toBe('');
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  it.each([0, 1000])(
    'are read once, of any size, and stand where they are named (streamAbove %i)',
    async (streamAbove) => {
      const [before, after] = await write('before', 'after');
      const found = await open([before as string, '-', after as string], { streamAbove }, '\uFEFFin the 🦊\r\nmiddle');
      expect(found).toMatchObject({
        text: 'before\nin the 🦊\nmiddle\nafter',
        sources: [before, 'standard input', after],
      });
    },
  );

  it('larger than the limit go through a file', async () => {
    const text = 'a long text é🦊\n'.repeat(30_000);
    const found = await open(['-'], { streamAbove: 100_000 }, text);
    expect(found).toMatchObject({ length: [...text].length, sha256: createHash('sha256').update(text).digest('hex') });
  });

  it('that are empty or not text are errors', async () => {
    expect(await open(['-'], {}, '')).toMatchObject({
      code: 'ERR_DATA',
      message: expect.stringMatching(/^standard input is empty/),
    });
    expect(await open(['-'], {}, Buffer.from([65, 255]))).toMatchObject({
      message: expect.stringMatching(/^standard input is not valid UTF-8: byte 0xFF at offset 1/),
    });
  });

  itWhere(canRun('bash', ['-c', 'cat <(echo a)']), 'no bash with process substitution')(
    'are named pipes too, also beside a streamed file',
    async () => {
      const [large] = await write('large file\n'.repeat(1000));
      const found = await open(
        [large as string, 'PIPE'],
        { streamAbove: 100 },
        '',
        'x="${@: -1}"; exec "$0" "${@:1:2}" "${x/PIPE//dev/fd/63}" 63< <(echo from a pipe)',
      );
      expect(found).toMatchObject({ length: 11_000 + 12, sources: [large, '/dev/fd/63'] });
    },
  );

  it('do not keep an abort waiting', async () => {
    const argv = [process.execPath, '-e', script, JSON.stringify([['-'], { abortAfter: 300 }])];
    // Nothing comes through the pipe, which stays open for a minute.
    const { stdout } = await run('bash', ['-c', 'exec "$@" < <(exec sleep 60 2>/dev/null)', 'bash', ...argv]);
    expect(JSON.parse(stdout)).toMatchObject({ name: 'TimeoutError' });
  });
});

itWhere(
  canRun('unshare', ['-rm', 'bash', '-c', 'mount -t tmpfs -o size=64k none /mnt']),
  'no mount in a name space of one’s own (unshare -rm)',
)('says, with exit code 5, that there is no space for its temporary files', async () => {
  const [path] = await write('a text that is longer than the disk\n'.repeat(10_000));
  const script = `
      mount -t tmpfs -o size=64k none "$1"
      TMPDIR="$1" "$2" -e "require('${compiled('advanced.js')}').openCorpus([process.argv[1]], { streamAbove: 1 }).catch(({ exitCode, message }) => console.log(exitCode, message))" "$3"
      TMPDIR="$1" "$2" -e "require('${compiled('advanced.js')}').openCorpus(['-'], { streamAbove: 1 }).catch(({ exitCode, message }) => console.log(exitCode, message))" < "$3"
      ls -A "$1"`;
  const { stdout, stderr } = await run('unshare', [
    '-rm',
    'bash',
    '-c',
    script,
    'bash',
    temporary,
    process.execPath,
    path as string,
  ]);
  expect([stdout, stderr]).toEqual([
    expect.stringMatching(
      /^(5 cannot write a temporary file in .* \(ENOSPC.*\): free some space, or set TMPDIR to a larger disk.*\n){2}$/,
    ),
    '',
  ]);
});

it('is refused with exit code 5 where there is no folder for temporary files', async () => {
  const [path] = await write('abab');
  temporaryFolder.mockReturnValue(join(folder, 'none'));
  try {
    await expect(openCorpus([path as string], { streamAbove: 0 })).rejects.toMatchObject({
      code: 'ERR_DISK',
      message: expect.stringContaining('set TMPDIR'),
    });
  } finally {
    temporaryFolder.mockReturnValue(temporary);
  }
});

it('leaves no file in the folder for temporary files while it is open, where a file can be read without a name', async () => {
  const corpus = await openCorpus(await write('abab'), { streamAbove: 0 });
  expect(temporaryFolder).toHaveBeenCalled();
  expect(await readdir(temporary)).toHaveLength(process.platform === 'win32' ? 1 : 0);
  expect(textOf(corpus)).toBe('abab');
  corpus.close();
});
