import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reportError } from '../../../lib/cli/command';
import { main } from '../../../lib/cli/main';
import { Vocabulary } from '../../../lib/corpus/vocabulary';
import { LanguageModel } from '../../../lib/model';
import { node } from '../../fixtures/child';
import { jsonLines, sinks } from '../../fixtures/sink';

let folder: string;
let checkpoint: string;
let corpus: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'commands-'));
  checkpoint = join(folder, 'model.safetensors');
  corpus = join(folder, 'text.txt');
  writeFileSync(corpus, `${'abba cab\nbad dab\n'.repeat(20)}`);
  const vocabulary = new Vocabulary(['\n', ' ', 'a', 'b', 'c', 'd']);
  const shape = { vocabulary: 6, layers: 1, hidden: 16, input: 'onehot', embedding: 0, dropout: 0.1 } as const;
  using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, seed: 1, seqLength: 20 });
  await model.save(checkpoint);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the bin in this process, as its main program would. */
async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const { stdout, stderr } = sinks();
  let code: number;
  try {
    code = await main(argv, { stdout, stderr });
  } catch (error) {
    code = reportError(error, stderr);
  }
  return { code, out: stdout.text, err: stderr.text };
}

/** The same figures, within what another order of summation changes. */
function near({ loss, bitsPerCharacter }: { loss: number; bitsPerCharacter: number }) {
  return { loss: expect.closeTo(loss, 6), bitsPerCharacter: expect.closeTo(bitsPerCharacter, 6) };
}

const cpu = ['--device', 'cpu', '--threads', '1'];

describe('sample', () => {
  it('writes the text to stdout and nothing else', async () => {
    const { code, out, err } = await run(
      'sample',
      checkpoint,
      '--prompt',
      'abba',
      '--length',
      '60',
      '--seed',
      '3',
      ...cpu,
    );
    expect(code).toBe(0);
    expect(out).toHaveLength(61);
    expect(out.endsWith('\n')).toBe(true);
    expect(err).toMatch(
      /^model: .*model\.safetensors \(after 0 steps\)\ndevice: CPU, .*1 thread \(asked for\)\nseed: 3\n$/,
    );
  });

  it('prints the prompt first if asked to', async () => {
    const { out } = await run('sample', checkpoint, '--prompt', 'abba', '--length', '5', '--echo', ...cpu);
    expect(out).toMatch(/^abba[\s\S]{5}\n$/);
  });

  it('writes several texts, one after another, or as JSON', async () => {
    const options = ['--length', '30', '--seed', '3', '--count', '3', ...cpu];
    const { out } = await run('sample', checkpoint, ...options, '--separator', '=====');
    const texts = out.slice(0, -1).split('\n=====\n');
    expect(texts).toHaveLength(3);
    const json = await run('sample', checkpoint, ...options, '--json');
    const lines = jsonLines(json.out);
    expect(lines.sort((a, b) => a.sample - b.sample).map((line) => line.text)).toEqual(texts);
    expect(lines[0]).toMatchObject({ sample: 0, seed: 3, prompt: '', finished: 'length' });
  });

  it('writes one text a line where nothing is to stand between them', async () => {
    const options = ['--count', '4', '--length', '300', '--stop', '\n', '--seed', '3', ...cpu];
    const { out } = await run('sample', checkpoint, ...options, '--separator', '');
    const json = await run('sample', checkpoint, ...options, '--json');
    const texts = jsonLines(json.out);
    texts.sort((a, b) => a.sample - b.sample);
    expect(out).toBe(texts.map(({ text }) => `${text}\n`).join(''));
  });

  it('keeps the stop string if asked to', async () => {
    const options = ['--stop', 'a', '--length', '300', '--seed', '3', ...cpu];
    const without = (await run('sample', checkpoint, ...options)).out;
    const kept = (await run('sample', checkpoint, ...options, '--keep-stop')).out;
    expect(without).not.toContain('a');
    expect(kept).toBe(`${without.slice(0, -1)}a\n`);
  });

  it('takes the prompt from a file or from standard input, as it stands', async () => {
    const file = join(folder, 'prompt.txt');
    const long = 'abba cab\n'.repeat(20_000);
    writeFileSync(file, long);
    const options = ['--length', '20', '--seed', '3', '--json', ...cpu];
    const fromFile = JSON.parse((await run('sample', checkpoint, '--prompt-file', file, ...options)).out);
    expect(fromFile.prompt).toBe(long);
    const { stdout } = await node('cli/main.js', ['sample', checkpoint, '--prompt-file', '-', ...options], {
      input: long,
    });
    expect(JSON.parse(stdout)).toEqual(fromFile);
  });

  it.each([
    ['none.txt', 'none.txt is not there'],
    ['.', 'is a directory, not a file'],
    ['latin1.txt', 'is not UTF-8 text'],
    ['endless.txt', 'longer than 16 MiB'],
    ['/dev/zero', 'is a device, not a file'],
  ])('refuses the prompt file %s', async (name, message) => {
    writeFileSync(join(folder, 'latin1.txt'), Buffer.from([0x61, 0xe9]));
    writeFileSync(join(folder, 'endless.txt'), '');
    truncateSync(join(folder, 'endless.txt'), 2 ** 33);
    const path = name.startsWith('/') ? name : join(folder, name);
    const { code, err } = await run('sample', checkpoint, '--prompt-file', path, ...cpu);
    expect(code).toBe(3);
    expect(err).toContain(message);
  });

  it('says which checkpoint of a run it uses', async () => {
    const out = join(folder, 'a run');
    const tiny = ['--hidden', '8', '--layers', '1', '--batch-size', '2', '--seq-length', '10', '--sample-length', '0'];
    await run('train', corpus, ...tiny, '--epochs', '2', '--out', out, ...cpu);
    const sampled = await run('sample', out, '--length', '5', ...cpu);
    expect(sampled.err).toMatch(
      /^model: .*a run\/weights-improvement-\d-\d\.\d{4}\.safetensors \(after \d epochs?, validation loss \d\.\d{4}\)\n/,
    );
    const { path, run: state } = JSON.parse((await run('info', out, '--json')).out);
    expect(path).toMatch(/weights-improvement/);
    expect(state).toMatchObject({ directory: out, resumable: true, last: { epoch: 2, loss: expect.any(Number) } });
    expect((await run('info', out)).out).toMatch(
      /^run: +.*a run\nresumable: +yes, after 2 of 2 epochs, \d+ steps\nloss so far: /,
    );
    expect((await run('info', path)).out).toMatch(/^resumable: +no: weights only/m);
    const [, file] = /^model: (.*\.safetensors) \(/.exec(sampled.err) as RegExpExecArray;
    renameSync(file as string, join(out, 'mine.safetensors'));
    for (const command of [
      ['sample', out, '--length', '5'],
      ['score', out, corpus],
    ]) {
      const { err } = await run(...command, ...cpu);
      expect(err).toMatch(/^model: .*checkpoint-\d+\.safetensors \(.*, the last one, not the best\)\n/);
    }
  });

  it('continues a random window of a corpus that the seed decides', async () => {
    const options = ['--corpus', corpus, '--length', '30', '--json', ...cpu];
    const prompts = [];
    for (const seed of ['3', '3', '4']) {
      const { out } = await run('sample', checkpoint, ...options, '--seed', seed);
      prompts.push(JSON.parse(out).prompt);
    }
    expect(prompts[0]).toHaveLength(20);
    expect(prompts[0]).toBe(prompts[1]);
    expect(prompts[0]).not.toBe(prompts[2]);
  });

  it('leaves out what the model does not know of that corpus if asked to, and says so', async () => {
    const other = join(folder, 'other.txt');
    writeFileSync(other, 'abba zoo\n');
    const options = ['sample', checkpoint, '--corpus', other, '--length', '5', '--json', ...cpu];
    expect(await run(...options)).toMatchObject({ code: 3, err: expect.stringContaining("'z' (U+007A)") });
    const { out, err } = await run(...options, '--unknown', 'skip');
    expect(JSON.parse(out).prompt).toBe('abba \n');
    expect(err).toContain('3 characters that the model does not know left out');
  });

  it.each([
    [['--temperature', '-1'], 2, '--temperature must be from 0 to 100'],
    [['--temperature', 'hot'], 2, "--temperature takes a number, not 'hot'"],
    [['--temprature', '1'], 2, 'did you mean --temperature'],
    [['--count', '0'], 2, 'count must be'],
    [['--unknown', 'maybe'], 2, 'Allowed choices are error, skip'],
    [['--prompt', 'xyz'], 3, 'U+0078'],
    [['--prompt', 'ab\\n'], 3, "a line break is written $'\\n'"],
    [['--stop', '\\n'], 3, "a line break is written $'\\n'"],
    [['--stop', 'é'], 3, "can never match: the model does not know 'é' (U+00E9)"],
    [['--temp', 'hot'], 2, 'did you mean --temperature?'],
    [['--start-text', 'a'], 2, 'did you mean --prompt?'],
    [['--prompt', 'a', '--prompt-file', 'b.txt'], 2, 'give one of them'],
    [['--prompt', 'a', '--corpus', 'b.txt'], 2, 'give one of them'],
    [['--device', 'tpu'], 2, 'device must be auto, cpu, cuda or cuda:N'],
    [['--device', 'cuda:99'], 4, 'cuda:99'],
  ])('refuses %p', async (options, code, message) => {
    const result = await run('sample', checkpoint, ...options);
    expect(result.code).toBe(code);
    expect(result.out).toBe('');
    expect(result.err).toContain(message);
  });

  it('opens the text to compare with before it writes, and once', async () => {
    const missing = await run('sample', checkpoint, '--length', '9', '--corpus-check', join(folder, 'missing.txt'));
    expect([missing.code, missing.out]).toEqual([3, '']);
    const { code, stdout, stderr } = await node(
      'cli/main.js',
      ['sample', checkpoint, '--length', '9', '--corpus-check', '-', '--max-copy', '4', '--device', 'cpu'],
      { input: 'aaaa bbbb aaaa bbbb\n'.repeat(20) },
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining('longest copy: ') });
    expect(Array.from(stdout)).toHaveLength(10); // Including the line break at the end.
  });

  it('says that a checkpoint is missing', async () => {
    const result = await run('sample', join(folder, 'nothing.safetensors'), ...cpu);
    expect(result.code).toBe(3);
    expect(result.err).toContain('nothing.safetensors');
    expect(result.err.trim()).not.toContain('\n');
  });
});

describe('score', () => {
  it('gives the three fields as JSON', async () => {
    const { code, out } = await run('score', checkpoint, corpus, '--json', ...cpu);
    expect(code).toBe(0);
    const score = JSON.parse(out);
    expect(Object.keys(score).sort()).toEqual(['bitsPerCharacter', 'characters', 'loss', 'skipped']);
    expect(score.characters).toBe(17 * 20 - 1);
    expect(score.bitsPerCharacter).toBeCloseTo(score.loss / Math.LN2, 9);
  });

  it('scores several texts and all of them together', async () => {
    const { out } = await run('score', checkpoint, corpus, corpus, '--json', ...cpu);
    const lines = jsonLines(out);
    expect(lines.map((line) => line.text)).toEqual([corpus, corpus, null]);
    expect(lines[2].characters).toBe(2 * lines[0].characters);
    expect(lines[2].loss).toBeCloseTo(lines[0].loss, 12);
  });

  it('gives the scores that it has where a later text fails', async () => {
    for (const protocol of [[], ['--protocol', 'window', '--window', '20']]) {
      const { code, out } = await run(
        'score',
        checkpoint,
        corpus,
        join(folder, 'none.txt'),
        '--json',
        ...protocol,
        ...cpu,
      );
      expect(code).toBe(3);
      expect(JSON.parse(out)).toMatchObject({ text: corpus });
    }
  });

  it('scores lines', async () => {
    const { out } = await run('score', checkpoint, corpus, '--lines', '--json', ...cpu);
    const lines = jsonLines(out);
    expect(lines).toHaveLength(40);
    expect(lines[1]).toMatchObject({ line: 2, content: 'bad dab', characters: 6 });
    expect(lines[1].loss).toBe(lines[3].loss);
  });

  it('scores by the window protocol', async () => {
    const { out } = await run('score', checkpoint, corpus, '--protocol', 'window', '--window', '30', '--json', ...cpu);
    const score = JSON.parse(out);
    expect(score).toMatchObject({ protocol: 'window', window: 30, stride: 1, characters: 17 * 20 - 30 });
    expect(score.lossWithDropout).not.toBe(score.loss);
    const text = await run('score', checkpoint, corpus, '--protocol', 'window', ...cpu);
    expect(text.out).toMatch(/240 windows of 100\ndropout off: .*\ndropout on: /);
  });

  it('skips unknown characters if asked to', async () => {
    const foreign = join(folder, 'foreign.txt');
    writeFileSync(foreign, 'abba x cab y dab');
    const refused = await run('score', checkpoint, foreign, ...cpu);
    expect(refused.code).toBe(3);
    const { code, out } = await run('score', checkpoint, foreign, '--unknown', 'skip', '--json', ...cpu);
    expect(code).toBe(0);
    expect(JSON.parse(out).characters).toBe(13);
  });

  it('counts what it skipped, and says so, in every form', async () => {
    const foreign = join(folder, 'skipped.txt');
    writeFileSync(foreign, 'abba x cab\nx\ndab dab y dab\nabba dab cab dab\n');
    const note = "3 characters that the model does not know left out: 'x' (U+0078), 'y' (U+0079)";
    const score = (...options: string[]) => run('score', checkpoint, foreign, '--unknown', 'skip', ...options, ...cpu);
    const windows = ['--protocol', 'window', '--window', '5'];
    for (const form of [[], ['--streams', '2'], windows, ['--lines']])
      expect((await score(...form)).err).toContain(note);
    for (const form of [[], ['--streams', '2'], windows]) {
      expect(JSON.parse((await score(...form, '--json')).out)).toMatchObject({ skipped: 3 });
    }
    const lines = jsonLines((await score('--lines', '--json')).out).map(({ skipped }) => skipped);
    expect(lines).toEqual([1, 1, 1, 0]);
    const both = await run('score', checkpoint, foreign, corpus, '--unknown', 'skip', '--json', ...cpu);
    expect(jsonLines(both.out).map(({ skipped }) => skipped)).toEqual([3, 0, 3]);
    expect((await run('score', checkpoint, corpus, '--lines', ...cpu)).err).not.toContain('left out');
  });

  it('gives each character with its bits and rivals, then the score', async () => {
    const whole = JSON.parse((await run('score', checkpoint, corpus, '--json', ...cpu)).out);
    const { out } = await run('score', checkpoint, corpus, '--per-character', '--rivals', '6', '--json', ...cpu);
    const lines = jsonLines(out);
    expect(lines.pop()).toEqual({ ...whole, ...near(whole) });
    expect(lines.map(({ character }) => character).join('')).toBe('abba cab\nbad dab\n'.repeat(20));
    expect(lines[0]).toEqual({ position: 0, line: 1, column: 1, character: 'a', bits: null, rivals: [] });
    // 340 characters: more than one call to the device takes.
    for (const [i, { position, line, column, character, bits, rivals }] of lines.slice(1).entries()) {
      expect([position, line, column]).toEqual([
        i + 1,
        1 + 2 * Math.floor((i + 1) / 17) + ((i + 1) % 17 > 8 ? 1 : 0),
        (i + 1) % 17 > 8 ? ((i + 1) % 17) - 8 : ((i + 1) % 17) + 1,
      ]);
      const own = rivals.find((rival: { character: string }) => rival.character === character);
      expect(-Math.log2(own.probability)).toBeCloseTo(bits, 5);
    }
  });

  it('counts the first character where the model is of single lines, as the score does', async () => {
    const lines = join(folder, 'lines.safetensors');
    const vocabulary = new Vocabulary(['\n', ' ', 'a', 'b', 'c', 'd']);
    const shape = {
      vocabulary: 6,
      layers: 1,
      hidden: 8,
      input: 'onehot',
      embedding: 0,
      dropout: 0,
      resetId: 0,
    } as const;
    using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, seed: 2 });
    await model.save(lines);
    for (const text of ['abba cab\nbad dab\n'.repeat(30), '\nab\n']) {
      const file = join(folder, 'of-lines.txt');
      writeFileSync(file, text);
      const whole = JSON.parse((await run('score', lines, file, '--json', ...cpu)).out);
      const { out } = await run('score', lines, file, '--per-character', '--json', ...cpu);
      const all = jsonLines(out);
      expect(all.pop()).toEqual({ ...whole, ...near(whole) });
      expect(all.map(({ character }) => character).join('')).toBe(text);
      expect(all.map(({ position }) => position)).toEqual([...text].map((_, i) => i));
      expect(all.filter(({ bits }) => bits !== null)).toHaveLength(whole.characters);
    }
  });

  it('gives the same as columns, with nothing that a terminal would obey', async () => {
    const odd = join(folder, 'odd.safetensors');
    const text = join(folder, 'odd.txt');
    writeFileSync(text, 'a\u001b "\u0301\n'.repeat(3));
    const vocabulary = new Vocabulary(['\n', '\u001b', ' ', '"', 'a', '\u0301']);
    const shape = { vocabulary: 6, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 } as const;
    using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, seed: 1 });
    await model.save(odd);
    const { out } = await run('score', odd, text, text, '--per-character', ...cpu);
    const lines = out.split('\n');
    expect(lines[0]).toBe(' line  col    bits  char  surprise      likeliest');
    expect(lines[1]).toBe('    1    1       -  a');
    expect(lines[2]).toMatch(/^ {4}1 {4}2 {4}2\.\d\d {2}"\\u001b" {2}### {11}\S/);
    expect(lines[7]).toMatch(/^ {4}2 {4}1 /);
    expect(out).not.toContain('\u001b');
    expect(lines.filter((line) => /bits, .*nats per character/.test(line))).toHaveLength(3);
  });

  it('writes a page, and nothing over another file', async () => {
    const page = join(folder, 'page.html');
    const { code, out, err } = await run('score', checkpoint, corpus, '--per-character', '--html', page, ...cpu);
    expect(code).toBe(0);
    expect(out).toMatch(/^\d\.\d{4} bits, .*\n$/);
    expect(err).toContain(`page: ${page}\n`);
    expect(readFileSync(page, 'utf8')).toContain('<h1>Surprise of model</h1>');
    const again = await run('score', checkpoint, corpus, '--per-character', '--html', page, ...cpu);
    expect([again.code, again.out, again.err]).toEqual([
      2,
      '',
      `${page} is there already: name another file with --html.\n`,
    ]);
    const long = join(folder, 'long.txt');
    writeFileSync(long, 'abba cab\n'.repeat(12_000));
    const none = join(folder, 'none.html');
    writeFileSync(join(folder, 'one.txt'), 'a');
    const short = await run('score', checkpoint, join(folder, 'one.txt'), '--per-character', '--html', none, ...cpu);
    expect([short.code, short.err]).toEqual([3, expect.stringContaining('too short to score')]);
    const refused = await run('score', checkpoint, corpus, long, '--per-character', '--html', none, ...cpu);
    expect(refused.code).toBe(3);
    expect(refused.err).toMatch(
      /a page holds 100,000 characters, and with .*long\.txt there are 108,340: score a part/,
    );
    expect(existsSync(none)).toBe(false);
  });

  it.each([
    [['--per-character', '--lines'], 2],
    [['--per-character', '--streams', '2'], 2],
    [['--per-character', '--protocol', 'window'], 2],
    [['--per-character', '--rivals', '-1'], 2],
    [['--html', 'x.html'], 2],
    [['--rivals', '2'], 2],
    [['--window', '3'], 2],
    [['--protocol', 'window', '--streams', '2'], 2],
    [['--lines', '--streams', '2'], 2],
    [['--protocol', 'windows'], 2],
    [['--streams', '5000'], 2],
  ])('refuses %p', async (options, code) => {
    expect((await run('score', checkpoint, corpus, ...options, ...cpu)).code).toBe(code);
  });

  it('asks for a text', async () => {
    const result = await run('score', checkpoint);
    expect(result.code).toBe(2);
    expect(result.err).toContain('text');
  });
});

describe('info', () => {
  it('shows the machine', async () => {
    const { code, out } = await run('info', '--device', 'cpu');
    expect(code).toBe(0);
    expect(out).toMatch(
      /^cudnn-lstm .*\nmachine: .*\nthreads: .*\nkernels: .*\nmpi: .*\ncuda: [\s\S]*\ndevice: +CPU, .* \(asked for\)\n$/,
    );
    const json = JSON.parse((await run('info', '--json', '--device', 'cpu')).out);
    expect(json.device.chosen).toBe('cpu');
    expect(json.native.cpu.supported).toContain(json.native.cpu.isa);
  });

  it('refuses a device that there cannot be', async () => {
    expect(await run('info', '--device', 'gpu')).toMatchObject({
      code: 2,
      out: '',
      err: expect.stringContaining("not 'gpu'"),
    });
    expect((await run('info', '--device', 'cuda:99')).code).toBe(4);
  });

  it('shows nothing of a foreign checkpoint that a terminal would obey', async () => {
    const path = join(folder, 'strange.safetensors');
    const vocabulary = new Vocabulary(['\u009b', 'a']);
    const shape = { vocabulary: 2, layers: 1, hidden: 4, input: 'onehot', embedding: 0, dropout: 0 } as const;
    const configuration = { '\u001b[2Jkey': '\u202evalue' };
    using model = await LanguageModel.create(shape, vocabulary, { device: 'cpu', threads: 1, configuration });
    await model.save(path);
    const { out } = await run('info', path);
    expect(out).toContain('\\u{1b}[2Jkey: "\\u{202e}value"');
    expect(out).not.toMatch(/[^\P{C}\n]/u);
  });

  it('shows a checkpoint', async () => {
    const { out } = await run('info', checkpoint);
    expect(out).toContain('resumable:      no: weights only (train --resume takes the directory of a run)\n');
    expect(out).toContain('LSTM, 1 × 16, input onehot, dropout 0.1');
    const json = JSON.parse((await run('info', checkpoint, '--json')).out);
    expect(json).toMatchObject({
      vocabulary: ['\n', ' ', 'a', 'b', 'c', 'd'],
      parameters: 4 * 16 * (6 + 16 + 1) + 17 * 6,
    });
  });
});

describe('the bin', () => {
  it('lists its commands, and names the nearest one', async () => {
    expect((await run('--help')).out).toContain('sample');
    expect(await run('smaple')).toMatchObject({ code: 2, err: expect.stringContaining('did you mean sample') });
    expect((await run()).code).toBe(2);
    expect(await run('help', 'smaple')).toMatchObject({ code: 2, err: expect.stringContaining('mean sample') });
    expect(await run('build', '--debug')).toMatchObject({ code: 2, err: expect.stringContaining("'--debug'") });
    expect((await run('--version')).out).toMatch(/^\d+\.\d+\.\d+/);
  });
});
