/** What an inspection found, in the text's characters. */
import type { Vocabulary } from '../corpus/vocabulary';
import type { ModelShape } from '../device/native';
import type { InspectedIds, Rival } from './inspect';

/**
 * A text as the model sees it.
 *
 * @category Scoring
 */
export interface Inspection {
  /** The text's characters, normalised as the corpus was. */
  characters: string[];
  /** Bits of surprise at each, given all before it; null for the first, which has nothing before it except in a model of single lines. */
  bits: (number | null)[];
  /** The likeliest characters at each place, likeliest first; none for the first. */
  rivals: Rival[][];
  /** If asked for, [layer][unit]: each cell's value along the text, tanh of its state, -1..1. */
  cells?: Float32Array[][];
  /** What the model's `score` gives for the text; null if it has fewer than two characters. */
  bitsPerCharacter: number | null;
}

/** @param lead Number of ids before the text's own, which are left out. */
export function describeInspection(
  vocabulary: Vocabulary,
  { layers, hidden }: ModelShape,
  all: Int32Array,
  found: InspectedIds,
  rivals: number,
  lead: number,
): Inspection {
  const symbol = (id: number) => vocabulary.symbols[id] as string;
  const counted = found.nats.subarray(1);
  const ids = all.subarray(lead);
  const { cells } = found;
  return {
    characters: Array.from(ids, symbol),
    bits: Array.from(found.nats.subarray(lead), (nats) => (Number.isNaN(nats) ? null : nats / Math.LN2)),
    rivals: Array.from(ids, (_, i) =>
      i + lead === 0
        ? []
        : Array.from(found.rivals.subarray((i + lead) * rivals, (i + lead + 1) * rivals), (id, rank) => ({
            character: symbol(id),
            probability: Math.exp(found.rivalLogProbabilities[(i + lead) * rivals + rank] as number),
          })),
    ),
    ...(cells
      ? {
          cells: Array.from({ length: layers }, (_, layer) =>
            Array.from({ length: hidden }, (_, unit) =>
              Float32Array.from(ids, (_, i) => cells[((i + lead) * layers + layer) * hidden + unit] as number),
            ),
          ),
        }
      : {}),
    bitsPerCharacter:
      counted.length > 0 ? counted.reduce((sum, nats) => sum + nats, 0) / counted.length / Math.LN2 : null,
  };
}
