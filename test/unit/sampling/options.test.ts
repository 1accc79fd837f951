import { checkGeneration, checkSamplingOptions } from '../../../lib/sampling/options';
import { plainSampling } from '../../oracle/sampling';

describe('checkSamplingOptions', () => {
  it('fills in the defaults', () => {
    expect(checkSamplingOptions({ seed: 7 })).toEqual({ ...plainSampling, temperature: 0.8, seed: 7 });
  });

  it('takes a temperature of 0 as greedy', () => {
    expect(checkSamplingOptions({ temperature: 0 })).toMatchObject({ greedy: true, temperature: 1 });
  });

  it('draws a seed where none is given', () => {
    expect(checkSamplingOptions({}).seed).not.toBe(checkSamplingOptions({}).seed);
  });

  it.each([
    [{ temperature: -1 }, 'temperature must be from 0 to 100, not -1'],
    [{ temperature: Number.NaN }, 'temperature'],
    [{ topK: 1.5 }, 'topK must be a whole number'],
    [{ topP: 0 }, 'topP must be above 0 and at most 1, not 0'],
    [{ topP: 1.1 }, 'topP'],
    [{ minP: 2 }, 'minP'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty'],
    [{ penaltyWindow: -1 }, 'penaltyWindow'],
    [{ seed: -1 }, 'seed'],
    [{ seed: 2 ** 53 }, 'seed'],
  ])('refuses %p', (options, message) => {
    expect(() => checkSamplingOptions(options)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
    expect(() => checkSamplingOptions(options)).toThrow(message);
  });
});

describe('checkGeneration', () => {
  it('fills in the defaults', () => {
    expect(checkGeneration({ stop: 'x' }, 1, 100)).toEqual({
      length: 500,
      window: 100,
      streams: 1,
      stop: ['x'],
      keepStop: false,
    });
  });

  it.each([
    [{ length: -1 }, 1],
    [{ length: Number.POSITIVE_INFINITY }, 1],
    [{ window: 0.5 }, 1],
    [{ stop: '' }, 1],
    [{ stop: '\ud83d' }, 1],
    [{ stop: [3] as never }, 1],
    [{ prompt: 3 as never }, 1],
    [{}, 0],
    [{}, 5000],
  ])('refuses %p for %p streams', (options, streams) => {
    expect(() => checkGeneration(options, streams, 0)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });
});
