import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundledCorpusPath, resolveSources } from '../../../lib/corpus/sources';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sources-'));
  await mkdir(join(folder, 'sub', 'deep'), { recursive: true });
  await mkdir(join(folder, 'empty'));
  for (const name of [
    'b.txt',
    'a.txt',
    'c.md',
    'd.text',
    'e.js',
    '.hidden.txt',
    'sub/deep/z.txt',
    'sub/a.txt',
    'odd [1].txt',
    'sub/alice',
  ])
    await writeFile(join(folder, name), name);
});
afterAll(() => rm(folder, { recursive: true }));

const paths = async (...corpora: string[]) =>
  (await resolveSources(corpora)).map(({ path }) => path?.replace(`${folder}/`, ''));
const at = (name: string) => join(folder, name);

it('are the bundled tale where none is named', async () => {
  expect(await resolveSources([])).toEqual([{ name: 'the bundled tale', path: bundledCorpusPath }]);
});

it('are files in the order given, twice if named twice', async () => {
  expect(await paths(at('c.md'), at('a.txt'), at('e.js'), at('a.txt'))).toEqual(['c.md', 'a.txt', 'e.js', 'a.txt']);
  expect((await resolveSources([at('a.txt')]))[0]?.name).toBe(at('a.txt'));
});

it("are a directory's texts at any depth, sorted", async () => {
  expect(await paths(folder)).toEqual([
    'a.txt',
    'b.txt',
    'c.md',
    'd.text',
    'odd [1].txt',
    'sub/a.txt',
    'sub/deep/z.txt',
  ]);
});

it('are what a glob matches, sorted, whatever the names end in', async () => {
  expect(await paths(at('*.{txt,js}'))).toEqual(['a.txt', 'b.txt', 'e.js', 'odd [1].txt']);
  expect(await paths(at('**/a.txt'))).toEqual(['a.txt', 'sub/a.txt']);
  expect(await paths(at('sub/[ab]*'))).toEqual(['sub/a.txt', 'sub/alice']);
  expect((await resolveSources([at('b*.txt')]))[0]?.name).toBe(at('b.txt'));
});

it('are globs relative to where one stands', async () => {
  const before = process.cwd();
  process.chdir(folder);
  try {
    expect(await resolveSources(['*.md', 'sub'])).toEqual([
      { name: 'c.md', path: 'c.md' },
      { name: join('sub', 'a.txt'), path: join('sub', 'a.txt') },
      { name: join('sub', 'deep', 'z.txt'), path: join('sub', 'deep', 'z.txt') },
    ]);
    process.chdir('sub'); // `sub` has a file with the name of the corpus alice.
    expect(await resolveSources(['alice'])).toEqual([{ name: 'alice', path: 'alice' }]);
  } finally {
    process.chdir(before);
  }
});

it('take a file as it is named where that looks like a glob', async () => {
  expect(await paths(at('odd [1].txt'))).toEqual(['odd [1].txt']);
});

it('have each file once, though links lead to it again', async () => {
  const linked = join(folder, 'empty', 'linked');
  await mkdir(linked);
  await writeFile(join(linked, 'x.txt'), 'x');
  await symlink('..', join(linked, 'loop'));
  await symlink('x.txt', join(linked, 'y.txt'));
  await symlink('nowhere', join(linked, 'z.txt'));
  expect(await paths(linked)).toEqual(['empty/linked/x.txt']);
  expect(await paths(`${linked}/**/*.txt`)).toEqual(['empty/linked/x.txt']);
  await rm(linked, { recursive: true });
});

it('are a list: a name alone is refused, not read letter by letter', async () => {
  await expect(resolveSources('a.txt' as never)).rejects.toThrow(
    "corpus must be a list of files, such as ['book.txt'], { text: '…' } or an async iterable of strings, not 'a.txt'",
  );
});

it('take standard input once', async () => {
  expect(await resolveSources(['-', at('a.txt')])).toEqual([
    { name: 'standard input' },
    { name: at('a.txt'), path: at('a.txt') },
  ]);
  await expect(resolveSources(['-', '-'])).rejects.toThrow('named twice');
});

it.each([
  ['none.txt', /^no such file: .*none\.txt; name a text file, a directory, a glob, - or alice$/],
  ['a.txt/x', /^no such file/],
  ['*.none', /^no file matches .*\*\.none; name a text file, a directory, or another glob$/],
  ['empty', /holds no text: no \*\.txt, \*\.text or \*\.md in it; name the files, or use a glob$/],
  ['n'.repeat(300), /^cannot read .*ENAMETOOLONG/],
  ['a\0b', /^cannot read /],
])('%.20s is an error', async (name, message) => {
  await expect(resolveSources([at(name)])).rejects.toMatchObject({
    code: 'ERR_DATA',
    exitCode: 3,
    message: expect.stringMatching(message),
  });
});

describe('a directory', () => {
  let directory: string;
  beforeAll(async () => {
    directory = join(folder, 'books');
    await mkdir(join(directory, '.git'), { recursive: true });
    const names = [
      'ch10.txt',
      'ch2.txt',
      'ch1.TXT',
      'NOTES.Md',
      'x.Text',
      '.hidden.txt',
      '.git/a.txt',
      'c.json',
      'd9.js',
      'd10.js',
    ];
    for (const name of names) await writeFile(join(directory, name), name);
  });
  const found = async (...corpora: string[]) => {
    const notes: string[] = [];
    const sources = await resolveSources(corpora, undefined, (note) => notes.push(note));
    return { names: sources.map(({ name }) => name.slice(directory.length + 1)), notes };
  };

  it('has its texts taken in any case and in natural order, and says what it left out', async () => {
    expect(await found(directory)).toEqual({
      names: ['NOTES.Md', 'ch1.TXT', 'ch2.txt', 'ch10.txt', 'x.Text'],
      notes: [
        `${directory}: 5 files left out, as a directory means its *.txt, *.text and *.md that are not hidden: ` +
          'c.json, d9.js, d10.js and 2 more (name the files, or use a glob, to have them in)',
      ],
    });
  });

  it('has the others taken where they are named or matched, as the note says', async () => {
    expect(await found(join(directory, '*.js'), join(directory, 'c.json'))).toEqual({
      names: ['d9.js', 'd10.js', 'c.json'],
      notes: [],
    });
  });
});
