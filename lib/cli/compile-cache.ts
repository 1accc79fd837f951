/**
 * Keeps what V8 compiles, from Node 22.8 on: a command starts sooner from the second time on. Imported before all other modules,
 * since only what is loaded later is kept. Node's own NODE_COMPILE_CACHE=FOLDER and NODE_DISABLE_COMPILE_CACHE=1 go before it.
 */
import * as nodeModule from 'node:module';
import { join } from 'node:path';
import { cacheDirectory } from '../cache';

const { enableCompileCache } = nodeModule as { enableCompileCache?: (folder: string) => unknown };
// Of a process of this package's own: in another program's it is that program's affair. Where nothing can be kept, nothing is said.
if (require.main?.filename.startsWith(join(__dirname, '..'))) {
  try {
    enableCompileCache?.(join(cacheDirectory(), 'compiled'));
  } catch {}
}
