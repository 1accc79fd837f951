/** What a server reveals about a run: its events, without any path on this machine. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { followRun } from '../../../lib/serve/runs';
import { serveModels } from '../../../lib/serve/server';
import type { StartEvent } from '../../../lib/training/events';
import { type TrainRequest, train } from '../../../lib/training/train';

const folder = mkdtempSync(join(tmpdir(), 'served-run-'));
const at = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const small = { hidden: 8, layers: 1, batchSize: 4, seqLength: 9, epochs: 1, sampleLength: 0, device: 'cpu' } as const;

async function run(request: TrainRequest): Promise<void> {
  await using training = await train({ ...small, ...request });
  for await (const _ of training);
}

it('names texts and checkpoints without their folders, whatever the run was begun with', async () => {
  for (const name of ['a.txt', 'b.txt', 'c.txt', 'd.txt']) writeFileSync(at(name), `${name} is a text\n`.repeat(60));
  await run({ corpus: [at('a.txt')], out: at('base') });
  const texts = { corpus: [`${at('a.txt')}:2`, at('b.txt')], keep: [at('c.txt')], validationFile: [at('d.txt')] };
  await run({ ...texts, from: at('base'), out: at('run') });
  await run({ resume: at('run'), epochs: 2, device: 'cpu' });
  const controller = new AbortController();
  const events = [];
  for await (const batch of followRun(at('run'), 0, controller.signal)) {
    events.push(...batch.events);
    if (batch.events.length === 0) controller.abort();
  }
  const starts = events.filter((event): event is StartEvent => event.type === 'start');
  expect(starts).toHaveLength(2);
  for (const { corpus, kept, validation } of starts) {
    expect(corpus.sources).toEqual(['a.txt', 'b.txt']);
    expect([kept?.sources, validation?.sources]).toEqual([['c.txt'], ['d.txt']]);
  }
  expect(starts[0]?.from?.checkpoint).toMatch(/^weights-improvement-/);
  expect(starts[1]?.resumed?.checkpoint).toMatch(/^checkpoint-/);
  expect(JSON.stringify(events)).not.toContain(folder);
});

it('tells a run from its beginning where the place that is asked for is none', async () => {
  mkdirSync(at('told'));
  writeFileSync(at('told/metrics.jsonl'), '{"type":"sample","epoch":1,"prompt":"","text":"a"}\n');
  const server = await serveModels([at('told')], { port: 0, device: 'cpu', grace: 0 });
  try {
    for (const from of ['0', '', '-1', '1.5', '1e300', 'NaN', '9'.repeat(15)]) {
      const response = await fetch(`${server.url}/page/api/events?run=told&from=${from}`);
      const { value } = (await response.body?.getReader().read()) ?? {};
      expect([from, response.status]).toEqual([from, 200]);
      expect(new TextDecoder().decode(value)).toContain('"text":"a"');
    }
  } finally {
    await server.close();
  }
});
