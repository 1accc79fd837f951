import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  describeConfiguration,
  readConfigurationFile,
  recordedOptions,
  resolveConfiguration,
} from '../../../lib/training/configuration';
import { formatDuration, parseDuration } from '../../../lib/training/duration';
import { optionDefinitions, optionNames, variableOf } from '../../../lib/training/options';
import { presetOptions, presets } from '../../../lib/training/presets';
import { flagOf } from '../../../lib/wording';

describe('resolveConfiguration', () => {
  it('takes the first of flag, environment, file, preset and default, and says which', () => {
    const { options, sources } = resolveConfiguration({
      flags: { hidden: '32' },
      env: { CUDNN_LSTM_HIDDEN: '64', CUDNN_LSTM_LAYERS: '3' },
      file: { name: 'my.json', values: { hidden: 128, layers: 4, epochs: 7, maxTime: '1h30m' } },
    });
    expect([options.hidden, options.layers, options.epochs, options.maxTime]).toEqual([32, 3, 7, 5400]);
    expect([sources.hidden, sources.layers, sources.epochs, sources.clip, sources.beta1]).toEqual([
      'flag --hidden',
      'CUDNN_LSTM_LAYERS',
      'my.json',
      'preset fast',
      'default',
    ]);
  });

  it('takes the preset from wherever it is named', () => {
    const { options, sources } = resolveConfiguration({
      env: { CUDNN_LSTM_PRESET: 'proj-basic' },
      flags: { epochs: '3' },
    });
    expect([options.batchSize, options.target, options.epochs]).toEqual([64, 'last', 3]);
    expect([sources.preset, sources.batchSize]).toEqual(['CUDNN_LSTM_PRESET', 'preset proj-basic']);
  });

  it.each([
    [{ flags: { hidden: 'many' } }, "--hidden must be a whole number from 1 to 16,384, not 'many'."],
    [{ flags: { hidden: '0' } }, "--hidden must be a whole number from 1 to 16,384, not '0'."],
    [{ flags: { hidden: '' } }, "--hidden must be a whole number from 1 to 16,384, not ''."],
    [{ flags: { layers: '1.5' } }, "--layers must be a whole number from 1 to 64, not '1.5'."],
    [{ flags: { dropout: '1' } }, "--dropout must be a number from 0 to below 1, not '1'."],
    [{ flags: { learningRate: 'NaN' } }, "--learning-rate must be a number above 0 and at most 10, not 'NaN'."],
    [{ flags: { target: 'all' } }, "--target must be every or last, not 'all'."],
    [
      { flags: { maxTime: '5 weeks' } },
      "--max-time must be a time like 90s, 15m or 1h30m (a bare number: seconds), not '5 weeks'.",
    ],
    [{ flags: { seed: '-1' } }, "--seed must be a whole number from 0 to 2^53 - 1, not '-1'."],
    [{ flags: { checkpointName: '../x' } }, /^--checkpoint-name must be a file name/],
    [{ env: { CUDNN_LSTM_EPOCHS: 'x' } }, "CUDNN_LSTM_EPOCHS must be a whole number from 1 to 1,000,000, not 'x'."],
    [{ env: { CUDNN_LSTM_LOWERCASE: 'perhaps' } }, "CUDNN_LSTM_LOWERCASE must be true or false, not 'perhaps'."],
    [
      { env: { CUDNN_LSTM_HIDEN: '1' } },
      'Unknown variable CUDNN_LSTM_HIDEN in the environment; did you mean CUDNN_LSTM_HIDDEN?',
    ],
    [{ file: { name: 'a.json', values: { hiden: 1 } } }, "Unknown key 'hiden' in a.json; did you mean 'hidden'?"],
    [
      { file: { name: 'a.json', values: { hidden: '12' } } },
      "hidden in a.json must be a whole number from 1 to 16,384, not '12'.",
    ],
    [{ file: { name: 'a.json', values: { lowercase: 1 } } }, 'lowercase in a.json must be true or false, not 1.'],
    [{ options: { hiden: 1 } as object }, "Unknown key 'hiden' in options; did you mean 'hidden'?"],
  ])('refuses %j', (request, message) => {
    expect(() => resolveConfiguration(request)).toThrow(message);
  });

  it("leaves the environment's other variables alone", () => {
    const env = { CUDNN_LSTM_LIBRARY_PATH: '/x', CUDNN_LSTM_ALICE_URL: 'http://x', CUDNN_LSTM_PREBUILD: '/y' };
    expect(() => resolveConfiguration({ env })).not.toThrow();
  });

  describe('of a resumed run', () => {
    const recorded = recordedOptions({ ...presetOptions('proj-basic'), hidden: 48, maxTime: 9, out: 'runs/x' });
    const checkpoint = { name: 'last.safetensors', values: { ...recorded, corpus: ['a.txt'] } };

    it('keeps what the checkpoint has, except what belongs to one invocation', () => {
      const { options, sources, corpus } = resolveConfiguration({ checkpoint, flags: { epochs: '99' } });
      expect([options.hidden, options.target, options.epochs, options.maxTime]).toEqual([48, 'last', 99, undefined]);
      expect([sources.hidden, sources.epochs]).toEqual(['checkpoint', 'flag --epochs']);
      expect(corpus).toBeUndefined(); // A checkpoint does not choose what files are read.
    });

    it('refuses to change what the model and the order of the data depend on', () => {
      expect(() => resolveConfiguration({ checkpoint, flags: { hidden: '64' } })).toThrow(
        'flag --hidden: a resumed run stays as it was begun, with 48, so 64 is impossible; leave it out, or start a new run.',
      );
      expect(() => resolveConfiguration({ checkpoint, flags: { hidden: '48' } })).not.toThrow();
    });

    it('calls a bad record a bad checkpoint', () => {
      const bad = { name: 'last.safetensors', values: { ...recorded, hidden: 'x' } };
      expect(() => resolveConfiguration({ checkpoint: bad })).toThrow(
        /^last\.safetensors cannot be resumed: in its configuration, hidden/,
      );
    });
  });
});

describe('configuration files', () => {
  it('are JSON objects; a recorded configuration is one', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'configuration-'));
    try {
      const path = join(folder, 'config.json');
      const options = { ...presetOptions('fast'), hidden: 77 };
      await writeFile(path, JSON.stringify({ ...recordedOptions(options), corpus: ['alice'] }));
      const file = await readConfigurationFile(path);
      const configuration = resolveConfiguration({ file });
      expect(configuration.options).toEqual(options);
      expect(configuration.corpus).toEqual(['alice']);
      await writeFile(path, '{"hidden": 1');
      await expect(readConfigurationFile(path)).rejects.toMatchObject({ exitCode: 3 });
      await writeFile(path, '[]');
      await expect(readConfigurationFile(path)).rejects.toThrow('must hold one JSON object');
      await expect(readConfigurationFile(join(folder, 'none.json'))).rejects.toMatchObject({ exitCode: 3 });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('--validation-every', () => {
  const resolved = (flag: string) => resolveConfiguration({ flags: { validationEvery: flag } }).options.validationEvery;

  it('takes epochs as a number, steps with their unit, wherever it is given', () => {
    expect(resolved('2')).toBe(2);
    expect(resolved('500steps')).toBe('500steps');
    const typed = (validationEvery: number | `${number}steps`) =>
      resolveConfiguration({ options: { validationEvery } }).options.validationEvery;
    expect([typed(3), typed('7steps')]).toEqual([3, '7steps']);
    const env = { CUDNN_LSTM_VALIDATION_EVERY: '9steps' };
    expect(resolveConfiguration({ env }).options.validationEvery).toBe('9steps');
    const recorded = recordedOptions(resolveConfiguration({ env }).options);
    expect(resolveConfiguration({ file: { name: 'config.json', values: recorded } }).options.validationEvery).toBe(
      '9steps',
    );
  });

  it.each(['0', '0steps', '-5steps', '1.5', '1.5steps', 'steps', '5 steps', '5epochs', '', '1e12steps'])(
    'refuses %p',
    (flag) => {
      expect(() => resolved(flag)).toThrow('of epochs from 1 to 1,000,000, or of steps like 500steps');
    },
  );
});

describe('the table of options', () => {
  it('has the names that are fixed', () => {
    const fixed = [
      ...[
        'out',
        'device',
        'preset',
        'epochs',
        'batch-size',
        'seq-length',
        'layers',
        'hidden',
        'dropout',
        'target',
        'input',
      ],
      ...['learning-rate', 'clip', 'seed', 'threads', 'max-time', 'lowercase', 'encoding', 'schedule', 'warmup'],
      ...[
        'validation',
        'validation-every',
        'patience',
        'precision',
        'save-every',
        'sample-length',
        'sample-temperature',
      ],
    ];
    expect(optionNames.map(flagOf)).toEqual(expect.arrayContaining(fixed.map((name) => `--${name}`)));
    expect(variableOf('batchSize')).toBe('CUDNN_LSTM_BATCH_SIZE');
    expect([flagOf('beta1'), variableOf('beta1')]).toEqual(['--beta1', 'CUDNN_LSTM_BETA1']);
  });

  it.each(Object.keys(presets) as (keyof typeof presets)[])('accepts every value of the preset %s', (preset) => {
    const options = presetOptions(preset);
    for (const name of optionNames) {
      if (options[name] !== undefined)
        expect(optionDefinitions[name].schema.safeParse(options[name]).success).toBe(true);
    }
  });

  it('is described line by line', () => {
    const lines = describeConfiguration(resolveConfiguration({ flags: { maxTime: '90s' } }));
    expect(lines).toHaveLength(optionNames.length);
    expect(lines.find((line) => line.startsWith('maxTime'))).toMatch(/^maxTime +1m30s +flag --max-time$/);
    expect(lines.find((line) => line.startsWith('threads'))).toMatch(/^threads +automatic +default$/);
  });
});

describe('durations', () => {
  it.each([
    ['90s', 90],
    ['90', 90],
    ['1.5', 1.5],
    ['15m', 900],
    ['1h30m', 5400],
    ['250ms', 0.25],
    ['2d', 172_800],
    ['', undefined],
    ['s', undefined],
    ['-5s', undefined],
    ['5 s', undefined],
    ['1e3', undefined],
  ])('reads %j as %p', (text, seconds) => expect(parseDuration(text)).toBe(seconds));

  it.each([
    [0, '0s'],
    [0.25, '250ms'],
    [9.96, '10s'],
    [3.14, '3.1s'],
    [90, '1m30s'],
    [5400, '1h30m'],
    [Number.POSITIVE_INFINITY, '?'],
  ])('writes %p as %j', (seconds, text) => expect(formatDuration(seconds)).toBe(text));
});
