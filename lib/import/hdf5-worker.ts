/**
 * The worker thread that reads HDF5 files, or writes them, one after another. The HDF5 library is a large parser of untrusted bytes: here
 * it can abort, and can be ended if it does not finish. Its file system is its own memory, so that a file's links to other files lead
 * nowhere.
 */
import { parentPort } from 'node:worker_threads';
import type { Hdf5Contents, Hdf5Failure, Hdf5Request, Hdf5Tensor, Hdf5Writing } from './hdf5';
import { isMissing } from './optional-package';

const deepest = 12;
const mostObjects = 20_000;

/** The part of h5wasm that is used. */
interface Entity {
  type?: string;
  attrs: Record<string, { value: unknown }>;
  keys?(): string[];
  get?(name: string): Entity | null;
  shape?: number[] | null;
  metadata?: { size: number; type: number };
  value?: unknown;
}

async function library() {
  const { default: h5wasm, File } = await import('h5wasm');
  const { FS, deactivate_error_stack_printing: silence } = (await h5wasm.ready) as unknown as {
    FS: {
      writeFile(path: string, data: Uint8Array): void;
      readFile(path: string): Uint8Array<ArrayBuffer>;
      unlink(path: string): void;
    };
    deactivate_error_stack_printing?: () => void;
  };
  silence?.();
  return { FS, File };
}

async function write({ tensors, attributes = {} }: Hdf5Writing): Promise<Uint8Array<ArrayBuffer>> {
  const { FS, File } = await library();
  const file = new File('model.h5', 'w');
  const made = new Set<string>();
  for (const { path, shape, data } of tensors) {
    const names = path.split('/');
    for (let depth = 1; depth < names.length; depth++) {
      const group = names.slice(0, depth).join('/');
      if (!made.has(group)) file.create_group(group);
      made.add(group);
    }
    file.create_dataset({ name: path, data, shape: [...shape], dtype: '<f' });
  }
  for (const [name, value] of Object.entries(attributes)) file.create_attribute(name, value);
  file.close();
  const bytes = FS.readFile('model.h5');
  FS.unlink('model.h5');
  return bytes;
}

async function read({ bytes, mostBytes }: Hdf5Request): Promise<Hdf5Contents> {
  const { FS, File } = await library();
  FS.writeFile('model.h5', bytes);
  const file = new File('model.h5', 'r');
  try {
    return contentsOf(file as unknown as Entity, mostBytes);
  } finally {
    file.close();
    FS.unlink('model.h5');
  }
}

function contentsOf(root: Entity, mostBytes: number): Hdf5Contents {
  const tensors: Hdf5Tensor[] = [];
  const attributes: Record<string, string | string[]> = {};
  let objects = 0;
  let total = 0;
  const keep = (entity: Entity, path: string) => {
    for (const name of ['model_config', 'keras_version', 'backend', 'layer_names']) {
      const value = Object.hasOwn(entity.attrs, name) ? entity.attrs[name]?.value : undefined;
      if (typeof value === 'string') attributes[`${path}${name}`] = value;
      else if (Array.isArray(value) && value.every((item) => typeof item === 'string'))
        attributes[`${path}${name}`] = value as string[];
    }
  };
  const walk = (group: Entity, path: string, depth: number): void => {
    if (depth > deepest) throw new Error('its groups lie too deep in one another');
    for (const name of group.keys?.() ?? []) {
      if (++objects > mostObjects) throw new Error(`it holds more than ${mostObjects} objects`);
      const entity = group.get?.(name);
      if (!entity) continue;
      const at = `${path}${name.replaceAll('\\', '/')}`;
      if (/optimizer/.test(at)) continue;
      if (entity.type === 'Group') {
        if (depth === 0) keep(entity, `${at}/`);
        walk(entity, `${at}/`, depth + 1);
      } else if (entity.type === 'Dataset') {
        const shape = entity.shape ?? [];
        // 1: floating-point numbers.
        if (entity.metadata?.type !== 1 || shape.length > 3) continue;
        total += shape.reduce((product, extent) => product * extent, entity.metadata.size);
        // Anything larger is not really in the file: it is fill values, or compressed more than any weights.
        if (!(total <= mostBytes)) throw new Error(`its tensors take more than ${mostBytes} bytes`);
        const { value } = entity;
        if (value instanceof Float32Array || value instanceof Float64Array) {
          tensors.push({ path: at, shape: [...shape], data: Float32Array.from(value) });
        }
      }
    }
  };
  keep(root, '');
  walk(root, '', 0);
  return { tensors, attributes };
}

parentPort?.on('message', async (request: Hdf5Request | Hdf5Writing) => {
  try {
    if ('tensors' in request) {
      const bytes = await write(request);
      parentPort?.postMessage(bytes, [bytes.buffer]);
    } else {
      const contents = await read(request);
      parentPort?.postMessage(
        contents,
        contents.tensors.map(({ data }) => data.buffer as ArrayBuffer),
      );
    }
  } catch (thrown) {
    // The library throws errors, numbers, and whatever WebAssembly throws when it fails.
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    const fatal = error !== thrown || error.name === 'RuntimeError';
    parentPort?.postMessage({ error: error.message, missing: isMissing(error), fatal } satisfies Hdf5Failure);
  }
});
