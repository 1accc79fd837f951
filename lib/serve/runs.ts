/** The training history of a served run: its metrics.jsonl, without the paths, as it grows. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openFile } from '../files';
import type { TrainingEvent } from '../training/events';

/** Bytes read at once, and the longest line that is sent. */
const piece = 256 * 1024;
/** Milliseconds between checks for more. */
const pause = 500;

/** Whether there are metrics at a model's path. */
export async function hasMetrics(path: string): Promise<boolean> {
  return (await stat(join(path, 'metrics.jsonl')).catch(() => undefined))?.isFile() ?? false;
}

/** A batch of a run's events. */
export interface RunEvents {
  events: TrainingEvent[];
  /** Byte offset of the next event. */
  next: number;
}

/**
 * The events of a run in batches, from byte `from` on; an empty batch once all that is there has been sent. Then those to come, until the
 * signal is aborted. A file that has become shorter is read again from its beginning.
 */
export async function* followRun(path: string, from: number, signal: AbortSignal): AsyncGenerator<RunEvents> {
  let at = from;
  while (!signal.aborted) {
    const { text, size } = await readPiece(join(path, 'metrics.jsonl'), at);
    if (size < at) {
      at = 0;
      continue;
    }
    const end = text.lastIndexOf(0x0a) + 1;
    // A line longer than a piece is skipped.
    const taken = end > 0 ? end : text.length === piece ? piece : 0;
    at += taken;
    if (end > 0) yield { events: eventsOf(text.subarray(0, end).toString('utf8')), next: at };
    if (at < size && taken > 0) continue;
    yield { events: [], next: at };
    await sleep(pause, undefined, { signal }).catch(() => {});
  }
}

async function readPiece(path: string, at: number): Promise<{ text: Buffer; size: number }> {
  const file = await openFile(path).catch(() => undefined);
  if (!file) return { text: Buffer.alloc(0), size: 0 };
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(piece), 0, piece, at);
    return { text: buffer.subarray(0, bytesRead), size };
  } finally {
    await file.close();
  }
}

function eventsOf(lines: string): TrainingEvent[] {
  return lines.split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : withoutPaths(JSON.parse(line) as TrainingEvent);
    } catch {
      return []; // A partial line from a killed trainer.
    }
  });
}

/** Reduces files to their base names. */
function withoutPaths(event: TrainingEvent): TrainingEvent {
  switch (event.type) {
    case 'start': {
      const { out: _, resumed, from, kept, validation, ...rest } = event;
      const named = <T extends { sources: readonly string[] }>(text: T) => ({
        ...text,
        sources: text.sources.map((source) => basename(source)),
        notes: [],
      });
      return {
        ...rest,
        corpus: named(event.corpus),
        notes: [],
        ...(from ? { from: { ...from, checkpoint: basename(from.checkpoint) } } : {}),
        ...(kept ? { kept: named(kept) } : {}),
        ...(validation ? { validation: named(validation) } : {}),
        ...(resumed ? { resumed: { ...resumed, checkpoint: basename(resumed.checkpoint) } } : {}),
      };
    }
    case 'checkpoint':
      return { ...event, path: basename(event.path) };
    case 'end': {
      const { out: _, best, ...rest } = event;
      if (!best) return rest;
      const { path: __, ...scores } = best;
      return { ...rest, best: scores };
    }
    default:
      return event;
  }
}
