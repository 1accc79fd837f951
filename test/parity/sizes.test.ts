/**
 * No instruction set reads past the end of a buffer or before its beginning, at vocabularies around tile heights. Runs
 * `test/parity/programs/sizes.js` in a separate process, since a fault ends it. About 4 s per instruction set; `npm run test:native`
 * sweeps all sizes.
 */
import { join } from 'node:path';
import { loadNative, packageRoot } from '../../lib/device/native';
import { itWhole, run } from '../fixtures/child';

const program = join(packageRoot, 'test', 'parity', 'programs', 'sizes.js');

for (const isa of loadNative().cpuInfo().supported) {
  for (const guard of ['none', 'end', 'begin']) {
    (guard === 'end' ? test : itWhole)(
      `${isa}, ${guard === 'none' ? 'buffers as they are' : `guard pages where buffers ${guard}`}`,
      async () => {
        const env = { ...process.env, CUDNN_LSTM_CPU_ISA: isa, CUDNN_LSTM_GUARD_PAGES: guard };
        const ended = await run(process.execPath, [program], { env });
        expect(ended).toMatchObject({ code: 0, signal: null, stdout: '88\n', stderr: '' });
      },
    );
  }
}
