/** What a command loads before it starts. */
import { compiled, run } from '../../fixtures/child';

const commands = ['train', 'sample', 'score', 'import', 'serve', 'export', 'sweep', 'reproduce', 'info', 'build'];

it('loads no more of other packages than it needs to start: zod as one file of parts', async () => {
  // Maps each package to the first command that loads it; for what all commands share, that is `train`.
  const script = `
    const { main } = require(${JSON.stringify(compiled('cli/main.js'))});
    const seen = new Set();
    (async () => {
      const loaded = {};
      for (const name of ${JSON.stringify(commands)}) {
        const stdout = { write: () => true };
        await main([name, '--help'], { stdout, stderr: stdout }).catch(() => {});
        for (const file of Object.keys(require.cache)) {
          const [, owner] = /node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(file) ?? [];
          if (owner !== undefined && !seen.has(owner)) loaded[owner] = name;
          seen.add(owner);
        }
      }
      process.stderr.write(JSON.stringify(loaded));
    })();`;
  const { code, stderr } = await run(process.execPath, ['-e', script]);
  const of = { commander: 'train', 'iconv-lite': 'train', 'safer-buffer': 'train', asciichart: 'reproduce' };
  expect([code, JSON.parse(stderr)]).toEqual([0, of]);
});
