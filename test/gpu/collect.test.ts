/** What scripts/gpu-check computes from its parts: ratios to the peers and the floor that bounds each timing. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

test('puts timings, peers and floors together', () => {
  const logs = mkdtempSync(join(tmpdir(), 'cudnn-lstm-logs-'));
  try {
    const put = (name: string, ...values: unknown[]) => {
      const lines = values.map((value) => JSON.stringify(value));
      // A stopped part may leave half a line.
      writeFileSync(join(logs, `${name}.out`), `a line of no interest\n${lines.join('\n')}\n{"precision": "tf`);
      writeFileSync(join(logs, `${name}.status`), '0 3\n');
    };
    const timing = (batch: number, millisecondsPerStep: number, secondsPerEpoch: number) => ({
      precision: 'tf32',
      batch,
      algorithm: 'standard',
      millisecondsPerStep,
      secondsPerEpoch,
    });
    put('package', timing(64, 2, 6), timing(2048, 10, 4), { streams: 1, microsecondsPerTick: 50 });
    put('raw-loop', {
      precision: 'tf32',
      batch: 64,
      eagerMilliseconds: 4,
      graphMilliseconds: 1,
      maskedGraphMilliseconds: { 1: 1.6, 2: 1.25 },
    });
    put(
      'torch',
      { torch: '2.11' },
      { precision: 'tf32', batch: 64, mode: 'eager', millisecondsPerStep: 6 },
      { precision: 'tf32', batch: 64, mode: 'compiled', error: 'no compiler' },
      { precision: 'tf32', batch: 64, mode: 'graphed', millisecondsPerStep: 3 },
    );
    put('floors', {
      arithmeticFloorSecondsPerEpoch: { tf32: 2 },
      latencyFloorSecondsPerEpoch: { 64: 3, 2048: 0.1 },
    });
    writeFileSync(join(logs, 'lifecycle.status'), '1 9\n');
    writeFileSync(join(logs, 'memcheck.left'), 'the time was up\n');
    const collect = join(__dirname, '..', '..', 'bench', 'gpu', 'collect.js');
    const report = JSON.parse(execFileSync(process.execPath, [collect, logs, '/no/addon.node'], { encoding: 'utf8' }));
    expect(report.failed).toEqual(['lifecycle']);
    expect(report.left).toEqual({ memcheck: 'the time was up' });
    expect(report.package).toHaveLength(3);
    expect(report.comparisons).toEqual([
      {
        precision: 'tf32',
        batch: 64,
        algorithm: 'standard',
        ofRawGraph: 2,
        ofRawMaskedGraph: 1.25,
        ofRawEager: 0.5,
        fasterThanTorchEager: 3,
        fasterThanTorchGraphed: 1.5,
        boundBy: 'latency',
        timesItsFloor: 2,
      },
      { precision: 'tf32', batch: 2048, algorithm: 'standard', boundBy: 'arithmetic', timesItsFloor: 2 },
    ]);
  } finally {
    rmSync(logs, { recursive: true, force: true });
  }
});
