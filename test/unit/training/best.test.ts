/** `--preset best`: the plan as a function, with properties, and trainings that are planned, interrupted and resumed. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  type BestRequest,
  bestRecipes,
  decayOf,
  describeBest,
  estimateBytes,
  expectedLoss,
  mostPasses,
  parametersOf,
  planBest,
  plannedOptions,
} from '../../../lib/training/best';
import { bestTable } from '../../../lib/training/best-table';
import type { EndEvent, TrainingEvent } from '../../../lib/training/events';
import { optionDefinitions } from '../../../lib/training/options';
import { openTraining } from '../../../lib/training/preparation';
import type { TrainingRequest } from '../../../lib/training/request';
import { divide, leastLength } from '../../../lib/training/sizes';

const recipes = bestRecipes();

/** Machines as they are: larger models are slower, by whatever. */
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
      candidates: recipes.map((recipe, i) => ({ recipe, charactersPerSecond: speeds[i] as number })),
    }),
  );

describe('planBest', () => {
  it('expects no worse of more time, and lets no size pass over the text less often for it', () => {
    fc.assert(
      fc.property(requests, fc.double({ min: 1, max: 1000, noNaN: true }), (request, more) => {
        const longer = { ...request, seconds: request.seconds * more };
        const [plan, with_more] = [planBest(request), planBest(longer)];
        expect(with_more.expected).toBeLessThanOrEqual(plan.expected);
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
        expect(planBest({ ...request, candidates }).expected).toBeLessThanOrEqual(planBest(request).expected);
      }),
    );
  });

  it('stays within the memory, unless nothing does', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const bytes = estimateBytes(planBest(request).options, request.symbols);
        const least = Math.min(...recipes.map((recipe) => estimateBytes(recipe, request.symbols)));
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
        // The schedule leaves the last score its time, and no more than half of all.
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
        fc.pre(passes * request.characters > 200 * batchSize * seqLength); // Runs of a few steps have few of anything.
        const stepsPerEpoch = Math.floor(((1 - validation) * request.characters) / (batchSize * seqLength));
        const every =
          typeof validationEvery === 'number' ? validationEvery : Number.parseInt(validationEvery, 10) / stepsPerEpoch;
        const scores = passes / every;
        expect(scores).toBeGreaterThanOrEqual(passes < mostPasses ? 4 : 3);
        const each = (validation * request.characters) / (3 * candidate.charactersPerSecond);
        fc.pre(validation > (4 * seqLength) / request.characters); // Less would be no score.
        expect(scores * each).toBeLessThan(0.25 * request.seconds);
      }),
    );
  });

  it('lets weights decay where the search was better for it: in no shorter run of a size', () => {
    for (const { layers, hidden, value, leastSteps, leastPasses } of bestTable.weightDecay) {
      expect(value).toBeGreaterThan(0);
      expect(decayOf({ layers, hidden }, leastSteps, leastPasses)).toBe(value);
      expect(decayOf({ layers, hidden: hidden - 1 }, leastSteps, leastPasses)).not.toBe(value);
      expect(decayOf({ layers: layers - 1, hidden }, leastSteps, leastPasses)).toBe(0);
      expect(decayOf({ layers, hidden }, leastSteps - 1, leastPasses)).not.toBe(value);
      expect(decayOf({ layers, hidden }, leastSteps, leastPasses - 1)).not.toBe(value);
    }
    fc.assert(
      fc.property(requests, (request) => {
        const { options, passes } = planBest(request);
        const { validation, batchSize, seqLength, weightDecay } = options;
        const steps = Math.max(1, Math.floor(((1 - validation) * request.characters) / (batchSize * seqLength)));
        expect(weightDecay).toBe(decayOf(options, passes * steps, passes));
      }),
    );
  });

  it('plans for the epochs that are given, where there is time for more', () => {
    fc.assert(
      fc.property(requests, fc.integer({ min: 1, max: 100 }), (request, epochs) => {
        const plan = planBest({ ...request, epochs });
        expect(plan.passes).toBeLessThanOrEqual(epochs);
        const { leastPasses } = bestTable.weightDecay.find(({ value }) => value === plan.options.weightDecay) ?? {};
        expect(leastPasses ?? 0).toBeLessThanOrEqual(epochs);
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

  it('chooses a small model for a moment and a large one for a day, of equally busy machines', () => {
    const request = (seconds: number): BestRequest => ({
      characters: 1_000_000,
      symbols: 65,
      seconds,
      memoryBytes: 1e10,
      candidates: recipes.map((recipe) => ({ recipe, charactersPerSecond: 2e10 / parametersOf(recipe, 65) })),
    });
    const parameters = [5, 60, 600, 86_400].map((seconds) => parametersOf(planBest(request(seconds)).options, 65));
    expect(parameters).toEqual([...parameters].sort((a, b) => a - b));
    expect(parameters.at(-1)).toBeGreaterThan(parameters[0] as number);
  });

  it('says in two lines what it chose and why', () => {
    const candidates = recipes.map((recipe) => ({ recipe, charactersPerSecond: 1e9 / parametersOf(recipe, 65) }));
    const plan = planBest({ characters: 1e6, symbols: 65, seconds: 600, memoryBytes: 1e10, candidates });
    const [what, why] = describeBest(plan, 600);
    expect(what).toMatch(
      /^planned for 10m: 2 x \d+, dropout [\d.]+, batches of \d+ x \d+, rate [\d.]+, (?:weight decay [\d.]+, )?at most \d+ epochs?; [\d.]+ % for validation, scored every (?:epoch|(?!1 )\d+ (?:epochs|steps))$/,
    );
    expect(why).toMatch(
      /^because it trains [\d,]+ characters\/s here, the text [\d.]+ times; the next best, 2 x \d+ in batches of \d+ x \d+, is expected 0\.\d{3} nats worse$/,
    );
  });
});

describe('the table', () => {
  it('is what the search recorded', () => {
    const rows = readFileSync(join(__dirname, '../../../bench/results/best-search.jsonl'), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, number>);
    expect(bestTable.trainings).toBeLessThanOrEqual(rows.length);
    const measured = new Set(rows.map((row) => `${row.layers} ${row.hidden} ${row.batchSize} ${row.seqLength}`));
    for (const { layers, hidden, batchSize, seqLength } of bestTable.recipes) {
      expect(measured).toContain(`${layers} ${hidden} ${batchSize} ${seqLength}`);
    }
    expect(new Set(rows.map(({ characters }) => characters))).toEqual(new Set(bestTable.texts));
  });

  it('expects less of more training and of more parameters', () => {
    const [recipe] = recipes as [(typeof recipes)[number]];
    for (const text of [5e4, 1e6]) {
      const losses = [0.1, 0.5, 1, 2, 8, 32, 1000].map((passes) => expectedLoss(recipe, 65, text, passes));
      expect(losses).toEqual([...losses].sort((a, b) => b - a));
      const larger = expectedLoss({ ...recipe, hidden: 2 * recipe.hidden }, 65, text, 8);
      expect(larger).toBeLessThan(expectedLoss(recipe, 65, text, 8));
    }
  });
});

describe('a training that is planned', () => {
  const text = 'The cat sat on the mat, and the dog saw the cat. '.repeat(120);
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'best-'));
  });
  beforeEach(() => {
    let now = 0; // The time passes with the work, however fast the machine is.
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
      expect.stringMatching(/^planned for 3s: 2 x 8, /),
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
    expect(end.elapsedSeconds).toBeGreaterThanOrEqual(options.scheduleTime); // Of both invocations together.
    expect(end.elapsedSeconds).toBeLessThan(1.1 * options.scheduleTime);
  });

  it.each([
    [
      'without a time',
      request({}),
      /^option preset: best plans for the time there is: give it, such as --max-time 10m\.$/,
    ],
    [
      'for windows',
      request({ maxTime: 9, target: 'last' }),
      /^option preset: best is planned for --target every, and option target says last: leave one of them out\.$/,
    ],
    [
      'for less time than measuring takes',
      request({ maxTime: 1e-9 }, { save: false }),
      /^1ms is over before the sizes are measured: give more, such as --max-time 1m, or leave --preset best out\.$/,
    ],
    ['for a text of one symbol', request({ maxTime: 9 }, { corpus: { text: 'a'.repeat(2000) } }), /nothing to learn/],
    ['for a text that is too short', request({ maxTime: 9 }, { corpus: { text: 'ab' } }), /too short/],
  ])('refuses %s', async (_, refused, message) => {
    await expect(openTraining(refused)).rejects.toThrow(message);
  });
});
