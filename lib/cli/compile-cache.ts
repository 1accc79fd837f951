/**
 * Caches what V8 compiles, from Node 22.8 on, so that a command starts faster from its second run on. Imported before all other
 * modules, since only what is loaded later is cached. Node's own NODE_COMPILE_CACHE=FOLDER and NODE_DISABLE_COMPILE_CACHE=1 take
 * precedence.
 */
import * as nodeModule from 'node:module';
import { join } from 'node:path';
import { cacheDirectory } from '../cache';

const { enableCompileCache } = nodeModule as { enableCompileCache?: (folder: string) => unknown };
// Only in this package's own processes: in another program it is that program's decision. Failures to cache are not reported.
if (require.main?.filename.startsWith(join(__dirname, '..'))) {
  try {
    enableCompileCache?.(join(cacheDirectory(), 'compiled'));
  } catch {}
}
