/** Rules that hold for every file of the repository. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { globSync } from 'tinyglobby';
import { packageRoot } from '../../lib/device/native';

/** What git ignores is not part of the repository: builds, which other steps of CI make at the same time, results, runs of the user's. */
const ignored = readFileSync(join(packageRoot, '.gitignore'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => `**/${line.replace(/\/$/, '/**')}`);

function files(...patterns: string[]): string[] {
  return globSync(patterns, { cwd: packageRoot, ignore: ignored }).sort();
}

/** `file:line: text` of each line that matches, in files other than those of `except`. */
function lines(pattern: RegExp, names: readonly string[], except: readonly string[] = []): string[] {
  return names
    .filter((name) => !except.includes(name))
    .flatMap((name) =>
      readFileSync(join(packageRoot, name), 'utf8')
        .split('\n')
        .flatMap((line, i) => (pattern.test(line) ? [`${name}:${i + 1}: ${line.trim()}`] : [])),
    );
}

it('no test looks at the clock: on a busy machine it would fail', () => {
  const except = [
    'test/unit/rules.test.ts',
    // It only stops counting after a failed test that did not; no test depends on it.
    'test/fixtures/turns.ts',
    // With LONG=1 only, and judged by processor time where the system reports it.
    'test/lifecycle/event-loop.test.ts',
    // These only print how long something took.
    'test/unit/import/fuzz.test.ts',
    'test/lifecycle/programs/loading.js',
    // They run for a given time, with LONG=1 only, and are judged by memory.
    'test/lifecycle/programs/soak.js',
    'test/lifecycle/programs/serve-soak.js',
  ];
  const clock = /performance\.now|Date\.now|hrtime|monitorEventLoopDelay/;
  expect(lines(clock, files('test/**/*.{ts,js}'), except)).toEqual([]);
});

it('no test measures memory by maxRSS, which a child has from its parent', () => {
  const except = ['test/unit/rules.test.ts', 'test/fixtures/peak-memory.js'];
  expect(lines(/maxRSS/, files('{test,scripts,bench}/**/*.{ts,js}'), except)).toEqual([]);
});

it('no test has a time limit of its own: jest.config.js has one that ends what hangs', () => {
  const limit = /^\s*\}, [\d_]{4,}\);|^\s*[\d_]{5,},$|\btimeout: [\d_]|jest\.setTimeout/;
  expect(lines(limit, files('test/**/*.test.ts'), ['test/unit/rules.test.ts'])).toEqual([]);
});

it('the library reads no option from the environment of the process: the commands do, and hand it down', () => {
  const except = [
    // The few variables that a reproduction, which only the command makes, accepts from outside.
    'lib/report/run-training.ts',
    // Each trial's process gets this environment.
    'lib/sweep/run.ts',
    // A launcher tells its processes their ranks there; `train` gets the ranks from its caller.
    'lib/ranks/join.ts',
    // No options: where the addon, the cache and a book are found, and the time limit and child process of the self-check.
    'lib/device/native.ts',
    'lib/device/check.ts',
    'lib/cache.ts',
    'lib/corpus/alice.ts',
  ];
  const found = lines(/process\.env\b/, files('lib/**/*.ts', '!lib/cli/**'), except);
  expect(found.filter((line) => !/^\S+ \*/.test(line))).toEqual([]);
});

it('says things in plain English', () => {
  const mannered =
    /gone on with|\bgo(es|ing)? on with\b|\bmend(s|ed|ing)?\b|\blikewise\b|\bthe house\b|\bstrangers?\b|has a say|worth (telling|saying)|\bwants\b/i;
  const all = files(
    '*.md',
    '{lib,native,test,scripts,bench,docs,examples}/**/*.{ts,mts,tsx,js,cjs,mjs,md,cpp,h,cu,inl,sh,py}',
  );
  expect(lines(mannered, all, ['test/unit/rules.test.ts'])).toEqual([]);
});

it('groups digits and counts nouns by the functions of lib/numbers.ts; pages do it by what the browser has', () => {
  const byHand = /toLocaleString\('en'\)|=== 1 \? (''|'(\w+)') : ('s'|'\2s')/;
  expect(lines(byHand, files('lib/**/*.ts', '!lib/page/**'), ['lib/numbers.ts'])).toEqual([]);
});

it('does not call the Keras script the seed, which is a number here: it is the reference', () => {
  const script =
    /\bthe seed(?:'s)? (?:scripts?|recipes?|runs?|figures?|notes|losses|text|books?|model|GPU|windows?)\b/i;
  const all = files('*.md', '{lib,native,test,scripts,bench,docs}/**/*.{ts,mts,js,md,cpp,h}');
  expect(lines(script, all, ['test/unit/rules.test.ts'])).toEqual([]);
});

it('a line of prose in a document has at most 140 characters; tables, headings and code may have more', () => {
  // Reports in bench/results were printed by a command.
  const found = files('**/*.md', '!docs/api/**', '!bench/results/**').flatMap((name) => {
    const blocks = readFileSync(join(packageRoot, name), 'utf8').split(/^ *```.*$/m);
    const prose = blocks.filter((_, i) => i % 2 === 0).flatMap((text) => text.split('\n'));
    return prose
      .filter((line) => [...line].length > 140 && !/^(\||#|<!--)/.test(line))
      .map((line) => `${name}: ${line}`);
  });
  expect(found).toEqual([]);
});

it('private members are #names; a constructor alone is private by keyword', () => {
  const keyword = /\bprivate (?:readonly|static|async|get|set)\b|\bprivate \w+[?!]?(?:[(<;]|: [A-Z]| =)/;
  const found = lines(keyword, files('lib/**/*.{ts,mts}'));
  expect(found.filter((line) => !line.includes('private constructor('))).toEqual([]);
});

it('options have a name, not a letter', () => {
  const bag = /\b(?:const|let) o\b|[({] ?o\?: [A-Z{]|, o\?: [A-Z{]|: o[ ,}]|\(o\) =>|\bo => /;
  const found = lines(bag, files('{lib,test,bench,scripts}/**/*.{ts,mts,js}'), ['test/unit/rules.test.ts']);
  expect(found.filter((line) => !/^\S+ (\*|\/\/|\/\*)/.test(line))).toEqual([]);
});

it('a comment on a member says what it is, not the end of a sentence that its name would begin', () => {
  const fragment = /^\s*\/\*\* (?:Of|From|In|By|To|What,) [^.;:]{0,45}\. \*\/$/;
  expect(lines(fragment, files('lib/**/*.{ts,mts}'))).toEqual([]);
});

it('has no source file that is empty, which a compiler takes for a program without errors', () => {
  const sources = files('{lib,native,test,scripts,bench,examples}/**/*.{ts,mts,js,cjs,mjs,cpp,h,cu,inl,sh,py}');
  expect(sources.length).toBeGreaterThan(400);
  expect(sources.filter((name) => readFileSync(join(packageRoot, name), 'utf8').trim() === '')).toEqual([]);
});

it('names each script in CONTRIBUTING.md, and each folder in ARCHITECTURE.md', () => {
  const read = (name: string) => readFileSync(join(packageRoot, name), 'utf8');
  const scripts = files('scripts/*');
  expect(scripts.length).toBeGreaterThan(20);
  const contributing = read('CONTRIBUTING.md');
  expect(scripts.filter((name) => !contributing.includes(name) && !contributing.includes(basename(name)))).toEqual([]);
  const folders = files('{lib,native,test}/*/**', '{bench,examples,corpora,docs,cmake}/*').map(
    (name) => /^(?:lib|native|test)\/[^/]+|^[^/]+/.exec(name)?.[0],
  );
  expect(new Set(folders).size).toBeGreaterThan(25);
  const layout = read('ARCHITECTURE.md').split('## ')[1] as string;
  const named = (folder = '') => layout.includes(folder.replace(/^test\//, ''));
  expect([...new Set(folders)].filter((folder) => !named(folder))).toEqual([]);
});

it('holds no mark of a conflict that a merge left', () => {
  const all = files('**/*.{ts,mts,js,cjs,mjs,json,md,cpp,h,cu,inl,sh,py,txt,html,css}', '.ci/run');
  expect(lines(/^(<<<<<<<|>>>>>>>|\|\|\|\|\|\|\|)( |$)/, all)).toEqual([]);
});

it('names no folder of a machine that it was made on', () => {
  const all = files(
    '**/*.{ts,mts,js,cjs,mjs,json,jsonl,md,cpp,h,cu,inl,sh,py,txt,html,css}',
    'scripts/*',
    '.ci/run',
    'cmake/*',
  );
  expect(all.length).toBeGreaterThan(450);
  expect(lines(/(?<![\w.)])\/(?:work|root|home)\//, all, ['test/unit/rules.test.ts'])).toEqual([]);
});
