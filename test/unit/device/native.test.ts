/** Loading the addon, in separate processes because each loads it only once. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../../lib/device/native';
import { compiled, run } from '../../fixtures/child';

const binary = join(packageRoot, 'build', 'Release', 'cudnn_lstm.node');
let empty: string;
beforeAll(() => {
  empty = mkdtempSync(join(tmpdir(), 'native-'));
});
afterAll(() => rmSync(empty, { recursive: true }));

/** Runs a script with the library as `lib`. Unless `env` changes that, there is no binary in the usual places. */
async function load(
  script: string,
  env: NodeJS.ProcessEnv = {},
): Promise<{ code?: string; message?: string; isa?: string }> {
  const program = `const lib = require(${JSON.stringify(compiled('advanced.js'))}); const binary = ${JSON.stringify(binary)};
    (async () => { ${script} })().then((isa) => ({ isa }), ({ code, message }) => ({ code, message }))
      .then((result) => console.log(JSON.stringify(result)));`;
  const variables = { ...process.env, PREBUILDS_ONLY: '1', CUDNN_LSTM_PREBUILD: empty, ...env };
  const { stdout, stderr } = await run(process.execPath, ['-e', program], { env: variables });
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as Awaited<ReturnType<typeof load>>;
}
const choose = (options: string) => `return (await lib.chooseDevice(${options})).reason;`;

it('takes the binary that the option or the environment names', async () => {
  const found = { isa: expect.stringContaining('CPU') };
  expect(await load(choose(`{ device: 'cpu', nativeBinding: binary }`))).toEqual(found);
  expect(await load(choose(`{ device: 'cpu' }`), { CUDNN_LSTM_NATIVE_BINDING: binary })).toEqual(found);
  // Later calls take the same binary, whether they name it or not.
  const again = `await lib.chooseDevice({ nativeBinding: binary }); await lib.chooseDevice();`;
  expect(await load(again + choose(`{ device: 'cpu', nativeBinding: binary }`))).toEqual(found);
});

it('says which binary could not be loaded, and why', async () => {
  const missing = {
    code: 'ERR_NATIVE_MISSING',
    message: expect.stringMatching(/^the native addon could not be loaded from '\/nowhere\/a\.node': .+/),
  };
  expect(await load(choose(`{ nativeBinding: '/nowhere/a.node' }`))).toEqual(missing);
  expect(await load(choose('{}'), { CUDNN_LSTM_NATIVE_BINDING: '/nowhere/a.node' })).toEqual(missing);
  expect(
    await load(`await lib.chooseDevice({ nativeBinding: binary }); ${choose(`{ nativeBinding: '/nowhere/a.node' }`)}`),
  ).toEqual({
    code: 'ERR_NATIVE_MISSING',
    message: "nativeBinding '/nowhere/a.node' comes too late: the native addon is loaded already",
  });
});

it('lists what can be done where there is none, and says so of musl', async () => {
  const { message } = await load(choose('{}'), { LIBC: 'glibc' });
  expect(message).toContain('npx cudnn-lstm build\n');
  expect(message).not.toContain('musl');
  expect((await load(choose('{}'), { LIBC: 'musl' })).message).toContain('this system has musl');
});
