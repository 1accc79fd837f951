import type { GpuUsage } from '../../../lib/device/native';
import { GpuMonitor } from '../../../lib/training/gpu-monitor';

const reading = (gpuPercent: number, memoryUsedBytes: number): GpuUsage => ({
  name: 'Fake GPU',
  gpuPercent,
  memoryPercent: gpuPercent / 2,
  memoryUsedBytes,
  memoryTotalBytes: 1000,
});
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A monitor with the given readings and a fake clock. */
function monitor(readings: (GpuUsage | null | Error)[]) {
  const clock = { now: 0, reads: 0 };
  const read = async () => {
    const next = readings[Math.min(clock.reads++, readings.length - 1)];
    if (next instanceof Error) throw next;
    return next ?? null;
  };
  return { clock, monitor: new GpuMonitor(read, () => clock.now) };
}

it('gives the mean percentages and the largest memory of an epoch, and of the run', async () => {
  const { clock, monitor: gpu } = monitor([reading(40, 300), reading(60, 200), reading(80, 500)]);
  for (clock.now = 0; clock.now < 2200; clock.now += 100) {
    gpu.poll();
    await settled();
  }
  expect(clock.reads).toBe(2); // Due after a quarter of a second, and again a second later.
  expect(await gpu.endEpoch()).toEqual({ ...reading(50, 300), memoryPercent: 25 });
  clock.now = 5000;
  gpu.poll();
  await settled();
  expect(await gpu.endEpoch()).toEqual(reading(80, 500));
  expect(gpu.summary()).toEqual({ ...reading(60, 500), memoryPercent: 30 });
});

it('has one reading even of an epoch that is shorter than the interval', async () => {
  const { clock, monitor: gpu } = monitor([reading(10, 1)]);
  gpu.poll();
  expect(clock.reads).toBe(0);
  expect(await gpu.endEpoch()).toEqual(reading(10, 1));
});

it('never has two readings under way, and does not wait for one', async () => {
  let finish = (_: GpuUsage) => {};
  let reads = 0;
  let now = 0;
  const gpu = new GpuMonitor(
    () => {
      reads++;
      return new Promise((resolve) => {
        finish = resolve;
      });
    },
    () => now,
  );
  for (now = 0; now < 10_000; now += 500) gpu.poll();
  expect(reads).toBe(1);
  const ended = gpu.endEpoch();
  finish(reading(8, 7));
  expect(await ended).toEqual(reading(8, 7));
});

it.each([
  ['null', null],
  ['an error', new Error('no NVML')],
])('is silent for good after %s', async (_, answer) => {
  const { clock, monitor: gpu } = monitor([answer, reading(1, 1)]);
  for (clock.now = 0; clock.now < 5000; clock.now += 500) {
    gpu.poll();
    await settled();
  }
  expect(await gpu.endEpoch()).toBeUndefined();
  expect(clock.reads).toBe(1);
  expect(gpu.summary()).toBeUndefined();
});

it('asks nobody where there is no GPU', async () => {
  const gpu = new GpuMonitor(undefined);
  gpu.poll();
  expect(await gpu.endEpoch()).toBeUndefined();
});
