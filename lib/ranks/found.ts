/** Finds the MPI libraries of this machine. */
import { loadNative, type NativeMpiLibrary } from '../device/native';
import { mpiLibraries } from './launcher';

/** Libraries that could connect ranks: CUDNN_LSTM_MPI_LIBRARY if it is set, else all that are found by their usual names. */
export async function findMpi(env: NodeJS.ProcessEnv): Promise<NativeMpiLibrary[]> {
  const names = env.CUDNN_LSTM_MPI_LIBRARY ? [env.CUDNN_LSTM_MPI_LIBRARY] : mpiLibraries;
  const found: NativeMpiLibrary[] = [];
  for (const name of names) {
    const library = await loadNative()
      .findMpi([name])
      .catch(() => undefined);
    // One library may have two names.
    if (library && !found.some(({ version, abi }) => version === library.version && abi === library.abi))
      found.push(library);
  }
  return found;
}
