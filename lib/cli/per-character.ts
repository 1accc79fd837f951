/** `score --per-character`: one line per character of a text, with its bits and what was likelier. */

import { DataError } from '../errors';
import { type LanguageModel, led, nativeOf } from '../model';
import { type InspectedPiece, inspectPieces } from '../scoring/inspect';
import { type Score, scoreOf } from '../scoring/score';
import type { OpenText } from '../scoring/text';

/** A character of a text as a model sees it. */
export interface ScoredCharacter {
  /** Characters before it. */
  position: number;
  /** The line it is on, from 1. */
  line: number;
  column: number;
  character: string;
  /** Null for the first, which has nothing before it. */
  bits: number | null;
  rivals: { character: string; probability: number }[];
}

/**
 * Scores a text in one pass; `take` gets each piece with its characters. The score is that of the whole text.
 *
 * @throws DataError if it has fewer than two characters.
 */
export async function scoreCharacters(
  model: LanguageModel,
  text: OpenText,
  options: { rivals: number; signal: AbortSignal; onProgress?: (done: number, total: number) => void },
  take: (characters: ScoredCharacter[], piece: InspectedPiece) => Promise<void> | void,
): Promise<Score> {
  let [nats, line, column] = [0, 1, 1];
  // A model of single lines knows how a text begins, so its first character counts too, as in `score`.
  const { resetId } = model.shape;
  const begun = resetId !== undefined && text.ids.length > 0 && text.ids.read(0, 1)[0] !== resetId;
  const ids = begun ? led(resetId, text.ids) : text.ids;
  if (text.ids.length === 0 || ids.length < 2) {
    throw new DataError(`The text is too short to score: ${text.ids.length} character(s), and 2 are needed.`);
  }
  for await (const whole of inspectPieces(nativeOf(model), model.shape, ids, options)) {
    const piece = begun ? without(whole) : whole;
    const characters: ScoredCharacter[] = [];
    const each = piece.rivals.length / piece.ids.length;
    for (const [i, id] of piece.ids.entries()) {
      const character = model.vocabulary.symbols[id] as string;
      const position = piece.from + i;
      const cost = piece.nats[i] as number;
      const counts = begun || position > 0;
      if (counts) nats += cost;
      const rivals = Array.from({ length: counts ? each : 0 }, (_, rank) => ({
        character: model.vocabulary.symbols[piece.rivals[i * each + rank] as number] as string,
        probability: Math.exp(piece.rivalLogProbabilities[i * each + rank] as number),
      }));
      characters.push({ position, line, column, character, bits: counts ? cost / Math.LN2 : null, rivals });
      if (character === '\n') [line, column] = [line + 1, 1];
      else column++;
    }
    await take(characters, piece);
  }
  return scoreOf(nats, ids.length - 1);
}

/** A piece without the symbol that was put before the text. */
function without(piece: InspectedPiece): InspectedPiece {
  if (piece.from > 0) return { ...piece, from: piece.from - 1 };
  const each = piece.rivals.length / piece.ids.length;
  return {
    from: 0,
    ids: piece.ids.subarray(1),
    nats: piece.nats.subarray(1),
    rivals: piece.rivals.subarray(each),
    rivalLogProbabilities: piece.rivalLogProbabilities.subarray(each),
  };
}

/** The heading above the lines of {@link characterLine}. */
export const characterHeading = ' line  col    bits  char  surprise      likeliest';

/** One line of columns for a terminal. */
export function characterLine({ line, column, character, bits, rivals }: ScoredCharacter): string {
  const bar = '#'.repeat(Math.min(12, Math.round(bits ?? 0)));
  const others = rivals.map((each) => `${shown(each.character)} ${percent(each.probability)}`).join('  ');
  const figures = `${String(line).padStart(5)} ${String(column).padStart(4)}  ${(bits?.toFixed(2) ?? '-').padStart(6)}`;
  return `${figures}  ${shown(character).padEnd(4)}  ${bar.padEnd(12)}  ${others}`.trimEnd();
}

/** A character, quoted as in JSON if it is not visible by itself. */
function shown(character: string): string {
  return /^[\p{C}\p{Z}\p{M}"]/u.test(character) ? JSON.stringify(character) : character;
}

function percent(probability: number): string {
  return `${(100 * probability).toFixed(probability < 0.0995 ? 1 : 0)}%`;
}
