/** Byte models in the commands: any file as a text, prompts and output as bytes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { main } from '../../../lib/cli/main';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { compiled, run as runChild } from '../../fixtures/child';
import { runCommand as run } from '../../fixtures/command';
import { jsonLines, sinks } from '../../fixtures/sink';

let folder: string;
const at = (name: string) => join(folder, name);
const cpu = ['--device', 'cpu', '--threads', '1'];
/** Five bytes, repeated; three of them are invalid in UTF-8. */
const data = Buffer.from(Array.from({ length: 4000 }, (_, i) => [0xff, 0x00, 0xc3, 0x0a, 0x80][i % 5] as number));

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'bytes-'));
  writeFileSync(at('data.bin'), data);
  const sizes = [
    '--hidden',
    '16',
    '--layers',
    '1',
    '--batch-size',
    '4',
    '--epochs',
    '12',
    '--learning-rate',
    '0.03',
    '--sample-length',
    '10',
  ];
  const { code, err, out } = await run('train', at('data.bin'), '--bytes', ...sizes, '--out', at('run'), ...cpu);
  expect(code).toBe(0);
  expect(err).toContain('4,000 bytes, 256 symbols');
  expect(err).toMatch(/bits\/byte/);
  expect(err).not.toMatch(/bits\/char|chars\/s/);
  expect(out).toContain('--- sample, epoch 12 ---');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What a command writes to a pipe. */
function bytesOf(...argv: string[]): Buffer {
  return execFileSync(process.execPath, [compiled('cli/main.js'), ...argv], { stdio: ['ignore', 'pipe', 'ignore'] });
}

test('sample writes bytes to a pipe, and continues a prompt of bytes', async () => {
  writeFileSync(at('prompt.bin'), data.subarray(0, 503));
  const options = ['--length', '20', '--greedy', '--seed', '1', ...cpu];
  const written = bytesOf('sample', at('run'), '--prompt-file', at('prompt.bin'), ...options);
  expect(written.equals(data.subarray(503, 523))).toBe(true);
  const echoed = bytesOf('sample', at('run'), '--prompt-file', at('prompt.bin'), '--echo', ...options);
  expect(echoed.equals(data.subarray(0, 523))).toBe(true);
  const [json] = jsonLines(
    (await run('sample', at('run'), '--prompt-file', at('prompt.bin'), '--json', ...options)).out,
  );
  expect(Buffer.from(json.base64, 'base64').equals(written)).toBe(true);
  expect(json.text).toBe(new TextDecoder().decode(written));
});

test('on a terminal other bytes are escaped', async () => {
  const { stdout, stderr } = sinks();
  (stdout as unknown as { isTTY: boolean }).isTTY = true;
  writeFileSync(at('prompt.bin'), data.subarray(0, 503));
  const argv = [
    'sample',
    at('run'),
    '--prompt-file',
    at('prompt.bin'),
    '--length',
    '8',
    '--greedy',
    '--seed',
    '1',
    ...cpu,
  ];
  await main(argv, { stdout, stderr });
  expect(stdout.text).toBe('\n\\x80\\xff\\u{0}\\xc3\n\\x80\\xff\n');
});

test('score says bits per byte, of any file', async () => {
  const { out } = await run('score', at('run'), at('data.bin'), ...cpu);
  expect(out).toMatch(/^\d\.\d{4} bits, \d\.\d{4} nats per byte \(3,999 bytes\) {2}/);
  const whole = await run(
    'score',
    at('run'),
    at('data.bin'),
    '--protocol',
    'window',
    '--window',
    '5',
    '--stride',
    '50',
    ...cpu,
  );
  expect(whole.out).toContain('the byte after each of');
  for (const option of ['--lines', '--per-character']) {
    expect(await run('score', at('run'), at('data.bin'), option, ...cpu)).toMatchObject({
      code: 2,
      err: expect.stringContaining('The symbols of this model are bytes'),
    });
  }
});

test('a fine-tuning speaks of bytes', async () => {
  writeFileSync(at('new.bin'), Buffer.from(data).reverse());
  const texts = [at('new.bin'), '--from', at('run'), '--keep', at('data.bin')];
  const flags = ['--batch-size', '4', '--epochs', '1', '--sample-length', '0', '--out', at('tuned')];
  const { code, err } = await run('train', ...texts, ...flags, ...cpu);
  expect(code).toBe(0);
  expect(err).toMatch(/^kept: .* 4,000 bytes, /m);
  expect(err).toMatch(/^before: .* bits\/byte, /m);
  expect(err).toMatch(/^new text: .* bits\/byte before/m);
  expect(err).not.toMatch(/chars?\b|characters/);
});

test('what bytes do not go with is refused', async () => {
  for (const [option, name] of [
    ['--lowercase', 'lowercase'],
    ['--normalize=nfc', 'normalize'],
    ['--encoding=latin1', 'encoding'],
    ['--lines', 'lines'],
  ] as const) {
    const { code, err } = await run('train', at('data.bin'), '--bytes', option, '--dry-run', ...cpu);
    expect([code, err]).toEqual([
      2,
      expect.stringContaining(`flag --bytes: bytes are taken as they are, and flag --${name}`),
    ]);
  }
  // A resumed run refuses it, too: its checkpoint says that the symbols are bytes.
  expect(await run('train', '--resume', at('run'), '--encoding=latin1', '--epochs', '13', ...cpu)).toMatchObject({
    code: 2,
    err: expect.stringContaining('checkpoint: bytes are taken as they are, and flag --encoding'),
  });
  expect(await run('sample', at('run'), '--lines', '3', ...cpu)).toMatchObject({
    code: 2,
    err: expect.stringContaining('a model of bytes, which does not write lines'),
  });
  expect(await run('export', at('run'), '--to', 'html', '--out', at('x.html'))).toMatchObject({ code: 2 });
  expect((await run('info', at('run'))).out).toContain('vocabulary:     256 bytes');
  const served = await runChild(process.execPath, [compiled('cli/main.js'), 'serve', at('run'), '--port', '0', ...cpu]);
  expect(served).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('is a model of bytes, and the API carries text'),
  });
});

test('the library: text in, text and bytes out', async () => {
  using model = await LanguageModel.load(at('run'), { device: 'cpu', threads: 1 });
  const options = { prompt: data.subarray(0, 501), length: 9, greedy: true };
  const pieces = [];
  for await (const piece of model.generateMany(2, options)) pieces.push(piece);
  const bytes = Buffer.concat(pieces.filter(({ stream }) => stream === 1).map((piece) => piece.bytes as Uint8Array));
  expect(bytes.equals(data.subarray(501, 510))).toBe(true);
  expect(await model.generateText(options)).toBe(new TextDecoder().decode(data.subarray(501, 510)));
  // A stop string is matched as bytes.
  expect(await model.generateText({ ...options, stop: '\n', keepStop: true })).toBe('\0\uFFFD\n');
  expect((await model.score('äöü')).characters).toBe(5);
  const text = await LanguageModel.create(
    { vocabulary: 2, layers: 1, hidden: 2, input: 'onehot', embedding: 0, dropout: 0 },
    new Vocabulary(['a', 'b']),
    { device: 'cpu' },
  );
  expect(() => text.generate({ prompt: data })).toThrow(
    'prompt must be a string: the symbols of this model are characters',
  );
  text.dispose();
});
