import { createPrinter } from '../../../lib/cli/training-printer';
import type { StartEvent, TrainingEvent } from '../../../lib/training/events';
import { jsonLines, sinks } from '../../fixtures/sink';

const step: TrainingEvent = {
  type: 'step',
  epoch: 1,
  epochs: 2,
  step: 3,
  stepsPerEpoch: 10,
  totalSteps: 3,
  loss: 2.5,
  epochLoss: 2.75,
  gradientNorm: 0.5,
  learningRate: 0.001,
  charactersPerSecond: 12_345.6,
  etaSeconds: 75,
};

const events: TrainingEvent[] = [
  {
    type: 'start',
    time: '2020-01-01T00:00:00.000Z',
    version: '0.0.0',
    parameters: 801_583,
    device: 'CPU',
    deviceReason: 'asked for',
    corpus: { sources: ['a.txt'], characters: 1000, symbols: 47, sha256: 'x', notes: ['header stripped'] },
    trainingCharacters: 900,
    validationCharacters: 100,
    epochs: 2,
    stepsPerEpoch: 10,
    notes: [],
    out: 'runs/a',
  },
  step,
  {
    type: 'epoch',
    epoch: 1,
    epochs: 2,
    totalSteps: 10,
    loss: 2,
    bitsPerCharacter: 2 / Math.LN2,
    validationLoss: 2.2,
    validationBitsPerCharacter: 2.2 / Math.LN2,
    gradientNorm: 0.5,
    largestGradientNorm: 0.7,
    learningRate: 0.003,
    charactersPerSecond: 30_000,
    seconds: 1,
    elapsedSeconds: 1,
    etaSeconds: 1,
    best: true,
  },
  { type: 'checkpoint', kind: 'last', path: 'runs/a', totalSteps: 10 },
  { type: 'sample', epoch: 1, prompt: '', text: 'the cat sat' },
  {
    type: 'end',
    reason: 'finished',
    epoch: 2,
    epochs: 2,
    newSteps: 20,
    totalSteps: 20,
    elapsedSeconds: 2,
    device: 'CPU (avx2, 2 threads, fp32)',
    secondsPerEpoch: 1,
    best: { epoch: 1, loss: 2.2, bitsPerCharacter: 2.2 / Math.LN2, path: 'runs/a/b.safetensors' },
    out: 'runs/a',
  },
];

async function show(tty: boolean, json: boolean, env: NodeJS.ProcessEnv = {}) {
  const io = sinks(tty ? 120 : undefined);
  const printer = createPrinter(io, json, env);
  for (const event of events) await printer.print(event);
  printer.close();
  return { stdout: io.stdout.text, stderr: io.stderr.text };
}

it('writes plain lines to stderr and samples to stdout where there is no terminal', async () => {
  const { stdout, stderr } = await show(false, false);
  expect(stdout).toBe('--- sample, epoch 1 ---\nthe cat sat\n---\n');
  expect(stderr).toContain('801,583 parameters');
  expect(stderr).toContain('corpus: header stripped');
  expect(stderr).toContain(
    'epoch 1/2  ETA 1s  30,000 chars/s  loss 2.0000  validation 2.2000  best  3.174 bits/char  norm 0.500  lr 3.00e-3',
  );
  expect(stderr).toContain('best: epoch 1, loss 2.2000, 3.174 bits/char: runs/a/b.safetensors');
  expect(stderr).not.toContain('\u001b');
});

it('takes one line for the device, with what computes and why', async () => {
  const line = async (device: string, deviceReason: string) => {
    const io = sinks();
    await createPrinter(io, false).print({ ...(events[0] as StartEvent), device, deviceReason });
    return io.stderr.text.split('\n')[0];
  };
  const cpu = 'CPU, AVX2, 2 threads (no GPU: built without CUDA)';
  expect(await line('CPU (AVX2, 2 threads, fp32)', cpu)).toBe(`device: ${cpu}`);
  expect(await line('CPU (AVX2, 2 threads, bf16 in training, emulated)', cpu)).toBe(
    'device: CPU, AVX2, 2 threads, bf16 in training, emulated (no GPU: built without CUDA)',
  );
  expect(
    await line(
      'NVIDIA H100 (cuDNN 9.24.0, tf32, standard)',
      'NVIDIA H100, cuda:0, cuDNN 9.24.0 (a usable GPU was found)',
    ),
  ).toBe('device: NVIDIA H100, cuDNN 9.24.0, tf32, standard (a usable GPU was found)');
});

it('sums up a run on a GPU as such runs are noted down, and says nothing of one on a CPU', async () => {
  expect((await show(false, false)).stderr).not.toContain('GPU util');
  const io = sinks();
  const printer = createPrinter(io, false);
  await printer.print({
    type: 'end',
    reason: 'finished',
    epoch: 3,
    epochs: 3,
    newSteps: 30,
    totalSteps: 30,
    elapsedSeconds: 20,
    device: 'NVIDIA H100 (cuDNN 9.24.0, tf32, standard)',
    secondsPerEpoch: 5.25,
    gpu: {
      name: 'NVIDIA H100',
      gpuPercent: 87,
      memoryPercent: 31,
      memoryUsedBytes: 1.5 * 2 ** 30,
      memoryTotalBytes: 80 * 2 ** 30,
    },
  });
  expect(io.stderr.text).toContain(
    'GPU util: 87 %  Mem usage: 1.5 of 80.0 GiB  Time per epoch: 5.3s  (NVIDIA H100 (cuDNN 9.24.0, tf32, standard))',
  );
});

it('shows a bar on a terminal and takes it away', async () => {
  const { stderr } = await show(true, false);
  expect(stderr).toContain('epoch 1/2  [######----');
  expect(stderr).toContain('\u001b[?25l'); // The cursor is hidden,
  expect(stderr.lastIndexOf('\u001b[?25h')).toBeGreaterThan(stderr.lastIndexOf('\u001b[?25l')); // and shown again.
  expect(stderr).toContain('\u001b[1mepoch 1/2');
});

it('respects NO_COLOR', async () => {
  const { stderr } = await show(true, false, { NO_COLOR: '1' });
  expect(stderr).not.toContain('\u001b[1m');
});

it('writes one JSON object a line to stdout with --json, and nothing to stderr', async () => {
  const { stdout, stderr } = await show(true, true);
  expect(jsonLines(stdout)).toEqual(events);
  expect(stderr).toBe('');
});
