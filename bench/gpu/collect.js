// Combines the parts of scripts/gpu-check: the machine, what passed, and the timings with their ratios and floors. Prints JSON on stdout.
//
//   node bench/gpu/collect.js LOGS ADDON
const { execFileSync } = require('node:child_process');
const { existsSync, readdirSync, readFileSync } = require('node:fs');
const os = require('node:os');
const { join, resolve } = require('node:path');

const [logs, addonPath] = process.argv.slice(2);

function output(command, ...args) {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

// The commit as scripts/gpu-check --pack wrote it, for a machine without .git.
function carriedCommit() {
  const path = join(__dirname, '..', '..', '.gpu-check', 'carry', 'commit');
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

// The JSON lines of a part's output: what it had found when it ended, or was stopped.
function linesOf(name) {
  const path = join(logs, `${name}.out`);
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return /^[[{]/.test(line) ? [JSON.parse(line)] : [];
      } catch {
        return [];
      }
    });
}

// Parts that were asked for and did not run, and why.
function left() {
  const names = readdirSync(logs).filter((name) => name.endsWith('.left'));
  return Object.fromEntries(
    names.map((name) => [name.slice(0, -'.left'.length), readFileSync(join(logs, name), 'utf8').trim()]),
  );
}

// Each part that ran: its exit status and seconds.
function statuses() {
  return readdirSync(logs)
    .filter((name) => name.endsWith('.status'))
    .map((name) => {
      const [status, seconds] = readFileSync(join(logs, name), 'utf8').trim().split(' ').map(Number);
      return { name: name.slice(0, -'.status'.length), status, seconds };
    });
}

async function main() {
  const raw = linesOf('raw-loop');
  const own = linesOf('package');
  const torch = linesOf('torch');
  const [floors] = linesOf('floors').slice(-1);
  const comparisons = [];
  for (const entry of own.filter(({ millisecondsPerStep }) => millisecondsPerStep !== undefined)) {
    const same = (other) => other.precision === entry.precision && other.batch === entry.batch;
    const ceiling = raw.find(same);
    const peers = torch.filter((other) => same(other) && other.millisecondsPerStep !== undefined);
    const peer = (mode) => peers.find((other) => other.mode === mode)?.millisecondsPerStep;
    const over = (other) => (other === undefined ? undefined : other / entry.millisecondsPerStep);
    const arithmetic = floors?.arithmeticFloorSecondsPerEpoch[entry.precision];
    const latency = floors?.latencyFloorSecondsPerEpoch[entry.batch];
    comparisons.push({
      precision: entry.precision,
      batch: entry.batch,
      algorithm: entry.algorithm,
      ofRawGraph: ceiling && entry.millisecondsPerStep / ceiling.graphMilliseconds,
      // With the masks between the layers, as the package runs it: one call per layer, T in one piece.
      ofRawMaskedGraph:
        ceiling?.maskedGraphMilliseconds && entry.millisecondsPerStep / ceiling.maskedGraphMilliseconds[1],
      ofRawEager: ceiling && entry.millisecondsPerStep / ceiling.eagerMilliseconds,
      fasterThanTorchEager: over(peer('eager')),
      fasterThanTorchCompiled: over(peer('compiled')),
      fasterThanTorchGraphed: over(peer('graphed')),
      // The higher floor bounds an epoch; how far above it this one is.
      ...(floors && {
        boundBy: arithmetic > latency ? 'arithmetic' : 'latency',
        timesItsFloor: entry.secondsPerEpoch / Math.max(arithmetic, latency),
      }),
    });
  }
  console.log(
    JSON.stringify(
      {
        kind: 'gpu-check',
        date: new Date().toISOString(),
        commit: output('git', 'rev-parse', 'HEAD') ?? carriedCommit(),
        machine: {
          cpu: os.cpus()[0]?.model,
          cores: os.cpus().length,
          memoryBytes: os.totalmem(),
          kernel: os.release(),
          node: process.version,
          nvcc: output('nvcc', '--version')?.split('\n').at(-1),
          gpu: output(
            'nvidia-smi',
            '--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit',
            '--format=csv,noheader',
          ),
          cuda: existsSync(addonPath) ? await require(resolve(addonPath)).cudaInfo() : undefined,
        },
        passed: statuses().flatMap(({ name, status }) => (status === 0 ? [name] : [])),
        failed: statuses().flatMap(({ name, status }) => (status === 0 ? [] : [name])),
        secondsOfPart: Object.fromEntries(statuses().map(({ name, seconds }) => [name, seconds])),
        left: left(),
        selfCheck: linesOf('self-check').at(-1),
        package: own,
        rawLoop: raw,
        torch,
        floors,
        workspace: linesOf('workspace'),
        comparisons,
      },
      undefined,
      2,
    ),
  );
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
