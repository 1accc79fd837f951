/** Answers what the page's views ask of a model: a text's surprise, and its cells. */
import { SerialQueue } from '../device/queue';
import { grouped } from '../numbers';
import * as z from '../zod-parts';
import { ApiError, asApiError } from './errors';
import type { Limits } from './limits';
import type { Served } from './models';

const inspection = z.strictObject({
  model: z.string().nullish(),
  text: z.string(),
  rivals: z.number().int().min(0).max(20).default(5),
});

const cells = z.strictObject({
  model: z.string().nullish(),
  text: z.string(),
  /** The cell to return. */
  layer: z.number().int().min(0).default(0),
  unit: z.number().int().min(0).default(0),
  /** A number for each character; the cells that follow it are listed. */
  pattern: z.array(z.number().min(-1).max(1)).nullish(),
});

/** Cells take a device call per character, so a text for them is no longer than this. */
const longestForCells = 5000;

function read<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new ApiError(400, `${issue?.path.join('.') || 'The request'}: ${issue?.message}.`);
}

/** Bits and rivals at each character of a text. */
export async function inspectText(served: Served, body: unknown, limits: Limits, signal: AbortSignal): Promise<object> {
  const { text, rivals } = read(inspection, body);
  if (text.length > limits.prompt)
    throw new ApiError(413, `A text may have ${limits.prompt} characters here.`, { param: 'text' });
  try {
    const found = await served.model.inspect(text, {
      unknown: 'skip',
      rivals: Math.min(rivals, served.model.vocabulary.size),
      signal,
    });
    return {
      ...found,
      rivals: found.rivals.map((each) => each.map(({ character, probability }) => [character, probability])),
    };
  } catch (error) {
    throw signal.aborted ? error : asApiError(error, 'text');
  }
}

/** A text's cells: [layer][unit], each with one value per character. */
interface KeptText {
  readonly characters: string[];
  readonly cells: Float32Array[][];
}

/** Limit in bytes on all cells kept, and on those of one text: 5,000 characters of 13,000 cells. */
const mostCellBytes = 1 << 28;

/**
 * Keeps the cells of the latest texts of all models, so that moving from cell to cell needs no model. Texts are inspected one at a time,
 * since that temporarily takes the same memory again.
 */
export class Cells {
  /** Keyed by model and text, least recently used first. */
  readonly #kept = new Map<string, KeptText>();
  readonly #queue = new SerialQueue();
  readonly #most: number;

  /** @param most Limit in bytes, on all that is kept and on each text. */
  constructor(most = mostCellBytes) {
    this.#most = most;
  }

  /** Bytes kept. */
  get bytes(): number {
    let bytes = 0;
    for (const { characters, cells } of this.#kept.values()) bytes += characters.length * bytesOfCells(cells);
    return bytes;
  }

  /** @throws ApiError 413 for a text that is too long. */
  of({ model, name, version }: Served, text: string, signal: AbortSignal): Promise<KeptText> {
    const { layers, hidden } = model.shape;
    const longest = Math.min(longestForCells, Math.floor(this.#most / (4 * layers * hidden)));
    if (text.length > longest) {
      throw new ApiError(413, `A text may have ${grouped(longest)} characters for its cells.`, {
        param: 'text',
      });
    }
    const key = JSON.stringify([name, version, text]);
    return this.#queue.run(async () => {
      signal.throwIfAborted();
      const found = this.#kept.get(key) ?? (await inspected(model, text, signal));
      this.#kept.delete(key);
      this.#kept.set(key, found);
      for (const oldest of this.#kept.keys()) {
        if (this.bytes <= this.#most) break;
        this.#kept.delete(oldest);
      }
      return found;
    });
  }
}

/** Bytes of cells per character. */
function bytesOfCells(cells: KeptText['cells']): number {
  return 4 * cells.length * (cells[0]?.length ?? 0);
}

async function inspected(model: Served['model'], text: string, signal: AbortSignal): Promise<KeptText> {
  const { characters, cells } = await model.inspect(text, { unknown: 'skip', rivals: 0, cells: true, signal });
  return { characters, cells: cells as Float32Array[][] };
}

/** One cell along a text, and the cells that follow a pattern most closely. */
export async function inspectCells(served: Served, body: unknown, kept: Cells, signal: AbortSignal): Promise<object> {
  const { text, layer, unit, pattern } = read(cells, body);
  const { layers, hidden } = served.model.shape;
  if (layer >= layers) throw new ApiError(400, `layer must be below ${layers}.`, { param: 'layer' });
  if (unit >= hidden) throw new ApiError(400, `unit must be below ${hidden}.`, { param: 'unit' });
  const found = await kept.of(served, text, signal);
  if (pattern && pattern.length !== found.characters.length) {
    throw new ApiError(400, `pattern must have a number for each of the ${found.characters.length} characters.`, {
      param: 'pattern',
    });
  }
  const values = found.cells[layer]?.[unit] as Float32Array;
  return {
    characters: found.characters,
    values: Array.from(values, (value) => Math.round(value * 1000) / 1000),
    layers,
    hidden,
    ...(pattern ? { followers: followers(found.cells, pattern) } : {}),
  };
}

/** The ten cells that follow the pattern, or its opposite, most closely by Pearson's correlation. */
function followers(cells: readonly Float32Array[][], pattern: readonly number[]): object[] {
  const all = cells.flatMap((units, layer) =>
    units.map((values, unit) => ({ layer, unit, correlation: correlation(values, pattern) })),
  );
  return all.sort((a, b) => Math.abs(b.correlation) - Math.abs(a.correlation)).slice(0, 10);
}

/** 0 if either of the two does not vary. */
function correlation(a: Float32Array, b: readonly number[]): number {
  const count = b.length;
  let [meanA, meanB] = [0, 0];
  for (let i = 0; i < count; i++) {
    meanA += (a[i] as number) / count;
    meanB += (b[i] as number) / count;
  }
  let [both, varianceA, varianceB] = [0, 0, 0];
  for (let i = 0; i < count; i++) {
    const [x, y] = [(a[i] as number) - meanA, (b[i] as number) - meanB];
    both += x * y;
    varianceA += x * x;
    varianceB += y * y;
  }
  const scale = Math.sqrt(varianceA * varianceB);
  return scale > 1e-12 ? both / scale : 0;
}
