/**
 * The program that the self-check's child process runs: it compares, and reports one JSON object per line on stdout. A cuDNN that aborts
 * its process ends only this one. The request is the only argument; standard input stays open for as long as the parent lives.
 */
import { type CheckedCase, type CheckSubject, caseOf, compareCase, smallCases } from './comparison';
import { loadNative, type NativeModelOptions } from './native';

/** The parent's request. */
export interface CheckRequest {
  readonly nativeBinding?: string | undefined;
  readonly gpu: Pick<NativeModelOptions, 'ordinal' | 'libraryPath' | 'algorithm'>;
  readonly computeCapability: string;
  readonly threads: number;
  readonly subject?: CheckSubject | undefined;
}

/** One line of the child's output. */
export type CheckMessage =
  | { begin: string }
  | { end: CheckedCase }
  /** The model that is about to run was not compared. */
  | { skipped: string }
  | { error: string; code?: string | undefined }
  | { done: true };

function tell(message: CheckMessage): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function main(request: CheckRequest): Promise<void> {
  const addon = loadNative(request.nativeBinding);
  const gpu: NativeModelOptions = { ...request.gpu, device: 'cuda' };
  for (const each of smallCases(request.computeCapability)) {
    tell({ begin: each.name });
    tell({ end: await compareCase(addon, each, gpu, request.threads) });
  }
  if (!request.subject) return;
  const own = caseOf(request.subject, request.threads);
  if (!own) return tell({ skipped: 'the model is too large to compare' });
  tell({ begin: own.name });
  try {
    tell({ end: await compareCase(addon, own, gpu, request.threads) });
  } catch (error) {
    // It is not the check's job to say whether the model fits.
    if ((error as { code?: string }).code !== 'ERR_OUT_OF_MEMORY') throw error;
    tell({ skipped: (error as Error).message });
  }
}

// The parent is gone. SIGKILL, because an exit would wait for a running call, which may never return.
process.stdin.on('close', () => process.kill(process.pid, 'SIGKILL')).resume();
main(JSON.parse(process.argv[2] ?? '{}') as CheckRequest)
  .catch((error: Error & { code?: string }) => tell({ error: error.message, code: error.code }))
  .finally(() => process.stdout.write(`${JSON.stringify({ done: true })}\n`, () => process.exit(0)));
