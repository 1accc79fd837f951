/** A level imports those below it and none above, in `lib` and in `native`: see CONTRIBUTING.md. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { packageRoot } from '../../lib/device/native';

/** The levels of `lib`, from the bottom: folders and files. Those of one level may import one another. */
const libLevels = [
  [
    'errors.ts',
    'endings.ts',
    'nearest.ts',
    'cache.ts',
    'breather.ts',
    'files.ts',
    'harmless.ts',
    'shell.ts',
    'arguments.ts',
    'numbers.ts',
    'zod-parts.ts',
    'memory.ts',
    'wording.ts',
  ],
  ['device', 'version.ts', 'html.ts'],
  ['corpus', 'checkpoint', 'ranks'],
  ['sampling', 'scoring'],
  ['model.ts', 'model-options.ts'],
  ['training', 'import', 'export'],
  ['report', 'serve'],
  ['sweep'],
  ['index.ts', 'advanced.ts'],
  ['page'],
  ['cli'],
  ['train.ts'],
];

/** Folders of `native`, from the bottom, and what each may include. */
const nativeIncludes: Record<string, string[]> = {
  core: ['core'],
  cpu: ['core', 'cpu'],
  cuda: ['core', 'cuda'],
  mpi: ['core', 'mpi'],
  binding: ['core', 'cpu', 'cuda', 'mpi', 'binding'],
};

function filesOf(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' }).filter((name) =>
    pattern.test(name),
  );
}

function levelOf(name: string): number {
  const level = libLevels.findIndex((names) => names.includes(name.split('/')[0] as string));
  if (level < 0) throw new Error(`lib/${name} has no level: add it to this test and to CONTRIBUTING.md`);
  return level;
}

test('no file of lib imports from a level above its own', () => {
  const upward: string[] = [];
  let imports = 0;
  for (const file of filesOf('lib', /\.ts$/)) {
    const text = readFileSync(join(packageRoot, 'lib', file), 'utf8');
    for (const [, specifier] of text.matchAll(/(?:from|import\(|require\()\s*'(\.[^']*)'/g)) {
      imports++;
      const target = normalize(join(dirname(file), specifier as string));
      if (target === '../package.json') continue;
      const name = target.includes('/') ? target : `${target}.ts`; // A file directly in lib.
      if (levelOf(name) > levelOf(file)) upward.push(`lib/${file} imports lib/${target}`);
    }
  }
  expect(imports).toBeGreaterThan(100);
  expect(upward).toEqual([]);
});

test('the library loads neither a command nor commander', () => {
  const seen = new Set<string>();
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(join(packageRoot, 'lib', file), 'utf8');
    for (const [, specifier] of text.matchAll(/from '([^']*)'/g)) {
      expect([file, specifier]).not.toEqual([file, 'commander']);
      if (specifier?.startsWith('.')) visit(`${normalize(join(dirname(file), specifier))}.ts`);
    }
  };
  visit('index.ts');
  visit('advanced.ts');
  expect(seen.size).toBeGreaterThan(30);
  expect([...seen].filter((file) => file.startsWith('cli/'))).toEqual([]);
});

test('native folders include those below them, and only binding includes napi.h', () => {
  const wrong: string[] = [];
  for (const [folder, allowed] of Object.entries(nativeIncludes)) {
    for (const file of filesOf(`native/${folder}`, /\.(h|cpp|cu|inl)$/)) {
      const text = readFileSync(join(packageRoot, 'native', folder, file), 'utf8');
      for (const [, header] of text.matchAll(/#include [<"]([^>"]+)[>"]/g)) {
        const place = header?.includes('/') ? header.split('/')[0] : undefined;
        const known = place !== undefined && place in nativeIncludes;
        if (known && !allowed.includes(place)) wrong.push(`native/${folder}/${file} includes ${header}`);
        if (header === 'napi.h' && folder !== 'binding') wrong.push(`native/${folder}/${file} includes napi.h`);
      }
    }
  }
  expect(wrong).toEqual([]);
});
