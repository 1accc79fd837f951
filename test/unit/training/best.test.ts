/** `--preset best`: properties of the plan, and runs that are planned, interrupted and resumed. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { LanguageModel } from '../../../lib/model';
import {
  type BestRequest,
  bestRecipes,
  describeBest,
  estimateBytes,
  expectedLoss,
  mostPasses,
  parametersOf,
  planBest,
  plannedOptions,
  recipeOptions,
} from '../../../lib/training/best';
import { bestTable } from '../../../lib/training/best-table';
import type { EndEvent, TrainingEvent } from '../../../lib/training/events';
import { optionDefinitions } from '../../../lib/training/options';
import { openTraining } from '../../../lib/training/preparation';
import type { TrainingRequest } from '../../../lib/training/request';
import { divide, leastLength } from '../../../lib/training/sizes';

const recipes = bestRecipes();

/** Rounding error of a sum of a few terms. */
const rounding = 1e-9;

/** Any text, time and memory, on a machine that trains each recipe at any speed. */
const requests = fc
  .record({
    characters: fc.integer({ min: 2000, max: 50_000_000 }),
    symbols: fc.integer({ min: 2, max: 300 }),
    seconds: fc.double({ min: 1, max: 1e6, noNaN: true }),
    memoryBytes: fc.double({ min: 0, max: 1e10, noNaN: true }),
    speeds: fc.array(fc.double({ min: 1, max: 1e7, noNaN: true }), {
      minLength: recipes.length,
      maxLength: recipes.length,
    }),
  })
  .map(
    ({ speeds, ...rest }): BestRequest => ({
      ...rest,
      candidates: recipes.map((each, i) => ({ ...each, charactersPerSecond: speeds[i] as number })),
    }),
  );

describe('planBest', () => {
  it('expects no worse of more time, and lets no size pass over the text less often for it', () => {
    fc.assert(
      fc.property(requests, fc.double({ min: 1, max: 1000, noNaN: true }), (request, more) => {
        const longer = { ...request, seconds: request.seconds * more };
        const [plan, with_more] = [planBest(request), planBest(longer)];
        expect(with_more.expected).toBeLessThanOrEqual(plan.expected + rounding);
        for (const candidate of request.candidates) {
          const alone = { ...request, candidates: [candidate] };
          expect(planBest({ ...longer, candidates: [candidate] }).passes).toBeGreaterThanOrEqual(
            planBest(alone).passes,
          );
        }
      }),
    );
  });

  it('expects no worse of a faster machine', () => {
    fc.assert(
      fc.property(requests, fc.double({ min: 1, max: 100, noNaN: true }), (request, faster) => {
        const candidates = request.candidates.map((each) => ({
          ...each,
          charactersPerSecond: each.charactersPerSecond * faster,
        }));
        expect(planBest({ ...request, candidates }).expected).toBeLessThanOrEqual(
          planBest(request).expected + rounding,
        );
      }),
    );
  });

  it('expects no worse of more time, from less than one character on to more passes than are worth it', () => {
    const worse: object[] = [];
    for (const { recipe, curve } of recipes) {
      for (const characters of [2000, 1_000_000]) {
        let before = Number.POSITIVE_INFINITY;
        for (let trained = 0.1; trained < 100 * characters; trained *= 1.03) {
          const candidates = [{ recipe, curve, charactersPerSecond: trained }];
          const { expected } = planBest({ characters, symbols: 2, seconds: 1, memoryBytes: 0, candidates });
          if (expected > before + rounding) worse.push({ recipe, characters, trained, expected, before });
          before = expected;
        }
      }
    }
    expect(worse).toEqual([]);
  });

  it('stays within the memory, unless nothing does', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const bytes = estimateBytes(planBest(request).options, request.symbols);
        const least = Math.min(...recipes.map(({ recipe }) => estimateBytes(recipe, request.symbols)));
        expect(bytes).toBeLessThanOrEqual(Math.max(request.memoryBytes, least));
      }),
    );
  });

  it('takes no more epochs than are worth it, and values that options may have', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const { options, passes } = planBest(request);
        expect(options.epochs).toBeLessThanOrEqual(mostPasses);
        expect(options.epochs).toBeGreaterThanOrEqual(Math.min(mostPasses, passes));
        for (const name of plannedOptions) {
          expect({ name, ...optionDefinitions[name].schema.safeParse(options[name]) }).toMatchObject({ success: true });
        }
        // The schedule leaves time for the last score, but no more than half of all.
        expect(options.scheduleTime).toBeLessThanOrEqual(request.seconds);
        expect(options.scheduleTime).toBeGreaterThanOrEqual(request.seconds / 2);
      }),
    );
  });

  it('has scores to stop by in every run, and spends little on them', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const { options, passes, candidate } = planBest(request);
        const { validation, validationEvery, batchSize, seqLength } = options;
        fc.pre(passes * request.characters > 200 * batchSize * seqLength); // Shorter runs have too few steps for several scores.
        const stepsPerEpoch = Math.floor(((1 - validation) * request.characters) / (batchSize * seqLength));
        const every =
          typeof validationEvery === 'number' ? validationEvery : Number.parseInt(validationEvery, 10) / stepsPerEpoch;
        const scores = passes / every;
        expect(scores).toBeGreaterThanOrEqual(passes < mostPasses ? 4 : 3);
        const each = (validation * request.characters) / (3 * candidate.charactersPerSecond);
        fc.pre(validation > (4 * seqLength) / request.characters); // Otherwise it is the shortest that can be scored, whatever that costs.
        expect(scores * each).toBeLessThan(0.25 * request.seconds);
      }),
    );
  });

  it('ends before a model learns its text by heart', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const { candidate, passes } = planBest(request);
        const text = 0.9 * request.characters;
        const tenths = (from: number, to: number) => {
          const losses: number[] = [];
          for (let of = from; of < to; of += 0.1) losses.push(expectedLoss(candidate.curve, text, of));
          return Math.min(...losses);
        };
        const least = expectedLoss(candidate.curve, text, passes) - rounding;
        expect(tenths(1, passes)).toBeGreaterThanOrEqual(least);
        // Unless the time ends first.
        const [alone, seconds] = [[candidate], 2 * request.seconds];
        const longer = planBest({ ...request, candidates: alone, seconds });
        fc.pre(longer.passes === passes && passes < mostPasses - 1);
        expect(tenths(passes, mostPasses)).toBeGreaterThanOrEqual(least);
      }),
    );
    // With a short text and a whole day, this is what limits every recipe of the search.
    const day = { characters: 50_000, symbols: 65, seconds: 86_400, memoryBytes: 1e10 };
    for (const each of recipes) {
      const plan = planBest({ ...day, candidates: [{ ...each, charactersPerSecond: 10_000 }] });
      expect(plan.options.epochs).toBe(Math.ceil(plan.passes));
    }
  });

  it('plans for the epochs that are given, where there is time for more', () => {
    fc.assert(
      fc.property(requests, fc.integer({ min: 1, max: 100 }), (request, epochs) => {
        const plan = planBest({ ...request, epochs });
        expect(plan.passes).toBeLessThanOrEqual(epochs);
      }),
    );
  });

  it('divides every text that a size fits', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const fitting = request.candidates.filter(({ recipe }) =>
          divide(request.characters, { ...recipe, target: 'every', validation: 0.1 }),
        );
        fc.pre(fitting.length > 0);
        const { options } = planBest({ ...request, candidates: fitting });
        const split = divide(request.characters, { ...options, target: 'every' });
        expect(split?.training).toBeGreaterThanOrEqual(leastLength({ ...options, target: 'every' }));
      }),
    );
  });

  it('chooses what learns soon for a moment and what learns much for a day', () => {
    const times = [1, 5, 60, 600, 3600, 86_400, 1e6];
    fc.assert(
      fc.property(requests, (request) => {
        const plans = times.map((seconds) => planBest({ ...request, characters: 1e12, seconds }));
        const capacities = plans.map(({ candidate }) => candidate.curve.capacity);
        expect(capacities).toEqual([...capacities].sort((a, b) => b - a));
      }),
    );
    // As on real machines, larger models are slower.
    const candidates = recipes.map((each) => ({ ...each, charactersPerSecond: 1e10 / parametersOf(each.recipe, 65) }));
    const sizes = [2, 3600].map((seconds) => {
      const plan = planBest({ characters: 1e7, symbols: 65, seconds, memoryBytes: 1e10, candidates });
      return parametersOf(plan.options, 65);
    });
    expect(sizes[1]).toBeGreaterThan(sizes[0] as number);
  });

  it.each([
    [600, '10m'],
    [5, '5s'],
  ])('says in two lines what it chose and why, for %d s', (seconds, time) => {
    const candidates = recipes.map((each) => ({ ...each, charactersPerSecond: 1e9 / parametersOf(each.recipe, 65) }));
    const plan = planBest({ characters: 1e6, symbols: 65, seconds, memoryBytes: 1e10, candidates });
    const [what, why] = describeBest(plan, seconds);
    expect(what.startsWith(`planned for ${time}: `)).toBe(true);
    expect(what).toMatch(
      /^planned for \S+: [12] x \d+, dropout [\d.]+, batches of \d+ x \d+, rate [\d.]+, (?:weight decay [\d.]+, )?at most \d+ epochs?; [\d.]+ % for validation, scored every (?:epoch|step|(?!1 )[\d,]+ (?:epochs|steps))$/,
    );
    expect(why).toMatch(
      /^because it trains [\d,]+ characters\/s here, the text (?!0 )[\d.]+ times; the next best, [12] x \d+ in batches of \d+ x \d+ at rate [\d.]+, is expected 0\.\d{3} nats worse$/,
    );
  });

  it.each([0.01, 0.001, 1e-6])('says how little of the text %d s are enough for', (seconds) => {
    const candidates = recipes.map((each) => ({ ...each, charactersPerSecond: 1e9 / parametersOf(each.recipe, 65) }));
    const plan = planBest({ characters: 1e6, symbols: 65, seconds, memoryBytes: 1e10, candidates });
    const [what, why] = describeBest(plan, seconds);
    expect(what).toMatch(/scored every (?:step|(?!1 )[\d,]+ steps)$/);
    expect(why).toMatch(/characters\/s here, the text 0\.0*[1-9]\d? times/);
  });
});

describe('the table', () => {
  it('is what the search recorded', () => {
    const rows = readFileSync(join(__dirname, '../../../bench/results/best-search.jsonl'), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, number>);
    expect(bestTable.trainings).toBeLessThanOrEqual(rows.length);
    const nameOf = (of: Record<string, number>) => recipeOptions.map((name) => of[name] ?? 0).join(' ');
    const measured = rows.map(nameOf);
    for (const { recipe } of bestTable.recipes) {
      expect(measured.filter((name) => name === nameOf(recipe)).length).toBeGreaterThanOrEqual(4);
    }
    expect(new Set(rows.map(({ characters }) => characters))).toEqual(new Set(bestTable.texts));
  });

  it('expects less of more text', () => {
    for (const { curve } of recipes) {
      expect(Object.values(curve).every((value) => value >= 0)).toBe(true);
      for (const passes of [0.1, 1, 8]) {
        const losses = [1e4, 1e5, 1e6, 1e9].map((text) => expectedLoss(curve, text, passes));
        expect(losses).toEqual([...losses].sort((a, b) => b - a));
      }
    }
  });

  it('lends what it knows of the nearest size to one that is given', () => {
    expect(bestRecipes({})).toEqual(recipes);
    for (const { recipe } of recipes) {
      const { layers, hidden } = recipe;
      const own = recipes.filter((each) => each.recipe.layers === layers && each.recipe.hidden === hidden);
      expect(new Set(bestRecipes({ layers, hidden }))).toEqual(new Set(own));
      const nearly = bestRecipes({ layers, hidden: hidden + 1 });
      expect(new Set(nearly.map(({ curve }) => curve))).toEqual(new Set(own.map(({ curve }) => curve)));
      expect(nearly.every((each) => each.recipe.hidden === hidden + 1)).toBe(true);
    }
    const { layers, hidden, learningRate } = { layers: 7, hidden: 3000, learningRate: 0.5 };
    expect(bestRecipes({ layers, hidden, learningRate }).map(({ recipe }) => recipe)).toEqual(
      bestRecipes({ layers, hidden, learningRate }).map(({ recipe }) => ({ ...recipe, layers, hidden, learningRate })),
    );
    for (const name of recipeOptions) {
      const given = bestRecipes({ [name]: 1 });
      expect(given.length).toBeGreaterThan(0);
      expect(new Set(given.map(({ recipe }) => Object.values(recipe).join())).size).toBe(given.length);
    }
  });
});

describe('a training that is planned', () => {
  const text = 'The cat sat on the mat, and the dog saw the cat. '.repeat(120);
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'best-'));
  });
  let now: number; // Advances with every reading of the clock, so that the tests do not depend on the machine's speed.
  beforeEach(() => {
    now = 0;
    jest.spyOn(performance, 'now').mockImplementation(() => {
      now += 1;
      return now;
    });
  });
  afterEach(() => jest.restoreAllMocks());
  afterAll(() => rmSync(folder, { recursive: true }));

  const request = (changed: TrainingRequest['options'], more: Partial<TrainingRequest> = {}): TrainingRequest => ({
    corpus: { text },
    env: {},
    options: { preset: 'best', device: 'cpu', threads: 1, sampleLength: 0, hidden: 8, ...changed },
    ...more,
  });

  async function eventsOf(of: TrainingRequest): Promise<{ events: TrainingEvent[]; options: Record<string, unknown> }> {
    await using training = await openTraining(of);
    const events: TrainingEvent[] = [];
    try {
      for await (const event of training) events.push(event);
    } catch (error) {
      if (error !== of.signal?.reason) throw error;
    }
    return { events, options: { ...training.configuration.options } };
  }

  it('tells its plan, keeps what was given, ends with its time at the end of its schedule', async () => {
    const notes: string[] = [];
    const { events, options } = await eventsOf(
      request({ maxTime: 3, epochs: 1_000_000, patience: 0 }, { save: false, onNote: (line) => notes.push(line) }),
    );
    expect(notes).toEqual([
      expect.stringMatching(/^planned for 3s: [12] x 8, /),
      expect.stringMatching(/^because it trains [\d,]+ characters\/s here/),
    ]);
    const end = events.at(-1) as EndEvent;
    expect(end.reason).toBe('schedule-time');
    expect(end.elapsedSeconds).toBeLessThan(3.3);
    expect(options).toMatchObject({ hidden: 8, epochs: 1_000_000, schedule: 'wsd' });
    expect(options.scheduleTime).toBeLessThan(3);
    expect(end.best?.loss).toBeGreaterThan(0);
    const rates = events.flatMap((event) => (event.type === 'step' ? [event.learningRate] : []));
    expect(rates.at(-1)).toBeLessThan((options.learningRate as number) / 4);
  });

  it('leaves out the largest sizes where to measure them would take the time', async () => {
    // A machine on which creating a model takes a tenth of the time.
    const create = LanguageModel.create.bind(LanguageModel);
    const made: number[] = [];
    jest.spyOn(LanguageModel, 'create').mockImplementation((shape, ...rest) => {
      made.push(shape.layers * shape.hidden);
      now += 6000;
      return create(shape, ...rest);
    });
    const options = { preset: 'best', device: 'cpu', threads: 1, sampleLength: 0, maxTime: 60 } as const;
    await using training = await openTraining({ corpus: { text }, env: {}, options, save: false });
    expect(made.slice(0, -1)).toEqual([64, 128]);
    expect([64, 128]).toContain(made.at(-1)); // The model that was planned.
    expect(training.configuration.sources.layers).toBe('plan of preset best');
  });

  it.each(['sgd', 'rmsprop', 'adamw'] as const)(
    'plans no decay for %s, whose own default stands',
    async (optimizer) => {
      await using training = await openTraining(request({ maxTime: 3, optimizer }, { save: false }));
      const { options, sources } = training.configuration;
      expect(options.weightDecay).toBe(optimizer === 'adamw' ? 0.01 : 0);
      expect(sources.weightDecay).not.toBe('plan of preset best');
      expect(sources.layers).toBe('plan of preset best');
    },
  );

  it('is resumed by its plan, and plans nothing anew', async () => {
    const out = join(folder, 'run');
    const controller = new AbortController();
    const planned = request({ maxTime: 4, out, patience: 0, epochs: 1_000_000 }, { signal: controller.signal });
    const opened = await openTraining(planned);
    const { options } = opened.configuration;
    expect(opened.configuration.sources).toMatchObject({ layers: 'plan of preset best', hidden: 'option hidden' });
    for await (const event of opened) {
      if (event.type !== 'step' || event.totalSteps < 20) continue;
      break;
    }
    await opened.dispose();
    const notes: string[] = [];
    const resumed = await eventsOf({ corpus: { text }, env: {}, resume: out, onNote: (line) => notes.push(line) });
    expect(notes).toEqual([]);
    for (const name of plannedOptions) expect(resumed.options[name]).toEqual(options[name]);
    expect(resumed.events[0]).toMatchObject({ type: 'start', resumed: { checkpoint: expect.any(String) } });
    const end = resumed.events.at(-1) as EndEvent;
    expect(end.reason).toBe('schedule-time');
    expect(end.elapsedSeconds).toBeGreaterThanOrEqual(options.scheduleTime); // Counts both invocations.
    expect(end.elapsedSeconds).toBeLessThan(1.1 * options.scheduleTime);
  });

  it.each([
    [
      'without a time',
      request({}),
      /^option preset: best plans for the time there is: give it, such as `maxTime: '10m'`\.$/,
    ],
    [
      'for windows',
      request({ maxTime: 9, target: 'last' }),
      /^option preset: best is planned for `target: 'every'`, and option target says last: leave one of them out\.$/,
    ],
    [
      'for less time than measuring takes',
      request({ maxTime: 1e-9 }, { save: false }),
      /^1ms is over before the sizes are measured: give more, such as `maxTime: '1m'`, or have nothing planned: `preset: 'fast'`\.$/,
    ],
    ['for a text of one symbol', request({ maxTime: 9 }, { corpus: { text: 'a'.repeat(2000) } }), /only one symbol/],
    ['for a text that is too short', request({ maxTime: 9 }, { corpus: { text: 'ab' } }), /too short/],
  ])('refuses %s', async (_, refused, message) => {
    await expect(openTraining(refused)).rejects.toThrow(message);
  });
});
