/**
 * The training loop: an ordinary TypeScript loop around short native calls. Between calls it does the accounting, saves, validates and
 * stops; nothing here depends on the device.
 */
import type { CheckpointMetadata } from '../checkpoint/checkpoint';
import type { NativeTrainResult } from '../device/native';
import { TrainingError, UsageError } from '../errors';
import { abortCode, notAborted, type Ranks } from '../ranks/ranks';
import type { BatchCut, BatchSource } from './batches';
import { CheckpointKeeper, restorer } from './checkpoints';
import type { Division } from './division';
import { drawSample } from './epoch-sample';
import type { CheckpointEvent, EndReason, StepEvent, TrainingEvent } from './events';
import { GpuMonitor } from './gpu-monitor';
import { optimizers, updateNumbers } from './optimizers';
import { stepsOf, type TrainingOptions } from './options';
import { Pacer } from './pacer';
import type { TrainedModel, TrainerParts } from './parts';
import { divergence, Reporter } from './reports';
import { learningRates } from './schedule';
import { sequencesOf } from './shares';
import type { Split } from './sizes';
import { fromResumeState, type Losses, newState, newSums, type TrainingState } from './state';
import { abortedElsewhere } from './validation';

/** What all ranks have agreed on, since no single rank's clock, signal or disk may decide what all of them do. */
interface Agreement {
  readonly interruption: 'aborted' | TimeLimit | undefined;
  /** The first aborted rank, and the exit code for its reason. */
  readonly aborted?: { readonly rank: number; readonly exitCode: number };
  /** Steps in the next call. */
  readonly count: number;
  /** Rank 0's, which the schedule follows. */
  readonly elapsedSeconds: number;
  /** Whether a save is due on rank 0. */
  readonly save: boolean;
}

/** Which time is up. */
type TimeLimit = 'schedule-time' | 'max-time';
const timeLimits = [undefined, 'schedule-time', 'max-time'] as const;

/** Seconds between step records in metrics.jsonl: an epoch may take hours. */
const recordEvery = 10;

/**
 * Trains a model while it is iterated over: `for await (const event of trainer) …`. The model can generate and score meanwhile: its
 * calls take turns with the trainer's.
 *
 * Ends with an 'end' event. Leaving the loop early, or an abort, finishes the step in progress and saves the last checkpoint
 * first; after an abort the iterator throws the signal's reason.
 *
 * @throws TrainingError if a loss or gradient is not finite, or the loss explodes; checkpoints are not touched.
 * @throws DiskError if a checkpoint cannot be written.
 */
export class Trainer implements AsyncIterable<TrainingEvent> {
  readonly model: TrainedModel;
  readonly options: TrainingOptions;
  readonly split: Split;
  readonly batches: BatchSource;
  readonly #division: Division;
  readonly #parts: TrainerParts;
  readonly #signal: AbortSignal | undefined;
  readonly #pacer: Pacer;
  readonly #state: TrainingState;
  #iterated = false;
  #began = 0;
  /** When this invocation's time was last added to the elapsed time. */
  #clock = 0;
  readonly #keeper: CheckpointKeeper;
  readonly #reporter: Reporter;
  readonly #monitor: GpuMonitor;
  #calling = false;
  #restore: (() => Promise<void>) | undefined;
  readonly #ranks: Ranks | undefined;
  #agreement: Agreement | undefined;
  /** The last step event, and when one was last written to metrics.jsonl. */
  #step: StepEvent | undefined;
  #recordedAt = 0;

  /**
   * @throws CheckpointError if the checkpoint being resumed does not fit the options.
   */
  constructor(parts: TrainerParts) {
    const { model, corpus, options, resume, division } = parts;
    this.#parts = parts;
    this.#signal = parts.signal;
    this.#ranks = parts.ranks;
    this.model = model;
    this.options = options;
    if (corpus.lines && model.metadata.model.resetId !== corpus.lines.breakId) {
      throw new UsageError('a corpus of single lines takes a model whose resetId is the id of its line break.');
    }
    this.#division = division;
    this.split = division.split;
    this.batches = division.batches;
    this.#pacer = new Pacer((options.seqLength + 1) * options.batchSize);
    this.#state = newState();
    if (resume) {
      this.#restore = restorer(model.native, resume.checkpoint, resume.path, options, parts.ranks);
      const training = resume.checkpoint.metadata.training;
      if (training) this.#state = fromResumeState(training, this.batches.stepsPerEpoch, resume.path);
    }
    this.#keeper = new CheckpointKeeper(
      model.native,
      parts.run,
      this.batches.carryState,
      optimizers[options.optimizer].slots,
      options.saveEvery,
      this.#state,
      resume !== undefined,
      parts.ranks,
    );
    this.#reporter = new Reporter(parts, this.#pacer);
    this.#monitor = new GpuMonitor(model.gpuUsage && (() => model.gpuUsage?.() ?? Promise.resolve(null)));
  }

  /** The validation text, if it is not part of the corpus. */
  get validation(): TrainerParts['validation'] {
    return this.#parts.validation;
  }

  /** The ranks that train this model together, if there are several. */
  get ranks(): Ranks | undefined {
    return this.#ranks;
  }

  /** Optimiser steps of the whole run. */
  get totalSteps(): number {
    return this.options.epochs * this.batches.stepsPerEpoch;
  }

  /** Optimiser steps done, including earlier invocations. */
  get stepsDone(): number {
    return this.#state.epoch * this.batches.stepsPerEpoch + this.#state.batchInEpoch;
  }

  /** Restores the resumed checkpoint to the device; the iterator does so if this was not called. */
  async restore(): Promise<void> {
    const restore = this.#restore;
    this.#restore = undefined;
    await restore?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TrainingEvent, void, undefined> {
    if (this.#iterated) throw new TrainingError('This trainer has run already; make a new one.');
    this.#iterated = true;
    this.#began = this.#clock = this.#recordedAt = performance.now();
    const stop = () => {
      // Only during our own call: a stop would cut short whatever is running.
      if (this.#calling) this.model.native.stop();
    };
    this.#signal?.addEventListener('abort', stop);
    let healthy = true;
    try {
      await this.restore();
      yield* this.#run();
    } catch (error) {
      healthy = error === this.#signal?.reason;
      throw error;
    } finally {
      this.#signal?.removeEventListener('abort', stop);
      if (healthy && this.#keeper.unsaved(this.#state)) await this.#saveLast();
    }
  }

  async *#run(): AsyncGenerator<TrainingEvent, void, undefined> {
    const start = this.#reporter.start(this.#state);
    await this.#parts.run?.appendMetrics(start);
    yield start;
    await this.#agree();
    if (this.#parts.from && this.stepsDone === 0 && !this.#state.baseline) yield* this.#measureBaseline();
    let reason = this.#endReason();
    while (reason === undefined) {
      yield* this.#trainEpoch();
      const whole = this.#state.batchInEpoch === this.batches.stepsPerEpoch;
      await this.#agree();
      if (whole && !this.#aborted) {
        yield* this.#endEpoch();
        await this.#agree();
        reason = this.#endReason();
      } else {
        reason = this.#interruption();
      }
    }
    if (this.#keeper.unsaved(this.#state)) yield* await this.#saveLast();
    if (this.#state.batchInEpoch > 0) {
      await this.#recordStep();
      if (reason === 'max-time' || reason === 'schedule-time') {
        // So that even a run that ends within its first epoch has a score and a best checkpoint.
        if (this.split.validation > 0 && this.#state.scoredAt !== this.stepsDone) yield* this.#validate(false);
        yield* this.#sample(this.#state.epoch + 1);
      }
    }
    await this.#agree(); // An abort of one rank during the last validation aborts all of them.
    this.#tick();
    const end = this.#reporter.end(this.#state, reason, this.#monitor.summary());
    await this.#parts.run?.appendMetrics(end);
    yield end;
    this.#throwIfAborted();
  }

  /** Call after the agreed end: throws the reason of this rank's signal, or of another's. */
  #throwIfAborted(): void {
    const ranks = this.#ranks;
    if (!ranks) this.#signal?.throwIfAborted();
    const { aborted } = this.#agreement ?? {};
    if (!ranks || !aborted) return;
    throw ranks.interrupted(aborted.rank, aborted.exitCode, this.#signal);
  }

  /** Call before every decision that depends on a clock or a signal. */
  async #agree(): Promise<void> {
    const ranks = this.#ranks;
    if (!ranks) return;
    const mine = [
      abortCode(this.#signal),
      timeLimits.indexOf(this.#timeUp()),
      this.#pacer.count * (this.#keeper.due(this.#state) ? -1 : 1),
      this.#elapsed,
    ];
    const all = await ranks.gatherNumbers('decision', mine);
    const rank = all.findIndex(([exitCode]) => exitCode !== notAborted);
    const [, , count, elapsedSeconds] = all[0] as [number, number, number, number];
    this.#agreement = {
      interruption: rank >= 0 ? 'aborted' : timeLimits[Math.max(...all.map(([, up]) => up as number))],
      ...(rank >= 0 ? { aborted: { rank, exitCode: all[rank]?.[0] as number } } : {}),
      count: Math.abs(count),
      elapsedSeconds,
      save: count < 0,
    };
  }

  get #aborted(): boolean {
    return this.#ranks ? this.#agreement?.interruption === 'aborted' : this.#signal?.aborted === true;
  }

  /** Trains to the end of the epoch in progress, or to an interruption. */
  async *#trainEpoch(): AsyncGenerator<TrainingEvent, void, undefined> {
    const state = this.#state;
    if (state.batchInEpoch === 0) this.model.native.resetTrainingState();
    let ahead: Promise<BatchCut> | undefined;
    try {
      while (state.batchInEpoch < this.batches.stepsPerEpoch) {
        await this.#agree();
        if (this.#interruption() !== undefined) break;
        if (this.#scoreIsDue()) {
          await ahead; // It reads the corpus, as scoring does.
          yield* this.#validate(true);
          continue;
        }
        const began = performance.now();
        const cut = await (ahead ?? this.#cut(state.batchInEpoch));
        const rates = this.#learningRates(cut.count);
        const call = this.#callDevice(cut, rates);
        ahead = this.#cutAhead(state.batchInEpoch + cut.count);
        const result = await call;
        const milliseconds = performance.now() - began;
        this.#account(cut, result, milliseconds);
        if (result.completed < cut.count) {
          await ahead?.catch(() => {}); // Stopped early: the next step is a different one.
          ahead = undefined;
        }
        if (result.completed > 0) {
          this.#pacer.record(result.completed, milliseconds);
          this.#monitor.poll();
          this.#tick();
          this.#step = this.#reporter.step(this.#state, cut, result, rates);
          if (performance.now() - this.#recordedAt >= recordEvery * 1000) await this.#recordStep();
          yield this.#step;
        }
        if (this.#agreement?.save ?? this.#keeper.due(this.#state)) yield* await this.#saveLast();
      }
    } finally {
      await ahead?.catch(() => {}); // Nothing may read the corpus once this has ended.
    }
  }

  #cut(step: number): Promise<BatchCut> {
    return this.batches.cut(this.#state.epoch, step, this.#stepsFrom(step));
  }

  /** Steps in a call that starts at `step` of the epoch. */
  #stepsFrom(step: number): number {
    const { epoch } = this.#state;
    const every = stepsOf(this.options.validationEvery);
    const done = epoch * this.batches.stepsPerEpoch + step;
    const count = this.#agreement?.count ?? this.#pacer.count;
    return every === undefined ? count : Math.min(count, every - (done % every));
  }

  async #recordStep(): Promise<void> {
    const { totalSteps } = this.#step ?? {};
    if (totalSteps !== this.stepsDone) return;
    this.#recordedAt = performance.now();
    await this.#parts.run?.appendMetrics(this.#step as StepEvent);
  }

  /** Cuts the ids of the next call while the device works on this one: a fast GPU would have to wait for them otherwise. */
  #cutAhead(step: number): Promise<BatchCut> | undefined {
    if (step >= this.batches.stepsPerEpoch) return undefined;
    // Not immediately: the call is queued, and starts when this thread is free.
    const [epoch, steps] = [this.#state.epoch, this.#stepsFrom(step)];
    const cut = new Promise((resolve) => setImmediate(resolve)).then(() => this.batches.cut(epoch, step, steps));
    cut.catch(() => {}); // A failure surfaces when it is awaited, if ever.
    return cut;
  }

  #learningRates(count: number): Float64Array {
    return learningRates(
      this.options,
      this.stepsDone,
      count,
      this.totalSteps,
      this.batches.stepsPerEpoch,
      this.#agreement?.elapsedSeconds ?? this.#elapsed,
      this.#ranks ? 0 : (this.#pacer.millisecondsPerStep ?? 0) / 1000,
    );
  }

  async #callDevice(cut: BatchCut, rates: Float64Array): Promise<NativeTrainResult> {
    const { seqLength: steps } = this.options;
    const { target, carryState } = this.batches;
    const { ids, count, batch } = cut;
    this.#calling = true;
    try {
      return await this.model.native.trainSteps({
        count,
        steps,
        ...sequencesOf(ids, batch, this.#ranks),
        target,
        carryState,
        learningRates: rates,
        ...updateNumbers(this.options, () => this.model.native.parameters),
      });
    } finally {
      this.#calling = false;
    }
  }

  /** Adds the completed steps of a call to the state one by one; throws if a value is not finite or the loss explodes. */
  #account(cut: BatchCut, result: NativeTrainResult, milliseconds: number): void {
    const { sums } = this.#state;
    // Ten times the loss of guessing, plus ten for small vocabularies: no healthy training gets there.
    const explosion = 10 * Math.log(this.model.vocabulary.size) + 10;
    for (let i = 0; i < result.completed; i++) {
      const loss = result.losses[i] as number;
      const norm = result.norms[i] as number;
      if (loss > explosion) throw this.#diverged(i, loss, norm, 'the loss exploded');
      sums.nats += loss * cut.targetsPerStep;
      sums.targets += cut.targetsPerStep;
      sums.norms += norm;
      sums.largestNorm = Math.max(sums.largestNorm, norm);
    }
    sums.seconds += milliseconds / 1000;
    if (result.completed < cut.count && !result.stopped) {
      const [loss, norm] = [result.losses[result.completed] as number, result.norms[result.completed] as number];
      throw this.#diverged(result.completed, loss, norm, 'a value is not finite, and the step was not applied');
    }
    this.#state.batchInEpoch += result.completed;
  }

  #diverged(index: number, loss: number, norm: number, what: string): TrainingError {
    const place = `step ${this.stepsDone + index + 1} (epoch ${this.#state.epoch + 1})`;
    const directory = this.#keeper.resumable ? this.#parts.run?.path : undefined;
    const error = divergence(place, loss, norm, what, this.options, directory);
    return this.#ranks?.agree(error) ?? error; // The losses are the same on all ranks.
  }

  /**
   * Validates, keeps the best, and starts the next epoch. An abort or a crash midway leaves the state unchanged, and a resumed run does
   * all of it again; so nothing is yielded until the state is consistent again and saved.
   */
  async *#endEpoch(): AsyncGenerator<TrainingEvent, void, undefined> {
    const state = this.#state;
    const epoch = state.epoch + 1;
    const loss = state.sums.nats / state.sums.targets;
    const gpu = await this.#monitor.endEpoch();
    let losses: Losses | undefined;
    if (this.#validationIsDue(epoch)) {
      losses = await this.#score();
      if (losses === undefined) return;
    }
    const validationLoss = losses?.validation;
    const criterion = this.split.validation > 0 ? validationLoss : loss;
    const improved = criterion !== undefined && criterion < (state.best?.loss ?? Number.POSITIVE_INFINITY);
    const totalSteps = this.stepsDone;
    this.model.metadata = {
      ...withoutLosses(this.model.metadata),
      epoch,
      step: totalSteps,
      loss,
      ...(validationLoss === undefined ? {} : { validationLoss }),
    };
    this.#tick();
    const events: TrainingEvent[] = [this.#reporter.epoch(this.#state, loss, losses, improved, gpu)];
    if (improved) {
      // A run killed with only a best checkpoint could neither be resumed nor started over.
      if (!this.#keeper.resumable) await this.#saveLast();
      const file = this.#bestFile(epoch, criterion);
      events.push(...(await this.#keeper.saveBest(file, this.model.metadata)));
      state.best = { epoch, step: totalSteps, loss: criterion, file };
      this.#keepBest(losses);
    } else if (criterion !== undefined) {
      state.scoresSinceBest++;
    }
    state.epoch = epoch;
    state.batchInEpoch = 0;
    state.sums = newSums();
    for (const event of events) await this.#parts.run?.appendMetrics(event);
    events.push(...(await this.#saveLast()));
    yield* events;
    yield* this.#sample(epoch);
  }

  /**
   * Scores the validation text mid-epoch, and keeps the model if it is the best so far. An abort leaves the state unchanged, and a
   * resumed run scores it again.
   *
   * @param counts Whether a score without a new best counts towards `patience`. One taken only because the time is up does not, or a
   * resumed run would stop at a different step than an uninterrupted one.
   */
  async *#validate(counts: boolean): AsyncGenerator<TrainingEvent, void, undefined> {
    const state = this.#state;
    const losses = await this.#score();
    if (losses === undefined) return;
    const validationLoss = losses.validation;
    const improved = validationLoss < (state.best?.loss ?? Number.POSITIVE_INFINITY);
    const step = this.stepsDone;
    const loss = state.sums.nats / state.sums.targets;
    this.model.metadata = { ...this.model.metadata, epoch: state.epoch, step, loss, validationLoss };
    this.#tick();
    const events: TrainingEvent[] = [this.#reporter.validation(state, validationLoss, improved)];
    if (improved) {
      if (!this.#keeper.resumable) await this.#saveLast();
      const file = this.#bestFile(state.epoch + 1, validationLoss);
      events.push(...(await this.#keeper.saveBest(file, this.model.metadata)));
      state.best = { epoch: state.epoch + 1, step, loss: validationLoss, file };
      this.#keepBest(losses);
    } else if (counts) {
      state.scoresSinceBest++;
    }
    state.scoredAt = step;
    for (const event of events) await this.#parts.run?.appendMetrics(event);
    if (improved) events.push(...(await this.#saveLast()));
    yield* events;
  }

  #keepBest(losses: Losses | undefined): void {
    const state = this.#state;
    state.scoresSinceBest = 0;
    if (losses?.kept !== undefined) state.bestKept = losses.kept;
  }

  /** Scores the held-out texts before the first step of fine-tuning. */
  async *#measureBaseline(): AsyncGenerator<TrainingEvent, void, undefined> {
    if (this.split.validation === 0) return;
    const losses = await this.#score();
    if (losses === undefined) return;
    this.#state.baseline = losses;
    this.#tick();
    const event = this.#reporter.baseline(losses);
    await this.#parts.run?.appendMetrics(event);
    yield event;
  }

  /** Whether the validation text is due to be scored now, before the next step of the epoch in progress. */
  #scoreIsDue(): boolean {
    const every = stepsOf(this.options.validationEvery);
    const done = this.stepsDone;
    if (every === undefined || this.split.validation === 0 || this.#state.batchInEpoch === 0) return false;
    return done % every === 0 && this.#state.scoredAt !== done;
  }

  /** Whether the validation text is due to be scored at the end of this epoch. */
  #validationIsDue(epoch: number): boolean {
    const { validationEvery, epochs } = this.options;
    const steps = stepsOf(validationEvery);
    const due = steps === undefined ? epoch % (validationEvery as number) === 0 : this.stepsDone % steps === 0;
    return this.split.validation > 0 && (due || epoch >= epochs);
  }

  /**
   * Nats per character on the validation texts; undefined if aborted.
   *
   * @throws TrainingError if the validation loss is not finite.
   */
  async #score(): Promise<Losses | undefined> {
    const { native } = this.model;
    this.#calling = true;
    try {
      const { loss } = await this.#division.score(native, this.#signal, this.#ranks);
      if (Number.isFinite(loss)) {
        const kept = await this.#division.kept?.score(native, this.#signal, this.#ranks);
        return { validation: loss, kept: kept?.loss };
      }
      const norm = this.#state.sums.norms / this.#state.batchInEpoch;
      throw this.#diverged(-1, loss, norm, 'the validation loss is not finite');
    } catch (error) {
      if (this.#ranks ? error === abortedElsewhere : this.#signal?.aborted) return undefined;
      throw error;
    } finally {
      this.#calling = false;
    }
  }

  async *#sample(epoch: number): AsyncGenerator<TrainingEvent, void, undefined> {
    if (this.options.sampleLength === 0 || this.#signal?.aborted || this.#ranks?.first === false) return;
    const { native, vocabulary } = this.model;
    const { ids } = this.#parts.corpus;
    try {
      const sample = await drawSample(native, vocabulary, ids, this.split.training, epoch, this.options, this.#signal);
      await this.#parts.run?.appendMetrics({ type: 'sample', epoch, ...sample });
      yield { type: 'sample', epoch, ...sample };
    } catch (error) {
      if (!this.#signal?.aborted) throw error;
    }
  }

  #bestFile(epoch: number, loss: number): string {
    const fields: Record<string, string> = {
      epoch: String(epoch),
      loss: loss.toFixed(4),
      epochs: String(this.options.epochs),
    };
    return `${this.options.checkpointName.replace(/\{(\w+)\}/g, (field, name: string) => fields[name] ?? field)}.safetensors`;
  }

  #saveLast(): Promise<CheckpointEvent[]> {
    const { options, stepsDone } = this;
    const { corpus } = this.#parts;
    this.#tick();
    const { epoch, batchInEpoch, sums } = this.#state;
    const soFar = batchInEpoch > 0 && sums.targets > 0 ? { loss: sums.nats / sums.targets } : {};
    const metadata = { ...this.model.metadata, ...soFar, epoch, step: stepsDone };
    // Kept even while the run is on another device.
    const resumed = this.#parts.resume?.checkpoint.metadata.training;
    const chosenAlgorithm = this.model.native.chosenAlgorithm ?? resumed?.chosenAlgorithm;
    return this.#keeper.saveLast(metadata, this.#state, {
      batch: options.batchSize,
      seed: options.seed,
      corpusSha256: corpus.sha256,
      corpusLength: corpus.length,
      ...(corpus.parts ? { corpusParts: corpus.parts } : {}),
      ...(this.#parts.kept ? { keptSha256: this.#parts.kept.sha256 } : {}),
      ...(this.#parts.validation ? { validationSha256: this.#parts.validation.sha256 } : {}),
      scheduleSteps: this.totalSteps,
      ...(chosenAlgorithm ? { chosenAlgorithm } : {}),
    });
  }

  #interruption(): EndReason | undefined {
    if (this.#aborted) return 'aborted';
    const { patience } = this.options;
    if (patience > 0 && this.#state.scoresSinceBest >= patience) return 'early-stopping';
    if (this.#ranks) return this.#agreement?.interruption;
    return this.#timeUp();
  }

  #timeUp(): TimeLimit | undefined {
    const { maxTime, scheduleTime } = this.options;
    if (scheduleTime > 0 && this.#elapsed >= scheduleTime) return 'schedule-time';
    return maxTime !== undefined && performance.now() - this.#began >= maxTime * 1000 ? 'max-time' : undefined;
  }

  /** Seconds since the run began, earlier invocations included. */
  get #elapsed(): number {
    return this.#state.elapsedSeconds + (performance.now() - this.#clock) / 1000;
  }

  #endReason(): EndReason | undefined {
    if (this.#aborted) return 'aborted';
    return this.#state.epoch >= this.options.epochs ? 'finished' : this.#interruption();
  }

  /** Brings the elapsed time up to date. */
  #tick(): void {
    const now = performance.now();
    this.#state.elapsedSeconds += (now - this.#clock) / 1000;
    this.#clock = now;
  }
}

function withoutLosses({ loss: _, validationLoss: __, ...metadata }: CheckpointMetadata): CheckpointMetadata {
  return metadata;
}
