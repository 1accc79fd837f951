/** Whole lines from a model, drawn side by side. */
import type { Vocabulary } from '../corpus/vocabulary';
import type { QueuedModel } from '../device/queue';
import { DataError } from '../errors';
import { grouped, plural } from '../numbers';
import { option } from '../wording';
import { type Generation, generatePieces } from './generate';

/** Which lines to draw. */
export interface LineGeneration extends Omit<Generation, 'streams' | 'stop' | 'keepStop' | 'firstStream'> {
  /** How many. */
  count: number;
  /** What each line begins with: the text of the prompt. */
  before: string;
  /** Lines to leave out. */
  known: { has(line: string): boolean } | undefined;
}

/** The most lines drawn at once: on a CPU more are hardly faster, and all of them wait for the longest. */
const together = 64;

/**
 * Draws lines until there are `count`, replacing empty ones, known ones and those longer than `length`. Line k uses random stream k, so the
 * lines are the same however many are asked for.
 *
 * @throws DataError if hardly any line is accepted; those accepted before have been yielded by then.
 */
export async function* generateLines(
  native: Pick<QueuedModel, 'sample'>,
  vocabulary: Vocabulary,
  generation: LineGeneration,
): AsyncGenerator<string, void, undefined> {
  const { count, before, known, ...drawing } = generation;
  const refused = { empty: 0, known: 0, long: 0 };
  const mostRefused = 1000 + 100 * count;
  let given = 0;
  for (let drawn = 0; given < count; ) {
    const share = drawn === 0 ? 1 : Math.max(given, 1) / drawn;
    const streams = Math.min(together, Math.ceil((count - given) / share));
    const plan = { ...drawing, streams, stop: ['\n'], keepStop: false, firstStream: drawn };
    drawn += streams;
    const lines = Array.from({ length: streams }, () => before);
    const ended = new Set<number>();
    for await (const { stream, text, finished } of generatePieces(native, vocabulary, plan)) {
      lines[stream] += text;
      if (finished === 'stop') ended.add(stream);
    }
    for (const [stream, line] of lines.entries()) {
      if (given === count) break;
      if (!ended.has(stream)) refused.long++;
      else if (line === '') refused.empty++;
      else if (known?.has(line)) refused.known++;
      else {
        given++;
        yield line;
      }
    }
    const all = refused.empty + refused.known + refused.long;
    if (given < count && all > mostRefused) throw hardlyAny(given, count, refused, drawing.length);
  }
}

function hardlyAny(
  given: number,
  count: number,
  refused: { empty: number; known: number; long: number },
  length: number,
): DataError {
  const reasons = [
    refused.known > 0 ? `${grouped(refused.known)} that are known` : '',
    refused.long > 0 ? `${grouped(refused.long)} longer than ${plural(length, 'character')}` : '',
    refused.empty > 0 ? `${grouped(refused.empty)} empty` : '',
  ].filter((reason) => reason !== '');
  const remedies = [
    refused.known > 0 ? `a higher ${option('temperature')}` : '',
    refused.long > 0 ? `a larger ${option('length')}` : '',
  ].filter((remedy) => remedy !== '');
  return new DataError(
    `the model writes hardly a line that is wanted: ${grouped(given)} of ${grouped(count)}, and ${reasons.join(', ')}` +
      (remedies.length > 0 ? `; give ${remedies.join(', or ')}` : ''),
  );
}
