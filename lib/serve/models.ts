/** A server's models: loaded on demand, evicted when memory is short, reloaded when they change. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { readCheckpointMetadata } from '../checkpoint/checkpoint';
import { modelName, resolveCheckpoint } from '../checkpoint/run-directory';
import { UsageError } from '../errors';
import { LanguageModel, type ModelOptions, nativeOf } from '../model';
import { SharedSampler } from '../sampling/shared';
import { ApiError } from './errors';

export interface ModelsOptions extends ModelOptions {
  /** Bytes that all loaded models may take together; the least recently used are evicted first. Default: no bound. */
  memory?: number | undefined;
  /** Look for a newer checkpoint of a run at each request, and serve it. Default false. */
  watch?: boolean | undefined;
  /** Called with a line about each thing that happens to the models. */
  log?: ((line: string) => void) | undefined;
}

/** A loaded model. */
export interface Served {
  readonly name: string;
  readonly model: LanguageModel;
  readonly sampler: SharedSampler;
  /** Identifies the file, and changes with it. */
  readonly version: string;
}

interface Entry {
  readonly name: string;
  readonly path: string;
  loading: Promise<Loaded> | undefined;
  loaded: Loaded | undefined;
}

class Loaded implements Served {
  users = 0;
  retired = false;
  lastUsed = 0;
  constructor(
    readonly name: string,
    readonly model: LanguageModel,
    readonly sampler: SharedSampler,
    readonly version: string,
  ) {}

  get bytes(): number {
    const { hostBytes, deviceBytes } = this.model.memory;
    return hostBytes + deviceBytes;
  }

  /** Frees the model once its last user is done. */
  retire(): void {
    this.retired = true;
    if (this.users === 0) this.model.dispose();
  }
}

export class Models {
  readonly #entries = new Map<string, Entry>();
  readonly #options: ModelsOptions;
  #uses = 0;

  /** @param paths Checkpoints or run directories; a model's name is that of its directory or file, or what precedes a `=`. */
  constructor(paths: readonly string[], options: ModelsOptions = {}) {
    this.#options = options;
    for (const given of paths) {
      const named = /^([\w.-]+)=(.+)$/s.exec(given);
      const path = named?.[2] ?? given;
      const name = named?.[1] ?? modelName(path);
      if (this.#entries.has(name)) {
        throw new UsageError(`Two models are called '${name}': name one of them, as in other=${path}.`);
      }
      this.#entries.set(name, { name, path, loading: undefined, loaded: undefined });
    }
  }

  get names(): string[] {
    return [...this.#entries.keys()];
  }

  /** Models currently in memory. */
  get loaded(): Served[] {
    return [...this.#entries.values()].flatMap(({ loaded }) => loaded ?? []);
  }

  /** Texts of all models being drawn or waiting. */
  get active(): number {
    return this.loaded.reduce((sum, { sampler }) => sum + sampler.active, 0);
  }

  /** The path of a model, for this process only: it is never sent to a client. */
  pathOf(name: string): string | undefined {
    return this.#entries.get(name)?.path;
  }

  /**
   * Runs `job` with a model, which stays in memory meanwhile.
   *
   * @param name Absent: the first model.
   * @throws ApiError 404 if there is no model of that name, 503 if it cannot be loaded.
   */
  async use<T>(name: string | null | undefined, job: (served: Served) => Promise<T>): Promise<T> {
    const entry = this.#entries.get(name ?? (this.names[0] as string));
    if (!entry) {
      const message = `The model '${String(name).slice(0, 100)}' does not exist; there are: ${this.names.join(', ')}.`;
      throw new ApiError(404, message, { param: 'model', code: 'model_not_found' });
    }
    let loaded = await this.#current(entry);
    while (loaded.model.disposed) loaded = await this.#current(entry); // Evicted in favour of another before it could be taken.
    loaded.users++;
    loaded.lastUsed = ++this.#uses;
    try {
      return await job(loaded);
    } finally {
      loaded.users--;
      if (loaded.retired && loaded.users === 0) loaded.model.dispose();
    }
  }

  /** Loads every model, or as many as the memory limit allows. @throws The library's error, if one cannot be loaded. */
  async preload(): Promise<void> {
    for (const entry of this.#entries.values()) {
      await this.#loadOnce(entry);
      if (this.#options.memory !== undefined && this.loaded.length < this.names.indexOf(entry.name) + 1) return;
    }
  }

  /** Frees all models, each once its last user is done. */
  close(): void {
    for (const entry of this.#entries.values()) {
      entry.loaded?.retire();
      entry.loaded = undefined;
    }
  }

  /** A loaded model continues to be served if its file cannot be read. */
  async #current(entry: Entry): Promise<Loaded> {
    if (!entry.loading && entry.loaded && !this.#options.watch) return entry.loaded;
    try {
      return await this.#loadOnce(entry);
    } catch (error) {
      this.#options.log?.(`${entry.name}: ${error instanceof Error ? error.message : String(error)}`);
      if (entry.loaded) return entry.loaded;
      throw new ApiError(503, `The model '${entry.name}' cannot be loaded now; the server's log says why.`, {
        code: 'model_unavailable',
        retryAfter: 5,
      });
    }
  }

  /** Loads a model, or waits for the load already under way. */
  #loadOnce(entry: Entry): Promise<Loaded> {
    entry.loading ??= this.#load(entry).finally(() => {
      entry.loading = undefined;
    });
    return entry.loading;
  }

  async #load(entry: Entry): Promise<Loaded> {
    const path = await resolveCheckpoint(entry.path);
    const { ino, size, mtimeMs } = await stat(path);
    // Reveals only whether the file is the same.
    const version = createHash('sha256').update(`${path} ${ino} ${size} ${mtimeMs}`).digest('hex').slice(0, 16);
    if (entry.loaded?.version === version) return entry.loaded;
    const { memory: _memory, watch: _watch, log: _log, ...options } = this.#options;
    // Checked before the parameters, which may be gigabytes, are read.
    const { normalization } = await readCheckpointMetadata(path);
    if (normalization.symbols === 'bytes') {
      throw new UsageError(
        `${entry.path} is a model of bytes, and the API carries text: sample writes with it, and score reads files.`,
      );
    }
    const model = await LanguageModel.load(path, options);
    const loaded = new Loaded(entry.name, model, new SharedSampler(nativeOf(model), model.shape), version);
    this.#options.log?.(`${entry.loaded ? 'reloaded' : 'loaded'} ${entry.name}: ${path}, ${model.deviceReason}`);
    entry.loaded?.retire();
    entry.loaded = loaded;
    loaded.lastUsed = ++this.#uses;
    this.#evict(loaded);
    return loaded;
  }

  /** Evicts idle models, least recently used first, until the rest fit. */
  #evict(keep: Loaded): void {
    const { memory = Number.POSITIVE_INFINITY } = this.#options;
    const entries = [...this.#entries.values()].filter(({ loaded }) => loaded !== undefined);
    let bytes = entries.reduce((sum, { loaded }) => sum + (loaded as Loaded).bytes, 0);
    entries.sort((a, b) => (a.loaded as Loaded).lastUsed - (b.loaded as Loaded).lastUsed);
    for (const entry of entries) {
      const loaded = entry.loaded as Loaded;
      if (bytes <= memory) return;
      if (loaded === keep || loaded.users > 0) continue;
      bytes -= loaded.bytes;
      entry.loaded = undefined;
      loaded.retire();
      this.#options.log?.(`evicted ${entry.name}: ${this.loaded.length} left in memory`);
    }
  }
}
