/** One HTML file with a model, the runtime that computes it (lib/browser.mts) and a page to write with. It makes no network requests. */
import type { Checkpoint } from '../checkpoint/checkpoint';
import { canonicalLayout } from '../checkpoint/layout';
import { renderPage } from '../html';
import { body, script, style } from './page';

export interface PageOptions {
  title: string;
  half: boolean;
}

/** A number as the 16 bits of IEEE 754's half precision, rounded to nearest, ties to even; infinite beyond its range. */
export function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  const exponent = size < 2 ** -14 ? -14 : Math.floor(Math.log2(size));
  const scaled = size / 2 ** (exponent - 10);
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  // A carry out of the fraction goes into the exponent, as it should.
  const bits = size < 2 ** -14 ? rounded : ((exponent + 15) << 10) + rounded - 1024;
  return sign | Math.min(bits, 0x7c00);
}

/** The model as a safetensors file with only what writing text needs. */
function* safetensors({ metadata, parameters }: Checkpoint, half: boolean): Generator<Uint8Array> {
  const layout = canonicalLayout({ ...metadata.model, vocabulary: metadata.vocabulary.length });
  const width = half ? 2 : 4;
  const kept = {
    format: metadata.format,
    formatVersion: JSON.stringify(metadata.formatVersion),
    vocabulary: JSON.stringify(metadata.vocabulary),
    normalization: JSON.stringify(metadata.normalization),
    model: JSON.stringify(metadata.model),
    target: metadata.target,
    seqLength: JSON.stringify(metadata.seqLength),
  };
  const tensors = layout.map(({ name, shape, offset, size }) => [
    name,
    { dtype: half ? 'F16' : 'F32', shape, data_offsets: [offset * width, (offset + size) * width] },
  ]);
  const header = Buffer.from(JSON.stringify(Object.fromEntries([['__metadata__', kept], ...tensors])));
  const length = Buffer.alloc(8);
  const padded = Math.ceil(header.length / 8) * 8;
  length.writeBigUInt64LE(BigInt(padded));
  yield length;
  yield Buffer.concat([header, Buffer.alloc(padded - header.length, ' ')]);
  if (!half) yield new Uint8Array(parameters.buffer, parameters.byteOffset, parameters.byteLength);
  else {
    const bits = Uint16Array.from(parameters, toHalf);
    yield new Uint8Array(bits.buffer);
  }
}

/** The pieces of the page. */
export async function pageOf(checkpoint: Checkpoint, { title, half }: PageOptions): Promise<Uint8Array[]> {
  const weights = Buffer.concat([...safetensors(checkpoint, half)]).toString('base64');
  const { model, vocabulary } = checkpoint.metadata;
  const about = `LSTM ${model.layers} × ${model.hidden}, ${vocabulary.length} symbols. Everything is computed on this page; nothing leaves it.`;
  const page = await renderPage({
    title,
    body: body(title, about),
    style,
    data: { weights },
    modules: ['browser-kernels.mjs', 'browser.mjs'],
    wasm: true,
    script,
  });
  return [Buffer.from(page)];
}
