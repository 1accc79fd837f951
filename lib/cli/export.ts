/** `export`: a model for other programs. */
import { Command, Option } from 'commander';
import { exitCodes } from '../errors';
import { type ExportFormat, exportFormats, exportModel } from '../export/export';
import { abortOnSignals, type CommandIo, parseArguments, processIo } from './command';
import { printLine } from './output';

/** The command; see `export --help`. */
export async function exportCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const [checkpoint] = command.args as [string];
  using interrupt = abortOnSignals(io);
  const options = command.opts<{ to: ExportFormat; out: string }>();
  const files = await exportModel(checkpoint, { ...options, signal: interrupt.signal });
  for (const file of files) await printLine(io.stdout, file);
  return exitCodes.ok;
}

function syntax(): Command {
  return new Command('export')
    .description(
      'Write a model for other programs. The files written go to stdout; beside a pytorch, keras or onnx file the ' +
        'vocabulary is put, a JSON list in id order.',
    )
    .argument('<checkpoint>', "a checkpoint, or a run's directory (its best checkpoint)")
    .addOption(
      new Option(
        '--to <format>',
        'pytorch: a state dict for torch.load; keras: a .keras archive for Keras 3; onnx: a graph, opset 17; html: a page that opens from a disk; int8, bf16: a checkpoint for sampling and scoring alone, with 8 or 16 bits a weight',
      )
        .choices(exportFormats)
        .makeOptionMandatory(),
    )
    .requiredOption('--out <file>', 'the file to write')
    .option('--title <text>', "of a page: its heading (default: the run's name)")
    .option('--half', 'of a page: 16-bit weights, half the size')
    .addHelpText(
      'after',
      `
Examples:
  cudnn-lstm export runs/book --to html --out book.html
  cudnn-lstm export runs/book --to pytorch --out book.pt`,
    );
}
