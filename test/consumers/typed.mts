// What a TypeScript program does with the package: compiled by several releases of TypeScript, never run.
import { CudnnLstmError, type GenerateOptions, LanguageModel, openTraining, type TrainingEvent } from 'cudnn-lstm';

export async function train(paths: string[], signal: AbortSignal): Promise<number> {
  const training = await openTraining({
    corpus: paths,
    options: { hidden: 64, preset: 'fast', input: 'onehot' },
    signal,
  });
  let loss = Number.NaN;
  for await (const event of training) loss = lossOf(event) ?? loss;
  for await (const piece of training.model.generate({ length: 10, signal })) process.stdout.write(piece);
  await training.dispose();
  return loss;
}

function lossOf(event: TrainingEvent): number | undefined {
  return event.type === 'epoch' ? event.bitsPerCharacter : undefined;
}

export async function sample(path: string, options: GenerateOptions): Promise<string> {
  const model: LanguageModel = await LanguageModel.load(path);
  let text = '';
  try {
    for await (const piece of model.generate(options)) text += piece;
  } catch (error) {
    if (error instanceof CudnnLstmError) process.exitCode = error.exitCode;
    throw error;
  } finally {
    model.dispose();
  }
  // @ts-expect-error a misspelled option is an error of types
  model.generate({ lenght: 10 });
  return text;
}
