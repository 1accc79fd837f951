/** Zip archives in memory, read by the optional package yauzl: names and, on request, contents. Nothing is written anywhere. */
import type { Entry, ZipFile } from 'yauzl';
import { largestFile, Refusal } from './bounds';
import { isMissing, missingPackage } from './optional-package';

const mostEntries = 20_000;

export class ZipArchive {
  #unpacked = 0;
  readonly #zip: ZipFile;
  readonly #entries: ReadonlyMap<string, Entry>;

  private constructor(zip: ZipFile, entries: ReadonlyMap<string, Entry>) {
    this.#zip = zip;
    this.#entries = entries;
  }

  /** @throws Refusal if the bytes are not a zip archive, or name a file twice; CudnnLstmError `ERR_MISSING_PACKAGE` without yauzl. */
  static async open(bytes: Buffer): Promise<ZipArchive> {
    const yauzl = await import('yauzl').catch((error) => {
      throw isMissing(error) ? missingPackage("PyTorch's and Keras' files are zip archives", 'yauzl') : error;
    });
    const entries = new Map<string, Entry>();
    try {
      const zip = await yauzl.fromBufferPromise(bytes, { lazyEntries: true, strictFileNames: false });
      if (zip.entryCount > mostEntries) throw new Refusal(`its archive has ${zip.entryCount} entries`);
      for await (const entry of zip.eachEntry()) {
        if (entries.has(entry.fileName)) throw new Refusal(`its archive holds '${entry.fileName}' twice`);
        entries.set(entry.fileName, entry);
      }
      return new ZipArchive(zip, entries);
    } catch (error) {
      if (error instanceof Refusal) throw error;
      throw new Refusal(`its zip archive is damaged (${(error as Error).message})`, { cause: error });
    }
  }

  get names(): string[] {
    return [...this.#entries.keys()];
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** @throws Refusal if it is missing, damaged, encrypted, or would unpack to more than a file may have. */
  async read(name: string, limit = largestFile): Promise<Buffer> {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new Refusal(`its archive has no '${name}'`);
    this.#unpacked += entry.uncompressedSize;
    if (entry.uncompressedSize > limit || this.#unpacked > 4 * largestFile)
      throw new Refusal(`'${name}' in its archive unpacks to ${entry.uncompressedSize} bytes`);
    try {
      const parts: Buffer[] = [];
      let length = 0;
      for await (const part of await this.#zip.openReadStreamPromise(entry)) {
        length += (part as Buffer).length;
        // The library checks the size against the archive's own statement, whichever way it differs.
        if (length > entry.uncompressedSize) throw new Refusal('more bytes than it says');
        parts.push(part as Buffer);
      }
      const bytes = Buffer.concat(parts, length);
      if (length !== entry.uncompressedSize) throw new Refusal('fewer bytes than it says');
      return bytes;
    } catch (error) {
      throw new Refusal(`'${name}' in its archive cannot be read (${(error as Error).message})`, { cause: error });
    }
  }
}
