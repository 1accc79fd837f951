/** `info`: this machine and the backend that would run on it, or what a checkpoint holds. */

import { Command, Option } from 'commander';
import { type CheckpointInfo, inspectCheckpoint, inspectRun } from '../checkpoint/inspect';
import { lookAt } from '../checkpoint/run-directory';
import { inspectMachine, type MachineInfo } from '../device/machine';
import type { NativeMpiLibrary } from '../device/native';
import { exitCodes } from '../errors';
import { grouped, plural } from '../numbers';
import { findMpi } from '../ranks/found';
import {
  abortOnSignals,
  addDeviceOptions,
  type CommandIo,
  type DeviceOptions,
  deviceRequest,
  parseArguments,
  processIo,
} from './command';
import { printJson, say } from './output';

/** The command; see `info --help`. */
export async function infoCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = new Command('info')
    .description('Show this machine and which device would be used, and why; or show a run or a checkpoint.')
    .argument('[checkpoint]', "a checkpoint, or a run's directory")
    .option('--json', 'one JSON object');
  const check = new Option('--check', 'compare the GPU with the CPU now; exit code 4 if it fails or there is none');
  addDeviceOptions(command, check).addHelpText(
    'after',
    `
Examples:
  cudnn-lstm info
  cudnn-lstm info --check
  cudnn-lstm info runs/book`,
  );
  parseArguments(command, argv);
  const options = command.opts<DeviceOptions & { json?: boolean }>();
  const [checkpoint] = command.args;
  if (checkpoint !== undefined) {
    const info = await inspectCheckpoint(checkpoint);
    const run = (await lookAt(checkpoint))?.isDirectory()
      ? { directory: checkpoint, last: await inspectRun(checkpoint) }
      : undefined;
    if (options.json) await printJson(io.stdout, { ...info, ...(run ? { run: runFields(run) } : {}) });
    else printLines(checkpointLines(info, run), io);
    return exitCodes.ok;
  }
  using interrupt = options.check ? abortOnSignals(io) : undefined;
  const info = await inspectMachine({
    ...deviceRequest(options),
    check: options.check === true,
    onNote: (line) => say(io.stderr, line),
    signal: interrupt?.signal,
  });
  const mpi = info.native ? await findMpi(process.env) : [];
  if (options.json) await printJson(io.stdout, { ...info, mpi });
  else printLines(machineLines(info, options.check === true, mpi), io);
  const failed = options.check === true && info.check?.passed !== true;
  return info.device.chosen === null || failed ? exitCodes.device : exitCodes.ok;
}

function printLines(lines: readonly string[], io: CommandIo): void {
  for (const line of lines) say(io.stdout, line);
}

function machineLines(info: MachineInfo, checked: boolean, mpi: readonly NativeMpiLibrary[]): string[] {
  const lines = [
    `cudnn-lstm ${info.package.version}, Node ${info.node.version}, ${info.node.platform}-${info.node.architecture}`,
    `machine:  ${info.cpu.model}, ${info.cpu.count} logical CPUs, ${gibibytes(info.memory.totalBytes)} memory (${gibibytes(info.memory.freeBytes)} free)`,
    `threads:  ${info.cpu.threads} (${info.cpu.threadsReason})`,
  ];
  if (info.native) {
    const { cpu, cuda } = info.native;
    lines.push(`kernels:  ${cpu.isa} (this CPU can run ${cpu.supported.join(', ')})`);
    const libraries = mpi.map(({ version, library }) => `${version} (${library})`).join(', ');
    lines.push(
      `mpi:      ${libraries || 'no library found, so training is for one process at a time (docs/scale-out.md)'}`,
    );
    lines.push(`cuda:     ${cuda.reason}`);
    for (const gpu of cuda.devices) {
      lines.push(
        `  cuda:${gpu.ordinal}  ${gpu.name}, compute capability ${gpu.computeCapability}, ${gibibytes(gpu.memoryBytes)} memory (${gibibytes(gpu.freeBytes)} free)`,
      );
    }
    if (cuda.driver) lines.push(`  driver   ${cuda.driver}`);
    if (cuda.cudnn) lines.push(`  cuDNN    ${cuda.cudnn.version} (${cuda.cudnn.path})`);
    if (cuda.cublas) lines.push(`  cuBLAS   ${cuda.cublas.version} (${cuda.cublas.path})`);
    if (cuda.nccl) lines.push(`  NCCL     ${cuda.nccl.version} (${cuda.nccl.path})`);
    lines.push(...cuda.searched.map((entry) => `  - ${entry}`));
  }
  lines.push(...checkLines(info, checked));
  lines.push(`device:   ${info.device.chosen === null ? `none: ${info.device.reason}` : info.device.reason}`);
  return lines;
}

function checkLines({ check, device }: MachineInfo, checked: boolean): string[] {
  if (!check) {
    if (checked) return ['check:    no GPU to check'];
    return device.chosen?.startsWith('cuda')
      ? ["check:    not yet made: the GPU's first use makes it, or --check"]
      : [];
  }
  const { passed, summary, seconds, date, cases } = check;
  const compared = plural(
    cases.reduce((sum, each) => sum + each.compared, 0),
    'comparison',
  );
  return [
    `check:    ${passed ? 'passed' : 'FAILED'}, ${compared} in ${seconds} s (${date.slice(0, 10)}): ${summary}`,
    ...(passed || !check.file ? [] : [`  - please send ${check.file} to the authors`]),
  ];
}

/** A run's directory, and the checkpoint that it would be resumed from. */
interface Run {
  directory: string;
  last: CheckpointInfo | undefined;
}

function runFields({ directory, last }: Run) {
  const position = last && {
    path: last.path,
    epoch: last.epoch,
    step: last.step,
    loss: last.loss,
    validationLoss: last.validationLoss,
  };
  return { directory, resumable: last !== undefined, ...(position ? { last: position } : {}) };
}

function runLines({ directory, last }: Run, best: CheckpointInfo): string[] {
  if (!last)
    return [`run:            ${directory}`, 'resumable:      no: it holds no last checkpoint that can be read'];
  const { epochs } = last.configuration;
  const done =
    typeof epochs === 'number' ? `${grouped(last.epoch)} of ${plural(epochs, 'epoch')}` : plural(last.epoch, 'epoch');
  return [
    `run:            ${directory}`,
    `resumable:      yes, after ${done}, ${plural(last.step, 'step')}`,
    ...(last.loss === undefined ? [] : [`loss so far:    ${lossText(last.loss)}`]),
    ...(last.validationLoss === undefined ? [] : [`validation:     ${lossText(last.validationLoss)}`]),
    `${last.path === best.path ? 'last' : 'best'} checkpoint:`,
  ];
}

function checkpointLines(info: CheckpointInfo, run: Run | undefined): string[] {
  const { model } = info;
  const coding = model.input === 'embedding' ? `embedding of ${model.embedding}` : model.input;
  const gates = (model.gateActivation ?? 'sigmoid') === 'sigmoid' ? '' : `, gates ${model.gateActivation}`;
  const anew = model.resetId === undefined ? '' : ', single lines';
  const lines = [
    ...(run ? runLines(run, info) : []),
    `${info.path} (${grouped(info.bytes)} bytes, written by cudnn-lstm ${info.version})`,
    `model:          LSTM, ${model.layers} × ${model.hidden}, input ${coding}, dropout ${model.dropout}${gates}${anew}`,
    `parameters:     ${grouped(info.parameters)}${info.weights ? `, ${info.weights}` : ''}`,
    info.normalization.symbols === 'bytes'
      ? 'vocabulary:     256 bytes'
      : `vocabulary:     ${info.vocabulary.length} symbols: ${JSON.stringify(info.vocabulary.slice(0, 200).join(''))}${info.vocabulary.length > 200 ? ' …' : ''}`,
    `normalisation:  ${normalizationText(info.normalization)}`,
    `trained:        target ${info.target}, sequence length ${info.seqLength}, ${plural(info.epoch, 'epoch')}, ${plural(info.step, 'step')}`,
  ];
  if (info.loss !== undefined) lines.push(`loss:           ${lossText(info.loss)}`);
  if (info.validationLoss !== undefined) lines.push(`validation:     ${lossText(info.validationLoss)}`);
  if (!run) {
    const no = 'no: weights only (train --resume takes the directory of a run)';
    lines.push(`resumable:      ${info.training ? "yes: train --resume takes its run's directory" : no}`);
  }
  if (info.corpus) {
    const { name, sha256 } = info.corpus;
    lines.push(`corpus:         ${name}${sha256 === undefined ? '' : ` (SHA-256 ${sha256})`}`);
  }
  lines.push('configuration:');
  for (const [key, value] of Object.entries(info.configuration)) lines.push(`  ${key}: ${JSON.stringify(value)}`);
  return lines;
}

function normalizationText({
  lowercase,
  form,
  lineBreaks,
  byteOrderMark,
  symbols,
  unknown,
}: CheckpointInfo['normalization']): string {
  if (symbols === 'bytes') return 'none: bytes';
  const parts = [lowercase ? 'lower-cased' : 'case kept'];
  if (form) parts.push(form.toUpperCase());
  if (lineBreaks) parts.push('CR and CRLF kept');
  if (byteOrderMark) parts.push('byte order mark kept');
  if (unknown !== undefined) parts.push('unknown characters are one symbol');
  return parts.join(', ');
}

function lossText(loss: number): string {
  return `${loss.toFixed(4)} nats, ${(loss / Math.LN2).toFixed(4)} bits per character`;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
