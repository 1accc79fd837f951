/** Loads the model that a command works with, and describes it on stderr. */
import { basename } from 'node:path';
import type { CheckpointMetadata } from '../checkpoint/checkpoint';
import { resolveCheckpoint } from '../checkpoint/run-directory';
import { readWeighted } from '../corpus/weighted';
import { UsageError } from '../errors';
import { LanguageModel } from '../model';
import { plural } from '../numbers';
import { type CommandIo, deviceRequest, type ModelCommandOptions } from './command';
import { say } from './output';

/** Loads a checkpoint, or a run's best one, and says which one it is and on which device it runs. */
export async function loadModel(
  pathOrDirectory: string,
  options: ModelCommandOptions,
  signal: AbortSignal,
  io: CommandIo,
): Promise<LanguageModel> {
  const path = await resolveCheckpoint(pathOrDirectory);
  const onNote = (line: string) => say(io.stderr, line);
  const { weights } = options;
  const model = await LanguageModel.load(path, { ...deviceRequest(options), weights, signal, onNote });
  say(io.stderr, `model: ${path} (${provenance(path, model.metadata)})`);
  say(io.stderr, `device: ${model.deviceReason}`);
  return model;
}

/** A model, or a mixture of several, with what must be freed after it. */
export interface LoadedModel extends Disposable {
  readonly model: LanguageModel;
}

/**
 * Loads one checkpoint, or several to be mixed. Each may be followed by its weight, as in `runs/b:0.3`; 1 if it has none.
 *
 * @throws UsageError if they cannot be mixed.
 */
export async function loadModels(
  checkpoints: readonly string[],
  options: ModelCommandOptions,
  signal: AbortSignal,
  io: CommandIo,
): Promise<LoadedModel> {
  const named = checkpoints.map(readWeighted);
  const models: LanguageModel[] = [];
  const dispose = () => {
    for (const model of models) model.dispose();
  };
  try {
    const [single] = checkpoints;
    if (named.length === 1 && named[0]?.weight === undefined) {
      models.push(await loadModel(single as string, options, signal, io));
      return { model: models[0] as LanguageModel, [Symbol.dispose]: dispose };
    }
    for (const { name, weight = 1 } of named) {
      if (!(weight > 0)) throw new UsageError(`The weight of ${name} must be above 0: leave ${name} out.`);
      models.push(await loadModel(name, options, signal, io));
    }
    const weights = named.map(({ weight = 1 }) => weight);
    const model = LanguageModel.mix(models.map((each, i) => ({ model: each, weight: weights[i] })));
    const whole = weights.reduce((a, b) => a + b, 0);
    const shares = named.map(({ name }, i) => `${((weights[i] as number) / whole).toFixed(3)} ${name}`).join(', ');
    say(io.stderr, `mixture: ${shares}`);
    const all = new Set(models.flatMap(({ vocabulary }) => vocabulary.symbols));
    const lost = all.size - model.vocabulary.size;
    if (lost > 0)
      say(io.stderr, `note: of ${all.size} characters ${lost} are not known to all of the models, and left out`);
    return { model, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** `after 9 epochs, validation loss 1.5388`. */
export function provenance(path: string, { epoch, step, loss, validationLoss }: CheckpointMetadata): string {
  const trained = epoch > 0 ? `after ${plural(epoch, 'epoch')}` : `after ${plural(step, 'step')}`;
  const score =
    validationLoss !== undefined
      ? [`validation loss ${validationLoss.toFixed(4)}`]
      : loss !== undefined
        ? [`training loss ${loss.toFixed(4)}`]
        : [];
  const last = /^checkpoint-\d+\.safetensors$/.test(basename(path)) ? ['the last one, not the best'] : [];
  return [trained, ...score, ...last].join(', ');
}
