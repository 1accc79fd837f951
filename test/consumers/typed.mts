// What a TypeScript program does with the package: compiled by several releases of TypeScript, never run.
import {
  CudnnLstmError,
  type GenerateOptions,
  LanguageModel,
  type TrainingEvent,
  type TrainRequest,
  train,
} from 'cudnn-lstm';
import { openTraining, type TextIndex } from 'cudnn-lstm/advanced';

export async function trainOn(text: string, signal: AbortSignal): Promise<number> {
  const request: TrainRequest = { corpus: { text }, hidden: 64, preset: 'fast', input: 'onehot', out: false, signal };
  const training = await train(request);
  let loss = Number.NaN;
  for await (const event of training) loss = lossOf(event) ?? loss;
  for await (const piece of training.model.generate({ length: 10, signal })) process.stdout.write(piece);
  await training.dispose();
  return loss;
}

export async function trainOnFiles(paths: string[]): Promise<void> {
  const training = await openTraining({ corpus: paths, options: { hidden: 64 } });
  for await (const event of training) lossOf(event);
  await training.dispose();
}

function lossOf(event: TrainingEvent): number | undefined {
  return event.type === 'epoch' ? event.bitsPerCharacter : undefined;
}

export async function sample(path: string, options: GenerateOptions): Promise<string> {
  const model: LanguageModel = await LanguageModel.load(path);
  let text = '';
  try {
    for await (const piece of model.generate(options)) text += piece;
    const index: TextIndex = await model.indexText({ text });
    text += await model.generateText({ length: 10, maxCopy: { index, length: 20 } });
  } catch (error) {
    if (error instanceof CudnnLstmError) process.exitCode = error.exitCode;
    throw error;
  } finally {
    model.dispose();
  }
  // @ts-expect-error a misspelled option is an error of types
  model.generate({ lenght: 10 });
  // @ts-expect-error so it is where training begins
  await train({ hiden: 64 });
  return text;
}
