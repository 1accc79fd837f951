/** How ranks communicate, over a transport within one process; which launcher started a process; how a batch is divided. */
import { closeSync, openSync } from 'node:fs';
import fc from 'fast-check';
import type { NativeModel, NativeRank } from '../../lib/device/native';
import { type CudnnLstmError, DataError, UsageError } from '../../lib/errors';
import { fasterRanks, forecastRanks } from '../../lib/ranks/efficiency';
import { joinRanks, launchToJoin } from '../../lib/ranks/join';
import { launchOf } from '../../lib/ranks/launcher';
import { Ranks, type RankTransport } from '../../lib/ranks/ranks';
import { describePlan, planTraining } from '../../lib/training/plan';
import { openTraining } from '../../lib/training/preparation';
import { presetOptions } from '../../lib/training/presets';
import { compareParameters, compareRanks, type Identity } from '../../lib/training/same';
import { checkShares, joinStates, sequencesOf, shareOf, stateOf } from '../../lib/training/shares';
import { countTurns } from '../fixtures/turns';

/** Ranks within one process: a call returns once all of them have made it. */
async function ranksOf(size: number): Promise<Ranks[]> {
  let waiting: { bytes: Uint8Array; resolve: (all: Uint8Array[]) => void }[] = [];
  const meet = (rank: number, bytes: Uint8Array) =>
    new Promise<Uint8Array[]>((resolve) => {
      waiting[rank] = { bytes, resolve };
      if (waiting.filter(Boolean).length < size) return;
      const met = waiting;
      waiting = [];
      for (const each of met) each.resolve(met.map((other) => other.bytes));
    });
  const transport = (rank: number): RankTransport => ({
    gather: async (bytes) => {
      const all = await meet(rank, bytes);
      expect(new Set(all.map((each) => each.length)).size).toBe(1);
      return Uint8Array.from(all.flatMap((each) => [...each]));
    },
    broadcast: async (bytes) => (await meet(rank, bytes))[0]?.slice() as Uint8Array,
    measureSum: async (count, rounds) => new Float64Array(rounds).fill(count),
    leave: async () => true,
    abort: () => {},
  });
  const native = { library: 'lib', abi: 'ABI', version: 'Test 1', size, localSize: size };
  return Promise.all(
    Array.from({ length: size }, (_, rank) =>
      Ranks.of(transport(rank), { ...native, rank, localRank: rank } satisfies NativeRank),
    ),
  );
}

const settled = async <T>(all: Promise<T>[]) =>
  (await Promise.allSettled(all)).map((each) => (each.status === 'fulfilled' ? each.value : each.reason));

test('bytes of any length arrive in the order of the ranks', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 200 }), { minLength: 2, maxLength: 5 }), async (sent) => {
      const ranks = await ranksOf(sent.length);
      const received = await Promise.all(ranks.map((each, r) => each.gather('any', sent[r] as Uint8Array)));
      for (const all of received) expect(all.map((each) => [...each])).toEqual(sent.map((each) => [...each]));
    }),
    { numRuns: 50 },
  );
});

test('numbers keep their bits, and as many as fit a header or not', async () => {
  const ranks = await ranksOf(2);
  for (const numbers of [[], [Math.PI], [Number.NaN, -0, 2 ** -1074], Array.from({ length: 100 }, (_, i) => i / 3)]) {
    const received = await Promise.all(ranks.map((each) => each.gatherNumbers('numbers', numbers)));
    for (const all of received) expect(all).toEqual([numbers, numbers]);
  }
});

test('ranks that have lost step with one another fail, and say where each is', async () => {
  const [first, second] = (await ranksOf(2)) as [Ranks, Ranks];
  const results = await settled<unknown>([
    first.gather('state', Buffer.alloc(3)),
    second.gatherNumbers('decision', [1]),
  ]);
  expect(results.map(({ message }) => message)).toEqual([
    expect.stringMatching(/this one is at 'state', and rank 1 of 2 on \S+ at 'decision'/),
    expect.stringMatching(/this one is at 'decision', and rank 0 of 2 on \S+ at 'state'/),
  ]);
});

test('a job that fails on one rank fails on all, with its class there and its exit code everywhere', async () => {
  const ranks = await ranksOf(3);
  const fail = (on: readonly number[]) =>
    settled(
      ranks.map((each) =>
        each.together('job', () => {
          if (on.includes(each.rank)) throw new DataError('no such text');
          return each.rank;
        }),
      ),
    );
  expect(await fail([])).toEqual([0, 1, 2]);
  for (const on of [[1], [2], [1, 2]]) {
    const errors = (await fail(on)) as CudnnLstmError[];
    for (const [r, error] of errors.entries()) {
      expect([error.message, error.exitCode]).toEqual([
        expect.stringMatching(`^rank ${on[0]} of 3 on \\S+: no such text$`),
        3,
      ]);
      expect(ranks[r]?.agreedOn(error)).toBe(true);
    }
  }
  const everywhere = (await fail([0, 1, 2])) as CudnnLstmError[];
  for (const error of everywhere) expect([error.message, error instanceof DataError]).toEqual(['no such text', true]);
  expect(ranks[0]?.agreedOn(new Error('another'))).toBe(false);
});

test('one that is asked to stop stops all, each with what it knows of it', async () => {
  const ranks = await ranksOf(3);
  const signals = ranks.map(() => new AbortController());
  const look = () => settled(ranks.map((each, r) => each.throwIfAborted(signals[r]?.signal)));
  expect(await look()).toEqual([undefined, undefined, undefined]);
  const reason = new DataError('enough');
  signals[1]?.abort(reason);
  const [first, second, third] = (await look()) as [CudnnLstmError, Error, CudnnLstmError];
  expect(second).toBe(reason);
  for (const error of [first, third])
    expect([error.exitCode, error.message]).toEqual([
      3,
      expect.stringMatching(/^rank 1 of 3 on \S+ was interrupted\.$/),
    ]);
  for (const [r, error] of [first, second, third].entries()) expect(ranks[r]?.agreedOn(error)).toBe(true);
  // The reason may be of any type.
  signals[1] = new AbortController();
  signals[0]?.abort('text');
  expect(await look()).toEqual([
    'text',
    expect.objectContaining({ exitCode: 1 }),
    expect.objectContaining({ exitCode: 1 }),
  ]);
});

test("rank 0's job is done once, and all get what it gives, or throw what it throws", async () => {
  const ranks = await ranksOf(3);
  let done = 0;
  const value = { text: 'π', numbers: Float32Array.of(1, 2.5), none: undefined };
  const results = await Promise.all(
    ranks.map((each) =>
      each.share('job', () => {
        done++;
        return value;
      }),
    ),
  );
  expect(done).toBe(1);
  expect(results).toEqual([value, value, value]);
  const failed = await settled(
    ranks.map((each) =>
      each.share('job', () => {
        throw new UsageError('impossible');
      }),
    ),
  );
  for (const error of failed) expect((error as CudnnLstmError).exitCode).toBe(2);
});

test('what differs between ranks is named with both of them, and nothing else is', async () => {
  const text = (sha256: string, length = 100) => ({ sha256, length });
  const same: Identity = {
    corpus: text('a'),
    kept: text('b'),
    options: presetOptions('fast'),
    device: 'cpu',
    instructionSet: 'avx2',
    version: '0.1.0',
  };
  const natives = [1, 1, 1].map(
    (value) => ({ parameterCount: 3, read: () => Float32Array.of(value, 2, 3) }) as unknown as NativeModel,
  );
  const compare = async (other: Partial<Identity>, models = natives) => {
    const ranks = await ranksOf(3);
    const all = ranks.map((each, r) =>
      compareRanks(each, r === 1 ? { ...same, ...other } : same, models[r] as NativeModel),
    );
    const results = (await settled(all)) as (CudnnLstmError | undefined)[];
    expect(new Set(results.map((error) => error?.message)).size).toBe(1);
    return results[0]?.message;
  };
  expect(await compare({})).toBeUndefined();
  expect(await compare({ options: { ...same.options, threads: 7 } })).toBeUndefined();
  const others: [Partial<Identity>, string][] = [
    [{ corpus: text('c') }, 'texts: 100 characters (SHA-256 a) for rank 0'],
    [{ corpus: text('a', 99) }, 'texts: 100 characters (SHA-256 a) for rank 0'],
    [{ corpus: { ...text('a'), parts: [{ length: 100, weight: 2 }] } }, 'texts: 100 characters (SHA-256 a) for rank 0'],
    [{ kept: text('c') }, 'texts to keep: 100 characters (SHA-256 b) for rank 0'],
    [{ kept: undefined }, 'texts to keep: 100 characters (SHA-256 b) for rank 0'],
    [{ validation: text('c') }, 'validation texts: none for rank 0'],
    [{ options: { ...same.options, seed: 9 } }, 'options: `seed` is 1 for rank 0'],
    [{ device: 'cuda' }, 'devices: cpu for rank 0'],
    [{ version: '0.2.0' }, 'versions of cudnn-lstm: 0.1.0 for rank 0'],
    [{ instructionSet: 'baseline' }, 'instruction sets, which round differently: avx2 for rank 0'],
  ];
  for (const [other, message] of others) {
    const said = await compare(other);
    expect(said).toContain(`different ${message}`);
    expect(said).toContain('for rank 1 of 3 on');
  }
  const altered = { parameterCount: 3, read: () => Float32Array.of(1, 2, 4) } as unknown as NativeModel;
  expect(await compare({}, [...natives.slice(0, 2), altered])).toMatch(
    /weights of the ranks have become different.* for rank 0 .* for rank 2 /,
  );
});

test('the event loop has its turns while the weights of a large model are compared', async () => {
  const piece = new Float32Array(1 << 18);
  const read = (_slot: unknown, _from: number, count: number) => piece.subarray(0, count);
  const ranks = await ranksOf(2);
  const native = { parameterCount: 64 * piece.length, read } as unknown as NativeModel;
  const turns = countTurns();
  await Promise.all(ranks.map((each) => compareParameters(each, native)));
  // A comparison in one go would allow one or two.
  expect(turns()).toBeGreaterThan(4);
});

test('the shares of a batch are whole blocks of 16 that cover it, in order', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 20 }), (batch, size) => {
      let at = 0;
      for (let rank = 0; rank < size; rank++) {
        const { first, last } = shareOf(batch, { rank, size });
        expect(first).toBe(at);
        expect(last).toBeGreaterThanOrEqual(first);
        if (first < batch) expect(first % 16).toBe(0);
        at = last;
      }
      expect(at).toBe(batch);
      const widths = Array.from({ length: size }, (_, rank) => {
        const { first, last } = shareOf(batch, { rank, size });
        return Math.ceil((last - first) / 16);
      });
      expect(Math.max(...widths) - Math.min(...widths)).toBeLessThanOrEqual(1);
      // The check passes exactly if every rank has a share.
      const check = () => checkShares(batch, size);
      if (Math.min(...widths) > 0) check();
      else expect(check).toThrow(UsageError);
    }),
  );
});

test('the batch that an error names gives every rank a share', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 5, max: 20 }), (batch, size) => {
      let message = '';
      try {
        checkShares(batch, size);
      } catch (error) {
        message = (error as Error).message;
      }
      const needed = Number(/`batchSize: (\d+)` or more/.exec(message)?.[1]);
      checkShares(needed, size);
      expect(() => checkShares(needed - 1, size)).toThrow(UsageError);
    }),
  );
});

test('columns and states are cut and joined without loss', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 70 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 3 }),
      (batch, size, hidden) => {
        const state = Float32Array.from({ length: 6 * batch * hidden }, (_, i) => i);
        const shares = Array.from({ length: size }, (_, rank) => shareOf(batch, { rank, size }));
        const parts = shares.map((share) => stateOf(state, batch, hidden, share));
        expect(joinStates(parts, batch, hidden)).toEqual(state);
        const ids = Int32Array.from({ length: 3 * batch }, (_, i) => i);
        const given = shares.map((_, rank) => sequencesOf(ids, batch, { rank, size }));
        expect(given.map(({ firstSequence, globalBatch }) => [firstSequence, globalBatch])).toEqual(
          shares.map(({ first }) => [first, batch]),
        );
        expect(given.map(({ batch: own }) => own)).toEqual(shares.map(({ first, last }) => last - first));
        expect(sequencesOf(ids, batch, undefined)).toEqual({ ids, batch });
        const columns = given.map((each) => each.ids);
        const rows = [0, 1, 2].flatMap((row) =>
          columns.flatMap((part) => [...part.subarray((row * part.length) / 3, ((row + 1) * part.length) / 3)]),
        );
        expect(rows).toEqual([...ids]);
      },
    ),
  );
});

test('launchers say a place among several; one process has none, nor has a job script of Slurm’s', () => {
  const place = (env: NodeJS.ProcessEnv) => {
    const launch = launchOf(env);
    return launch && [launch.launcher, launch.rank, launch.size];
  };
  expect(place({ OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_SIZE: '4' })).toEqual(["Open MPI's mpirun", 1, 4]);
  expect(place({ PMI_RANK: '0', PMI_SIZE: '2' })).toEqual(["MPICH's or Intel MPI's mpirun", 0, 2]);
  const slurm = { SLURM_PROCID: '0', SLURM_NTASKS: '2' };
  expect(place({ ...slurm, SLURM_STEP_NUM_TASKS: '2' })).toEqual(["Slurm's srun", 0, 2]);
  expect(place(slurm)).toBeUndefined();
  // mpirun within a Slurm job.
  expect(place({ ...slurm, SLURM_STEP_NUM_TASKS: '1', PMI_RANK: '1', PMI_SIZE: '2' })?.slice(1)).toEqual([1, 2]);
  expect(place({ RANK: '3', WORLD_SIZE: '4' })).toEqual(['torchrun', 3, 4]);
  for (const env of [
    { RANK: '5', WORLD_SIZE: '2' },
    { RANK: '-1', WORLD_SIZE: '2' },
    { RANK: '', WORLD_SIZE: '2' },
    {},
  ])
    expect(launchOf(env)).toBeUndefined();
  expect(launchOf({ PMI_RANK: '0', PMI_SIZE: '1' })).toBeUndefined();
});

test('ranks that cannot be joined are one line each', async () => {
  const two = { PMI_RANK: '0', PMI_SIZE: '2' };
  expect(launchToJoin({}, { ...two, CUDNN_LSTM_DISTRIBUTED: 'off' })).toBeUndefined();
  expect(launchToJoin({ distributed: 'off' }, two)).toBeUndefined();
  expect(() => launchToJoin({}, { ...two, CUDNN_LSTM_DISTRIBUTED: 'yes' })).toThrow(/CUDNN_LSTM_DISTRIBUTED must be/);
  expect(() => launchToJoin({ distributed: 'mpi' }, {})).toThrow(/mpirun -n 2 node_modules\/\.bin\/cudnn-lstm train/);
  expect(await joinRanks({}, {})).toBeUndefined();
  await expect(joinRanks({}, { RANK: '0', WORLD_SIZE: '4' })).rejects.toThrow(
    /torchrun has started 4 processes.*mpirun -n 4/,
  );
  for (const timeout of ['-1', 'x', '1e9'])
    await expect(joinRanks({}, { ...two, CUDNN_LSTM_TIMEOUT: timeout })).rejects.toThrow(/CUDNN_LSTM_TIMEOUT must be/);
  // npx does not pass on MPICH's connection: its descriptor is closed, or is another file.
  const other = openSync('/dev/null', 'r');
  for (const PMI_FD of ['999', String(other), 'x'])
    await expect(joinRanks({}, { ...two, PMI_FD })).rejects.toThrow(
      /such as npx, has not passed on the connection.*mpirun -n 2 node_modules\/\.bin\/cudnn-lstm train/,
    );
  closeSync(other);
  const library = '/nowhere/libmpi.so';
  await expect(joinRanks({}, { ...two, CUDNN_LSTM_MPI_LIBRARY: library })).rejects.toThrow(
    /has started 2 processes, and they cannot be brought together: \/nowhere\/libmpi\.so: .*CUDNN_LSTM_MPI_LIBRARY/,
  );
  await expect(joinRanks({}, { ...two, CUDNN_LSTM_MPI_LIBRARY: 'libc.so.6' })).rejects.toThrow(/it is no MPI library/);
});

describe('the forecast of other numbers of ranks', () => {
  const measured = { batch: 128, step: 30, sum: 4, smallSum: 1 };

  it('keeps what was measured, and reckons what lies between', () => {
    // 8 blocks on one rank take 100 ms, and 2 blocks 26 ms: 12.33 ms per block.
    const forecasts = forecastRanks({ ...measured, ranks: 4, alone: 100 });
    expect(forecasts.map(({ ranks }) => ranks)).toEqual([1, 2, 3, 4]);
    expect(forecasts[0]).toEqual({ ranks: 1, step: 100, efficiency: 1 });
    expect(forecasts[3]).toEqual({ ranks: 4, step: 30, efficiency: 100 / 120 });
    // Two ranks: 4 blocks each, a third of the waits, and two thirds of the bytes through each link.
    expect(forecasts[1]?.step).toBeCloseTo(26 + (74 / 6) * 2 + 1 / 3 + 3 * (2 / 3), 9);
    expect(fasterRanks(forecasts)).toBeUndefined();
  });

  it('names a smaller number where sums cost more than they save', () => {
    const slow = forecastRanks({ ranks: 4, batch: 128, step: 90, sum: 80, smallSum: 70, alone: 40 });
    expect(fasterRanks(slow)).toEqual({ ranks: 1, step: 40, efficiency: 1 });
    // Of 4 blocks, the largest share is 2 on three ranks as it is on two.
    const uneven = forecastRanks({ ranks: 3, batch: 64, step: 60, sum: 20, smallSum: 15, alone: 70 });
    expect(fasterRanks(uneven)?.ranks).toBe(2);
  });

  it('is what a dry run prints: the sum, the efficiency, and how many ranks would be faster', async () => {
    await using training = await openTraining({
      corpus: { text: 'a rose is a rose is a rose\n'.repeat(20) },
      options: { hidden: 4, layers: 1, batchSize: 4, seqLength: 5, device: 'cpu', threads: 1 },
      save: false,
    });
    const plan = await planTraining(training);
    const printed = (step: number, alone: number, sum: number) => {
      const forecasts = forecastRanks({ ranks: 4, batch: 128, step, sum, smallSum: sum / 2, alone });
      const faster = fasterRanks(forecasts);
      const ranks = {
        count: 4,
        library: 'Test 1',
        hosts: ['a', 'a', 'b', 'b'],
        millisecondsPerSum: sum,
        millisecondsAlone: alone,
        forecasts,
        ...(faster ? { faster } : {}),
      };
      const lines = describePlan({ ...plan, millisecondsPerStep: step, ranks });
      return lines.filter((line) => /ranks? /.test(line));
    };
    const row = (sum: string, step: string, alone: string, efficiency: string) =>
      `ranks      4 on 2 machines by Test 1: a sum takes ${sum} ms of a step's ${step} ms, and one rank alone ${alone} ms for a step: efficiency ${efficiency} %`;
    expect(printed(30, 100, 4)).toEqual([row('4.00', '30.00', '100.00', '83')]);
    expect(printed(90, 40, 80)).toEqual([
      row('80.00', '90.00', '40.00', '11'),
      '           one rank would be faster: about 40.00 ms a step',
    ]);
    expect(printed(60, 72, 55)).toEqual([
      row('55.00', '60.00', '72.00', '30'),
      expect.stringMatching(/^ +2 ranks would be faster: about \d+\.\d\d ms a step$/),
    ]);
  });

  it('is finite and positive whatever a busy machine has measured', () => {
    const time = fc.double({ min: 0.001, max: 1000, noNaN: true });
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 40 }),
        fc.integer({ min: 1, max: 2000 }),
        fc.tuple(time, time, time, time),
        (ranks, batch, [step, sum, smallSum, alone]) => {
          for (const forecast of forecastRanks({ ranks, batch, step, sum, smallSum, alone })) {
            expect(forecast.step).toBeGreaterThan(0);
            expect(Number.isFinite(forecast.efficiency)).toBe(true);
          }
        },
      ),
    );
  });
});
