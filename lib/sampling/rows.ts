/** Ids of several texts, time-major: rows [n, S], row by row. */

/** Appends rows to rows. */
export function concatenate(a: Int32Array, b: Int32Array): Int32Array {
  const all = new Int32Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

/** The ids [n] of one stream. */
export function column(ids: Int32Array, stream: number, streams: number): Int32Array {
  return Int32Array.from({ length: ids.length / streams }, (_, row) => ids[row * streams + stream] as number);
}

/** The ids [n] of each stream, as rows. */
export function interleave(columns: readonly Int32Array[]): Int32Array {
  const length = columns[0]?.length ?? 0;
  const all = new Int32Array(length * columns.length);
  columns.forEach((ids, stream) => {
    for (let row = 0; row < length; row++) all[row * columns.length + stream] = ids[row] as number;
  });
  return all;
}

/** Ids [n] as rows, the same for every stream. */
export function repeatColumns(ids: Int32Array, streams: number): Int32Array {
  const rows = new Int32Array(ids.length * streams);
  for (let row = 0; row < ids.length; row++) rows.fill(ids[row] as number, row * streams, (row + 1) * streams);
  return rows;
}
