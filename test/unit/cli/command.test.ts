import { once } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { Command, Option } from 'commander';
import {
  abortOnSignals,
  InterruptedError,
  numberOption,
  parseArguments,
  reportError,
  signalDelay,
  writeAndDrain,
} from '../../../lib/cli/command';
import { DataError, TrainingError, UsageError } from '../../../lib/errors';
import { compiled, itWhere, run } from '../../fixtures/child';
import { Sink } from '../../fixtures/sink';

function report(error: unknown): { code: number; text: string } {
  const stderr = new Sink();
  const code = reportError(error, stderr);
  return { code, text: stderr.text };
}

describe('parseArguments', () => {
  const syntax = () =>
    new Command('demo')
      .argument('[files...]')
      .option('--epochs <n>', 'how many', numberOption('--epochs', { integer: true }))
      .option('--learning-rate <x>', 'how fast', numberOption('--learning-rate'))
      .addOption(new Option('--optimizer <name>').choices(['adam', 'sgd']));

  it('parses', () => {
    const command = parseArguments(syntax(), ['a', '--epochs', '3', 'b', '--learning-rate=1e-3']);
    expect(command.args).toEqual(['a', 'b']);
    expect(command.opts()).toEqual({ epochs: 3, learningRate: 1e-3 });
  });

  it.each([
    [['--epoch', '3'], /Unknown option '--epoch'; did you mean --epochs/],
    [['--lerning-rate=3'], /did you mean --learning-rate/],
    [['--epochs'], /argument missing/],
    [['--epochs', 'many'], /--epochs takes a whole number, not 'many'/],
    [['--epochs', '1.5'], /whole number/],
    [['--learning-rate', ''], /takes a number/],
    [['--optimizer', 'adm'], /Allowed choices are adam, sgd; did you mean adam\? \(--help lists what there is\)$/m],
    [['--optimizer', 'none'], /Allowed choices are adam, sgd \(--help lists what there is\)\.$/m],
  ])('refuses %p with one line', (argv, message) => {
    let thrown: unknown;
    try {
      parseArguments(syntax(), argv);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(UsageError);
    const { code, text } = report(thrown);
    expect(code).toBe(2);
    expect(text).toMatch(message);
    expect(text.trimEnd()).not.toContain('\n');
  });

  it('ends with 0 after printing its help', () => {
    const command = syntax().configureOutput({ writeOut: () => {} });
    let thrown: unknown;
    try {
      parseArguments(command.configureOutput({ writeOut: () => {} }), ['--help']);
    } catch (error) {
      thrown = error;
    }
    expect(report(thrown)).toEqual({ code: 0, text: '' });
  });
});

describe('reportError', () => {
  itWhere(process.platform === 'linux', 'a directory in use cannot be removed there')(
    'says of a directory that was removed what to do',
    async () => {
      const script = 'cd "$(mktemp -d)" && rmdir "$PWD" && exec "$@"';
      const { code, stdout, stderr } = await run('sh', [
        ...['-c', script, 'sh', process.execPath, '-e'],
        'try { process.cwd() } catch (error) { console.log(JSON.stringify(error)) }',
      ]);
      expect([code, stderr]).toEqual([0, '']);
      expect(report(Object.assign(new Error('uv_cwd'), JSON.parse(stdout)))).toEqual({
        code: 3,
        text: 'the current directory cannot be read (ENOENT), as one that was removed: change to another\n',
      });
    },
  );

  const debug = process.env.DEBUG;
  afterEach(() => {
    if (debug === undefined) delete process.env.DEBUG;
    else process.env.DEBUG = debug;
  });

  it.each([
    [new UsageError('Wrong.'), 2, 'Wrong.\n'],
    [new DataError('Bad.'), 3, 'Bad.\n'],
    [new TrainingError('NaN.'), 1, 'NaN.\n'],
    [Object.assign(new Error('no space left'), { code: 'ENOSPC' }), 5, 'no space left\n'],
    [Object.assign(new Error('no such file'), { code: 'ENOENT' }), 3, 'no such file\n'],
    [
      new RangeError('Array buffer allocation failed'),
      4,
      'there is not enough memory (Array buffer allocation failed)\n',
    ],
    [new Error('surprise'), 1, 'Unexpected error: surprise (set DEBUG=1 to see where)\n'],
    ['a string', 1, 'Unexpected error: a string (set DEBUG=1 to see where)\n'],
    [new InterruptedError('SIGINT'), 130, ''],
    [new InterruptedError('SIGTERM'), 143, ''],
  ])('reports %p', (error, code, text) => {
    delete process.env.DEBUG;
    expect(report(error)).toEqual({ code, text });
  });

  it('shows the stack of an error and of its causes if DEBUG is set', () => {
    process.env.DEBUG = '1';
    const { text } = report(new DataError('Bad.', { cause: new Error('underneath') }));
    expect(text).toMatch(/Error: Bad\.\n {4}at/);
    expect(text).toMatch(/Error: underneath\n {4}at/);
  });
});

describe('writeAndDrain', () => {
  it('waits for a slow reader', async () => {
    const slow = new PassThrough({ highWaterMark: 4 });
    let done = false;
    const writing = writeAndDrain(slow, 'more than four').then(() => {
      done = true;
    });
    await new Promise(setImmediate);
    expect(done).toBe(false);
    slow.resume();
    await writing;
    expect(done).toBe(true);
  });

  it('fails with the stream, unless that is its reader who went away', async () => {
    for (const code of ['EPIPE', 'ENOSPC']) {
      const failure = Object.assign(new Error('no'), { code });
      const stream = new Writable({
        highWaterMark: 1,
        write: (_chunk, _encoding, done) => void setImmediate(() => done(failure)),
      });
      const writing = writeAndDrain(stream, 'more than one');
      if (code === 'EPIPE') await writing;
      else await expect(writing).rejects.toThrow('cannot write the output: no');
    }
  });
});

describe('abortOnSignals', () => {
  const failing = (code: string) => {
    const stream = new PassThrough();
    return { stream, fail: () => stream.emit('error', Object.assign(new Error('no'), { code })) };
  };

  it('aborts on a signal, though the broken pipe that it caused comes first; the reason stays', async () => {
    for (const order of [
      ['SIGTERM', 'EPIPE'],
      ['EPIPE', 'SIGTERM'],
    ]) {
      const { stream, fail } = failing('EPIPE');
      using scope = abortOnSignals({ stdout: stream, stderr: new PassThrough() });
      for (const what of order) {
        if (what === 'EPIPE') fail();
        else process.emit('SIGTERM', 'SIGTERM');
      }
      await setTimeout(2 * signalDelay);
      expect(scope.signal.reason).toMatchObject({ name: 'InterruptedError' });
      expect(report(scope.signal.reason)).toEqual({ code: 143, text: '' });
    }
    expect(process.listenerCount('SIGTERM')).toBe(0);
  });

  it('takes the signal for the reason where the machine is so busy that both are heard of late', async () => {
    const script = `
      const { abortOnSignals, signalDelay } = require(${JSON.stringify(compiled('cli/command.js'))});
      const { PassThrough } = require('node:stream');
      const stdout = new PassThrough();
      const { signal } = abortOnSignals({ stdout, stderr: new PassThrough() });
      signal.addEventListener('abort', () => console.log(signal.reason.name));
      setImmediate(() => {
        process.kill(process.pid, 'SIGTERM');
        stdout.emit('error', Object.assign(new Error('no'), { code: 'EPIPE' }));
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3 * signalDelay); // As if another program ran meanwhile.
      });
      setTimeout(() => {}, 6 * signalDelay);`;
    const { code, stdout } = await run(process.execPath, ['-e', script]);
    expect([code, stdout]).toEqual([0, 'InterruptedError\n']);
  });

  it('aborts when the reader of the output goes away, a moment later; the reason stays', async () => {
    const { stream, fail } = failing('EPIPE');
    using scope = abortOnSignals({ stdout: stream, stderr: new PassThrough() });
    fail();
    await once(scope.signal, 'abort');
    process.emit('SIGTERM', 'SIGTERM');
    expect(scope.signal.reason).toMatchObject({ name: 'OutputClosedError' });
    expect(report(scope.signal.reason)).toEqual({ code: 0, text: '' });
  });

  it('takes any other failure of the output for a failure', () => {
    const { stream, fail } = failing('ENOSPC');
    using scope = abortOnSignals({ stdout: new PassThrough(), stderr: stream });
    fail();
    expect(report(scope.signal.reason)).toEqual({ code: 5, text: 'cannot write the output: no\n' });
  });
});
