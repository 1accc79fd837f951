/**
 * The self-check: before a GPU is first used with a given driver, cuDNN, card, package build and algorithm, a child process compares it
 * with the CPU backend, and the outcome is recorded. A cuDNN that computes wrong numbers, aborts its process or never answers is caught
 * there rather than in a user's run.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { show } from '../arguments';
import { DeviceError, UsageError } from '../errors';
import { option } from '../wording';
import type { CheckMessage, CheckRequest } from './check-child';
import {
  type CheckKey,
  type CheckReport,
  checkKey,
  forgetFailures,
  keepReport,
  nameOf,
  rememberedCheck,
} from './check-record';
import { chooseDeviceFor, chosenCpu, type DeviceChoice, type DeviceRequest } from './choose';
import { type CheckDifference, type CheckedCase, type CheckSubject, excess } from './comparison';
import { type Algorithm, loadNative, nativePath, packageRoot } from './native';

/** Set in the child only, so that no program can check itself endlessly. */
const childVariable = 'CUDNN_LSTM_SELF_CHECK_CHILD';

const endedByOthers: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGKILL'];

/** Seconds after which the child counts as hanging, whatever it has reported: a GPU that slow is of no use either. */
const defaultPatience = 60;

/**
 * {@link chooseDevice}, followed by the self-check if it chose a GPU. If that fails, `auto` takes the CPU and `onNote` is told why.
 *
 * @param subject The model that is about to run.
 * @throws DeviceError if a GPU was asked for by name and fails.
 */
export async function chooseCheckedDevice(request: DeviceRequest, subject?: CheckSubject): Promise<DeviceChoice> {
  const choice = await chooseDeviceFor(request, cpuOnly(subject));
  if (choice.device === 'cpu' || !wantsCheck(request)) return choice;
  const report = await checkDevice(choice, request, { subject });
  if (report.passed) return choice;
  const send = report.file ? `please send ${report.file} to the authors` : 'its report could not be written';
  const advice = report.passing ? send : `${send}; cudnn-lstm info --check makes the check again`;
  if (!choice.automatic) {
    throw new DeviceError(
      `the GPU failed its self-check: ${report.summary}; ${advice}; ${option({ check: false })} uses it all the same, ${option({ device: 'cpu' })} does without.`,
      { code: 'ERR_DEVICE_CHECK' },
    );
  }
  request.onNote?.(`self-check: the GPU failed, so the CPU is used: ${report.summary}`);
  request.onNote?.(
    `self-check: ${advice}; ${option({ check: false })} uses the GPU all the same, ${option({ device: 'cpu' })} ends this message`,
  );
  return chosenCpu(request, `the GPU failed its self-check: ${report.summary}`);
}

/** Why no GPU can run a model; undefined if one can. */
function cpuOnly(subject: CheckSubject | undefined): string | undefined {
  const { gateActivation = 'sigmoid', resetId } = subject?.shape ?? {};
  if (gateActivation !== 'sigmoid') return `cuDNN has sigmoid gates only, and the model's are ${gateActivation}`;
  return resetId === undefined
    ? undefined
    : 'cuDNN cannot begin anew within a sequence, as a model of single lines does at every line';
}

/** The recorded check of the chosen GPU with the standard algorithm; undefined if its next use will check it. */
export async function rememberedOf(
  choice: DeviceChoice,
  request: DeviceRequest = {},
): Promise<CheckReport | undefined> {
  return rememberedCheck((await identify(choice, request, 'standard')).key);
}

interface CheckOptions {
  readonly subject?: CheckSubject | undefined;
  /** Check even if an outcome is recorded. */
  readonly always?: boolean;
}

/**
 * This process's checks, running or finished: models created at the same time share one. A check that failed for a transient reason is
 * removed when it ends, since it is not found in the cache either: the next model repeats it.
 */
const checks = new Map<string, Promise<CheckReport>>();

/**
 * Runs the self-check of a GPU, unless its outcome is already known.
 *
 * @throws The reason that `request.signal` is aborted with.
 */
export async function checkDevice(
  choice: DeviceChoice,
  request: DeviceRequest,
  { subject, always = false }: CheckOptions,
): Promise<CheckReport> {
  const algorithm = subject?.algorithm ?? 'standard';
  const { key, name, computeCapability } = await identify(choice, request, algorithm);
  const id = nameOf(key);
  for (;;) {
    request.signal?.throwIfAborted();
    const remembered = always ? undefined : await rememberedCheck(key);
    if (remembered) return remembered;
    const other = always ? undefined : checks.get(id);
    const running = other ?? begin();
    const forget = () => checks.get(id) === running && checks.delete(id);
    try {
      const report = await running;
      if (report.passing) forget();
      return report;
    } catch (error) {
      forget();
      // The check belonged to another model and was aborted with it: this model runs its own.
      if (!other) throw error;
    }
  }

  function begin(): Promise<CheckReport> {
    request.onNote?.(`self-check: comparing ${name} with the CPU, as before its first use; some seconds ...`);
    const running = runChild(
      {
        nativeBinding: request.nativeBinding,
        gpu: { ordinal: choice.ordinal, algorithm, ...(choice.libraryPath ? { libraryPath: choice.libraryPath } : {}) },
        computeCapability,
        threads: choice.threads,
        subject,
      },
      request.signal,
    ).then(async (end) => {
      if (always) await forgetFailures(key);
      const report = keepReport(reportOf(key, end));
      if (report.passed) request.onNote?.(`self-check: passed in ${report.seconds} s: ${report.summary}`);
      return report;
    });
    checks.set(id, running);
    return running;
  }
}

async function identify(
  { ordinal, libraryPath }: DeviceChoice,
  { nativeBinding }: DeviceRequest,
  algorithm: Algorithm,
): Promise<{ key: CheckKey; name: string; computeCapability: string }> {
  const info = await loadNative(nativeBinding).cudaInfo(libraryPath ? { libraryPath } : {});
  const gpu = info.devices.find((device) => device.ordinal === ordinal);
  if (!gpu) throw new DeviceError(`the GPU cuda:${ordinal} is gone: ${info.reason}`);
  return {
    key: await checkKey(info, gpu, nativePath(), algorithm),
    name: gpu.name,
    computeCapability: gpu.computeCapability,
  };
}

function wantsCheck({ check, env = {} }: DeviceRequest): boolean {
  const variable = env.CUDNN_LSTM_CHECK;
  if (check !== undefined || !variable) return check ?? true;
  if (/^(true|1|yes|on)$/i.test(variable)) return true;
  if (/^(false|0|no|off)$/i.test(variable)) return false;
  throw new UsageError(`CUDNN_LSTM_CHECK must be true or false, not ${show(variable)}.`);
}

/** How the child ended, and what it had reported. */
interface ChildEnd {
  readonly cases: CheckedCase[];
  readonly skipped?: string;
  /** Why the check is incomplete. */
  readonly fault?: string;
  /** The fault is transient. */
  readonly passing?: true;
  readonly log: string;
  readonly seconds: number;
}

/** Rejects only on abort. */
async function runChild(request: CheckRequest, signal: AbortSignal | undefined): Promise<ChildEnd> {
  const began = performance.now();
  const cases: CheckedCase[] = [];
  let at = '';
  let skipped: string | undefined;
  let log = '';
  let passing = false;
  const fault = await run();
  return {
    cases,
    ...(skipped === undefined ? {} : { skipped }),
    ...(fault === undefined ? {} : { fault }),
    ...(passing ? { passing } : {}),
    log,
    seconds: Number(((performance.now() - began) / 1000).toFixed(1)),
  };

  function run(): Promise<string | undefined> {
    const program = join(packageRoot, 'dist', 'device', 'check-child.js');
    passing = true;
    if (!existsSync(program)) return Promise.resolve(`its program ${program} is missing (a bundle?)`);
    if (process.env[childVariable]) return Promise.resolve('a self-check cannot be made within another');
    passing = false;
    const patience = patienceOf(process.env.CUDNN_LSTM_CHECK_TIMEOUT);
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [program, JSON.stringify(request)], {
        stdio: ['pipe', 'pipe', 'pipe'],
        // In Electron, `execPath` is the application.
        env: { ...process.env, [childVariable]: '1', ELECTRON_RUN_AS_NODE: '1' },
        windowsHide: true,
      });
      let done = false;
      let error: string | undefined;
      const settle = (action: () => void) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        process.off('exit', kill);
        kill();
        // A child that hangs in the driver may survive even this, and is not waited for.
        for (const each of [child, child.stdin, child.stdout, child.stderr]) (each as { unref?: () => void }).unref?.();
        action();
      };
      const kill = () => child.kill('SIGKILL');
      const onAbort = () => settle(() => reject(signal?.reason));
      const hangs = () => settle(() => resolve(`not done after ${patience} s, at ${at || 'its start'}`));
      const timer = setTimeout(hangs, patience * 1000);
      signal?.addEventListener('abort', onAbort);
      process.on('exit', kill);

      let rest = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          const message = messageOf(line);
          if (!message) continue; // Perhaps cuDNN's.
          if ('begin' in message) at = message.begin;
          else if ('end' in message) cases.push(message.end);
          else if ('skipped' in message) skipped = message.skipped;
          else if ('error' in message) {
            error = `${message.error}${at ? ` (at ${at})` : ''}`;
            passing = message.code === 'ERR_OUT_OF_MEMORY';
          } else done = true;
        }
      });
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
        log = (log + chunk).slice(-4000);
      });
      child.stdin.on('error', () => {}); // The child has ended.
      child.on('error', (cause) => {
        passing = true;
        settle(() => resolve(`its process could not be run: ${cause.message}`));
      });
      child.on('close', (code, name) => {
        // Ended by a user (Ctrl-C reaches it too), or by the system for its memory: not the GPU's fault.
        passing ||= name !== null && endedByOthers.includes(name);
        const how = name ? `was ended by ${name}` : `ended with exit code ${code}`;
        const last = log.trim().split('\n').at(-1);
        const said = last ? `: ${last.slice(0, 200)}` : '';
        settle(() =>
          resolve(error ?? (done ? undefined : `the process that used it ${how} at ${at || 'its start'}${said}`)),
        );
      });
    });
  }
}

function messageOf(line: string): CheckMessage | undefined {
  try {
    const message = JSON.parse(line) as unknown;
    return typeof message === 'object' && message !== null ? (message as CheckMessage) : undefined;
  } catch {
    return undefined;
  }
}

function patienceOf(variable: string | undefined): number {
  if (!variable) return defaultPatience;
  const seconds = Number(variable);
  if (seconds > 0 && seconds <= 86_400) return seconds;
  throw new UsageError(
    `CUDNN_LSTM_CHECK_TIMEOUT must be a number of seconds above 0 and at most 86,400, not '${variable}'.`,
  );
}

function reportOf(key: CheckKey, { cases, skipped, fault, passing, log, seconds }: ChildEnd): CheckReport {
  const failed = cases.flatMap((each) => each.failed.map((difference) => ({ difference, name: each.name })));
  const passed = fault === undefined && failed.length === 0;
  return {
    passed,
    summary: passed ? summaryOf(cases) : [fault, furthest(failed)].filter(Boolean).join('; '),
    date: new Date().toISOString(),
    seconds,
    key,
    cases,
    ...(skipped === undefined ? {} : { skipped }),
    ...(passed || !log ? {} : { log }),
    ...(passing && failed.length === 0 ? { passing } : {}),
  };
}

/** `fp32 within 2.1e-6, tf32 …`. */
function summaryOf(cases: readonly CheckedCase[]): string {
  const precisions = [...new Set(cases.map((each) => each.precision))];
  return precisions
    .map((precision) => {
      const gaps = cases.filter((each) => each.precision === precision).map((each) => each.worst.gap ?? 0);
      return `${precision} within ${Math.max(...gaps).toExponential(1)}`;
    })
    .join(', ');
}

function furthest(failed: readonly { difference: CheckDifference; name: string }[]): string | undefined {
  const [first, ...others] = failed;
  if (!first) return undefined;
  const { difference, name } = others.reduce((a, b) => (excess(b.difference) > excess(a.difference) ? b : a), first);
  const { what, gap, allowed } = difference;
  const by = gap === null ? 'is not finite' : `differs by ${gap.toExponential(1)}, allowed ${allowed.toExponential(1)}`;
  const more = others.length > 0 ? `, and ${others.length} more` : '';
  return `${what} ${by} (${name}${more})`;
}
