/** The ranks that `--devices` starts: which GPUs they use, and what happens to all of them when one ends. */
import { readDevices, runRanks, withoutDevices } from '../../../lib/cli/devices';
import { trainCommand } from '../../../lib/cli/train';

test('GPUs are named by their numbers', () => {
  for (const [text, gpus] of [
    ['cuda:0,1', [0, 1]],
    ['0,1', [0, 1]],
    ['cuda:3, cuda:1', [3, 1]],
    ['cuda:2', [2]],
  ] as const)
    expect(readDevices(text)).toEqual(gpus);
  for (const text of ['', 'cpu', 'cuda', '0,0', '0,', '-1', '1.5', 'cuda:0;1', '99999'])
    expect(() => readDevices(text)).toThrow(/--devices takes different GPUs, such as cuda:0,1, not/);
});

test('what the ranks get does not start others', () => {
  expect(withoutDevices(['a.txt', '--devices', '0,1', '--json'])).toEqual(['a.txt', '--json']);
  expect(withoutDevices(['--devices=0,1', 'a.txt'])).toEqual(['a.txt']);
});

test('what does not go together is refused', async () => {
  await expect(trainCommand(['--devices', '0,1', '--device', 'cpu'])).rejects.toThrow(
    /--devices and --device both say/,
  );
});

const program = (code: string) => ['-e', code];

test('each rank is told its place and its GPU', async () => {
  const check = `
    const { RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, CUDNN_LSTM_RANK_GPU } = process.env;
    const told = [WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR].join() === '2,2,127.0.0.1' && LOCAL_RANK === RANK;
    process.disconnect();
    process.exitCode = told && MASTER_PORT > 0 && CUDNN_LSTM_RANK_GPU === (RANK === '0' ? '5' : '3') ? 0 : 9;`;
  expect(await runRanks([5, 3], program(check))).toBe(0);
});

test.each([
  ['a rank that fails', "process.env.RANK === '1' ? process.exit(7) : setInterval(() => {}, 1000)", 7],
  [
    'a rank that is killed',
    "process.env.RANK === '1' ? process.kill(process.pid, 'SIGKILL') : setInterval(() => {}, 1000)",
    137,
  ],
  ['an end that all agree upon', "process.disconnect(); process.exitCode = process.env.RANK === '0' ? 130 : 0", 130],
])('%s ends all, with its exit code', async (_, code, expected) => {
  expect(await runRanks([0, 1], program(code))).toBe(expected);
});
