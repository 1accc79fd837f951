/**
 * Training events for people: on a terminal a progress bar and lines above it, elsewhere plain lines; all on stderr. Samples
 * go to stdout, as they are what the model makes. For programs: one JSON object a line on stdout.
 */
import { SingleBar } from 'cli-progress';
import type { GpuUsage } from '../device/native';
import { formatDuration } from '../training/duration';
import type { EndEvent, EpochEvent, SampleEvent, StartEvent, StepEvent, TrainingEvent } from '../training/events';
import { type CommandIo, writeAndDrain } from './command';

/** Shows events one by one; `close` leaves the terminal tidy whatever happened. */
export interface EventPrinter {
  print(event: TrainingEvent): Promise<void>;
  close(): void;
}

/** Step lines come at most this often, in milliseconds. */
const jsonInterval = 1000;
const lineInterval = 10_000;

/** Chooses how to show events. */
export function createPrinter(io: CommandIo, json: boolean, env: NodeJS.ProcessEnv = process.env): EventPrinter {
  if (json) return new JsonPrinter(io);
  const stderr = io.stderr as NodeJS.WritableStream & { isTTY?: boolean };
  const style = styles(stderr.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb');
  return stderr.isTTY ? new BarPrinter(io, style) : new LinePrinter(io, style);
}

class JsonPrinter implements EventPrinter {
  #next = 0;

  constructor(readonly io: CommandIo) {}

  async print(event: TrainingEvent): Promise<void> {
    if (event.type === 'step') {
      if (performance.now() < this.#next) return;
      this.#next = performance.now() + jsonInterval;
    }
    await writeAndDrain(this.io.stdout, `${JSON.stringify(event)}\n`);
  }

  close(): void {}
}

class LinePrinter implements EventPrinter {
  #next = performance.now() + lineInterval;

  constructor(
    protected readonly io: CommandIo,
    protected readonly style: Style,
  ) {}

  async print(event: TrainingEvent): Promise<void> {
    switch (event.type) {
      case 'start':
        for (const line of startLines(event)) this.line(line);
        break;
      case 'step':
        this.step(event);
        break;
      case 'epoch':
        this.line(epochLine(event, this.style));
        this.#next = performance.now() + lineInterval;
        break;
      case 'sample':
        await writeAndDrain(this.io.stdout, sampleText(event));
        break;
      case 'checkpoint':
        break;
      case 'end':
        for (const line of endLines(event, this.style)) this.line(line);
    }
  }

  close(): void {}

  protected step(event: StepEvent): void {
    if (performance.now() < this.#next) return;
    this.#next = performance.now() + lineInterval;
    this.line(
      `epoch ${event.epoch}/${event.epochs}  step ${count(event.step)}/${count(event.stepsPerEpoch)}  ` +
        `loss ${event.epochLoss.toFixed(4)}  ${rates(event)}`,
    );
  }

  protected line(text: string): void {
    this.io.stderr.write(`${text}\n`);
  }
}

/** A bar for the epoch in progress. It is taken away before anything else is written. */
class BarPrinter extends LinePrinter {
  #bar: SingleBar | undefined;

  override async print(event: TrainingEvent): Promise<void> {
    if (event.type === 'epoch' || event.type === 'end') this.close();
    await super.print(event);
  }

  override close(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  protected override step(event: StepEvent): void {
    const payload = {
      head: `epoch ${event.epoch}/${event.epochs}`,
      tail: `loss ${event.epochLoss.toFixed(4)}  ${rates(event)}`,
    };
    if (this.#bar) {
      this.#bar.update(event.step, payload);
      return;
    }
    this.#bar = new SingleBar({
      stream: this.io.stderr,
      format: '{head} |{bar}| {value}/{total}  {tail}',
      barCompleteChar: '#',
      barIncompleteChar: '-',
      barsize: 24,
      fps: 5,
      clearOnComplete: true,
      hideCursor: true,
      gracefulExit: false, // Signals are the command's business.
    });
    this.#bar.start(event.stepsPerEpoch, event.step, payload);
  }
}

interface Style {
  bold(text: string): string;
  dim(text: string): string;
}

function styles(colours: boolean): Style {
  const wrap = (code: number) => (text: string) => (colours ? `\u001b[${code}m${text}\u001b[22m` : text);
  return { bold: wrap(1), dim: wrap(2) };
}

function startLines(event: StartEvent): string[] {
  const { corpus } = event;
  return [
    `device: ${event.device}; ${event.deviceReason}`,
    `corpus: ${corpus.sources.join(', ')}: ${count(corpus.characters)} characters, ${corpus.symbols} symbols`,
    ...corpus.notes.map((note) => `corpus: ${note}`),
    `model: ${count(event.parameters)} parameters`,
    `training: ${count(event.epochs)} epochs of ${count(event.stepsPerEpoch)} steps over ${count(event.trainingCharacters)} characters` +
      (event.validationCharacters > 0 ? `, validation on the last ${count(event.validationCharacters)}` : ''),
    ...event.notes.map((note) => `run: ${note}`),
    ...(event.out ? [`run: ${event.out}`] : []),
    ...(event.resumed
      ? [`resumed: ${event.resumed.checkpoint} at epoch ${event.resumed.epoch + 1}, step ${count(event.resumed.step)}`]
      : []),
  ];
}

function epochLine(event: EpochEvent, style: Style): string {
  const parts = [
    `${style.bold(`epoch ${event.epoch}/${event.epochs}`)}`,
    `loss ${event.loss.toFixed(4)}`,
    `${event.bitsPerCharacter.toFixed(3)} bits/char`,
    ...(event.validationLoss === undefined
      ? []
      : [
          `validation ${event.validationLoss.toFixed(4)} (${(event.validationBitsPerCharacter ?? 0).toFixed(3)} bits/char)`,
        ]),
    `norm ${event.gradientNorm.toPrecision(3)}`,
    `lr ${event.learningRate.toExponential(2)}`,
    `${count(event.charactersPerSecond)} chars/s`,
    `ETA ${formatDuration(event.etaSeconds)}`,
    ...(event.best ? [style.bold('best')] : []),
  ];
  return parts.join('  ');
}

function rates(event: StepEvent): string {
  return (
    `norm ${event.gradientNorm.toPrecision(3)}  lr ${event.learningRate.toExponential(2)}  ` +
    `${count(event.charactersPerSecond)} chars/s  ETA ${formatDuration(event.etaSeconds)}`
  );
}

function sampleText(event: SampleEvent): string {
  const prompt = event.prompt === '' ? '' : `after ${JSON.stringify(event.prompt)}\n`;
  return `--- sample, epoch ${event.epoch} ---\n${prompt}${event.text.trimEnd()}\n---\n`;
}

const reasons: Record<EndEvent['reason'], string> = {
  finished: 'finished',
  'early-stopping': 'stopped early: no new best for a while (--patience)',
  'max-time': 'stopped: the time is up (--max-time)',
  aborted: 'stopped',
};

function endLines(event: EndEvent, style: Style): string[] {
  const { best, out } = event;
  const steps = `${count(event.epoch)} epochs, ${count(event.totalSteps)} steps, ${formatDuration(event.elapsedSeconds)}`;
  return [
    style.bold(`${reasons[event.reason]}: ${steps}`),
    ...(best
      ? [
          `best: epoch ${best.epoch}, loss ${best.loss.toFixed(4)}, ${best.bitsPerCharacter.toFixed(3)} bits/char` +
            (best.path ? `: ${best.path}` : ''),
        ]
      : []),
    ...(event.gpu ? [gpuLine(event.gpu, event.device, event.secondsPerEpoch)] : []),
    ...(out ? [style.dim(`sample from it: cudnn-lstm sample ${out}   go on: cudnn-lstm train --resume ${out}`)] : []),
  ];
}

/** The three figures that notes on GPU runs are used to give, and what they are of. */
function gpuLine(gpu: GpuUsage, device: string, secondsPerEpoch: number | undefined): string {
  const gibibytes = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  return (
    `GPU util: ${gpu.gpuPercent} %  Mem usage: ${gibibytes(gpu.memoryUsedBytes)} of ${gibibytes(gpu.memoryTotalBytes)} GiB  ` +
    `Time per epoch: ${secondsPerEpoch === undefined ? '?' : formatDuration(secondsPerEpoch)}  (${device})`
  );
}

function count(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString('en') : '?';
}
