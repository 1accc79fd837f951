/** The sample after every epoch that shows what the model has learned. */
import { readUtf8 } from '../corpus/bytes';
import type { IdSource } from '../corpus/ids';
import type { Vocabulary } from '../corpus/vocabulary';
import type { QueuedModel } from '../device/queue';
import { generatePieces } from '../sampling/generate';
import { checkSamplingOptions } from '../sampling/options';
import { keyedInteger } from './keyed-random';
import type { TrainingOptions } from './options';

/**
 * Draws a sample, determined by (seed, epoch) alone. A model trained with its state carried starts after a line break, from zero
 * state; one trained on windows continues a random window of the text by sliding it.
 */
export async function drawSample(
  native: Pick<QueuedModel, 'sample'>,
  vocabulary: Vocabulary,
  ids: IdSource,
  trainingLength: number,
  epoch: number,
  options: Pick<TrainingOptions, 'target' | 'seqLength' | 'seed' | 'sampleLength' | 'sampleTemperature' | 'bytes'>,
  signal?: AbortSignal,
): Promise<{ prompt: string; text: string }> {
  const windowed = options.target === 'last';
  const start = windowed ? keyedInteger(trainingLength - options.seqLength, 'sample', options.seed, epoch) : 0;
  const prompt = windowed
    ? Int32Array.from(ids.read(start, options.seqLength))
    : Int32Array.of(vocabulary.idOf('\n') ?? vocabulary.idOf(' ') ?? 0);
  let text = '';
  for await (const piece of generatePieces(native, vocabulary, {
    prompt,
    length: options.sampleLength,
    streams: 1,
    window: windowed ? options.seqLength : 0,
    stop: [],
    keepStop: false,
    sampling: checkSamplingOptions({
      temperature: options.sampleTemperature,
      seed: keyedInteger(2 ** 32, 'draws', options.seed, epoch),
    }),
    signal,
  })) {
    text += piece.text;
  }
  const shown = (symbols: string) => (options.bytes ? readUtf8(symbols) : symbols);
  return { prompt: windowed ? shown(vocabulary.decode(prompt)) : '', text: shown(text) };
}
