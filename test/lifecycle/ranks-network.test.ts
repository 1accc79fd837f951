/**
 * Four ranks on two machines, as far as one machine can be two: network namespaces with their own names and addresses, and between them
 * a link that fails in mid-run (scripts/two-machines.js).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../lib/device/native';
import { compiled, type Ended, itWhere, node } from '../fixtures/child';
import { type Launcher, type LaunchOptions, mpich, openMpi } from '../fixtures/launchers';
import {
  args,
  curve,
  events,
  expectSameCurve,
  expectSameTensors,
  inTraining,
  last,
  makeTale,
  small,
} from '../fixtures/rank-runs';

const program = join(packageRoot, 'scripts', 'two-machines.js');
function whyNot(): string | undefined {
  const { status, stderr } = spawnSync(process.execPath, [program, '--check'], { encoding: 'utf8' });
  return status === 0 ? undefined : stderr.trim();
}
const noNetwork = openMpi.missing && mpich.missing ? undefined : whyNot();

/** What the program reports at the end. */
interface Report {
  code: number | null;
  bytes: number;
  left: string[];
}

let folder: string;
let corpus: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'network-'));
  corpus = join(folder, 'tale.txt');
  writeFileSync(corpus, makeTale());
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Open MPI passes only named variables on to other machines. */
const onBoth = new Map<Launcher, readonly string[]>([
  [openMpi, ['--host', 'first:2,second:2', '-x', 'CUDNN_LSTM_TIMEOUT']],
  [mpich, ['-hosts', 'first:2,second:2']],
]);

interface Network {
  /** What happens to the network in the second epoch. */
  failure?: 'cut' | 'drop';
  /** Seconds to wait after that for all to end. */
  patience?: number;
  /** More options for the launcher. */
  more?: readonly string[];
  /** Seconds until a rank gives up. */
  waits?: number;
}

/** Runs `train` as two ranks on each of two machines. */
async function train(
  launcher: Launcher,
  given: readonly string[],
  { failure, patience = 60, more = [], waits = 300 }: Network = {},
): Promise<Ended & Report> {
  const options: LaunchOptions = {
    wrapper: [process.execPath, program, '--patience', String(patience)],
    more: [...(onBoth.get(launcher) as string[]), ...more],
    env: { CUDNN_LSTM_TIMEOUT: String(waits) },
    inputStaysOpen: true,
    ...(failure ? inTraining((child) => child.stdin?.write(`${failure}\n`)) : {}),
  };
  const ended = await launcher.launch(4, [compiled('cli/main.js'), 'train', ...given, '--json'], options);
  const report = JSON.parse(ended.stderr.trimEnd().split('\n').at(-1) as string) as Report;
  return { ...ended, ...report };
}

/** All have ended, and none wrote anything to stderr. */
function expectSuccess({ code, left, stderr }: Ended & Report): void {
  const said = stderr.trimEnd().split('\n').slice(0, -1);
  expect({ code, left, said }).toEqual({ code: 0, left: [], said: [] });
}

const flags = { ...small, 'batch-size': 64, epochs: 6, dropout: 0.2 };
const anew = (name: string) => [corpus, ...args({ ...flags, out: join(folder, name) })];

function underEach(name: string, which: readonly Launcher[], test: (launcher: Launcher) => Promise<void>): void {
  for (const launcher of which) {
    const missing = launcher.missing ?? noNetwork;
    itWhere(missing === undefined, missing ?? '')(`${launcher.name}: ${name}`, () => test(launcher));
  }
}

/** The same ranks continue a run that was cut off, to the same bits. */
async function expectToGoOn(launcher: Launcher, out: string, whole: string): Promise<void> {
  const { metadata } = await last(out);
  expect(metadata.step).toBeGreaterThan(0);
  const threads = ['--device', 'cpu', '--threads', '1'];
  expectSuccess(await train(launcher, ['--resume', out, ...threads]));
  expect(events(out).filter(({ type }) => type === 'start')[1]).toMatchObject({ resumed: { step: metadata.step } });
  expectSameTensors(await last(out), await last(whole));
  expect(curve(out)).toEqual(curve(whole));
}

underEach(
  'the losses are those of one process, and a run that was cut off goes on',
  [openMpi, mpich],
  async (launcher) => {
    expect((await node('cli/main.js', ['train', ...anew('one')])).code).toBe(0);
    const whole = await train(launcher, anew('whole'));
    expectSuccess(whole);
    expectSameCurve(curve(join(folder, 'whole')), curve(join(folder, 'one')));
    // The gradients went over the network at every step.
    const { parameters } = events(join(folder, 'whole'))[0] as { parameters: number };
    const { totalSteps } = events(join(folder, 'whole')).at(-1) as { totalSteps: number };
    expect(whole.bytes).toBeGreaterThan(totalSteps * parameters * 4);

    // Nobody tells the ranks: they give up by themselves. MPICH's launcher then ends, while Open MPI's waits for its daemon there.
    const failure = launcher === mpich ? 'drop' : 'cut';
    const patience = launcher === mpich ? 60 : 8;
    const cut = await train(launcher, anew('cut'), { failure, patience, waits: 3 });
    expect(cut.stderr).toMatch(/^rank \d of 4: the other ranks did not answer in 3 s: /m);
    if (launcher === mpich) expect([cut.code, cut.left]).toEqual([4, []]);
    else expect(cut.left.filter((name) => name.startsWith('node'))).toEqual([]);
    await expectToGoOn(launcher, join(folder, 'cut'), join(folder, 'whole'));
  },
);

underEach('told to look whether its daemons are there, the launcher ends all', [openMpi], async (launcher) => {
  const look = { time: 2, intvl: 1, probes: 2 };
  const more = Object.entries(look).flatMap(([name, n]) => ['--mca', `oob_tcp_keepalive_${name}`, String(n)]);
  const { code, left, stderr } = await train(launcher, anew('cut'), { failure: 'cut', more });
  expect([code === 0, left, stderr]).toEqual([false, [], expect.stringContaining('lost communication with a remote')]);
  expect((await last(join(folder, 'cut'))).metadata.step).toBeGreaterThan(0);
});

underEach('ranks that have one step to make end in good order, five times', [openMpi, mpich], async (launcher) => {
  const short = { ...flags, 'batch-size': 256, epochs: 1 };
  for (let round = 0; round < 5; ++round)
    expectSuccess(await train(launcher, [corpus, ...args({ ...short, out: join(folder, String(round)) })]));
});
