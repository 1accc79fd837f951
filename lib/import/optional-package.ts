import { CudnnLstmError, exitCodes } from '../errors';

/** Whether an `import()` failed because the package is not installed. */
export function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  // The second code is the one of Yarn's Plug'n'Play.
  return code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
}

/** @param what - the files that need the package, as the beginning of a sentence. */
export function missingPackage(what: string, name: string): CudnnLstmError {
  return new CudnnLstmError(
    'ERR_MISSING_PACKAGE',
    `${what}, for which the optional package ${name} is needed, and it is not installed: npm install ${name}`,
    exitCodes.runtime,
  );
}
