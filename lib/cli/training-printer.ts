/**
 * Shows training events. For people: on a terminal a progress bar, with lines above it that fit its width; elsewhere plain lines; all on
 * stderr. Samples go to stdout, as they are what the model makes. For programs: one JSON object per line on stdout.
 */
import { nameSome } from '../corpus/names';
import { nameCharacters } from '../corpus/vocabulary';
import type { GpuUsage } from '../device/native';
import { plural } from '../numbers';
import { pathArgument } from '../shell';
import { formatDuration } from '../training/duration';
import type {
  BaselineEvent,
  EndEvent,
  EpochEvent,
  SampleEvent,
  StartEvent,
  StepEvent,
  TrainingEvent,
  ValidationEvent,
} from '../training/events';
import type { CommandIo } from './command';
import { commandLine } from './invocation';
import { columnsOf, fitParts, type Part, wholeNumber } from './layout';
import { type LossPoint, lossChart } from './loss-chart';
import { pass, printJson, printText, say, sayCommand } from './output';

/** Shows events one by one; `close` leaves the terminal tidy whatever happened. */
export interface EventPrinter {
  print(event: TrainingEvent): Promise<void>;
  close(): void;
  /** After the last event: shows what the best checkpoint writes, and what can be done next. */
  conclude(
    end: EndEvent,
    sample: Pick<SampleEvent, 'prompt' | 'text'> | undefined,
    /** Lines about how much of it is in the corpus. */
    copies?: readonly string[],
  ): Promise<void>;
}

/** Shortest time between step lines, in milliseconds. */
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
    await printJson(this.io.stdout, event);
  }

  close(): void {}
  async conclude(): Promise<void> {}
}

class LinePrinter implements EventPrinter {
  #next = performance.now() + lineInterval;
  readonly #losses: LossPoint[] = [];
  protected unit: Unit = units.character;

  constructor(
    protected readonly io: CommandIo,
    protected readonly style: Style,
  ) {}

  async print(event: TrainingEvent): Promise<void> {
    switch (event.type) {
      case 'start':
        this.unit = units[event.unit ?? 'character'];
        for (const line of startLines(event, this.unit)) this.line(line);
        break;
      case 'baseline':
        this.line(baselineLine(event, this.unit));
        break;
      case 'step':
        this.step(event);
        break;
      case 'epoch':
        this.#losses.push({ epoch: event.epoch, training: event.loss, validation: event.validationLoss });
        this.parts(epochParts(event, this.style, this.unit));
        break;
      case 'validation':
        this.#losses.push({ epoch: event.totalSteps / event.stepsPerEpoch, validation: event.validationLoss });
        this.parts(validationParts(event, this.style, this.unit));
        break;
      case 'sample':
        await printText(this.io.stdout, sampleText(event, `sample, epoch ${event.epoch}`));
        break;
      case 'checkpoint':
        break;
      case 'end':
        for (const line of lossChart(this.#losses, this.width)) this.line(line);
        for (const line of endLines(event, this.unit)) this.line(line, this.style.bold);
    }
  }

  close(): void {}

  async conclude(
    end: EndEvent,
    sample: Pick<SampleEvent, 'prompt' | 'text'> | undefined,
    copies: readonly string[] = [],
  ): Promise<void> {
    if (sample && end.best) {
      await printText(this.io.stdout, sampleText(sample, `sample of the best, epoch ${end.best.epoch}`));
    }
    for (const line of copies) this.line(line);
    for (const line of hints(end)) sayCommand(this.io.stderr, line);
  }

  protected get width(): number | undefined {
    const columns = columnsOf(this.io.stderr);
    return columns === undefined ? undefined : columns - 1; // A full line makes some terminals begin another.
  }

  protected step(event: StepEvent): void {
    if (performance.now() < this.#next) return;
    this.parts([
      { text: `epoch ${event.epoch}/${event.epochs}`, rank: 0 },
      { text: `step ${wholeNumber(event.step)}/${wholeNumber(event.stepsPerEpoch)}`, rank: 0 },
      ...stepParts(event, this.unit),
    ]);
  }

  /** Prints a line of progress, and puts off the next step line. */
  protected parts(parts: readonly Part[]): void {
    pass(this.io.stderr, `${fitParts(parts, this.width)}\n`); // Figures, and the styles around them.
    this.#next = performance.now() + lineInterval;
  }

  protected line(text: string, style: (text: string) => string = (plain) => plain): void {
    say(this.io.stderr, text, style);
  }
}

const [hideCursor, showCursor] = ['\u001b[?25l', '\u001b[?25h'];
/** Milliseconds between redraws of the bar. */
const redrawEvery = 200;

/** A bar for the epoch in progress, removed before anything else is written. */
class BarPrinter extends LinePrinter {
  #drawn = Number.NEGATIVE_INFINITY;
  #visible = false;

  override async print(event: TrainingEvent): Promise<void> {
    if (event.type === 'epoch' || event.type === 'validation' || event.type === 'end') this.close();
    await super.print(event);
  }

  override close(): void {
    if (this.#visible) pass(this.io.stderr, `\r\u001b[K${showCursor}`);
    this.#visible = false;
  }

  protected override step(event: StepEvent): void {
    const now = performance.now();
    if (this.#visible && now - this.#drawn < redrawEvery) return;
    this.#drawn = now;
    if (!this.#visible) pass(this.io.stderr, hideCursor);
    this.#visible = true;
    pass(this.io.stderr, `\r${barLine(event, this.unit, this.width ?? 79)}\u001b[K`);
  }
}

/** Epoch, bar and steps take the room that the figures leave; on a narrow terminal the bar goes last. */
function barLine(event: StepEvent, unit: Unit, width: number): string {
  const { step: value } = event;
  const share = Math.min(1, value / event.stepsPerEpoch);
  const bar = (size: number) => {
    const done = Math.floor(share * size);
    return `[${'#'.repeat(done)}${'-'.repeat(size - done)}]`;
  };
  return fitParts(
    [
      { text: `epoch ${event.epoch}/${event.epochs}`, rank: 0 },
      { text: bar(width >= 110 ? 20 : 8), rank: 1 },
      { text: `${value}/${event.stepsPerEpoch}`, rank: 2 },
      ...stepParts(event, unit),
    ],
    width,
  );
}

/** What a symbol is called in figures. */
interface Unit {
  readonly short: string;
  readonly many: string;
}

const units = { character: { short: 'char', many: 'characters' }, byte: { short: 'byte', many: 'bytes' } } as const;

interface Style {
  bold(text: string): string;
}

function styles(colours: boolean): Style {
  return { bold: (text) => (colours ? `\u001b[1m${text}\u001b[22m` : text) };
}

function startLines(event: StartEvent, { many }: Unit): string[] {
  const { corpus } = event;
  const validated = event.validationCharacters > 0 ? `, validation on ${heldOut(event)}` : '';
  return [
    `device: ${deviceText(event)}`,
    `corpus: ${nameSome(corpus.sources)}: ${wholeNumber(corpus.characters)} ${many}, ${corpus.symbols} symbols`,
    ...corpus.notes.map((note) => `corpus: ${note}`),
    `model: ${wholeNumber(event.parameters)} parameters`,
    `training: ${plural(event.epochs, 'epoch')} of ${plural(event.stepsPerEpoch, 'step')} over ` +
      `${wholeNumber(event.trainingCharacters)} ${many}${validated}`,
    ...(event.from ? [fromLine(event.from)] : []),
    ...(event.validation?.notes ?? []).map((note) => `validation: ${note}`),
    ...(event.kept ? [keptLine(event.kept, many), ...event.kept.notes.map((note) => `kept: ${note}`)] : []),
    ...event.notes.map((note) => `run: ${note}`),
    ...(event.out ? [`run: ${event.out}`] : []),
    ...(event.resumed ? [resumedLine(event.resumed, event)] : []),
  ];
}

function fromLine({ checkpoint, newSymbols, frozenParameters }: NonNullable<StartEvent['from']>): string {
  const added =
    newSymbols.length === 0
      ? 'no new symbols'
      : `${plural(newSymbols.length, 'new symbol')} (${nameCharacters(newSymbols)})`;
  const frozen = frozenParameters > 0 ? `, ${wholeNumber(frozenParameters)} parameters frozen` : '';
  return `from: ${checkpoint}, ${added}${frozen}`;
}

function keptLine({ sources, characters, sequences }: NonNullable<StartEvent['kept']>, many: string): string {
  return `kept: ${nameSome(sources)}: ${wholeNumber(characters)} ${many}, ${plural(sequences, 'sequence')} of every step`;
}

function baselineLine({ validationBitsPerCharacter, keptBitsPerCharacter }: BaselineEvent, { short }: Unit): string {
  const kept = keptBitsPerCharacter === undefined ? '' : `, of the kept one ${keptBitsPerCharacter.toFixed(3)}`;
  return `before: the model knows the new text to ${validationBitsPerCharacter.toFixed(3)} bits/${short}${kept}`;
}

/** `the last 1,000`, `10,000 from 10 places` or `2,000 of others.txt`. */
function heldOut({ validationCharacters, validationPlaces, validation }: StartEvent): string {
  const count = wholeNumber(validationCharacters);
  if (validation) return `${count} of ${nameSome(validation.sources)}`;
  return validationPlaces === undefined ? `the last ${count}` : `${count} from ${validationPlaces} places`;
}

/** For a GPU also names the precision and algorithm in use, and why the GPU was chosen; for a CPU, says if it does not train in fp32. */
function deviceText({ device, deviceReason }: StartEvent): string {
  const [, name, details] = /^(.*?) \((.*)\)$/.exec(device) ?? [];
  const [, why] = /\(([^()]*)\)$/.exec(deviceReason) ?? [];
  if (!details || !why) return deviceReason;
  if (!device.startsWith('CPU')) return `${name}, ${details} (${why})`;
  const [, arithmetic] = /, (bf16 in training.*)$/.exec(details) ?? [];
  return arithmetic ? deviceReason.replace(/ \([^()]*\)$/, `, ${arithmetic}$&`) : deviceReason;
}

function resumedLine({ checkpoint, epoch, step }: NonNullable<StartEvent['resumed']>, { epochs }: StartEvent): string {
  const place = epoch >= epochs ? `with ${plural(epoch, 'epoch')} done` : `in epoch ${epoch + 1}`;
  return `resumed: ${checkpoint}, ${place}, after ${plural(step, 'step')}`;
}

function epochParts(event: EpochEvent, style: Style, unit: Unit): Part[] {
  const { validationLoss, validationBitsPerCharacter: validationBits } = event;
  const bits = validationBits ?? event.bitsPerCharacter;
  return [
    { text: `epoch ${event.epoch}/${event.epochs}`, rank: 0, style: style.bold },
    { text: `ETA ${formatDuration(event.etaSeconds)}`, rank: 2 },
    { text: `${wholeNumber(event.charactersPerSecond)} ${unit.short}s/s`, rank: 3 },
    { text: `loss ${event.loss.toFixed(4)}`, rank: 1 },
    ...(validationLoss === undefined ? [] : [{ text: `validation ${validationLoss.toFixed(4)}`, rank: 0 }]),
    ...(event.best ? [{ text: 'best', rank: 0, style: style.bold }] : []),
    { text: `${bits.toFixed(3)} bits/${unit.short}`, rank: 4 },
    { text: `norm ${event.gradientNorm.toPrecision(3)}`, rank: 5 },
    { text: `lr ${event.learningRate.toExponential(2)}`, rank: 6 },
  ];
}

function validationParts(event: ValidationEvent, style: Style, unit: Unit): Part[] {
  return [
    { text: `epoch ${event.epoch}/${event.epochs}`, rank: 0 },
    { text: `step ${wholeNumber(event.step)}/${wholeNumber(event.stepsPerEpoch)}`, rank: 2 },
    { text: `loss ${event.loss.toFixed(4)}`, rank: 1 },
    { text: `validation ${event.validationLoss.toFixed(4)}`, rank: 0 },
    ...(event.best ? [{ text: 'best', rank: 0, style: style.bold }] : []),
    { text: `${event.validationBitsPerCharacter.toFixed(3)} bits/${unit.short}`, rank: 3 },
  ];
}

function stepParts(event: StepEvent, unit: Unit): Part[] {
  return [
    { text: `ETA ${formatDuration(event.etaSeconds)}`, rank: 0 },
    { text: `${wholeNumber(event.charactersPerSecond)} ${unit.short}s/s`, rank: 3 },
    { text: `loss ${event.epochLoss.toFixed(4)}`, rank: 0 },
    { text: `norm ${event.gradientNorm.toPrecision(3)}`, rank: 4 },
    { text: `lr ${event.learningRate.toExponential(2)}`, rank: 5 },
  ];
}

function sampleText({ prompt, text }: Pick<SampleEvent, 'prompt' | 'text'>, title: string): string {
  const before = prompt === '' ? '' : `after ${JSON.stringify(prompt)}\n`;
  const shown = text.trimEnd().replace(/^\s*\n/, '');
  return `--- ${title} ---\n${before}${shown === '' ? '(only spaces)' : shown}\n---\n`;
}

function endLines(event: EndEvent, unit: Unit): string[] {
  const { best, loss, validationLoss } = event;
  const losses =
    (loss === undefined ? '' : `, loss ${loss.toFixed(4)}`) +
    (validationLoss === undefined ? '' : `, validation ${validationLoss.toFixed(4)}`);
  const done = `${plural(event.epoch, 'epoch')}, ${plural(event.totalSteps, 'step')}, ${formatDuration(event.elapsedSeconds)}`;
  return [
    `${reasonText(event)}: ${done}${losses}`,
    ...(best ? [bestLine(best, unit)] : []),
    ...(event.fineTuning ? fineTuningLines(event.fineTuning, unit) : []),
    ...(event.gpu ? [gpuLine(event.gpu, event.device, event.secondsPerEpoch)] : []),
  ];
}

function reasonText({ reason, newSteps, epoch, epochs }: EndEvent): string {
  switch (reason) {
    case 'finished':
      if (newSteps > 0) return 'finished';
      return `nothing left to do: ${epochs < epoch ? `${plural(epochs, 'epoch')} asked for` : 'all epochs are done'}`;
    case 'early-stopping':
      return newSteps > 0 ? 'stopped early, no new best for a while (--patience)' : 'nothing left to do: stopped early';
    case 'schedule-time':
      return newSteps > 0 ? 'finished: the time of its schedule is over' : 'nothing left to do: the time is up';
    case 'max-time':
      return 'stopped, the time is up (--max-time)';
    case 'aborted':
      return 'stopped';
  }
}

function bestLine({ epoch, loss, bitsPerCharacter, path }: NonNullable<EndEvent['best']>, unit: Unit): string {
  return (
    `best: epoch ${epoch}, loss ${loss.toFixed(4)}, ${bitsPerCharacter.toFixed(3)} bits/${unit.short}` +
    (path ? `: ${path}` : '')
  );
}

function fineTuningLines(
  { before, after, keptBefore, keptAfter }: NonNullable<EndEvent['fineTuning']>,
  { short }: Unit,
): string[] {
  const change = (text: string, from: number | undefined, to: number | undefined) =>
    from === undefined || to === undefined
      ? []
      : [`${text}: ${from.toFixed(3)} bits/${short} before, ${to.toFixed(3)} after`];
  return [...change('new text', before, after), ...change('kept text', keptBefore, keptAfter)];
}

/** Commands that do something where this program was started, one per line. */
function hints({ out, reason, epoch, epochs, elapsedSeconds }: EndEvent): string[] {
  if (out === undefined) return [];
  const directory = pathArgument(out);
  const further: Record<EndEvent['reason'], string[]> = {
    finished: ['--epochs', String(2 * Math.max(epoch, epochs))],
    'early-stopping': ['--patience', '0'],
    'schedule-time': ['--schedule-time', formatDuration(2 * Math.ceil(elapsedSeconds))],
    'max-time': [],
    aborted: [],
  };
  return [
    `sample from it: ${commandLine(['sample', directory])}`,
    `train further:  ${commandLine(['train', '--resume', directory, ...further[reason]])}`,
  ];
}

/** The three figures that notes on GPU runs usually give, and the device they are about. */
function gpuLine(gpu: GpuUsage, device: string, secondsPerEpoch: number | undefined): string {
  const gibibytes = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  return (
    `GPU util: ${gpu.gpuPercent} %  Mem usage: ${gibibytes(gpu.memoryUsedBytes)} of ${gibibytes(gpu.memoryTotalBytes)} GiB  ` +
    `Time per epoch: ${secondsPerEpoch === undefined ? '?' : formatDuration(secondsPerEpoch)}  (${device})`
  );
}
