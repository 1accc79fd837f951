/**
 * The score that window-trained models report: the mean cross-entropy of the character after each window of a text, given that window
 * alone, from zero state. With dropout on it is what Keras prints as the training loss; off, what the model really knows.
 *
 * Shapes: W window length, B windows per call, N ids of the text.
 */
import type { QueuedModel } from '../device/queue';
import { evaluateUntil, type ReadableIds, type Score, type ScoringOptions, scoreOf } from './score';

/**
 * Options of `LanguageModel.scoreWindows`.
 *
 * @category Scoring
 */
export interface WindowProtocolOptions extends ScoringOptions {
  /**
   * Characters per window, 1 to 16,777,216.
   *
   * @default 100
   */
  window?: number | undefined;
  /**
   * Characters from one window to the next, 1 or more. 1: all windows; more gives a faster estimate.
   *
   * @default 1
   */
  stride?: number | undefined;
  /**
   * Windows per call, 1 to 16,777,216.
   *
   * @default 128, on a GPU 1,024
   */
  batch?: number | undefined;
}

/**
 * Both scores of the window protocol.
 *
 * @category Scoring
 */
export interface WindowScore {
  window: number;
  stride: number;
  /** Windows scored; each counts one character. */
  windows: number;
  dropoutOn: Score;
  dropoutOff: Score;
}

/**
 * Scores all windows of `ids`, first with dropout off, then with dropout on, its masks keyed by the call's number.
 *
 * @param ids At least W + 1.
 */
export async function scoreWindows(
  native: Pick<QueuedModel, 'evaluate' | 'resetEvaluationState'>,
  ids: ReadableIds,
  options: WindowProtocolOptions = {},
): Promise<WindowScore> {
  const { window = 100, stride = 1, batch = 128 } = options;
  const windows = Math.floor((ids.length - window - 1) / stride) + 1;
  const pass = async (dropout: boolean, doneBefore: number): Promise<Score> => {
    let nats = 0;
    for (let first = 0, call = 0; first < windows; first += batch, call++) {
      const size = Math.min(batch, windows - first);
      const losses = await evaluateUntil(native, options.signal, {
        ids: cutWindows(ids, first * stride, stride, size, window),
        steps: window,
        batch: size,
        target: 'last',
        carryState: false,
        dropout,
        maskStep: call,
      });
      for (const loss of losses) nats += loss;
      options.onProgress?.(doneBefore + first + size, 2 * windows);
    }
    return scoreOf(nats, windows);
  };
  const dropoutOff = await pass(false, 0);
  const dropoutOn = await pass(true, windows);
  return { window, stride, windows, dropoutOn, dropoutOff };
}

/** `size` windows with the id after each, the first starting at `start`: time-major [W + 1, B]. */
function cutWindows(ids: ReadableIds, start: number, stride: number, size: number, window: number): Int32Array {
  const span = ids.read(start, (size - 1) * stride + window + 1);
  const rows = new Int32Array((window + 1) * size);
  for (let step = 0; step <= window; step++) {
    for (let i = 0; i < size; i++) rows[step * size + i] = span[i * stride + step] as number;
  }
  return rows;
}
