/**
 * Where a trial pauses. Successive halving trains each to a share of its epochs, with the schedules of all of them, so the trial's process
 * is told at its start, and ends there itself: a signal would come later, by as much as the machine is busy.
 */

/** For the processes of a sweep's trials alone: the epoch after which one ends as by SIGTERM, to be resumed. */
export const pauseVariable = 'CUDNN_LSTM_TRIAL_PAUSE';

/** The epoch of {@link pauseVariable}; infinite where there is none. */
export const pauseOf = (env: NodeJS.ProcessEnv): number => Number(env[pauseVariable] || Number.POSITIVE_INFINITY);
