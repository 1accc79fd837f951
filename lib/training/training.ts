/** An opened training run, as its caller sees it. */
import type { RunDirectory } from '../checkpoint/run-directory';
import type { Corpus } from '../corpus/corpus';
import { takeAll } from '../endings';
import type { LanguageModel } from '../model';
import type { Configuration } from './configuration';
import type { TrainingEvent } from './events';
import type { Trainer } from './trainer';

/** The trainer behind a training run, for this package's own modules. */
export let trainerOf: (training: Training) => Trainer;

/**
 * A training run that is ready to start: it trains while it is iterated over, `for await (const event of training) …`. Its model can
 * generate and score meanwhile, and afterwards.
 *
 * It ends with an 'end' event. Leaving the loop early, or an abort, finishes the step in progress and saves the last checkpoint first;
 * after an abort the iterator throws the signal's reason. It throws TrainingError if a loss or gradient is not finite, or the loss
 * explodes (checkpoints are not touched), and DiskError if a checkpoint cannot be written.
 *
 * @category Training
 */
export class Training implements AsyncIterable<TrainingEvent>, AsyncDisposable {
  /** Every option with its value and where that came from. */
  readonly configuration: Configuration;
  /** The text that is trained on, as ids. */
  readonly corpus: Corpus;
  readonly model: LanguageModel;
  /** Where checkpoints and metrics go; undefined if nothing is written. */
  readonly run: RunDirectory | undefined;
  readonly #trainer: Trainer;
  /** Other texts that stay open as long as the corpus. */
  readonly #beside: readonly Corpus[];

  static {
    trainerOf = (training) => training.#trainer;
  }

  /** @internal Made by {@link train} and {@link openTraining}. */
  constructor(
    { configuration, corpus, model, run }: Pick<Training, 'configuration' | 'corpus' | 'model' | 'run'>,
    trainer: Trainer,
    beside: readonly Corpus[] = [],
  ) {
    this.configuration = configuration;
    this.corpus = corpus;
    this.model = model;
    this.run = run;
    this.#trainer = trainer;
    this.#beside = beside;
  }

  /** Optimiser steps of the whole run. */
  get totalSteps(): number {
    return this.#trainer.totalSteps;
  }

  /** Optimiser steps done, including those before the run was resumed. */
  get stepsDone(): number {
    return this.#trainer.stepsDone;
  }

  /** Trains. */
  [Symbol.asyncIterator](): AsyncGenerator<TrainingEvent, void, undefined> {
    return this.#trainer[Symbol.asyncIterator]();
  }

  /** Frees the model, closes the corpus, unlocks the run's directory. */
  async dispose(): Promise<void> {
    await takeAll([
      () => this.model.dispose(),
      () => this.corpus.close(),
      ...this.#beside.map((text) => () => text.close()),
      () => this.run?.close(),
    ]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
