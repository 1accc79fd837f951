/** The model that a command works with, and what it says of it on stderr. */
import { basename } from 'node:path';
import type { CheckpointMetadata } from '../checkpoint/checkpoint';
import { resolveCheckpoint } from '../checkpoint/run-directory';
import { LanguageModel } from '../model';
import { type CommandIo, deviceRequest, type ModelCommandOptions } from './command';
import { plural } from './layout';
import { say } from './output';

/** Loads a checkpoint, or a run's best one, and says which it is and what computes. */
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
