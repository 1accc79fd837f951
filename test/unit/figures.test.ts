/** The figures in the documents are those in bench/results, and what the documents name exists. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { globSync } from 'tinyglobby';
import { packageRoot } from '../../lib/device/native';
import { runCommand } from '../fixtures/command';

const text = (name: string) => readFileSync(join(packageRoot, name), 'utf8');
const result = (name: string) => JSON.parse(text(join('bench', 'results', name)));
const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] as number;

/** The rows of the first table whose header begins with `head`: the text of each cell, without the asterisks of bold type. */
function table(page: string, head: string): string[][] {
  const lines = text(page).split('\n');
  const start = lines.findIndex((line) => line.startsWith(head));
  if (start < 0) throw new Error(`${page} has no table that begins with ${head}`);
  const rows = lines.slice(start + 2);
  const end = rows.findIndex((line) => !line.startsWith('|'));
  return rows.slice(0, end).map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.replaceAll('*', '').trim()),
  );
}

test("README's table of a busy machine is that of bench/busy.js", () => {
  const measured: { busy: number; work: string; charactersPerSecond: number[]; shares: number[] }[] = result(
    'busy-amd-epyc-family-25-model-1-2.json',
  ).table;
  const rows = ['train16', 'train64', 'stream', 'streams', 'window'].map((work) =>
    measured
      .filter((row) => row.work === work)
      .sort((a, b) => a.busy - b.busy)
      .map(({ charactersPerSecond, shares }) => [charactersPerSecond[2], shares[0]] as [number, number]),
  );
  const shown = table('README.md', '| other busy processes').map(([, ...cells]) =>
    cells.map((cell) =>
      /^([\d,]+) \(([\d.]+)\)$/
        .exec(cell)
        ?.slice(1)
        .map((part) => Number(part.replace(',', ''))),
    ),
  );
  expect(shown.map((row) => row.map((cell) => cell?.[0]))).toEqual(rows.map((row) => row.map(([speed]) => speed)));
  // Shares are recorded with three digits and shown with two: 0.815 may become 0.81 or 0.82.
  for (const [i, row] of shown.entries()) {
    for (const [j, cell] of row.entries()) {
      expect(Math.abs((cell?.[1] as number) - (rows[i]?.[j]?.[1] as number))).toBeLessThan(0.0051);
    }
  }
});

test("README's shares on another busy machine are those of bench/busy.js", () => {
  const measured: { busy: number; shares: [number, number] }[] = result('busy-amd-epyc-family-26-model-2-2.json').table;
  const shares = (beside: boolean) => measured.flatMap((row) => (row.busy > 0 === beside ? [row.shares[0]] : []));
  const range = (values: number[]) => `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;
  const [idle, busy] = [shares(false), shares(true)];
  expect(busy.length).toBe(15);
  expect(busy.filter((share) => share < 0.9).length).toBe(3);
  expect(text('README.md').replaceAll('\n', ' ')).toContain(
    `${range(idle)} on the idle machine and ${range(busy)} on the busy one, three of fifteen below 0.9.`,
  );
});

interface Pair {
  peer: { name: string; versions: Record<string, string> };
  secondsPerEpoch: { ours: number; peer: number };
  trainingRatio: { median: number };
}

test("README's comparison with other frameworks is that of bench/peers", () => {
  const recipes: { job: { recipe: string }; pairs: Pair[] }[] = result(
    'peers-amd-epyc-family-26-model-2-2.json',
  ).recipes;
  const pairs = recipes.find(({ job }) => job.recipe === 'proj-basic')?.pairs as Pair[];
  const rows = table('README.md', '| who |');
  for (const [name, native] of [
    ['TensorFlow.js', 'tfjs-node'],
    ['Keras', 'keras'],
    ['PyTorch', 'torch'],
  ] as const) {
    const { secondsPerEpoch, trainingRatio } = pairs.find(({ peer }) => native in peer.versions) as Pair;
    const [, , , seconds, ratio] = rows.find(([who]) => who?.startsWith(name)) as string[];
    expect([name, Number(seconds?.replace(/[,s]/g, ''))]).toEqual([name, Math.round(secondsPerEpoch.peer)]);
    expect([name, ratio]).toEqual([name, `${trainingRatio.median.toFixed(1)} x`]);
  }
  const ours = rows.at(-1) as string[];
  expect(ours[3]).toBe(
    `${Math.round(pairs.find(({ peer }) => peer.name === 'Keras')?.secondsPerEpoch.ours as number)} s`,
  );
});

test("README's comparison beside busy processes is that of bench/peers", () => {
  const recipes: { busy: number; pairs: Pair[] }[] = result('peers-amd-epyc-family-25-model-1-2.json').recipes;
  const ratio = (name: string, busy: number) =>
    recipes
      .find((recipe) => recipe.busy === busy)
      ?.pairs.find(({ peer }) => peer.name === name)
      ?.trainingRatio.median.toFixed(2);
  const said = text('README.md').replaceAll('\n', ' ');
  expect(said).toContain(`PyTorch ${ratio('PyTorch', 0)} times as long as this package on the idle machine`);
  expect(said).toContain(`${ratio('PyTorch', 2)} times beside two busy processes`);
  expect(said).toContain(`Keras ${ratio('Keras', 0)} and ${ratio('Keras', 2)} times`);
});

test('the race is that of bench/race.js', () => {
  interface Race {
    seed: number;
    trainingSeconds: number;
    wallSeconds: number;
    lossWithDropout: number;
    loss: number;
  }
  const runs: Race[] = result('race-amd-epyc-family-26-model-2-2.json').runs;
  const shown = table('docs/reproduction.md', '| seed | training | from start to exit').slice(0, runs.length);
  expect(shown).toEqual(
    runs.map(({ seed, trainingSeconds, wallSeconds, lossWithDropout, loss }) => [
      ...[`${seed}`, `${trainingSeconds.toFixed(1)} s`, `${wallSeconds.toFixed(1)} s`],
      ...[lossWithDropout.toFixed(4), loss.toFixed(4)],
    ]),
  );
  const losses = runs.map(({ lossWithDropout }) => lossWithDropout);
  const [least, middle, most] = [Math.min(...losses), median(losses), Math.max(...losses)].map((loss) =>
    loss.toFixed(4),
  );
  expect(text('README.md')).toContain(`to ${middle} (three seeds: ${least} to ${most})`);
});

test('the plan of docs/best.md is that of bench/plan.js, and its table has as many trainings', () => {
  const { results }: { results: { planned: boolean; loss: number }[] } = result(
    'plan-amd-epyc-family-25-model-1-2.json',
  );
  const losses = (planned: boolean) =>
    results.flatMap((each) => (each.planned === planned ? [each.loss] : [])).sort((a, b) => a - b);
  const [plans, drawn] = [losses(true), losses(false)];
  const digits = (values: number[]) => values.map((value) => value.toFixed(4)).join(', ');
  expect(drawn.length).toBe(100);
  const shown = new Map(table('docs/best.md', '| | |').map(([what, figure]) => [what, figure]));
  expect(shown.get('the plan, the median of five')).toBe(median(plans).toFixed(4));
  expect(shown.get('the five')).toBe(digits(plans));
  expect(shown.get('the best of 100')).toBe(digits(drawn.slice(0, 1)));
  expect(shown.get('the next of them')).toBe(digits(drawn.slice(1, 5)));
  const middle = (((drawn[49] as number) + (drawn[50] as number)) / 2).toFixed(4);
  expect(shown.get('their median')).toBe(middle);
  const trainings = /trainings: (\d+)/.exec(text('lib/training/best-table.ts'))?.[1];
  expect(text('docs/best.md')).toContain(`${trainings} trainings of one and two layers`);
});

test('what weight decay does in docs/best.md is what bench/search.js has recorded', () => {
  interface Row {
    characters: number;
    layers: number;
    hidden: number;
    epochs: number;
    weightDecay?: number;
    loss: number;
  }
  const recorded: Row[] = text('bench/results/best-search.jsonl')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const characters = { 'tiny-shakespeare': 1_115_394, 'Alice in Wonderland': 144_424 };
  const shown = table('docs/best.md', '| text, model |').flatMap(([model, passes, ...losses]) => {
    const [, name, layers, hidden] = /^(.+), (\d+) x (\d+)$/.exec(model as string) as unknown as string[];
    return [0, 0.05, 0.1].flatMap((weightDecay, i) =>
      losses[i] === ''
        ? []
        : [
            {
              characters: characters[name as keyof typeof characters],
              ...{ layers: Number(layers), hidden: Number(hidden) },
              ...{ epochs: Number.parseInt(passes as string, 10), weightDecay, loss: Number(losses[i]) },
            },
          ],
    );
  });
  expect(shown.length).toBe(9);
  const key = ({ weightDecay = 0, ...row }: Row) =>
    [row.characters, row.layers, row.hidden, row.epochs, weightDecay, row.loss].join(' ');
  const known = new Set(recorded.map(key));
  expect(shown.map(key).filter((each) => !known.has(each))).toEqual([]);
});

test('two ranks beside two threads are as bench/scale.js has measured them', () => {
  const results: { launcher: string; hidden: number; ratio: number }[] = result(
    'scale-amd-epyc-family-25-model-1-2.json',
  ).results;
  const shown = table('docs/scale-out.md', '| | Open MPI').map(([what, ...cells]) => [
    Number(/^hidden (\d+)/.exec(what as string)?.[1]),
    ...cells.map((cell) => cell.slice(0, 4)),
  ]);
  const ratio = (hidden: number, launcher: string) =>
    results.find((each) => each.hidden === hidden && each.launcher === launcher)?.ratio.toFixed(2);
  expect(shown).toEqual(
    [512, 256].map((hidden) => [hidden, ratio(hidden, 'mpirun.openmpi'), ratio(hidden, 'mpirun.mpich')]),
  );
});

test("the reference's 50 epochs are those of the report", () => {
  const row = table('bench/results/reproduction/REPORT.md', "| run | the reference's best | ours |").at(0) ?? [];
  const [, , loss] = /epoch (\d+), loss (\d\.\d{4}), [\d,]+ s/.exec(row[2] ?? '') ?? [];
  expect([row[0], Number(loss)]).toEqual(['50 epochs', expect.any(Number)]);
  expect(text('docs/reproduction.md').replaceAll('\n', ' ')).toContain(`its best loss is ${loss}, after epoch`);
  expect(text('README.md').replaceAll('\n', ' ')).toContain(
    `comes to a loss of ${loss}, where the reference has 1.2534`,
  );
});

test('what bfloat16 gives a training is what bench/bf16.js has measured', () => {
  interface Bf16 {
    steps: { recipe: string; timesAsFast: number }[];
    losses: { seed: number; precision: string; trainingLoss: number; loss: number; lossWithDropout: number }[];
  }
  const { steps, losses }: Bf16 = result('bf16-amd-epyc-family-26-model-2-2.json');
  // The instruction and its emulation give the same losses.
  expect(losses).toEqual(result('bf16-amd-epyc-family-25-model-1-2.json').losses);
  const shown = table('docs/cpu-kernels.md', '| nats per character | floats | bfloat16 |').map((row) => row.slice(1));
  expect(shown).toEqual(
    (['lossWithDropout', 'loss', 'trainingLoss'] as const).map((which) =>
      ['fp32', 'bf16'].map((precision) =>
        losses.flatMap((row) => (row.precision === precision ? [row[which].toFixed(4)] : [])).join(', '),
      ),
    ),
  );
  const [fast, reference] = ['fast', 'proj-basic'].map((recipe) =>
    steps.find((each) => each.recipe === recipe)?.timesAsFast.toFixed(2),
  );
  expect(text('docs/cpu-kernels.md')).toContain(
    `${fast} times as long at the default recipe and ${reference} times at the reference's`,
  );
});

describe('what the documents name', () => {
  const pages = ['README.md', 'CHANGELOG.md', ...globSync('docs/*.md', { cwd: packageRoot })];

  it('is an option of a command, or of another program', async () => {
    const names = ['train', 'sample', 'score', 'import', 'export', 'serve', 'sweep', 'reproduce', 'info', 'build'];
    // Commander prints the help to standard output itself.
    const printed = jest.spyOn(process.stdout, 'write').mockReturnValue(true);
    for (const name of names) await runCommand(name, '--help');
    const known = new Set(printed.mock.calls.join('\n').match(/--[a-z][a-z-]*/g));
    printed.mockRestore();
    expect(known.size).toBeGreaterThan(80);
    const others = [
      // Options of npm, Docker, a compressor, launchers, and the programs in bench.
      ...[
        '--global',
        '--ignore-scripts',
        '--include',
        '--omit',
        '--gpus',
        '--cpus',
        '--long',
        '--busy',
        '--peers',
        '--recipe',
        '--table',
        '--texts',
      ],
      ...['--allow-run-as-root', '--bind-to', '--launcher', '--mca', '--mpi', '--no-python', '--nproc-per-node'],
      ...['--ntasks', '--signal', '--wrap'],
    ];
    const named = pages.flatMap((page) =>
      Array.from(text(page).matchAll(/(?<![\w-])--[a-z][a-z-]*/g), ([option]) => `${page}: ${option}`),
    );
    const unknown = named.filter((each) => {
      const option = each.split(': ')[1] as string;
      return !known.has(option) && !others.includes(option);
    });
    expect([...new Set(unknown)]).toEqual([]);
  });

  it('is a variable that the sources read', () => {
    const folders = ['lib/**/*.ts', 'native/**/*.{cpp,h}', 'cmake/*', 'scripts/*', 'CMakeLists.txt'];
    const sources = globSync(folders, { cwd: packageRoot }).map(text).join('\n');
    const names = pages.flatMap((page) => text(page).match(/\bCUDNN_LSTM_[A-Z_]+\b/g) ?? []);
    expect(names.length).toBeGreaterThan(10);
    expect([...new Set(names)].filter((name) => !sources.includes(name))).toEqual([]);
  });

  it('is a file of bench/results, each of which a document or a program names', () => {
    const said = [...pages, 'bench/README.md', 'bench/gpu/README.md'].map(text).join('\n');
    const named = Array.from(said.matchAll(/bench\/results\/([\w.-]+\.jsonl?)\b/g), ([, name]) => name as string);
    const files = readdirSync(join(packageRoot, 'bench', 'results'));
    expect(named.filter((name) => !files.includes(name))).toEqual([]);
  });
});
