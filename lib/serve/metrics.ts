/** What a server has done so far, in Prometheus' text format. */
import type { Models } from './models';

export class Metrics {
  readonly #began = Date.now();
  readonly #requests = new Map<string, number>();
  #prompt = 0;
  #completion = 0;
  #aborted = 0;
  #firstPieces = 0;
  #firstSeconds = 0;

  request(path: string, status: number): void {
    const key = `path="${path}",status="${status}"`;
    this.#requests.set(key, (this.#requests.get(key) ?? 0) + 1);
  }

  usage(prompt: number, completion: number): void {
    this.#prompt += prompt;
    this.#completion += completion;
  }

  aborted(): void {
    this.#aborted++;
  }

  /** Seconds from the end of a request to the first piece of its stream. */
  firstPiece(seconds: number): void {
    this.#firstPieces++;
    this.#firstSeconds += seconds;
  }

  text(models: Models): string {
    const lines: string[] = [];
    const metric = (
      name: string,
      kind: 'counter' | 'gauge' | 'summary',
      help: string,
      rows: [labels: string, value: number][],
    ) => {
      lines.push(`# HELP cudnn_lstm_${name} ${help}`, `# TYPE cudnn_lstm_${name} ${kind}`);
      for (const [labels, value] of rows) lines.push(`cudnn_lstm_${name}${labels} ${value}`);
    };
    metric(
      'requests_total',
      'counter',
      'Requests answered.',
      [...this.#requests].map(([labels, count]) => [`{${labels}}`, count]),
    );
    metric('requests_aborted_total', 'counter', 'Requests whose client went away.', [['', this.#aborted]]);
    metric('prompt_characters_total', 'counter', 'Characters of prompts.', [['', this.#prompt]]);
    metric('generated_characters_total', 'counter', 'Characters given out.', [['', this.#completion]]);
    const drawn = models.loaded.map(({ sampler }) => sampler);
    const sum = (of: (sampler: (typeof drawn)[number]) => number) => drawn.reduce((all, each) => all + of(each), 0);
    metric('drawn_characters', 'gauge', 'Characters drawn by the models in memory, with those that nobody read.', [
      ['', sum((sampler) => sampler.drawnIds)],
    ]);
    metric('draw_calls', 'gauge', 'Calls that drew them, each for one text or several.', [
      ['', sum((sampler) => sampler.drawCalls)],
    ]);
    metric('first_piece_seconds', 'summary', 'From a request to the first piece of its stream.', []);
    lines.push(
      `cudnn_lstm_first_piece_seconds_sum ${this.#firstSeconds}`,
      `cudnn_lstm_first_piece_seconds_count ${this.#firstPieces}`,
    );
    metric('active_texts', 'gauge', 'Texts being drawn or waiting.', [['', models.active]]);
    metric('loaded_models', 'gauge', 'Models in memory.', [['', models.loaded.length]]);
    metric('resident_bytes', 'gauge', 'Memory of the process.', [['', process.memoryUsage.rss()]]);
    const { heapUsed, external } = process.memoryUsage();
    metric('heap_bytes', 'gauge', "JavaScript's objects.", [['', heapUsed]]);
    metric('external_bytes', 'gauge', 'Memory outside of the heap that belongs to them.', [['', external]]);
    metric('uptime_seconds', 'gauge', 'Since the server began.', [['', (Date.now() - this.#began) / 1000]]);
    return `${lines.join('\n')}\n`;
  }
}
